//! The octets of one connection: what came and is not read, what is to go and has not gone.

use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio_util::codec::Decoder;

use crate::link::dial::Stream;
use crate::pdu::EncodeError;
use crate::pdu::Frame;
use crate::pdu::FrameError;
use crate::pdu::Frames;
use crate::pdu::Pdu;
use crate::pdu::encode;
use crate::time::Time;

/// How many octets are read at once.
const CHUNK: usize = 16 << 10;

/// One connection's octets both ways.
///
/// A place in the outgoing stream is the count of octets before it.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    frames: Frames,
    input: BytesMut,
    output: BytesMut,
    /// Octets that the transport has taken.
    written: u64,
    unflushed: bool,
    /// A place in the stream, and the time by which it must have been written.
    due: Option<(u64, Time)>,
    patience: Duration,
}

/// What came of waiting for the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) read: bool,
    pub(super) wrote: bool,
    /// The peer writes no more.
    pub(super) eof: bool,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, frames: Frames, patience: Duration) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let (written, unflushed, due) = (0, false, None);
        Self { stream, frames, input, output, written, unflushed, due, patience }
    }

    /// Queues a PDU; gives the place where it begins.
    pub(super) fn queue(&mut self, pdu: &Pdu) -> Result<u64, EncodeError> {
        let begins = self.queued();
        encode(pdu, &mut self.output)?;
        Ok(begins)
    }

    /// The next frame of what was read.
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, FrameError> {
        self.frames.decode(&mut self.input)
    }

    /// Whether octets wait of a frame that is not whole.
    pub(super) fn has_partial(&self) -> bool {
        !self.input.is_empty()
    }

    /// Octets that wait to be written.
    pub(super) fn backlog(&self) -> usize {
        self.output.len()
    }

    /// The place up to which all is with the transport.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Drops what stands from this place on, unless it has gone already.
    pub(super) fn cut(&mut self, place: u64) {
        if let Ok(keep) = usize::try_from(place.saturating_sub(self.written))
            && place >= self.written
        {
            self.output.truncate(keep);
        }
    }

    /// When the connection is to be given up unless more is written by then. Each octet has the
    /// whole write timeout, whatever trickles before it.
    pub(super) fn deadline(&mut self, now: Time) -> Option<Time> {
        let done = self.due.is_none_or(|(place, _)| place <= self.written);
        if done {
            let waits = !self.output.is_empty() || self.unflushed;
            self.due = waits.then(|| (self.queued(), now + self.patience));
        }
        self.due.map(|(_, deadline)| deadline)
    }

    /// Waits until octets went, or came if `listen`.
    ///
    /// Safe to cancel: nothing is lost.
    pub(super) async fn moved(&mut self, listen: bool) -> io::Result<Moved> {
        std::future::poll_fn(|cx| self.poll_moved(cx, listen)).await
    }

    fn poll_moved(&mut self, cx: &mut Context<'_>, listen: bool) -> Poll<io::Result<Moved>> {
        let mut moved = Moved::default();
        while !self.output.is_empty() {
            match pin!(self.stream.write_buf(&mut self.output)).poll(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(octets)) => {
                    self.written += octets as u64;
                    self.unflushed = true;
                    moved.wrote = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    moved.wrote = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if listen {
            self.input.reserve(CHUNK);
            match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
                Poll::Ready(Ok(octets)) => (moved.read, moved.eof) = (octets > 0, octets == 0),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if moved == Moved::default() { Poll::Pending } else { Poll::Ready(Ok(moved)) }
    }

    /// Writes what waits, says that no more comes, and listens for the peer's end; takes as long
    /// as the peer does.
    ///
    /// A socket that is closed with octets unread resets the connection, and the peer may never
    /// see our last words; so they are read away, as far as a chatty peer deserves.
    pub(super) async fn farewell(mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.shutdown().await?;
        for _ in 0..MOST_LAST_READS {
            self.input.clear();
            self.input.reserve(CHUNK);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn queued(&self) -> u64 {
        self.written + self.output.len() as u64
    }
}

/// What a peer still sends after our farewell is read this often.
const MOST_LAST_READS: usize = 64;
