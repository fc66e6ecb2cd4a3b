//! What must hold when all is quiet: from the carriers' books and the clients' answers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use hikyaku::message::Decision;
use hikyaku::message::Finish;
use hikyaku::message::ReceiptsWanted;
use hikyaku::message::Record;
use hikyaku::message::State;
use hikyaku::message::Submission;
use hikyaku::pdu::CommandStatus;
use hikyaku::route::Rules;
use hikyaku::route::UnknownPolicy;
use hikyaku::time::Time;

use super::carrier::Carrier;
use super::carrier::Sight;
use super::story::Kept;
use super::story::broken;
use super::truth::Message;
use super::world::World;

impl World {
    /// Holds what everybody saw against what was promised.
    pub(super) fn settle_up(&mut self) -> Kept {
        self.compare_replay()?;
        self.nothing_is_live()?;
        for about in 0..self.truth.messages.len() {
            self.check(about)?;
        }
        self.receipts_are_taken()
    }

    fn nothing_is_live(&self) -> Kept {
        let Some(process) = &self.process else { return broken(None, "no process is left") };
        let snapshot = process.dispatch.snapshot(self.now);
        if snapshot.live > 0 {
            return broken(None, format!("{} messages are live after all ended", snapshot.live));
        }
        for carrier in &snapshot.carriers {
            if carrier.window_used > 0 {
                let how =
                    format!("{} requests to {} never end", carrier.window_used, carrier.carrier);
                return broken(None, how);
            }
        }
        Ok(())
    }

    /// Every receipt that a carrier sent was answered, sooner or later.
    fn receipts_are_taken(&self) -> Kept {
        for carrier in &self.carriers {
            let left = carrier.receipts.iter().find(|(_, receipt)| receipt.taken_at.is_none());
            if let Some((id, receipt)) = left {
                let how = format!("receipt {id} of {} is never answered", carrier.plan.name);
                return broken(Some(receipt.message), how);
            }
        }
        Ok(())
    }

    fn check(&self, about: usize) -> Kept {
        let message = &self.truth.messages[about];
        if !message.is_accepted() {
            let is_seen = self.carriers.iter().any(|it| it.sights(about).next().is_some());
            return match (message.told, is_seen) {
                (Some(_), _) => broken(Some(about), "told accepted, and lost"),
                (None, true) => broken(Some(about), "sent and never accepted"),
                (None, false) => Ok(()),
            };
        }
        let Some(end) = message.end() else { return broken(Some(about), "never ends") };
        let Some(Record::Accepted(submission)) = message.records.first() else { return Ok(()) };
        let case = Case { world: self, about, message, submission };
        case.ends_as_seen(end)?;
        case.copies_are_licensed()?;
        case.resends_are_licensed()
    }
}

impl Carrier {
    /// The submits of a message, in order.
    fn sights(&self, about: usize) -> impl Iterator<Item = &Sight> {
        self.book.iter().filter(move |sight| sight.message == about)
    }

    /// Whether it had all segments of a message by then.
    fn had_all(&self, about: usize, by: Time) -> bool {
        let held = self.sights(about).filter(|sight| sight.is_held() && sight.at <= by);
        let held: Vec<_> = held.collect();
        let Some(first) = held.first() else { return false };
        (0..first.total).all(|segment| held.iter().any(|sight| sight.segment == segment))
    }

    fn receipts_of(&self, about: usize) -> impl Iterator<Item = bool> {
        let about = self.receipts.values().filter(move |receipt| receipt.message == about);
        about.filter(|receipt| receipt.taken_at.is_some()).map(|receipt| receipt.is_delivered)
    }
}

/// One message with all that is known of it.
struct Case<'a> {
    world: &'a World,
    about: usize,
    message: &'a Message,
    submission: &'a Submission,
}

impl Case<'_> {
    fn broken(&self, how: impl Into<String>) -> Kept {
        broken(Some(self.about), how)
    }

    fn rules(&self) -> &Rules {
        let routes = &self.world.routes;
        let route = routes.route_of(self.submission).unwrap();
        route.rules(self.submission.class)
    }

    /// The end is the one that the carriers reported.
    fn ends_as_seen(&self, end: &Finish) -> Kept {
        if self.submission.receipts == ReceiptsWanted::None {
            return Ok(());
        }
        let asks = self.world.routes.carriers().any(|carrier| carrier.config.query_sm);
        let delivering = |carrier: &&Carrier| self.is_delivered(carrier, |_| true);
        let is_delivered = self.world.carriers.iter().any(|carrier| delivering(&carrier));
        if end.state == State::Delivered && !is_delivered && !asks {
            return self.broken("ends as delivered, and no carrier said so of all segments");
        }
        let is_known = |carrier: &&Carrier| {
            self.is_delivered(carrier, |sight| self.knows_answer(carrier, sight))
        };
        let is_lost = matches!(end.state, State::Unknown | State::Expired);
        if is_lost && self.world.carriers.iter().any(|carrier| is_known(&carrier)) {
            let how = format!("ends as {}, and a carrier said delivered", end.state);
            return self.broken(how);
        }
        Ok(())
    }

    /// Whether the gateway took a receipt of each segment's delivery from this carrier, for submits
    /// that are `known`.
    fn is_delivered(&self, carrier: &Carrier, known: impl Fn(&Sight) -> bool) -> bool {
        let arrived = |sight: &&Sight| {
            let receipt = sight.id.as_ref().and_then(|id| carrier.receipts.get(id));
            known(sight) && receipt.is_some_and(|it| it.is_delivered && it.taken_at.is_some())
        };
        let arrived: Vec<_> = carrier.sights(self.about).filter(arrived).collect();
        let total = arrived.first().map_or(u8::MAX, |sight| sight.total);
        (0..total).all(|segment| arrived.iter().any(|sight| sight.segment == segment))
    }

    /// Whether the answer to a submit is on the disk, and was in time for its receipt.
    fn knows_answer(&self, carrier: &Carrier, sight: &Sight) -> bool {
        let Some(receipt) = sight.id.as_ref().and_then(|id| carrier.receipts.get(id)) else {
            return false;
        };
        let hold = self.world.plan.dispatch.orphan_hold.0;
        let is_in_time =
            |at: Time| receipt.taken_at.is_some_and(|taken_at| at.since(taken_at) + SLACK < hold);
        self.message.records.iter().any(|record| match record {
            Record::Answered { at, segment, answer, .. } => {
                let id = carrier.plain_answer(&answer.carrier_message_id);
                *segment == sight.segment && id == sight.id && is_in_time(*at)
            }
            _ => false,
        })
    }

    /// A second carrier has it only by a rule of its route.
    fn copies_are_licensed(&self) -> Kept {
        let mut uncertain = 0;
        let mut left = BTreeSet::new();
        for record in &self.message.records {
            let Record::Requeued { decision, at, .. } = record else { continue };
            let Decision::Fallback { from, to, rule, uncertain: is_uncertain } = decision else {
                continue;
            };
            let from = self.carrier(from);
            // A carrier that has only some of the segments delivers nothing.
            let may_arrive = from.had_all(self.about, *at) && !self.is_recalled(*at);
            uncertain += u16::from(*is_uncertain && may_arrive);
            left.insert(from.number());
            let risks = *is_uncertain && self.rules().unknown == UnknownPolicy::Fallback;
            if !risks {
                self.is_licensed(from, *at, rule)?;
            }
            if from.number() == self.carrier(to).number() {
                return self.broken("falls back to the carrier that it leaves");
            }
        }
        if uncertain > self.rules().max_unknown {
            return self.broken(format!("{uncertain} attempts are left behind in doubt"));
        }
        let seen = self.world.carriers.iter().filter(|it| it.sights(self.about).next().is_some());
        let copies = seen.filter(|carrier| !left.contains(&carrier.number())).count();
        if copies > 1 {
            return self.broken("two carriers have seen it, and no record says why");
        }
        Ok(())
    }

    /// Whether a carrier has said by then that it took the message back.
    fn is_recalled(&self, by: Time) -> bool {
        self.message.records.iter().any(|record| match record {
            Record::Receipt { at, receipt, .. } => *at <= by && &*receipt.state == "DELETED",
            _ => false,
        })
    }

    fn carrier(&self, name: &str) -> &Carrier {
        self.world.carriers.iter().find(|carrier| carrier.plan.name == name).unwrap()
    }

    /// Whether the message may leave `from` by this rule.
    fn is_licensed(&self, from: &Carrier, at: Time, rule: &str) -> Kept {
        let refused = |status: CommandStatus| {
            from.sights(self.about).any(|sight| sight.at <= at && sight.status == Some(status))
        };
        let rules = self.rules();
        let has_all = from.had_all(self.about, at);
        let is_right = match rule.split(' ').take(2).collect::<Vec<_>>().join(" ").as_str() {
            "no answer" => rules.unknown == UnknownPolicy::Fallback,
            "not delivered" => rules.no_delivered.is_some(),
            "receipt says" | "receipt has" => {
                from.receipts_of(self.about).any(|delivered| !delivered)
            }
            "refused with" => {
                let status = rule.split(' ').nth(2).unwrap_or_default();
                let seen = from.sights(self.about).filter(|sight| sight.at <= at);
                let mut seen = seen.filter_map(|sight| sight.status);
                !has_all && seen.any(|it| it.to_string() == status)
            }
            "throttled" | "the next" => !has_all,
            _ if rule.starts_with("throttled") => {
                let throttled = [CommandStatus::ESME_RTHROTTLED, CommandStatus::ESME_RMSGQFUL];
                !has_all && throttled.into_iter().any(refused)
            }
            "no bind" => !has_all,
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        self.broken(format!("leaves {} by {rule:?}, which is not so", from.plan.name))
    }

    /// A carrier that has a segment is sent it again only where the config allows it.
    fn resends_are_licensed(&self) -> Kept {
        let unknown = |record: &&Record| {
            matches!(
                record,
                Record::Requeued {
                    decision: Decision::Retry { .. },
                    reason: hikyaku::message::Reason::NoAnswer,
                    ..
                }
            )
        };
        let allowed = self.message.records.iter().filter(unknown).count();
        for carrier in &self.world.carriers {
            let mut copies: BTreeMap<u8, usize> = BTreeMap::new();
            for sight in carrier.sights(self.about) {
                let held = copies.entry(sight.segment).or_default();
                if *held > 0 && (!carrier.plan.resend_unknown || *held > allowed) {
                    let how = format!(
                        "segment {} goes to {} again, which has it",
                        sight.segment, carrier.plan.name
                    );
                    return self.broken(how);
                }
                *held += usize::from(sight.is_held());
            }
        }
        Ok(())
    }
}

/// Between the carrier's knowledge of a receipt's end and the gateway's.
const SLACK: std::time::Duration = std::time::Duration::from_secs(5);
