//! The way into the gateway: every door ends here, in the same accept function.
//!
//! A door sends an event with a [`Ticket`] into the dispatcher's bounded queue and waits for the
//! [`Reply`] that comes back under it. A full queue is said at once and never waited for.
#![expect(clippy::disallowed_methods, reason = "the shell reads the clock and waits")]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::dispatch::Event;
use crate::dispatch::Reply;
use crate::dispatch::SheddingConfig;
use crate::dispatch::Ticket;
use crate::message::Class;
use crate::message::Idempotency;
use crate::message::MessageId;
use crate::message::Submission;

/// The doors' end of the dispatcher.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    events: mpsc::Sender<Event>,
    replies: Replies,
    patience: Duration,
    shedding: Arc<ArcSwap<SheddingConfig>>,
}

/// Where replies find the doors that wait for them; the gateway's pump calls [`Self::answer`].
#[derive(Clone, Debug, Default)]
pub struct Replies(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: AtomicU64,
    open: DashMap<Ticket, oneshot::Sender<Reply>>,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The queue is full: the event was not handed over.
    #[error("the dispatcher's queue is full")]
    Full,
    /// The dispatcher has stopped: the event was not handed over.
    #[error("the dispatcher has stopped")]
    Stopped,
    /// No reply came in time. What was asked may still be done.
    #[error("the dispatcher did not answer in time")]
    Late,
}

/// A place for one reply; leaving it takes the ticket back.
struct Seat<'a> {
    replies: &'a Replies,
    ticket: Ticket,
    reply: oneshot::Receiver<Reply>,
}

impl Replies {
    /// Hands a reply to the door that waits for it, if one still does.
    pub fn answer(&self, ticket: Ticket, reply: Reply) {
        if let Some((_, door)) = self.0.open.remove(&ticket) {
            // A door that has gone away needs no reply.
            let _gone = door.send(reply);
        }
    }

    /// How many doors wait.
    pub fn waiting(&self) -> usize {
        self.0.open.len()
    }

    fn seat(&self) -> Seat<'_> {
        let ticket = Ticket(self.0.next.fetch_add(1, Ordering::Relaxed));
        let (door, reply) = oneshot::channel();
        self.0.open.insert(ticket, door);
        Seat { replies: self, ticket, reply }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.replies.0.open.remove(&self.ticket);
    }
}

impl Seat<'_> {
    async fn wait(mut self, deadline: Instant) -> Result<Reply, Unanswered> {
        match timeout_at(deadline, &mut self.reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(Unanswered::Late),
        }
    }
}

impl Dispatcher {
    /// Doors that send into `events` and wait for `replies` for at most `patience`; `shedding` says
    /// how full the queue may be for each class.
    pub const fn new(
        events: mpsc::Sender<Event>,
        replies: Replies,
        patience: Duration,
        shedding: Arc<ArcSwap<SheddingConfig>>,
    ) -> Self {
        Self { events, replies, patience, shedding }
    }

    /// How many messages of `class` the queue has room for.
    fn room(&self, class: Class) -> u64 {
        let (most, free) = (self.events.max_capacity(), self.events.capacity());
        let share = self.shedding.load().share(class, most as u64);
        share.saturating_sub(most.saturating_sub(free) as u64)
    }

    /// Hands in one message and waits until it is durable or refused.
    ///
    /// # Errors
    /// When no reply came; only after [`Unanswered::Late`] may the message be accepted all the same.
    pub async fn accept(&self, submission: Box<Submission>) -> Result<Reply, Unanswered> {
        if self.room(submission.class) == 0 {
            return Err(Unanswered::Full);
        }
        self.ask(|ticket| Event::Accept { ticket, submission }).await
    }

    /// Asks to withdraw a message.
    ///
    /// # Errors
    /// When no reply came.
    pub async fn cancel(&self, id: MessageId, by_operator: bool) -> Result<Reply, Unanswered> {
        self.ask(|ticket| Event::Cancel { ticket, id, by_operator }).await
    }

    /// Hands in messages one behind the other, so that one commit takes them all, and waits for
    /// the reply to each. Either the queue has room for all of the least urgent class among them
    /// or it takes none.
    pub async fn accept_all(
        &self,
        submissions: Vec<Box<Submission>>,
    ) -> Vec<Result<Reply, Unanswered>> {
        let classes = submissions.iter().map(|submission| submission.class);
        let room = classes.map(|class| self.room(class)).min();
        if room.is_some_and(|room| room < submissions.len() as u64) {
            return vec![Err(Unanswered::Full); submissions.len()];
        }
        self.ask_all(submissions, |ticket, submission| Event::Accept { ticket, submission }).await
    }

    /// Asks to withdraw messages, as [`Self::accept_all`] hands them in.
    pub async fn cancel_all(&self, ids: Vec<MessageId>) -> Vec<Result<Reply, Unanswered>> {
        let by_operator = false;
        self.ask_all(ids, |ticket, id| Event::Cancel { ticket, id, by_operator }).await
    }

    /// Asks which message a request made before that would be refused now.
    ///
    /// # Errors
    /// When no reply came.
    pub async fn recall(&self, request: Idempotency) -> Result<Reply, Unanswered> {
        self.ask(|ticket| Event::Recall { ticket, request }).await
    }

    /// Asks for each request as [`Self::recall`] does.
    pub async fn recall_all(&self, requests: Vec<Idempotency>) -> Vec<Result<Reply, Unanswered>> {
        self.ask_all(requests, |ticket, request| Event::Recall { ticket, request }).await
    }

    async fn ask_all<T>(
        &self,
        subjects: Vec<T>,
        event: impl Fn(Ticket, T) -> Event,
    ) -> Vec<Result<Reply, Unanswered>> {
        let count = subjects.len();
        let room = match self.events.try_reserve_many(count) {
            Ok(room) => room,
            Err(TrySendError::Full(())) => return vec![Err(Unanswered::Full); count],
            Err(TrySendError::Closed(())) => return vec![Err(Unanswered::Stopped); count],
        };
        let mut seats = Vec::with_capacity(count);
        for (place, subject) in room.zip(subjects) {
            let seat = self.replies.seat();
            place.send(event(seat.ticket, subject));
            seats.push(seat);
        }
        let deadline = Instant::now() + self.patience;
        let mut replies = Vec::with_capacity(count);
        for seat in seats {
            replies.push(seat.wait(deadline).await);
        }
        replies
    }

    async fn ask(&self, event: impl FnOnce(Ticket) -> Event) -> Result<Reply, Unanswered> {
        let seat = self.replies.seat();
        match self.events.try_send(event(seat.ticket)) {
            Ok(()) => seat.wait(Instant::now() + self.patience).await,
            Err(TrySendError::Full(_)) => Err(Unanswered::Full),
            Err(TrySendError::Closed(_)) => Err(Unanswered::Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(room: usize) -> (Dispatcher, mpsc::Receiver<Event>, Replies) {
        let (events, inbox) = mpsc::channel(room);
        let replies = Replies::default();
        let patience = Duration::from_secs(5);
        (Dispatcher::new(events, replies.clone(), patience, Arc::default()), inbox, replies)
    }

    fn ticket(event: &Event) -> Ticket {
        match event {
            Event::Accept { ticket, .. } | Event::Cancel { ticket, .. } => *ticket,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_reply_finds_the_door_that_asked() {
        let (door, mut inbox, replies) = door(4);
        let id = MessageId::from_u128(7);
        let asked = tokio::join!(door.cancel(id, false), async {
            let event = inbox.recv().await.unwrap();
            replies.answer(ticket(&event), Reply::Cancelled { id });
        });
        assert_eq!(asked.0, Ok(Reply::Cancelled { id }));
        assert_eq!(replies.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_door_that_is_not_answered_leaves_nothing_behind() {
        let (door, mut inbox, replies) = door(4);
        assert_eq!(door.cancel(MessageId::from_u128(7), false).await, Err(Unanswered::Late));
        assert_eq!(replies.waiting(), 0);
        let event = inbox.recv().await.unwrap();
        replies.answer(ticket(&event), Reply::NotLive);
        drop(inbox);
        assert_eq!(door.cancel(MessageId::from_u128(7), false).await, Err(Unanswered::Stopped));
    }

    fn submission(class: Class) -> Box<Submission> {
        Box::new(Submission {
            id: MessageId::from_u128(1),
            accepted_at: crate::time::Time::ZERO,
            key: "shop".into(),
            to: "819012345678".into(),
            from: None,
            content: crate::message::Content::Text("x".into()),
            class,
            client_ref: None,
            campaign: None,
            tags: Vec::new(),
            send_at: None,
            expires_at: crate::time::Time::MAX,
            encoding: crate::message::EncodingChoice::Auto,
            max_segments: 1,
            receipts: crate::message::ReceiptsWanted::Final,
            callback_url: None,
            idempotency: None,
            plan: crate::message::PlanSummary {
                route: "main".into(),
                encoding: "gsm7".into(),
                segments: 1,
                units: 1,
            },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_keeps_its_last_places_for_otp() {
        let (door, mut inbox, _) = door(100);
        let fill = async |class| {
            let mut taken = 0;
            while door.accept(submission(class)).await == Err(Unanswered::Late) {
                taken += 1;
            }
            taken
        };
        assert_eq!(fill(Class::Marketing).await, 80);
        assert_eq!(fill(Class::Transactional).await, 15);
        assert_eq!(fill(Class::Otp).await, 5);
        for _ in 0..22 {
            inbox.recv().await.unwrap();
        }
        let both = vec![submission(Class::Marketing), submission(Class::Otp)];
        let late = || Err(Unanswered::Late);
        assert_eq!(door.accept_all(both.clone()).await, [late(), late()]);
        let full = || Err(Unanswered::Full);
        assert_eq!(door.accept_all(both).await, [full(), full()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_is_said_at_once() {
        let (door, _inbox, replies) = door(1);
        assert_eq!(door.cancel(MessageId::from_u128(1), false).await, Err(Unanswered::Late));
        assert_eq!(door.cancel(MessageId::from_u128(2), false).await, Err(Unanswered::Full));
        assert_eq!(replies.waiting(), 0);
    }
}
