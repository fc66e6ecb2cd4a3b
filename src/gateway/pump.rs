//! The loop around the dispatcher: events in, records to the journal, effects out.
//!
//! One turn takes what waits, lets the dispatcher decide, hands its records to the journal's
//! thread and does the effects whose records are on disk. It never waits for the disk, for a link
//! or for a door.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc as threads;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::api::Replies;
use crate::clock::Clock;
use crate::dispatch;
use crate::dispatch::BindId;
use crate::dispatch::Dispatch;
use crate::dispatch::Effect;
use crate::dispatch::Event;
use crate::dispatch::Notice;
use crate::dispatch::Snapshot;
use crate::dispatch::Token;
use crate::journal::Appender;
use crate::journal::Batch;
use crate::journal::PushError;
use crate::link::Handle;
use crate::message::Position;
use crate::ops::Metrics;
use crate::route::Carrier;
use crate::route::RouteConfig;
use crate::time::Time;

/// How many events one turn takes.
const TURN: usize = 1_024;

/// How often the dispatcher is looked into for metrics and readiness.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(500);

/// How far the journal is, as its thread reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Store {
    /// Behind the last durable record.
    pub(super) end: Position,
    /// Whether the last try failed.
    pub(super) failed: bool,
}

/// What the journal's housekeeper is asked.
#[derive(Debug)]
pub(super) enum Chore {
    /// Read a body; the answer comes back as [`Event::Fetched`].
    Fetch {
        /// The message.
        id: crate::message::MessageId,
        /// Where its record begins.
        position: Position,
    },
    /// Nothing before this position is needed for live messages.
    Trim {
        /// The first position that is.
        before: Position,
    },
}

/// Changes to the pump itself.
pub(super) enum Order {
    /// New settings for the dispatcher, found free of faults before.
    Reconfigure(Box<dispatch::Config>, Vec<Carrier>, Vec<RouteConfig>),
    /// The links as they are from now on.
    Links(HashMap<BindId, Handle>),
    /// Answer once nothing is on its way to a carrier and everything is on disk.
    Quiet(oneshot::Sender<()>),
    /// Take what has come so far, and end.
    End,
}

/// Everything that the pump moves between.
pub(super) struct Ends {
    pub(super) dispatch: Dispatch,
    pub(super) clock: Clock,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) store: watch::Receiver<Store>,
    pub(super) appender: Appender,
    pub(super) batches: threads::Sender<Batch>,
    pub(super) chores: threads::SyncSender<Chore>,
    pub(super) links: HashMap<BindId, Handle>,
    pub(super) replies: Replies,
    pub(super) metrics: Arc<Metrics>,
    pub(super) snapshot: watch::Sender<Snapshot>,
    pub(super) notices: Option<mpsc::Sender<Notice>>,
}

/// The loop, and what it remembers from turn to turn.
pub(super) struct Pump {
    ends: Ends,
    /// What the housekeeper had no room for yet.
    waiting: VecDeque<Chore>,
    heard: Store,
    /// What the journal's thread was given, and when.
    handed: VecDeque<(Position, Time)>,
    /// Links that were replaced, and may not have been heard the last of.
    retired: Vec<Handle>,
    looked_at: Time,
    /// Whether nothing has happened since.
    is_looked_at: bool,
    quiet: Option<oneshot::Sender<()>>,
    scratch: Vec<u8>,
}

/// Why the pump stops by itself: the process must not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum PumpError {
    /// A record has no place in the journal.
    #[error("the journal takes no more records: {0}")]
    Journal(#[from] PushError),
    /// The journal's thread is gone.
    #[error("the journal's thread has stopped")]
    WriterGone,
    /// The journal's housekeeper is gone.
    #[error("the journal's housekeeper has stopped")]
    KeeperGone,
}

impl Pump {
    pub(super) fn new(ends: Ends) -> Self {
        let (heard, looked_at) = (*ends.store.borrow(), ends.clock.now());
        Self {
            ends,
            waiting: VecDeque::new(),
            heard,
            handed: VecDeque::new(),
            retired: Vec::new(),
            looked_at,
            is_looked_at: true,
            quiet: None,
            scratch: Vec::new(),
        }
    }

    /// Runs until it is told to end, or the process must not go on.
    pub(super) async fn run(mut self) -> Result<Self, PumpError> {
        let mut events = Vec::with_capacity(TURN);
        let mut open = true;
        while open {
            let look = (!self.is_looked_at).then(|| self.looked_at + SNAPSHOT_EVERY);
            let wake = self.ends.dispatch.poll_timeout().into_iter().chain(look).min();
            let clock = self.ends.clock;
            let timer = async {
                match wake {
                    Some(at) => sleep_until(clock.instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = self.ends.store.changed() => {
                    changed.map_err(|_| PumpError::WriterGone)?;
                }
                Some(order) = self.ends.orders.recv() => self.obey(order),
                taken = self.ends.events.recv_many(&mut events, TURN) => open = taken > 0,
                () = timer => {}
            }
            self.turn(&mut events)?;
        }
        Ok(self)
    }

    /// One turn: what waits goes in, what follows goes out.
    fn turn(&mut self, events: &mut Vec<Event>) -> Result<(), PumpError> {
        let now = self.ends.clock.now();
        self.is_looked_at &= events.is_empty();
        self.hear_store(now);
        for mut event in events.drain(..) {
            if let Event::Lost { bind, unsent } = &mut event {
                self.settle(bind, unsent);
            }
            self.ends.dispatch.hear(now, event);
        }
        self.ends.dispatch.turn(now);
        self.commit(now)?;
        self.act()?;
        if now.since(self.looked_at) >= SNAPSHOT_EVERY {
            (self.looked_at, self.is_looked_at) = (now, true);
            self.ends.snapshot.send_replace(self.ends.dispatch.snapshot(now));
        }
        self.say_when_quiet(now);
        Ok(())
    }

    fn say_when_quiet(&mut self, now: Time) {
        let quiet = self.quiet.is_some()
            && unanswered(&self.ends.dispatch.snapshot(now)) == 0
            && self.ends.appender.end() <= self.heard.end;
        if quiet && let Some(answer) = self.quiet.take() {
            // Whoever asked may have lost patience.
            let _gone = answer.send(());
        }
    }

    /// Lets a link bind again after a loss, with what came too late for the lost bind.
    fn settle(&mut self, bind: &BindId, unsent: &mut Vec<Token>) {
        let retired = self.retired.extract_if(.., |link| link.bind() == bind);
        for link in self.ends.links.get(bind).cloned().into_iter().chain(retired) {
            link.settle(unsent);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Reconfigure(config, carriers, routes) => {
                let now = self.ends.clock.now();
                let done = self.ends.dispatch.reconfigure(now, *config, carriers, routes);
                if let Err(faults) = done {
                    tracing::error!(?faults, "the dispatcher refused a configuration");
                }
            }
            Order::Links(links) => {
                let old = std::mem::replace(&mut self.ends.links, links);
                // Their loss may not have been heard yet.
                self.retired = old.into_values().collect();
            }
            Order::Quiet(answer) => self.quiet = Some(answer),
            Order::End => self.ends.events.close(),
        }
    }

    fn hear_store(&mut self, now: Time) {
        let store = *self.ends.store.borrow_and_update();
        if store.failed != self.heard.failed {
            let event = if store.failed { Event::StoreFailed } else { Event::StoreRecovered };
            self.ends.dispatch.hear(now, event);
        }
        if store.end != self.heard.end {
            self.ends.dispatch.hear(now, Event::Durable { end: store.end });
        }
        while let Some((end, at)) = self.handed.front().copied()
            && end <= store.end
        {
            self.ends.metrics.committed(now.since(at));
            self.handed.pop_front();
        }
        self.heard = store;
    }

    /// Gives the records made since to the journal's thread, which gathers what comes while it
    /// syncs into its next sync.
    fn commit(&mut self, now: Time) -> Result<(), PumpError> {
        let Self { ends: Ends { dispatch, appender, .. }, scratch, .. } = self;
        let committed = dispatch.commit(|record| {
            scratch.clear();
            record.encode(scratch);
            appender.push(scratch)
        });
        match committed {
            // What is refused is kept, and tried again once more is durable.
            Ok(()) | Err(PushError::Full { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(batch) = self.ends.appender.take_batch() {
            self.handed.push_back((batch.end(), now));
            self.ends.batches.send(batch).map_err(|_| PumpError::WriterGone)?;
        }
        Ok(())
    }

    /// Does what is due.
    fn act(&mut self) -> Result<(), PumpError> {
        while let Some(effect) = self.ends.dispatch.poll_effect() {
            match effect {
                Effect::Reply { ticket, reply } => self.ends.replies.answer(ticket, reply),
                Effect::Submit { bind, token, body } => {
                    if let Some(link) = self.ends.links.get(&bind) {
                        link.submit(token, body);
                    }
                }
                Effect::Acknowledge { bind, sequence_number, status } => {
                    if let Some(link) = self.ends.links.get(&bind) {
                        link.acknowledge(sequence_number, status);
                    }
                }
                Effect::Fetch { id, position } => {
                    self.waiting.push_back(Chore::Fetch { id, position });
                }
                Effect::Trim { before } => self.waiting.push_back(Chore::Trim { before }),
                Effect::Notice(notice) => self.tell(notice),
            }
        }
        self.hand_on_chores()
    }

    /// Never waits for room: the housekeeper may itself wait for room among our events.
    fn hand_on_chores(&mut self) -> Result<(), PumpError> {
        while let Some(chore) = self.waiting.pop_front() {
            match self.ends.chores.try_send(chore) {
                Ok(()) => {}
                Err(threads::TrySendError::Full(chore)) => {
                    self.waiting.push_front(chore);
                    break;
                }
                Err(threads::TrySendError::Disconnected(_)) => return Err(PumpError::KeeperGone),
            }
        }
        Ok(())
    }

    fn tell(&self, notice: Notice) {
        self.ends.metrics.notice(&notice);
        if let Notice::Alarm { carrier, status } = &notice {
            tracing::error!(%carrier, %status, "refusals point to a wrong setting of the carrier");
        }
        if let Some(notices) = &self.ends.notices {
            // Whoever watches may be slow; the metrics have counted it.
            let _slow = notices.try_send(notice);
        }
    }
}

/// Submits that no carrier has answered yet.
pub(super) fn unanswered(snapshot: &Snapshot) -> u64 {
    snapshot.carriers.iter().map(|carrier| u64::from(carrier.window_used)).sum()
}
