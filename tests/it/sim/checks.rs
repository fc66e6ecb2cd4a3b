//! What must hold when all is quiet: from the carriers' books and the clients' answers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use hikyaku::journal::OpenError;
use hikyaku::journal::sim::SimDisk;
use hikyaku::message::Class;
use hikyaku::message::Decision;
use hikyaku::message::Finish;
use hikyaku::message::ReceiptsWanted;
use hikyaku::message::Record;
use hikyaku::message::State;
use hikyaku::message::Submission;
use hikyaku::pdu::CommandStatus;
use hikyaku::route::Rules;
use hikyaku::route::UnknownPolicy;
use hikyaku::seal::Keys;
use hikyaku::time::Time;

use super::carrier::Carrier;
use super::carrier::Sight;
use super::plan::Version;
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
        self.receipts_are_taken()?;
        self.counts_unknowns()?;
        if self.plan.is_crowd {
            self.otps_are_quick()?;
            self.keys_have_their_turns()?;
        }
        self.settle_behind()?;
        self.flip_a_bit()
    }

    /// What stands behind the dispatcher has everything, once.
    fn settle_behind(&mut self) -> Kept {
        for (about, message) in self.truth.messages.iter().enumerate() {
            let Some(Record::Accepted(submission)) = message.records.first() else { continue };
            let ends = self.feed.ends(submission.id);
            if ends != 1 + u32::from(message.correction.is_some()) {
                return broken(Some(about), format!("{ends} terminal events"));
            }
        }
        let here = self.local();
        if let (Some(books), Some(process)) = (&mut self.books, &self.process) {
            books.settle(here, &process.reader, &self.feed)?;
        }
        for hook in &mut self.hooks {
            hook.settle(self.now, &self.feed, &mut self.coverage)?;
        }
        Ok(())
    }

    /// The counter of unknown outcomes says what the records say; a crash loses records only.
    fn counts_unknowns(&self) -> Kept {
        let (counted, durable) = (self.unknowns, self.truth.unknowns);
        if counted == durable || (self.has_crashed && counted > durable) {
            return Ok(());
        }
        broken(None, format!("{counted} unknown outcomes counted, {durable} in the records"))
    }

    /// An otp leaves within two token times, however many others wait.
    fn otps_are_quick(&self) -> Kept {
        let rate = u32::try_from(self.carriers[0].plan.rate).unwrap();
        let most = std::time::Duration::from_secs(2) / rate + SHORT_WHILE;
        for (about, message) in self.truth.messages.iter().enumerate() {
            let Some(Record::Accepted(submission)) = message.records.first() else { continue };
            let Some(left_at) = message.left_at else { continue };
            let took = left_at.since(message.accepted_at);
            if submission.class == Class::Otp && took > most {
                return broken(Some(about), format!("an otp waits for {took:?}"));
            }
        }
        Ok(())
    }

    /// While two keys have a backlog each, they leave by turns.
    fn keys_have_their_turns(&self) -> Kept {
        const MOST: i64 = 3;
        let key_of = |about: &usize| match self.truth.messages[*about].records.first() {
            Some(Record::Accepted(it)) if it.class == Class::Marketing => Some(&*it.key),
            _ => None,
        };
        let from = super::world::START + std::time::Duration::from_secs(3);
        let left = self.truth.departures.iter().filter(|(at, _)| *at > from);
        let keys: Vec<&str> = left.filter_map(|(_, about)| key_of(about)).collect();
        let Some(first) = keys.first() else { return Ok(()) };
        // Until one of them has none left.
        let last = |is: bool| keys.iter().rposition(|key| (key == first) == is).unwrap_or(0);
        let mut balance = 0_i64;
        for key in &keys[..last(true).min(last(false))] {
            balance += if key == first { 1 } else { -1 };
            if balance.abs() > MOST {
                return broken(None, format!("one key is {balance} messages ahead of the other"));
            }
        }
        Ok(())
    }

    /// A bit of what is on the disk flips: the start is refused with the place, or the last group
    /// looks torn and is cut. Nothing else is lost, and nothing is made up.
    fn flip_a_bit(&mut self) -> Kept {
        let disk = self.disk.kill();
        self.process = None;
        let files: Vec<(String, Vec<u8>)> = disk.contents().into_iter().collect();
        let Some((name, octets)) = files.get(self.draws.index(files.len().max(1))) else {
            return Ok(());
        };
        if octets.is_empty() || !disk.flip(name, self.draws.index(octets.len()), 1) {
            return Ok(());
        }
        self.is_beginning(disk, "a flipped bit")
    }

    /// What a bad disk left is a beginning of what was on it, or the start is refused.
    pub(super) fn is_beginning(&mut self, disk: SimDisk, what: &str) -> Kept {
        let opened = match hikyaku::journal::open(disk, &self.plan.journal, &Keys::known(0)) {
            Ok(opened) => opened,
            Err(OpenError::Damaged(damage)) => {
                self.coverage.count(format!("{what}: the start is refused"));
                let is_placed = !damage.file.as_os_str().is_empty();
                return if is_placed { Ok(()) } else { broken(None, "damage at no place") };
            }
            Err(error) => return broken(None, format!("{what}: {error}")),
        };
        let known = self.log.partition_point(|(position, _)| *position < opened.first);
        let mut known = self.log[known..].iter();
        for next in opened.reader.follow(opened.first) {
            let Ok((position, octets)) = next else {
                self.coverage.count(format!("{what}: the replay is refused"));
                return Ok(());
            };
            // Behind the last is what was never reported durable.
            let Some(expected) = known.next() else { break };
            if *expected != (position, super::world::hash(&octets)) {
                return broken(None, format!("{what}: {position:?} is not what was written"));
            }
        }
        let cut = if known.next().is_some() { "its end is cut" } else { "all is there" };
        self.coverage.count(format!("{what}: {cut}"));
        Ok(())
    }

    fn nothing_is_live(&self) -> Kept {
        let Some(process) = &self.process else { return broken(None, "no process is left") };
        let snapshot = process.dispatch.snapshot(self.now);
        if snapshot.body_bytes > 0 {
            let how = format!("{} octets of bodies after all ended", snapshot.body_bytes);
            return broken(None, how);
        }
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

    /// The rules that were in force in that instant.
    fn rules(&self, at: Time) -> impl Iterator<Item = &Rules> {
        self.world.versions_at(at).map(|version| {
            let route = self.world.routes[version].route_of(self.submission).unwrap();
            route.rules(self.submission.class)
        })
    }

    /// Whether what became of an unanswered message was to fall back.
    fn falls_back_unknown(&self, at: Time) -> bool {
        self.rules(at).any(|rules| rules.unknown == UnknownPolicy::Fallback)
    }

    /// The end is the one that the carriers reported.
    fn ends_as_seen(&self, end: &Finish) -> Kept {
        if self.submission.receipts == ReceiptsWanted::None {
            return Ok(());
        }
        let mut carriers = self.world.routes.iter().flat_map(|routes| routes.carriers());
        let asks = carriers.any(|carrier| carrier.config.query_sm);
        let delivering = |carrier: &&Carrier| self.is_delivered(carrier, |_| true);
        let is_delivered = self.world.carriers.iter().any(|carrier| delivering(&carrier));
        if end.state == State::Delivered && !is_delivered && !asks {
            return self.broken("ends as delivered, and no carrier said so of all segments");
        }
        let is_known = |carrier: &&Carrier| {
            self.is_delivered(carrier, |sight| self.knows_answer(carrier, sight))
        };
        let is_lost = matches!(end.state, State::Unknown | State::Expired);
        let forgets = self.world.plan.versions.iter().any(Version::forgets);
        if is_lost && !forgets && self.world.carriers.iter().any(|carrier| is_known(&carrier)) {
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
        let hold = self.world.plan.versions[0].dispatch.orphan_hold.0;
        let is_in_time =
            |at: Time| receipt.taken_at.is_some_and(|taken_at| at.since(taken_at) + SLACK < hold);
        // Of a segment that was sent twice the newer id is the one that is known.
        let newest = self.message.records.iter().rev().find(|record| match record {
            Record::Answered { attempt, segment, answer, .. } => {
                let of = self.carrier_of(*attempt);
                *segment == sight.segment
                    && of == Some(&carrier.plan.name)
                    && answer.status == CommandStatus::ESME_ROK
            }
            _ => false,
        });
        newest.is_some_and(|record| match record {
            Record::Answered { at, segment, answer, .. } => {
                let id = carrier.plain_answer(&answer.carrier_message_id);
                *segment == sight.segment && id == sight.id && is_in_time(*at)
            }
            _ => false,
        })
    }

    /// The carrier of an attempt.
    fn carrier_of(&self, number: u16) -> Option<&str> {
        self.message.records.iter().find_map(|record| match record {
            Record::Sending { attempt, carrier, .. } if *attempt == number => Some(&**carrier),
            _ => None,
        })
    }

    /// A second carrier has it only by a rule of its route.
    fn copies_are_licensed(&self) -> Kept {
        let mut uncertain = BTreeSet::new();
        let mut left = BTreeSet::new();
        for record in &self.message.records {
            let Record::Requeued { decision, at, .. } = record else { continue };
            let Decision::Fallback { from, to, rule, uncertain: is_uncertain } = decision else {
                continue;
            };
            let from = self.carrier(from);
            // A carrier that has only some of the segments delivers nothing.
            if *is_uncertain && from.had_all(self.about, *at) {
                uncertain.insert(from.number());
            }
            let doubts = uncertain.iter().filter(|number| !self.has_failed(**number, *at)).count();
            let most = self.rules(*at).map(|rules| rules.max_unknown).max().unwrap_or_default();
            if doubts > usize::from(most) {
                return self.broken(format!("{doubts} attempts are left behind in doubt"));
            }
            left.insert(from.number());
            let risks = *is_uncertain && self.falls_back_unknown(*at);
            if !risks {
                self.is_licensed(from, *at, rule)?;
            }
            if from.number() == self.carrier(to).number() {
                return self.broken("falls back to the carrier that it leaves");
            }
        }
        let seen = self.world.carriers.iter().filter(|it| it.sights(self.about).next().is_some());
        let copies = seen.filter(|carrier| !left.contains(&carrier.number())).count();
        if copies > 1 {
            return self.broken("two carriers have seen it, and no record says why");
        }
        Ok(())
    }

    /// Whether this carrier has said by then, of each copy that it has of some segment, that it will
    /// not deliver it.
    fn has_failed(&self, number: usize, by: Time) -> bool {
        let carrier = &self.world.carriers[number];
        let mut copies = [0_usize; 256];
        let held = carrier.sights(self.about).filter(|sight| sight.is_held() && sight.at <= by);
        held.for_each(|sight| copies[usize::from(sight.segment)] += 1);
        let mut failed = [0_usize; 256];
        for record in &self.message.records {
            if let Record::Receipt { at, attempt, segment, receipt, .. } = record
                && *at <= by
                && receipt.is_final
                && &*receipt.state != "DELIVERED"
                && self.carrier_of(*attempt) == Some(&carrier.plan.name)
            {
                failed[usize::from(*segment)] += 1;
            }
        }
        copies.iter().zip(failed).any(|(copies, failed)| failed > 0 && failed >= *copies)
    }

    fn carrier(&self, name: &str) -> &Carrier {
        self.world.carriers.iter().find(|carrier| carrier.plan.name == name).unwrap()
    }

    /// Whether the message may leave `from` by this rule.
    fn is_licensed(&self, from: &Carrier, at: Time, rule: &str) -> Kept {
        let refused = |status: CommandStatus| {
            from.sights(self.about).any(|sight| sight.at <= at && sight.status == Some(status))
        };
        let has_all = from.had_all(self.about, at) && !self.has_failed(from.number(), at);
        let is_right = match rule.split(' ').take(2).collect::<Vec<_>>().join(" ").as_str() {
            "no answer" => self.falls_back_unknown(at),
            "not delivered" => self.rules(at).any(|rules| rules.no_delivered.is_some()),
            "receipt says" | "receipt has" => {
                from.receipts_of(self.about).any(|delivered| !delivered)
            }
            "refused with" => {
                let status = rule.split(' ').nth(2).unwrap_or_default();
                let seen = from.sights(self.about).filter(|sight| sight.at <= at);
                let mut seen = seen.filter_map(|sight| sight.status);
                // A session that is about to end refuses by itself, before the carrier sees it.
                let by_session = status == CommandStatus::ESME_RINVBNDSTS.to_string();
                !has_all && (by_session || seen.any(|it| it.to_string() == status))
            }
            "throttled" | "the next" => !has_all,
            _ if rule.starts_with("throttled") => {
                let throttled = [CommandStatus::ESME_RTHROTTLED, CommandStatus::ESME_RMSGQFUL];
                !has_all && throttled.into_iter().any(refused)
            }
            "no bind" => !has_all,
            // It was taken out of the config.
            "the carrier" => !has_all && self.world.lacked_carrier(from.number(), at),
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

/// What staging ahead, the disk and the way to the dispatcher take.
const SHORT_WHILE: std::time::Duration = std::time::Duration::from_millis(100);

/// Between the carrier's knowledge of a receipt's end and the gateway's.
const SLACK: std::time::Duration = std::time::Duration::from_secs(5);
