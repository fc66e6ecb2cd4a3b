//! The least HTTP that a load generator and a receiver need: no library's cost is in the numbers.

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cli::bench::tls;

/// What carries octets both ways.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One keep-alive connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
}

/// A request or an answer.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) head: BytesMut,
    pub(super) body: BytesMut,
}

impl Message {
    /// The status of an answer; 0 for what is none.
    pub(super) fn status(&self) -> u16 {
        let digits = self.head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::over(Box::new(stream)))
    }

    /// As [`Self::new`], after a TLS handshake.
    pub(super) async fn secured(stream: TcpStream, connector: &TlsConnector) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::over(Box::new(tls::connect(connector, stream).await?)))
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream, input: BytesMut::with_capacity(16 << 10) }
    }

    /// Sends a request and gives its answer.
    pub(super) async fn call(&mut self, request: &[u8]) -> io::Result<Message> {
        self.write(request).await?;
        self.next().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    pub(super) async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    /// The next whole message; none once the peer is done.
    pub(super) async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            self.input.reserve(16 << 10);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Option<Message> {
        let end = find(&self.input, b"\r\n\r\n")? + 4;
        let length = content_length(self.input.get(..end)?);
        if self.input.len() < end + length {
            return None;
        }
        let head = self.input.split_to(end);
        let body = self.input.split_to(length);
        Some(Message { head, body })
    }
}

/// Where `wanted` begins in `octets`.
pub(super) fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}

/// The body's length as the head says it; 0 when it does not.
fn content_length(head: &[u8]) -> usize {
    let lines = head.split(|octet| *octet == b'\n');
    let mut values = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| std::str::from_utf8(value).ok())?
    });
    values.next().and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn messages_are_told_apart_however_they_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let writes = async {
            let mut peer = TcpStream::connect(address).await.unwrap();
            let octets =
                b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 204 No\r\n\r\n";
            for octet in octets.chunks(5) {
                peer.write_all(octet).await.unwrap();
                peer.flush().await.unwrap();
            }
        };
        let reads = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = Connection::new(stream).unwrap();
            let first = connection.next().await.unwrap().unwrap();
            assert_eq!((first.status(), &first.body[..]), (202, &b"abc"[..]));
            let second = connection.next().await.unwrap().unwrap();
            assert_eq!((second.status(), second.body.len()), (204, 0));
            assert!(connection.next().await.unwrap().is_none());
        };
        tokio::join!(writes, reads);
    }
}
