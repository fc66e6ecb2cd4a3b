//! The gateway's end of a link: requests go in here.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::dispatch::BindId;
use crate::dispatch::Token;
use crate::pdu::Body;
use crate::pdu::CommandStatus;

/// The gateway's end of one link.
///
/// Each bind that stands has a line of its own to its link, so a request can never slip from a
/// lost bind into the next one.
#[derive(Clone, Debug)]
pub struct Handle {
    bind: BindId,
    shared: Arc<Shared>,
}

/// What the link is asked to do on the bind that stands.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are submits, and a box would cost each")]
pub(super) enum Command {
    Submit { token: Token, body: Body },
    Acknowledge { sequence_number: u32, status: CommandStatus },
}

/// What is wanted of the link, whether it is bound or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Whether there shall be a bind.
    pub(super) up: bool,
    /// How often a fresh bind was asked for.
    pub(super) rebinds: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    line: Mutex<Line>,
    settled: Notify,
    wish: watch::Sender<Wish>,
}

#[derive(Debug, Default)]
struct Line {
    commands: Option<mpsc::Sender<Command>>,
    /// Submits that came when no bind stood, or found the line full.
    unsent: Vec<Token>,
    /// Whether a bind was lost and [`Handle::settle`] was not called since.
    unsettled: bool,
}

impl Handle {
    pub(super) fn new(bind: BindId) -> Self {
        let (wish, _) = watch::channel(Wish { up: true, rebinds: 0 });
        let line = Mutex::new(Line::default());
        Self { bind, shared: Arc::new(Shared { line, settled: Notify::new(), wish }) }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Which bind this is.
    pub const fn bind(&self) -> &BindId {
        &self.bind
    }

    /// Does [`Effect::Submit`]. On a bind that is just lost, the token comes back by
    /// [`Handle::settle`].
    ///
    /// [`Effect::Submit`]: crate::dispatch::Effect::Submit
    pub fn submit(&self, token: Token, body: Body) {
        let mut line = self.shared.line();
        let sent = match &line.commands {
            Some(commands) => commands.try_send(Command::Submit { token, body }).is_ok(),
            None => false,
        };
        if !sent {
            line.unsent.push(token);
        }
    }

    /// Does [`Effect::Acknowledge`]. On a bind that is lost nothing is to be answered: the SMSC
    /// delivers again.
    ///
    /// [`Effect::Acknowledge`]: crate::dispatch::Effect::Acknowledge
    pub fn acknowledge(&self, sequence_number: u32, status: CommandStatus) {
        if let Some(commands) = &self.shared.line().commands {
            // A full line: the SMSC delivers again.
            let _ = commands.try_send(Command::Acknowledge { sequence_number, status });
        }
    }

    /// To be called with each [`Event::Lost`] of this bind before the dispatcher has it: adds the
    /// submits that came too late for the lost bind, and lets the link bind again.
    ///
    /// [`Event::Lost`]: crate::dispatch::Event::Lost
    pub fn settle(&self, unsent: &mut Vec<Token>) {
        let mut line = self.shared.line();
        unsent.append(&mut line.unsent);
        line.unsettled = false;
        self.shared.settled.notify_one();
    }

    /// Ends the bind in good order, and makes a fresh one at once; or ends a wait.
    pub fn rebind(&self) {
        self.shared.wish.send_modify(|wish| {
            wish.up = true;
            wish.rebinds = wish.rebinds.wrapping_add(1);
        });
    }

    /// Ends the bind in good order, and makes no other until [`Handle::rebind`].
    pub fn unbind(&self) {
        self.shared.wish.send_modify(|wish| wish.up = false);
    }
}

impl Shared {
    /// Opens a line for a bind that stands.
    pub(super) fn open(&self, capacity: usize) -> mpsc::Receiver<Command> {
        let (sender, receiver) = mpsc::channel(capacity);
        self.line().commands = Some(sender);
        receiver
    }

    /// Closes the line: what comes from now on is kept for [`Handle::settle`].
    pub(super) fn close(&self) {
        let mut line = self.line();
        line.commands = None;
        line.unsettled = true;
    }

    /// Waits for [`Handle::settle`], if a bind was lost.
    pub(super) async fn settled(&self) {
        while self.line().unsettled {
            self.settled.notified().await;
        }
    }

    pub(super) fn wishes(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Handle {
        Handle::new(BindId { carrier: "alpha".into(), index: 0 })
    }

    fn settled(handle: &Handle) -> Vec<Token> {
        let mut unsent = vec![Token(0)];
        handle.settle(&mut unsent);
        unsent
    }

    #[test]
    fn a_submit_without_a_bind_comes_back_once() {
        let handle = handle();
        handle.submit(Token(7), Body::EnquireLink);
        assert_eq!(settled(&handle), [Token(0), Token(7)]);
        assert_eq!(settled(&handle), [Token(0)]);
    }

    #[test]
    fn a_submit_never_slips_into_the_next_bind() {
        let handle = handle();
        let mut first = handle.shared.open(4);
        handle.submit(Token(1), Body::EnquireLink);
        handle.shared.close();
        handle.submit(Token(2), Body::EnquireLink);
        assert!(matches!(first.try_recv(), Ok(Command::Submit { token: Token(1), .. })));
        assert!(first.try_recv().is_err());
        assert_eq!(settled(&handle), [Token(0), Token(2)]);
        let mut second = handle.shared.open(4);
        assert!(second.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_bind_is_settled_before_the_next() {
        let handle = handle();
        handle.shared.settled().await;
        handle.shared.close();
        let second = std::time::Duration::from_secs(1);
        let early = tokio::time::timeout(second, handle.shared.settled()).await;
        assert!(early.is_err());
        settled(&handle);
        handle.shared.settled().await;
    }
}
