//! Random lives of many messages, with every fault at every moment; the promises hold.
//!
//! A failing seed is printed; `HIKYAKU_SEEDS=100000` runs so many.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use hikyaku::dispatch::BindId;
use hikyaku::dispatch::Event;
use hikyaku::dispatch::Reply;
use hikyaku::dispatch::Ticket;
use hikyaku::message::Class;
use hikyaku::message::MessageId;
use hikyaku::message::ReceiptsWanted;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::EsmClass;
use hikyaku::time::Time;

use super::world::ROK;
use super::world::SECOND;
use super::world::Sent;
use super::world::World;
use super::world::bind;
use super::world::idempotency;

const CONFIG: &str = r#"
    [carriers.alpha]
    rate = "20/s"
    cancel_sm = true
    [carriers.beta]
    rate = "5/s"
    query_sm = true
    receipts = { on = "any", timeout = "10h" }
    [carriers.gamma]
    rate = "100/s"
    rate_per_bind = "60/s"
    [[routes]]
    name = "main"
    carriers = ["alpha", { any = [{ carrier = "beta" }, { carrier = "gamma", weight = 2 }] }]
    otp = { no_delivered = "90s" }
    [dispatch]
    orphan_limit = 20
    late_limit = 50
    idempotency_limit = 50
    idempotency_ttl = "10m"
"#;

const CLEANS: &str = r#"
    clean_above_bytes = 2_000
    orphan_hold = "5s"
    reassembly_timeout = "5s"
    reference_hold = "5s"
"#;

const RATES: [(&str, usize); 3] = [("alpha", 20), ("beta", 5), ("gamma", 100)];

#[test]
fn whatever_happens_every_message_ends_once_and_no_promise_is_broken() {
    let seeds = std::env::var("HIKYAKU_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(30) {
        let outcome = std::panic::catch_unwind(|| Script::new(seed).run());
        if let Err(panic) = outcome {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The script of a fuzzer: its octets are the chances, and it is over when they are.
pub(crate) fn play(octets: &[u8]) {
    let (first, rest) = octets.split_first().unwrap_or((&0, &[]));
    Script::of(Dice::Octets(rest.iter().copied().collect()), u64::from(*first)).run();
}

/// Where chance comes from.
enum Dice {
    Seed(u64),
    Octets(VecDeque<u8>),
}

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        match self {
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z ^ (z >> 31)) % sides
            }
            Self::Octets(octets) => u64::from(octets.pop_front().unwrap_or_default()) % sides,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Octets(octets) if octets.is_empty())
    }
}

/// What the script knows of a request that a carrier got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pending,
    Taken,
    Refused,
    Unknown,
}

struct Script {
    world: World,
    dice: Dice,
    /// Binds that are up, with their windows.
    up: BTreeMap<BindId, u16>,
    /// Requests without an outcome, and those whose outcome is late.
    pending: Vec<Sent>,
    late: Vec<Sent>,
    /// All submits of one-segment messages that are not otp, by destination.
    fates: BTreeMap<String, Vec<(u64, Fate)>>,
    plain: BTreeSet<String>,
    /// Destinations of which a receipt said that they will not arrive.
    failed: BTreeSet<String>,
    ids: BTreeMap<String, Vec<(String, String)>>,
    accepted: Vec<(Ticket, MessageId)>,
    hashes: Vec<(usize, u64)>,
    next: u32,
    seen: usize,
    crashes: Vec<Time>,
}

impl Script {
    fn new(seed: u64) -> Self {
        Self::of(Dice::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)), seed)
    }

    /// Some worlds have no room for bodies, so that they are read back; some clean their journal.
    fn of(dice: Dice, kind: u64) -> Self {
        let bodies = if kind & 1 == 1 { "body_bytes = 0" } else { "" };
        let cleans = if kind & 2 == 2 { CLEANS } else { "" };
        Self {
            world: World::given(&format!("{CONFIG}\n{bodies}\n{cleans}")),
            dice,
            up: BTreeMap::new(),
            pending: Vec::new(),
            late: Vec::new(),
            fates: BTreeMap::new(),
            plain: BTreeSet::new(),
            failed: BTreeSet::new(),
            ids: BTreeMap::new(),
            accepted: Vec::new(),
            hashes: Vec::new(),
            next: 0,
            seen: 0,
            crashes: Vec::new(),
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice.roll(sides)
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        let sides = items.len() as u64;
        (sides > 0).then(|| items[usize::try_from(self.roll(sides)).unwrap()].clone())
    }

    fn run(mut self) {
        for _ in 0..300 {
            if self.dice.is_over() {
                break;
            }
            self.step();
            self.look();
        }
        self.quiet();
        self.check_ends();
        self.check_rates();
        self.check_prefixes();
    }

    fn step(&mut self) {
        match self.roll(100) {
            0..=24 => self.accept(),
            25..=31 => self.bind_or_lose(),
            32..=54 => self.answer(),
            55..=57 => self.time_out(),
            58..=67 => self.receipt(),
            68..=69 => self.handset(),
            70..=72 => self.cancel(),
            73..=89 => {
                let millis = [1, 20, 200, 1_000, 15_000, 120_000];
                let millis = self.pick(&millis).unwrap() + self.roll(50);
                self.world.pass(Duration::from_millis(millis));
            }
            90..=92 => self.late_answer(),
            93..=94 => self.store(),
            95 => self.crash(),
            96 => self.calm(),
            _ => {
                self.world.syncs = !self.world.syncs;
                self.world.sync();
            }
        }
    }

    fn accept(&mut self) {
        let class = self.pick(&Class::ALL).unwrap();
        let is_long = self.roll(4) == 0;
        let text = if is_long { super::world::three_segments() } else { "short".into() };
        let mut submission = self.world.submission(class, &text);
        self.next += 1;
        let to = format!("8190{:08}", self.next);
        submission.to = to.as_str().into();
        submission.key = self.pick(&["shop", "bank", "game"]).unwrap().into();
        match self.roll(12) {
            0 => submission.send_at = Some(self.world.now + SECOND * 90),
            1 => submission.expires_at = self.world.now + SECOND * 20,
            2 => submission.receipts = ReceiptsWanted::None,
            3 => {
                let key = self.pick(&[1, 2, 3, 4, 5]).unwrap();
                submission.idempotency = idempotency(key, self.pick(&[1, 2]).unwrap());
            }
            _ => {}
        }
        if !is_long && class != Class::Otp {
            self.plain.insert(to);
        }
        let id = submission.id;
        let ticket = self.world.accept(submission);
        self.accepted.push((ticket, id));
    }

    fn bind_or_lose(&mut self) {
        let (carrier, _) = self.pick(&RATES).unwrap();
        let bind = bind(carrier, u16::try_from(self.roll(2)).unwrap());
        if self.up.remove(&bind).is_none() {
            let window = u16::try_from(self.roll(6) + 1).unwrap();
            self.up.insert(bind.clone(), window);
            return self.world.bound(carrier, bind.index, window);
        }
        self.look();
        if self.roll(3) == 0 {
            self.world.tell(Event::Closing { bind: bind.clone() });
            self.look();
        }
        // The link may know of some that never left it: the last ones.
        let on_it: Vec<_> = self.pending.iter().filter(|it| it.bind == bind).cloned().collect();
        let unsent = self.roll(3).min(on_it.len() as u64);
        let (gone, unsent) = on_it.split_at(on_it.len() - usize::try_from(unsent).unwrap());
        for sent in gone {
            self.note(sent, Fate::Unknown);
        }
        for sent in unsent {
            self.note(sent, Fate::Refused);
        }
        self.pending.retain(|it| it.bind != bind);
        self.late.retain(|it| it.bind != bind);
        let unsent = unsent.iter().map(|it| it.token).collect();
        self.world.tell(Event::Lost { bind, unsent });
    }

    fn answer(&mut self) {
        for _ in 0..=self.roll(3) {
            let Some(sent) = self.pick(&self.pending.clone()) else { return };
            self.pending.retain(|it| it.token != sent.token || it.bind != sent.bind);
            self.answer_one(&sent);
            self.look();
        }
    }

    fn answer_one(&mut self, sent: &Sent) {
        match &sent.body {
            Body::SubmitSm(_) => {
                let statuses = [
                    ROK,
                    ROK,
                    ROK,
                    ROK,
                    CommandStatus::ESME_RTHROTTLED,
                    CommandStatus::ESME_RSYSERR,
                    CommandStatus::ESME_RSUBMITFAIL,
                    CommandStatus::ESME_RINVDSTADR,
                ];
                let status = self.pick(&statuses).unwrap();
                if status != ROK {
                    self.note(sent, Fate::Refused);
                    return self.world.refuse(sent, status);
                }
                self.note(sent, Fate::Taken);
                let id = self.id_of(sent);
                self.world.ok(sent, &id);
            }
            Body::CancelSm(_) => {
                let status = self.pick(&[ROK, CommandStatus::ESME_RCANCELFAIL]).unwrap();
                self.world.cancelled(sent, status);
            }
            Body::QuerySm(_) => {
                let states =
                    [hikyaku::pdu::MessageState::DELIVERED, hikyaku::pdu::MessageState::ENROUTE];
                let state = self.pick(&states).unwrap();
                self.world.queried(sent, state);
            }
            other => panic!("{other:?}"),
        }
    }

    /// The carrier's id of a segment, the same however often it is asked for.
    fn id_of(&mut self, sent: &Sent) -> String {
        let id =
            format!("{}{:x}", sent.carrier(), sent.token.0 + 1_000 * self.crashes.len() as u64);
        let known = self.ids.entry(sent.to()).or_default();
        let entry = (sent.carrier().to_owned(), id.clone());
        if !known.contains(&entry) {
            known.push(entry);
        }
        id
    }

    fn late_answer(&mut self) {
        let Some(sent) = self.pick(&self.late.clone()) else { return };
        self.late.retain(|it| it.token != sent.token || it.bind != sent.bind);
        self.answer_one(&sent);
    }

    fn time_out(&mut self) {
        let Some(sent) = self.pick(&self.pending.clone()) else { return };
        self.pending.retain(|it| it.token != sent.token || it.bind != sent.bind);
        self.note(&sent, Fate::Unknown);
        self.late.push(sent.clone());
        self.world.timed_out(&sent);
    }

    fn receipt(&mut self) {
        // Before the answer, after it, or about nothing.
        let early = self.pick(&self.pending.clone());
        if let Some(sent) = early.filter(|it| matches!(it.body, Body::SubmitSm(_)))
            && self.roll(4) == 0
        {
            self.id_of(&sent);
        }
        let all: Vec<_> = self.ids.values().flatten().cloned().collect();
        let (carrier, id) = match self.pick(&all) {
            Some(known) if self.roll(10) > 0 => known,
            _ => ("alpha".into(), format!("nobodys{}", self.roll(30))),
        };
        let stats = ["DELIVRD", "DELIVRD", "DELIVRD", "UNDELIV", "ENROUTE", "EXPIRED", "REJECTD"];
        let stat = self.pick(&stats).unwrap();
        if stat == "REJECTD" {
            let about = self.ids.iter().find(|(_, ids)| ids.iter().any(|(_, it)| *it == id));
            self.failed.extend(about.map(|(to, _)| to.clone()));
        }
        self.world.receipt(&carrier, &id, stat);
    }

    /// A part of a message from a handset, in any order, some of them never.
    fn handset(&mut self) {
        let [reference, number] = [self.pick(&[1, 2]).unwrap(), self.pick(&[1, 2, 3]).unwrap()];
        let octets = [5, 0, 3, reference, 3, number, b'x'];
        let sequence = self.world.deliver("beta", "819011112222", EsmClass(0x40), &octets);
        let is_down = self.world.acks.contains(&(sequence, CommandStatus::ESME_RX_T_APPN));
        assert!(is_down || !self.world.syncs || self.world.was_acked(sequence));
    }

    fn cancel(&mut self) {
        if let Some((_, id)) = self.pick(&self.accepted.clone()) {
            self.world.cancel(id);
        }
    }

    /// A quiet while in which most messages come to their end.
    fn calm(&mut self) {
        for _ in 0..20 {
            self.answer();
            self.world.pass(SECOND * 2);
            self.look();
        }
        for (carrier, id) in self.ids.values().flatten().cloned().collect::<Vec<_>>() {
            self.world.receipt(&carrier, &id, "DELIVRD");
        }
    }

    fn store(&mut self) {
        self.world.syncs = false;
        self.world.tell(Event::StoreFailed);
        for _ in 0..self.roll(10) {
            match self.roll(4) {
                0 => self.accept(),
                1 => self.answer(),
                2 => self.receipt(),
                _ => self.bind_or_lose(),
            }
            self.look();
        }
        self.world.tell(Event::StoreRecovered);
        self.world.syncs = true;
        self.world.sync();
    }

    fn crash(&mut self) {
        for sent in std::mem::take(&mut self.pending) {
            self.note(&sent, Fate::Unknown);
        }
        self.late.clear();
        self.up.clear();
        let more = usize::try_from(self.roll(6)).unwrap();
        self.world.now += SECOND * 2;
        self.crashes.push(self.world.now);
        let kept = self.world.crash(more);
        self.hashes.retain(|(length, _)| *length <= kept);
        self.world.syncs = true;
        self.world.sync();
    }

    fn note(&mut self, sent: &Sent, fate: Fate) {
        if !matches!(sent.body, Body::SubmitSm(_)) {
            return;
        }
        let key = sent.token.0 + 1_000_000 * self.crashes.len() as u64;
        let fates = self.fates.entry(sent.to()).or_default();
        if let Some(known) = fates.iter_mut().find(|(other, _)| *other == key) {
            known.1 = fate;
        }
    }

    /// Looks at what was sent since the last look.
    fn look(&mut self) {
        while let Some(sent) = self.world.sent.pop_front() {
            if matches!(sent.body, Body::SubmitSm(_)) {
                self.check_submit(&sent);
            }
            self.pending.push(sent);
        }
        for (bind, window) in &self.up {
            let out = self.pending.iter().filter(|sent| sent.bind == *bind).count();
            assert!(out <= usize::from(*window), "{out} of {window} on {bind:?}");
        }
        if self.hashes.len() < 400 && self.seen != self.world.journal.len() {
            self.seen = self.world.journal.len();
            self.hashes.push((self.seen, self.world.dispatch.state_hash()));
        }
    }

    /// A message that is worth no second copy is sent again only after a refusal, or after a
    /// receipt that says it was rejected.
    fn check_submit(&mut self, sent: &Sent) {
        assert!(self.up.contains_key(&sent.bind), "no such bind: {sent:?}");
        let to = sent.to();
        let key = sent.token.0 + 1_000_000 * self.crashes.len() as u64;
        let fates = self.fates.entry(to.clone()).or_default();
        if self.plain.contains(&to) && !self.failed.contains(&to) {
            let out = fates.iter().all(|(_, fate)| *fate == Fate::Refused);
            assert!(out, "sent twice: {to} {fates:?}");
        }
        fates.push((key, Fate::Pending));
    }

    /// Lets everything come to its end.
    fn quiet(&mut self) {
        self.world.syncs = true;
        self.world.sync();
        for round in 0..400 {
            for (carrier, _) in RATES {
                let is_down = !self.up.contains_key(&bind(carrier, 0));
                if is_down {
                    self.world.bound(carrier, 0, 50);
                }
                self.up.entry(bind(carrier, 0)).or_insert(50);
            }
            self.look();
            for sent in std::mem::take(&mut self.pending) {
                self.note(&sent, Fate::Taken);
                match &sent.body {
                    Body::SubmitSm(_) => {
                        let id = self.id_of(&sent);
                        self.world.ok(&sent, &id);
                    }
                    _ => self.answer_one(&sent),
                }
            }
            self.world.pass(if round < 200 { SECOND } else { SECOND * 3_600 });
        }
    }

    fn check_ends(&self) {
        for (ticket, id) in &self.accepted {
            let is_ours = !self.world.records(*id).is_empty();
            if matches!(self.world.replies.get(ticket), Some(Reply::Accepted { .. })) {
                assert!(is_ours, "{id} was accepted and is gone");
            }
            if is_ours {
                assert_ne!(self.world.end(*id), "live", "{id}: {:#?}", self.world.records(*id));
                assert!(self.world.corrections(*id).len() <= 2, "{id}");
            }
        }
        assert_eq!(self.world.dispatch.snapshot(self.world.now).live, 0);
    }

    fn check_rates(&self) {
        for (carrier, rate) in RATES {
            let all = self.world.wire.iter().filter(|sent| sent.carrier() == carrier);
            let times: Vec<_> = all.map(|sent| sent.at).collect();
            for (from, at) in times.iter().enumerate() {
                let until = times.partition_point(|other| *other < *at + SECOND);
                let count = until - from;
                assert!(count <= rate, "{count} to {carrier} in a second from {at:?}");
            }
        }
    }

    /// A replay of the first records finds what the live process knew when they were its last.
    fn check_prefixes(&self) {
        let mut lengths = self.hashes.iter();
        let Some(mut next) = lengths.next() else { return };
        let mut replay = self.world.empty();
        for (place, (position, record)) in self.world.journal.iter().enumerate() {
            replay.replay(*position, record);
            while next.0 == place + 1 {
                assert_eq!(replay.state_hash(), next.1, "after {} records", next.0);
                let Some(following) = lengths.next() else { return };
                next = following;
            }
        }
    }
}
