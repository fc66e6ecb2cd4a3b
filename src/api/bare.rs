//! What the HTTP library refuses by itself, below the router, in the form of all other refusals.
//!
//! A request that is no HTTP, or whose line or header is too long, never becomes a request: the
//! library answers it with a status and nothing more, and has no place to say otherwise. Its answer
//! is known by what it lacks, for every answer of ours names its request; it is exchanged on its
//! way out.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::api::problem::Code;
use crate::api::problem::Problem;

/// A stream on which bare refusals become problems.
pub(crate) struct Dressed<S> {
    stream: S,
    /// What is written instead, and how much of it was.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Dressed<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, instead: None }
    }
}

/// What to write in place of `octets`, when they are a bare refusal.
fn dressed(octets: &[u8]) -> Option<Vec<u8>> {
    let rest = octets.strip_prefix(b"HTTP/1.1 4")?;
    let head = std::str::from_utf8(rest).ok().filter(|head| head.ends_with("\r\n\r\n"))?;
    let is_bare = head.contains("\r\ncontent-length: 0\r\n") && !head.contains("\r\nx-request-id:");
    let (line, _) = head.split_once("\r\n").filter(|_| is_bare)?;
    let (code, detail) = match line.get(..2)? {
        "00" => (Code::MalformedRequest, "the octets are no HTTP/1.1 request"),
        "14" => (Code::UriTooLong, "the request's line is too long"),
        "31" => (Code::HeaderTooLarge, "the header is too long or has too many fields"),
        _ => return None,
    };
    let body = serde_json::to_vec(&Problem::new(code, detail)).ok()?;
    let mut answer = format!(
        "HTTP/1.1 4{line}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    Some(answer)
}

impl<S: AsyncWrite + Unpin> Dressed<S> {
    /// Writes what stands in place of `taken` octets.
    fn poll_instead(&mut self, cx: &mut Context<'_>, taken: usize) -> Poll<io::Result<usize>> {
        while let Some((instead, sent)) = &mut self.instead {
            match instead.get(*sent..).filter(|rest| !rest.is_empty()) {
                None => self.instead = None,
                Some(rest) => match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => *sent += count,
                },
            }
        }
        Poll::Ready(Ok(taken))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Dressed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Dressed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_none() {
            self.instead = dressed(octets).map(|instead| (instead, 0));
        }
        if self.instead.is_some() {
            return self.poll_instead(cx, octets.len());
        }
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = slices {
            return self.poll_write(cx, only);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
        date: Sun, 22 Nov 2026 09:00:00 GMT\r\n\r\n";

    #[tokio::test]
    async fn a_bare_refusal_gets_a_body_however_little_is_taken_at_once() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut heard = String::new();
        let refuse = async {
            let mut stream = Dressed::new(near);
            stream.write_all(BARE.as_bytes()).await.unwrap();
        };
        let (_, read) = tokio::join!(refuse, far.read_to_string(&mut heard));
        assert_eq!(read.unwrap(), heard.len());
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem"));
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
        assert!(body.contains("\"malformed_request\""), "{body}");
    }

    #[test]
    fn what_names_its_request_or_is_no_refusal_stays_as_it_is() {
        let ours = BARE.replace("date:", "x-request-id: 1\r\ndate:");
        let fine = BARE.replace("400 Bad Request", "200 OK");
        let other = BARE.replace("400 Bad Request", "404 Not Found");
        for octets in [&ours, &fine, &other, "", "{\"text\": \"HTTP/1.1 400\"}"] {
            assert_eq!(dressed(octets.as_bytes()), None, "{octets}");
        }
    }
}
