//! Where every bind stands, for metrics, readiness and people.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::dispatch::BindId;
use crate::session::Mode;
use crate::session::Oddity;
use crate::time::Time;

/// Where every bind stands. Links write, everybody reads.
#[derive(Debug, Default)]
pub struct Board {
    binds: Mutex<BTreeMap<BindId, Arc<Plate>>>,
}

impl Board {
    /// An empty board.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where each bind stands, in the order of their names.
    pub fn snapshot(&self) -> Vec<(BindId, Status)> {
        let binds = lock(&self.binds);
        binds.iter().map(|(bind, plate)| (bind.clone(), plate.read())).collect()
    }

    /// Where one bind stands; `None` when no link has it.
    pub fn status(&self, bind: &BindId) -> Option<Status> {
        lock(&self.binds).get(bind).map(|plate| plate.read())
    }

    /// Hangs up the plate of a new link; it replaces one of the same name.
    pub(super) fn hang(&self, bind: BindId, status: Status) -> Arc<Plate> {
        let plate = Arc::new(Plate(Mutex::new(status)));
        lock(&self.binds).insert(bind, plate.clone());
        plate
    }

    /// Takes the plate of a link down that is gone, unless a newer link has hung its own.
    pub(super) fn take_down(&self, bind: &BindId, plate: &Arc<Plate>) {
        let mut binds = lock(&self.binds);
        if binds.get(bind).is_some_and(|hung| Arc::ptr_eq(hung, plate)) {
            binds.remove(bind);
        }
    }
}

/// One bind's place on the board.
#[derive(Debug)]
pub(super) struct Plate(Mutex<Status>);

impl Plate {
    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.0));
    }

    /// Tells of a new state.
    pub(super) fn enter(&self, now: Time, state: BindState) {
        self.update(|status| {
            if status.state != state {
                (status.state, status.since) = (state, now);
            }
        });
    }

    fn read(&self) -> Status {
        lock(&self.0).clone()
    }
}

/// Nothing that holds these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where one bind stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// In which direction it is to be bound.
    pub mode: Mode,
    /// Where it stands.
    pub state: BindState,
    /// Since when.
    pub since: Time,
    /// The SMSC's address, once connected.
    pub remote: Option<SocketAddr>,
    /// How many requests of ours may be unanswered.
    pub window: u16,
    /// How many are.
    pub window_used: usize,
    /// The number of our last request.
    pub sequence_number: u32,
    /// When the SMSC's last PDU came.
    pub heard_at: Option<Time>,
    /// How often the bind has stood.
    pub bound: u64,
    /// Why the last attempt or bind ended, and when.
    pub last_error: Option<(Time, String)>,
    /// Whether that wants a person's eyes: the SMSC refused the bind for good.
    pub alarm: bool,
    /// What odd things the SMSC did, by [`Oddity::as_str`].
    pub oddities: BTreeMap<&'static str, u64>,
}

impl Status {
    pub(super) const fn new(now: Time, mode: Mode, window: u16) -> Self {
        Self {
            mode,
            state: BindState::Stopped,
            since: now,
            remote: None,
            window,
            window_used: 0,
            sequence_number: 0,
            heard_at: None,
            bound: 0,
            last_error: None,
            alarm: false,
            oddities: BTreeMap::new(),
        }
    }

    /// Whether requests can travel.
    pub const fn is_up(&self) -> bool {
        matches!(self.state, BindState::Bound)
    }

    /// Counts something odd; gives how often it has happened.
    pub(super) fn count(&mut self, oddity: Oddity) -> u64 {
        let count = self.oddities.entry(oddity.as_str()).or_default();
        *count += 1;
        *count
    }
}

/// Where a bind stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindState {
    /// A connection is being made.
    Connecting,
    /// The bind waits for its answer.
    Binding,
    /// Requests travel.
    Bound,
    /// One side has unbound.
    Unbinding,
    /// The next attempt is still to come.
    Waiting {
        /// When it comes.
        until: Time,
    },
    /// It is not to be bound.
    Stopped,
}

impl BindState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Binding => "binding",
            Self::Bound => "bound",
            Self::Unbinding => "unbinding",
            Self::Waiting { .. } => "waiting",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for BindState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
