//! One carrier as the dispatcher sees it: its binds, its lanes, its pace.
//!
//! A station remembers nothing that a restart needs.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::Class;
use crate::message::MessageId;
use crate::pdu::Body;
use crate::route::Carrier;
use crate::route::Standing;
use crate::time::Rate;
use crate::time::Time;

use super::event::Token;
use super::lanes::Lane;
use super::pace::Limiter;
use super::shares::Shares;
use super::shares::Weights;
use super::throttle::Epoch;
use super::throttle::Pace;

/// One carrier, its binds and what waits for them.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) name: Arc<str>,
    /// `None` when it is not in the config: nothing new is sent to it.
    pub(super) carrier: Option<Arc<Carrier>>,
    pub(super) binds: BTreeMap<u16, Bind>,
    pub(super) pace: Pace,
    pub(super) shares: Shares,
    lanes: [Lane; 3],
    /// Segments whose record is durable and that wait for the rate, by class.
    ready: [VecDeque<(u16, Token)>; 3],
    /// How many segments are handed on and did not pass the rate yet.
    pub(super) staged: u32,
    pub(super) standing: Standing,
    /// Since when it has a bind, while it has one.
    pub(super) up_since: Time,
    /// When the rate lets something through that waits.
    pub(super) wake_at: Option<Time>,
    /// Whether the windows held something back when it was last looked at.
    pub(super) lacks_window: bool,
    /// When a message was last asked after.
    pub(super) queried_at: Time,
}

impl Station {
    pub(super) fn new(name: Arc<str>, now: Time, weights: Weights) -> Self {
        Self {
            name,
            carrier: None,
            binds: BTreeMap::new(),
            pace: Pace::new(Rate::per_second(1), now),
            shares: Shares::new(weights),
            lanes: Default::default(),
            ready: Default::default(),
            staged: 0,
            standing: Standing::Off,
            up_since: now,
            wake_at: None,
            lacks_window: false,
            queried_at: Time::ZERO,
        }
    }

    pub(super) fn lane(&self, class: Class) -> &Lane {
        let [otp, transactional, marketing] = &self.lanes;
        match class {
            Class::Otp => otp,
            Class::Transactional => transactional,
            Class::Marketing => marketing,
        }
    }

    pub(super) fn lane_mut(&mut self, class: Class) -> &mut Lane {
        let [otp, transactional, marketing] = &mut self.lanes;
        match class {
            Class::Otp => otp,
            Class::Transactional => transactional,
            Class::Marketing => marketing,
        }
    }

    /// Asks for a look at `at`, or earlier.
    pub(super) fn wake_by(&mut self, at: Time) {
        self.wake_at = Some(self.wake_at.map_or(at, |wake_at| wake_at.min(at)));
    }

    /// Puts a segment behind those of its class that wait for the rate.
    pub(super) fn make_ready(&mut self, class: Class, bind: u16, token: Token) {
        if let Some(queue) = self.ready.get_mut(class as usize) {
            queue.push_back((bind, token));
        }
    }

    /// The segment that the next cell is for: the most urgent class first.
    pub(super) fn next_ready(&self) -> Option<(Class, u16, Token)> {
        let queues = Class::ALL.into_iter().zip(&self.ready);
        let mut fronts = queues.filter_map(|(class, queue)| Some((class, *queue.front()?)));
        fronts.next().map(|(class, (bind, token))| (class, bind, token))
    }

    pub(super) fn pop_ready(&mut self, class: Class) {
        if let Some(queue) = self.ready.get_mut(class as usize) {
            queue.pop_front();
        }
    }

    /// Notes whether there is a bind that submits; whether that is news.
    pub(super) fn update_standing(&mut self, now: Time) -> bool {
        let is_up = self.binds.values().any(Bind::is_open);
        let standing = match (&self.carrier, self.standing) {
            (None, _) => Standing::Off,
            (Some(_), _) if is_up => Standing::Up,
            (Some(_), down @ Standing::Down { .. }) => down,
            (Some(_), _) => Standing::Down { since: now },
        };
        let is_news = standing != self.standing;
        if is_news && standing == Standing::Up {
            self.up_since = now;
        }
        self.standing = standing;
        is_news
    }

    /// How many messages wait in its lanes.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }

    /// Whether anything waits to be handed to a bind.
    pub(super) fn has_work(&self) -> bool {
        Class::ALL.into_iter().any(|class| self.has_work_of(class))
    }

    /// Whether anything of `class` does.
    pub(super) fn has_work_of(&self, class: Class) -> bool {
        self.lane(class).len() > 0 || self.binds.values().any(|bind| bind.job(class).is_some())
    }

    /// A flight, whichever bind it is on.
    pub(super) fn flight_mut(&mut self, bind: u16, token: Token) -> Option<&mut Flight> {
        self.binds.get_mut(&bind)?.flights.get_mut(&token)
    }

    /// Stops the trickle of a message; what was not handed on stays to be sent.
    pub(super) fn close_job(&mut self, id: MessageId) {
        for bind in self.binds.values_mut() {
            for job in &mut bind.jobs {
                job.take_if(|job| job.id == id);
            }
        }
    }

    /// Whether some of a message is still to be handed on.
    pub(super) fn has_job(&self, id: MessageId) -> bool {
        let mut jobs = self.binds.values().flat_map(|bind| bind.jobs.iter().flatten());
        jobs.any(|job| job.id == id)
    }
}

/// One bind.
#[derive(Debug)]
pub(super) struct Bind {
    /// How many requests may be unanswered.
    pub(super) window: u16,
    /// How many are, those included that did not leave yet.
    pub(super) used: u16,
    /// How many of them did not leave yet.
    pub(super) staged: u32,
    /// Whether it takes submits.
    pub(super) transmits: bool,
    /// Whether nothing new may be sent.
    pub(super) is_closing: bool,
    pub(super) limiter: Option<Limiter>,
    pub(super) flights: BTreeMap<Token, Flight>,
    /// The message of each class whose segments trickle through this bind.
    pub(super) jobs: [Option<Job>; 3],
}

impl Bind {
    pub(super) const fn is_open(&self) -> bool {
        self.transmits && !self.is_closing
    }

    pub(super) const fn free(&self) -> u16 {
        if self.is_open() { self.window.saturating_sub(self.used) } else { 0 }
    }

    /// Whether its own rate has a cell by `by` for one more than what is staged.
    pub(super) fn may_stage(&self, by: Time) -> bool {
        self.ready_at(by, self.staged.saturating_add(1)) <= by
    }

    /// When its own rate has the cell `nth` from now on, the next one being 1.
    pub(super) fn ready_at(&self, now: Time, nth: u32) -> Time {
        self.limiter.as_ref().map_or(now, |limiter| limiter.ready_at(now, nth))
    }

    /// When that will be; `None` if something has to leave first, or if it is so already.
    pub(super) fn may_stage_at(&self, by: Time) -> Option<Time> {
        let limiter = self.limiter.as_ref()?;
        limiter.comes_at(by, self.staged.saturating_add(1)).filter(|at| *at > by)
    }

    /// Takes a request on, which is to leave once its record is durable and the rate allows.
    pub(super) fn launch(
        &mut self,
        token: Token,
        id: MessageId,
        class: Class,
        errand: Errand,
        body: Body,
    ) {
        self.used = self.used.saturating_add(1);
        self.staged = self.staged.saturating_add(1);
        let flight = Flight {
            id,
            class,
            errand,
            epoch: Epoch::default(),
            left_at: None,
            body: Some(body),
            holds_place: true,
        };
        self.flights.insert(token, flight);
    }

    /// Changes its own rate.
    pub(super) fn set_rate(&mut self, now: Time, rate: Option<Rate>) {
        match (&mut self.limiter, rate) {
            (Some(limiter), Some(rate)) => limiter.set_rate(now, rate),
            (limiter, rate) => *limiter = rate.map(|rate| Limiter::new(rate, now)),
        }
    }

    /// Ends all trickles; which messages had one.
    pub(super) fn take_jobs(&mut self) -> Vec<MessageId> {
        self.jobs.iter_mut().filter_map(Option::take).map(|job| job.id).collect()
    }

    /// Takes off what did not leave yet: the request of `only`, or all of them.
    pub(super) fn take_staged(&mut self, only: Option<Token>) -> Vec<Flight> {
        let waits = self.flights.iter().filter(|(_, flight)| flight.left_at.is_none());
        let tokens = waits.map(|(token, _)| *token);
        let tokens: Vec<_> = tokens.filter(|token| only.is_none_or(|it| it == *token)).collect();
        let taken: Vec<_> =
            tokens.into_iter().filter_map(|token| self.flights.remove(&token)).collect();
        let count = u16::try_from(taken.len()).unwrap_or(u16::MAX);
        self.used = self.used.saturating_sub(count);
        self.staged = self.staged.saturating_sub(count.into());
        taken
    }

    /// Gives up on answers that are very late, when there are many of them.
    pub(super) fn forget_late(&mut self) {
        const MOST: usize = 1_000;
        if self.flights.len() <= usize::from(self.used) + MOST {
            return;
        }
        let mut late = self.flights.iter().filter(|(_, flight)| !flight.holds_place);
        if let Some(token) = late.next().map(|(token, _)| *token) {
            self.flights.remove(&token);
        }
    }

    pub(super) fn job(&self, class: Class) -> Option<&Job> {
        self.jobs.get(class as usize)?.as_ref()
    }

    pub(super) fn job_mut(&mut self, class: Class) -> Option<&mut Option<Job>> {
        self.jobs.get_mut(class as usize)
    }
}

/// A message some of whose segments are still to be handed to a bind.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: MessageId,
    pub(super) attempt: u16,
    pub(super) total: u8,
    pub(super) reference: u16,
    /// The segments, in order.
    pub(super) left: VecDeque<(u8, Body)>,
}

/// One request on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: MessageId,
    pub(super) class: Class,
    pub(super) errand: Errand,
    pub(super) epoch: Epoch,
    /// When it left; `None` while it waits for its record or the rate.
    pub(super) left_at: Option<Time>,
    /// What is to leave, until it does.
    pub(super) body: Option<Body>,
    /// Whether it takes a place of the window.
    pub(super) holds_place: bool,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Hands over a segment.
    Submit {
        /// The attempt.
        attempt: u16,
        /// The segment, from 0.
        segment: u8,
    },
    /// Asks how a segment stands.
    Query {
        /// The attempt.
        attempt: u16,
        /// The segment, from 0.
        segment: u8,
    },
    /// Takes a segment back.
    Cancel {
        /// The attempt.
        attempt: u16,
        /// The segment, from 0.
        segment: u8,
    },
}
