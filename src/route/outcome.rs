//! What became of a try, and what follows: may the message be sent again, and where.

use crate::message::Class;
use crate::message::Reason;
use crate::message::State;
use crate::receipt::ReceiptState;
use crate::time::Time;

use super::carrier::Carrier;
use super::names::CarrierId;
use super::names::RouteId;
use super::rules;
use super::rules::Rule;
use super::rules::Rules;
use super::rules::UnknownPolicy;
use super::status::StatusClass;
use super::status::Verdict;
use super::table::Choice;
use super::table::Route;
use super::table::Routes;
use super::table::Seed;
use super::table::Standing;

/// How far a message has come when something happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Its route.
    pub route: RouteId,
    /// Its class.
    pub class: Class,
    /// Its seed.
    pub seed: Seed,
    /// The carrier that has it now, or that it waits for.
    pub carrier: CarrierId,
    /// The carriers that have had it and that it left.
    pub past: &'a [CarrierId],
    /// How many tries the present carrier has had, the one that just ended included.
    pub tries: u16,
    /// How often the present carrier has throttled it, this time included.
    pub throttles: u16,
    /// How many attempts before this one were left behind without a certain end.
    pub unknowns: u16,
    /// Whether the present carrier may have all of it from a try that had no answer.
    pub in_doubt: bool,
    /// When it must not be sent any more.
    pub expires_at: Time,
}

/// What became of a message's try on a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The carrier answered and has not taken it: what [`Carrier::judge`] says of the status.
    Refused(Verdict),
    /// It was sent and no answer came: the carrier may hold it.
    Unanswered,
    /// It never left us.
    Unsent,
    /// The time that [`Choice::until`] named has come, and there is still no bind.
    NoBind,
    /// The carrier took it, and the route's time for a delivery has passed.
    NotDelivered,
    /// A receipt says that it will not arrive.
    Failed {
        /// The receipt's state.
        state: ReceiptState,
        /// Its error code as it came; empty for none.
        error: &'a str,
        /// What [`Receipt::reason`](crate::receipt::Receipt::reason) makes of both.
        reason: Reason,
    },
    /// It cannot be composed for this carrier.
    Unfit(Reason),
    /// The carrier left the config, or an operator takes it out.
    Withdrawn,
}

/// What follows an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same carrier again, only what is missing; a try is spent.
    Retry {
        /// Not before.
        due: Time,
        /// Why.
        reason: Reason,
    },
    /// The same carrier, its place in the lane kept and no try spent.
    Again {
        /// Not before; at latest when its time to live ends, and then it expires.
        due: Time,
    },
    /// Another carrier, the whole message anew under a new reference.
    Fallback {
        /// Where it goes.
        choice: Choice,
        /// By which rule.
        rule: Rule,
        /// What went wrong.
        reason: Reason,
        /// Whether the attempt that is left behind may still arrive; it counts as unknown.
        uncertain: bool,
        /// Whether to send a `cancel_sm` for it first.
        cancel: bool,
    },
    /// Nothing is sent: it waits for its carrier.
    Wait {
        /// When to say [`Outcome::NoBind`], should the carrier still have no bind then.
        until: Option<Time>,
    },
    /// Nothing is sent: a carrier may have it, so it waits for a late answer or receipt until the
    /// receipt timeout.
    Hold {
        /// What is said should nothing come.
        reason: Reason,
    },
    /// It ends.
    End {
        /// Its terminal state.
        state: State,
        /// Why.
        reason: Reason,
    },
}

impl Routes {
    /// Draws the conclusion: may the message be sent again, and where.
    ///
    /// `standing` tells which carriers have a bind. This is the one place that decides between
    /// retry, fallback, waiting and the end. A message without a route (the config no longer has
    /// it) has the rules of its class and no other carrier.
    pub fn decide(
        &self,
        now: Time,
        progress: &Progress<'_>,
        outcome: &Outcome<'_>,
        standing: impl Fn(CarrierId) -> Standing,
    ) -> Next {
        let carrier = self.carrier(progress.carrier).map(|carrier| &**carrier);
        let route = self.route(progress.route).map(|route| &**route);
        let built_in;
        let rules = match route {
            Some(route) => route.rules(progress.class),
            None => {
                built_in = Rules::of_class(progress.class);
                &built_in
            }
        };
        Case { now, progress, carrier, route, rules, standing: &standing }.decide(outcome)
    }
}

/// One message in one situation.
struct Case<'a, F> {
    now: Time,
    progress: &'a Progress<'a>,
    carrier: Option<&'a Carrier>,
    route: Option<&'a Route>,
    rules: &'a Rules,
    standing: &'a F,
}

impl<F: Fn(CarrierId) -> Standing> Case<'_, F> {
    fn decide(&self, outcome: &Outcome<'_>) -> Next {
        match outcome {
            Outcome::Refused(verdict) => match verdict.class {
                StatusClass::Accepted => Next::Hold { reason: Reason::NoReceipt },
                StatusClass::Throttle => self.throttled(verdict),
                _ => self.refused(verdict),
            },
            Outcome::Unanswered => self.unanswered(),
            Outcome::Unsent => Next::Again { due: self.now },
            Outcome::NoBind => self.no_bind(),
            Outcome::NotDelivered => self.not_delivered(),
            Outcome::Failed { state, error, reason } => self.failed(*state, error, *reason),
            Outcome::Unfit(reason) => self
                .onward(Some(Rule::Unfit), *reason)
                .unwrap_or_else(|| self.end(State::Rejected, *reason)),
            Outcome::Withdrawn => self
                .onward(Some(Rule::Withdrawn), Reason::CarrierDown)
                .unwrap_or(Next::Wait { until: None }),
        }
    }

    fn refused(&self, verdict: &Verdict) -> Next {
        let onward = self.onward(self.rules.on_status(verdict), verdict.reason);
        let retry = &self.rules.retry;
        let asked = verdict.retries.map(|retries| retries.saturating_add(1));
        let lasting = matches!(verdict.class, StatusClass::Retry | StatusClass::SessionFatal);
        let tries = match (onward.is_some(), lasting) {
            (true, _) => asked.unwrap_or(retry.tries),
            (false, true) => retry.last_tries.max(asked.unwrap_or(0)),
            (false, false) => asked.unwrap_or(retry.tries),
        };
        let tried = self.progress.tries;
        if tried >= tries {
            return onward.unwrap_or_else(|| self.end(State::Rejected, verdict.reason));
        }
        let wait = retry.wait(tried.saturating_add(1), verdict.delay, self.dice());
        let due = self.now + wait;
        if due < self.progress.expires_at {
            return Next::Retry { due, reason: verdict.reason };
        }
        onward.unwrap_or_else(|| self.end(State::Expired, Reason::Ttl))
    }

    fn throttled(&self, verdict: &Verdict) -> Next {
        let count = self.progress.throttles;
        let due = self.now + rules::throttle_wait(count, verdict.delay, self.dice());
        let most = verdict.retries.or(self.rules.throttles);
        let rule = if most.is_some_and(|most| count >= most) {
            Some(Rule::Throttles { count })
        } else if due >= self.progress.expires_at {
            Some(Rule::TooSlow)
        } else {
            None
        };
        let due = due.min(self.progress.expires_at);
        self.onward(rule, verdict.reason).unwrap_or(Next::Again { due })
    }

    fn unanswered(&self) -> Next {
        let rule = self.may_risk().then_some(Rule::NoAnswer);
        if let Some(next) = self.onward(rule, Reason::NoAnswer) {
            return next;
        }
        let tries = self.progress.tries;
        let resend = self.carrier.is_some_and(|carrier| carrier.config.resend_unknown);
        let wait = self.rules.retry.wait(tries.saturating_add(1), None, self.dice());
        let due = self.now + wait;
        if resend && tries < self.rules.retry.tries && due < self.progress.expires_at {
            return Next::Retry { due, reason: Reason::NoAnswer };
        }
        Next::Hold { reason: Reason::NoAnswer }
    }

    fn not_delivered(&self) -> Next {
        let limit = self.rules.no_delivered.filter(|_| self.may_leave_behind());
        let rule = limit.map(|limit| Rule::NoDelivered { limit });
        let next = self.onward(rule, Reason::NoDelivery);
        next.unwrap_or(Next::Hold { reason: Reason::NoReceipt })
    }

    fn failed(&self, state: ReceiptState, error: &str, reason: Reason) -> Next {
        let onward = self.onward(self.rules.on_receipt(state, error), reason);
        // An earlier try without an answer has no receipt that could be told to be about it.
        onward.unwrap_or_else(|| match self.progress.unknowns {
            0 => Next::End { state: rules::end_of(state), reason },
            _ => Next::Hold { reason },
        })
    }

    /// What waits in a lane may come back to this carrier: it counts as not tried.
    fn no_bind(&self) -> Next {
        let present = self.progress.carrier;
        let Some(choice) = self.choose(|carrier| self.progress.past.contains(&carrier)) else {
            return Next::Wait { until: None };
        };
        let up = (self.standing)(choice.carrier) == Standing::Up;
        if choice.carrier == present && up {
            return Next::Again { due: self.now };
        }
        // Among carriers that have all been down for too long none is better than this one.
        if choice.carrier == present || (choice.until.is_none() && !up) {
            return Next::Wait { until: choice.until };
        }
        let in_doubt = self.progress.in_doubt;
        if in_doubt && !self.may_risk() {
            return Next::Wait { until: None };
        }
        let limit = self.rules.no_bind.unwrap_or_default();
        Next::Fallback {
            choice,
            rule: Rule::NoBind { limit },
            reason: Reason::CarrierDown,
            uncertain: in_doubt,
            cancel: false,
        }
    }

    /// The next carrier by `rule`; `None` without a rule, a carrier or time.
    fn onward(&self, rule: Option<Rule>, reason: Reason) -> Option<Next> {
        let rule = rule?;
        if self.now >= self.progress.expires_at {
            return None;
        }
        let Progress { carrier, past, .. } = self.progress;
        let choice = self.choose(|other| other == *carrier || past.contains(&other))?;
        let is_risk = matches!(rule, Rule::NoAnswer | Rule::NoDelivered { .. });
        if self.progress.in_doubt && !is_risk && !self.may_risk() {
            return None;
        }
        let uncertain = is_risk || self.progress.in_doubt;
        let taken = matches!(rule, Rule::NoDelivered { .. });
        let cancel = taken && self.carrier.is_some_and(|carrier| carrier.config.cancel_sm);
        Some(Next::Fallback { choice, rule, reason, uncertain, cancel })
    }

    fn choose(&self, tried: impl Fn(CarrierId) -> bool) -> Option<Choice> {
        let Progress { class, seed, .. } = *self.progress;
        self.route?.choose(self.now, class, seed, tried, self.standing)
    }

    /// The end, unless a carrier that was left behind, or an earlier try, may still deliver.
    const fn end(&self, state: State, reason: Reason) -> Next {
        match (self.progress.unknowns, self.progress.in_doubt) {
            (0, false) => Next::End { state, reason },
            _ => Next::Hold { reason },
        }
    }

    /// Whether the class would rather have two copies than none, and may have one more.
    fn may_risk(&self) -> bool {
        self.rules.unknown == UnknownPolicy::Fallback && self.may_leave_behind()
    }

    const fn may_leave_behind(&self) -> bool {
        self.progress.unknowns < self.rules.max_unknown
    }

    fn dice(&self) -> u64 {
        let Progress { seed, tries, throttles, past, .. } = *self.progress;
        let turn = (past.len() as u64) << 32 | u64::from(tries) << 16 | u64::from(throttles);
        seed.dice(!turn)
    }
}
