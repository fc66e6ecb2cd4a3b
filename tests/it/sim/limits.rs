//! The limits of the config: nothing is ever more than they say, and who is refused for one of them
//! is refused rightly.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use hikyaku::dispatch;
use hikyaku::dispatch::Reply;
use hikyaku::dispatch::Snapshot;
use hikyaku::dispatch::Ticket;
use hikyaku::message::Class;
use hikyaku::message::Position;
use hikyaku::message::Submission;

use super::coverage::Coverage;
use super::story::Kept;
use super::story::broken;

/// What is limited in one process, and what was so before its last turn.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) config: dispatch::Config,
    /// Where the records begin that are not on the disk.
    pub(super) undurable: VecDeque<Position>,
    /// Of each request that waits for its answer, what there is no room for.
    foreseen: BTreeMap<Ticket, Vec<&'static str>>,
    before: Counts,
}

/// Counts that grow when something is accepted, and those for which the oldest gives way.
type Counts = [(&'static str, u64); 5];

impl Limits {
    pub(super) fn new(config: &dispatch::Config) -> Self {
        let undurable = VecDeque::new();
        // What a start finds may be more than a limit that was lowered since.
        let before = ["live", "keys", "orphans", "late", "inbound"].map(|name| (name, u64::MAX));
        let (config, foreseen) = (config.clone(), BTreeMap::new());
        Self { config, undurable, foreseen, before }
    }

    /// Everything before `end` is on the disk.
    pub(super) fn durable(&mut self, end: Position) {
        while self.undurable.front().is_some_and(|position| *position < end) {
            self.undurable.pop_front();
        }
    }

    /// Notes what there is no room for as a request comes in.
    pub(super) fn foresee(&mut self, ticket: Ticket, submission: &Submission, now: &Snapshot) {
        let full = |used: usize, limit: u64| used as u64 >= self.share(submission.class, limit);
        let needs_key = submission.idempotency.is_some();
        let lacks = [
            ("live", full(now.live, self.config.live_limit)),
            ("backlog", full(self.undurable.len(), self.config.backlog_limit)),
            ("keys", needs_key && full(now.idempotency_keys, self.config.idempotency_limit)),
        ];
        let lacks = lacks.into_iter().filter_map(|(name, lacks)| lacks.then_some(name));
        self.foreseen.insert(ticket, lacks.collect());
    }

    /// How much of a limit may be used for a class to be taken still.
    fn share(&self, class: Class, limit: u64) -> u64 {
        let percent = match class {
            Class::Otp => 100,
            Class::Transactional => self.config.shedding.transactional,
            Class::Marketing => self.config.shedding.marketing,
        };
        limit.saturating_mul(percent.into()).div_ceil(100)
    }

    /// Who is refused for want of room is refused rightly, is told so of its class and when to come
    /// again; who is accepted had room.
    pub(super) fn replied(
        &mut self,
        ticket: Ticket,
        (about, class): (usize, Class),
        reply: &Reply,
        coverage: &mut Coverage,
    ) -> Kept {
        const SOON: Duration = Duration::from_secs(600);
        let Some(lacks) = self.foreseen.remove(&ticket) else { return Ok(()) };
        match reply {
            Reply::Accepted { .. } if !lacks.is_empty() => {
                broken(Some(about), format!("accepted, and there is no room: {lacks:?}"))
            }
            Reply::QueueFull { class: told, retry_after } => {
                let most =
                    if lacks.contains(&"keys") { *self.config.idempotency_ttl } else { SOON };
                let is_right = *told == class
                    && (Duration::ZERO..=most).contains(retry_after)
                    && !retry_after.is_zero();
                if lacks.is_empty() || !is_right {
                    let how = format!("refused {class} with {reply:?}, what lacks is {lacks:?}");
                    return broken(Some(about), how);
                }
                lacks.iter().for_each(|lack| coverage.count(format!("refused for want of {lack}")));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Nothing grows beyond its limit; what was more before, as a limit was lowered, may stay.
    pub(super) fn hold(&mut self, now: &Snapshot) -> Kept {
        let limits = [
            (now.live, self.config.live_limit),
            (now.idempotency_keys, self.config.idempotency_limit),
            (now.orphans, self.config.orphan_limit),
            (now.late, self.config.late_limit),
            (now.inbound_open, self.config.reassembly_limit),
        ];
        for ((count, limit), (name, before)) in limits.into_iter().zip(&mut self.before) {
            let count = count as u64;
            if count > limit.max(*before) {
                return broken(None, format!("{count} of {name}, at most {limit}"));
            }
            *before = count;
        }
        Ok(())
    }
}
