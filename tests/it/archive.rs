//! The archive: whatever crashes, every record counts once, and everything is found again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hikyaku::archive::Archive;
use hikyaku::archive::Config;
use hikyaku::archive::ERASED;
use hikyaku::archive::Event;
use hikyaku::archive::EventKind;
use hikyaku::archive::Feed;
use hikyaku::archive::Flush;
use hikyaku::archive::Flushed;
use hikyaku::archive::Hand;
use hikyaku::archive::Message;
use hikyaku::archive::NumberKeeper;
use hikyaku::archive::Numbers;
use hikyaku::archive::Projection;
use hikyaku::archive::Search;
use hikyaku::archive::SegmentState;
use hikyaku::archive::Step;
use hikyaku::archive::StoreError;
use hikyaku::archive::Subject;
use hikyaku::archive::Tailer;
use hikyaku::message::Answer;
use hikyaku::message::Carried;
use hikyaku::message::Class;
use hikyaku::message::Content;
use hikyaku::message::Decision;
use hikyaku::message::EncodingChoice;
use hikyaku::message::Finish;
use hikyaku::message::IdSource;
use hikyaku::message::InboundRecord;
use hikyaku::message::MessageId;
use hikyaku::message::PlanSummary;
use hikyaku::message::Position;
use hikyaku::message::Reason;
use hikyaku::message::ReceiptRecord;
use hikyaku::message::ReceiptsWanted;
use hikyaku::message::Record;
use hikyaku::message::SegmentSet;
use hikyaku::message::State;
use hikyaku::message::Submission;
use hikyaku::message::UnansweredCause;
use hikyaku::message::Waited;
use hikyaku::pdu::CommandStatus;
use hikyaku::seal::Day;
use hikyaku::time::Time;

/// An hour before midnight of 2026-11-22 in UTC.
const START: Time = Time::from_secs(1_795_388_400);

/// Draws numbers: splitmix64.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

/// A record at its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) position: Position,
    pub(crate) next: Position,
    pub(crate) at: Time,
    pub(crate) record: Record,
}

/// Places records one behind the other, as a journal does.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<Placed>,
}

impl Log {
    pub(crate) fn end(&self) -> Position {
        self.records.last().map_or(Position(0), |placed| placed.next)
    }

    pub(crate) fn push(&mut self, at: Time, record: Record) -> Position {
        let mut octets = Vec::new();
        record.encode(&mut octets);
        let position = self.end();
        let next = Position(position.0 + 16 + octets.len() as u64);
        self.records.push(Placed { position, next, at, record });
        position
    }
}

pub(crate) fn submission(id: MessageId, at: Time, key: &str, number: u64) -> Submission {
    Submission {
        id,
        accepted_at: at,
        key: key.into(),
        to: format!("8190{number:08}").into(),
        from: Some("0005123456".into()),
        content: Content::Text("こんにちは".into()),
        class: Class::Otp,
        client_ref: Some(format!("order-{number}").into()),
        campaign: number.is_multiple_of(2).then(|| "bday".into()),
        tags: vec!["ec".into()],
        send_at: None,
        expires_at: at + Duration::from_secs(600),
        encoding: EncodingChoice::Auto,
        max_segments: 10,
        receipts: ReceiptsWanted::Final,
        callback_url: None,
        idempotency: None,
        plan: PlanSummary {
            route: "jp-otp".into(),
            encoding: "ucs2".into(),
            segments: 2,
            units: 90,
        },
    }
}

pub(crate) fn sending(id: MessageId, at: Time, attempt: u16, carrier: &str) -> Record {
    Record::Sending {
        id,
        at,
        attempt,
        carrier: carrier.into(),
        bind: 1,
        reference: 7,
        total: 2,
        segments: SegmentSet::first(2),
        waited: Waited { bind_ms: 0, rate_ms: 3, window_ms: 1 },
    }
}

pub(crate) fn answered(
    id: MessageId,
    at: Time,
    attempt: u16,
    segment: u8,
    status: CommandStatus,
) -> Record {
    let taken = status == CommandStatus::ESME_ROK;
    let state = if taken && segment == 1 { State::Submitted } else { State::Submitting };
    let carrier_message_id =
        if taken { format!("{:x}-{attempt}-{segment}", id.as_u128() >> 20) } else { String::new() };
    let answer = Answer {
        bind: 1,
        sequence_number: 40 + u32::from(segment),
        status,
        carrier_message_id: carrier_message_id.into(),
        failure_reason: None,
    };
    Record::Answered { id, at, attempt, segment, answer, state }
}

/// An event as a webhook shows it.
fn as_json(event: &Event) -> serde_json::Value {
    serde_json::from_slice(&event.body()).unwrap()
}

fn receipt_of(id: MessageId, attempt: u16, segment: u8, state: &str) -> ReceiptRecord {
    ReceiptRecord {
        carrier_message_id: format!("{:x}-{attempt}-{segment}", id.as_u128() >> 20).into(),
        text_id: "".into(),
        source: "+819012345678".into(),
        state: state.into(),
        is_final: true,
        error: "000".into(),
        raw: "id:1 sub:001 dlvrd:001 stat:DELIVRD err:000".into(),
    }
}

pub(crate) fn receipted(id: MessageId, at: Time, attempt: u16, segment: u8, state: &str) -> Record {
    let receipt = receipt_of(id, attempt, segment, state);
    Record::Receipt { id, at, attempt, segment, receipt }
}

pub(crate) fn finish(state: State, reason: Option<Reason>, carrier: &str) -> Finish {
    Finish {
        state,
        reason,
        carrier: carrier.into(),
        carrier_status: None,
        carrier_error: "000".into(),
    }
}

fn inbound(id: MessageId, at: Time, part: Option<(u16, u8, u8, u8)>) -> InboundRecord {
    InboundRecord {
        id,
        at,
        carrier: "alpha".into(),
        from: "+819087654321".into(),
        to: "0005123456".into(),
        data_coding: 8,
        udh: Box::default(),
        octets: Box::from(*b"\x30\x42"),
        text: Some("あ".into()),
        part,
    }
}

/// The lives of `count` messages with all that can happen, mixed, over the hours around midnight.
pub(crate) fn lives(seed: u64, count: u64) -> Log {
    let mut draw = Draw(seed);
    let mut ids = IdSource::new(seed);
    let mut now = START;
    let mut open: Vec<Vec<Record>> = Vec::new();
    let mut log = Log::default();
    let mut begun = 0;
    while begun < count || !open.is_empty() {
        now += Duration::from_millis(draw.below(2 * 7_200_000 / (count * 8)));
        if begun < count && draw.below(3) == 0 {
            let id = ids.next(now);
            let mut life = life(&mut draw, id, begun);
            log.push(now, life.pop().unwrap());
            open.push(life);
            begun += 1;
        }
        live_on(&mut draw, &mut open, now, &mut log);
    }
    log
}

/// Lets the next thing happen to one of the messages, if there are any.
fn live_on(draw: &mut Draw, open: &mut Vec<Vec<Record>>, now: Time, log: &mut Log) {
    let Some(index) = (!open.is_empty()).then(|| draw.index(open.len())) else { return };
    match open[index].pop() {
        Some(record) => {
            log.push(now, stamped(record, now));
        }
        None => {
            open.swap_remove(index);
        }
    }
}

/// The lives of `count` messages that are all accepted first, four in a millisecond.
fn campaign(seed: u64, count: u64) -> Log {
    let (mut draw, mut ids) = (Draw(seed), IdSource::new(seed));
    let (mut open, mut log) = (Vec::new(), Log::default());
    for number in 0..count {
        let now = START + Duration::from_millis(number / 4);
        let mut life = life(&mut draw, ids.next(now), number);
        log.push(now, life.pop().unwrap());
        open.push(life);
    }
    let mut now = START + Duration::from_secs(1);
    while !open.is_empty() {
        now += Duration::from_millis(draw.below(5));
        live_on(&mut draw, &mut open, now, &mut log);
    }
    log
}

/// What happens to one message, the last thing first; the times are put in later.
fn life(draw: &mut Draw, id: MessageId, number: u64) -> Vec<Record> {
    let at = Time::ZERO;
    let key = if number.is_multiple_of(3) { "shop" } else { "bank" };
    let accepted = Record::Accepted(Arc::new(submission(id, id.created_at(), key, number)));
    let mut life = vec![accepted];
    let rok = CommandStatus::ESME_ROK;
    let requeued =
        |decision| Record::Requeued { id, at, due: at, decision, reason: Reason::Throttled };
    let (from, to, rule) = ("alpha".into(), "beta".into(), "throttled".into());
    let fallback = Decision::Fallback { from, to, rule, uncertain: true };
    match draw.below(7) {
        0 => life.extend([
            sending(id, at, 1, "alpha"),
            answered(id, at, 1, 0, CommandStatus::ESME_RTHROTTLED),
            requeued(Decision::Throttled),
            sending(id, at, 1, "alpha"),
            answered(id, at, 1, 0, rok),
            answered(id, at, 1, 1, rok),
            requeued(fallback),
            sending(id, at, 2, "beta"),
            answered(id, at, 2, 0, rok),
            answered(id, at, 2, 1, rok),
            receipted(id, at, 2, 0, "DELIVERED"),
            receipted(id, at, 1, 1, "DELIVERED"),
            receipted(id, at, 2, 1, "DELIVERED"),
            Record::Finished { id, at, finish: finish(State::Delivered, None, "beta") },
        ]),
        1 => life.extend([
            sending(id, at, 1, "alpha"),
            Record::Unanswered {
                id,
                at,
                attempt: 1,
                segments: SegmentSet::first(2),
                cause: UnansweredCause::Timeout,
            },
            Record::Finished {
                id,
                at,
                finish: finish(State::Unknown, Some(Reason::NoAnswer), "alpha"),
            },
            receipted(id, at, 1, 0, "DELIVERED"),
            Record::Corrected { id, at, finish: finish(State::Delivered, None, "alpha") },
        ]),
        2 => life.push(Record::Finished {
            id,
            at,
            finish: finish(State::Cancelled, Some(Reason::Cancelled), ""),
        }),
        3 => life.push(sending(id, at, 1, "alpha")),
        4 => {
            let id = MessageId::from_u128(id.as_u128() + 1);
            life.push(Record::Inbound(Box::new(inbound(id, at, Some((9, 8, 2, 1))))));
            let message = Box::new(inbound(MessageId::from_u128(id.as_u128() + 1), at, None));
            life.push(Record::InboundWhole { message, complete: true });
        }
        5 => life.push(Record::Orphan {
            at,
            carrier: "alpha".into(),
            receipt: receipt_of(id, 1, 0, "DELIVERED"),
        }),
        _ => life.extend([
            sending(id, at, 1, "alpha"),
            answered(id, at, 1, 0, rok),
            answered(id, at, 1, 1, rok),
            receipted(id, at, 1, 0, "UNDELIVERABLE"),
            Record::Finished {
                id,
                at,
                finish: finish(State::Undeliverable, Some(Reason::AbsentSubscriber), "alpha"),
            },
        ]),
    }
    life.reverse();
    life
}

/// The record with its time put in.
fn stamped(mut record: Record, now: Time) -> Record {
    match &mut record {
        Record::Sending { at, .. }
        | Record::Answered { at, .. }
        | Record::Unanswered { at, .. }
        | Record::Receipt { at, .. }
        | Record::Requeued { at, .. }
        | Record::Finished { at, .. }
        | Record::Orphan { at, .. }
        | Record::Corrected { at, .. } => *at = now,
        Record::Inbound(message) | Record::InboundWhole { message, .. } => message.at = now,
        _ => {}
    }
    record
}

/// What must be in the archive in the end, from the records alone.
#[derive(Default)]
pub(crate) struct Truth {
    messages: BTreeMap<MessageId, Message>,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn truth(log: &Log) -> Truth {
    let projection = Projection {
        numbers: NumberKeeper::new(Numbers::Plain, [0; 32]),
        store_text: false,
        inbound_owners: BTreeMap::new(),
    };
    let mut truth = Truth::default();
    for Placed { position, record, .. } in log.records.iter().cloned() {
        let id = record.message_id();
        if let Some((message, event)) = projection.begin(position, record.clone()) {
            truth.events.extend(event);
            truth.messages.insert(message.id, message);
        } else if let Some(message) = id.and_then(|id| truth.messages.get_mut(&id)) {
            truth.events.extend(projection.apply(message, position, record));
        } else {
            truth.events.extend(projection.inbound(position, record));
        }
    }
    truth
}

pub(crate) fn keys() -> hikyaku::seal::Keys {
    hikyaku::seal::Keys::known(1)
}

pub(crate) fn config(dir: &Path) -> Config {
    Config { dir: dir.to_owned(), ..Config::default() }
}

/// Applies the records from where the tailer is up to `until`.
pub(crate) fn apply(tailer: &mut Tailer, log: &Log, until: Position) {
    let from = tailer.applied();
    for placed in log.records.iter().filter(|p| p.position >= from && p.position < until) {
        tailer.apply(placed.at, placed.position, placed.next, placed.record.clone()).unwrap();
    }
    tailer.publish();
}

pub(crate) async fn all_events(archive: &Archive, owner: Option<&str>, limit: usize) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut from = Position(0);
    loop {
        let page = archive.events(Feed::All, from, limit, owner).await.unwrap();
        assert!(page.events.len() <= limit);
        if page.events.is_empty() && page.next == from {
            return events;
        }
        events.extend(page.events.iter().map(|event| Event::clone(event)));
        from = page.next;
    }
}

async fn all_messages(archive: &Archive, search: Search, owner: Option<&str>) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut search = search;
    loop {
        let found = archive.search(search.clone(), owner).await.unwrap();
        messages.extend(found.messages);
        match found.next {
            Some(next) => search.cursor = Some(next),
            None => return messages,
        }
    }
}

async fn check(archive: &Archive, truth: &Truth, context: &str) {
    check_messages(archive, truth, context).await;
    assert_eq!(all_events(archive, None, 5).await, truth.events, "{context}: feed");
}

async fn check_messages(archive: &Archive, truth: &Truth, context: &str) {
    let mut found = all_messages(archive, Search { limit: 7, ..Search::default() }, None).await;
    found.sort_by_key(|message| message.id);
    let wanted: Vec<Message> = truth.messages.values().cloned().collect();
    assert_eq!(found.len(), wanted.len(), "{context}: messages");
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted, "{context}");
        assert_eq!(archive.message(wanted.id, None).await.unwrap().as_ref(), Some(wanted));
    }
}

#[tokio::test]
async fn a_crash_after_any_record_changes_nothing_in_the_end() {
    for seed in 1..=2 {
        let log = lives(seed, 12);
        let truth = truth(&log);
        for crash in (0..log.records.len()).step_by(3) {
            let dir = tempfile::tempdir().unwrap();
            let config = config(dir.path());
            let until = log.records[crash].position;
            let (mut tailer, _) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
            apply(&mut tailer, &log, log.records[crash / 2].position);
            tailer.flush(log.records[crash / 2].at).unwrap();
            apply(&mut tailer, &log, until);
            drop(tailer);
            let (mut tailer, archive) = hikyaku::archive::open(&config, until, &keys()).unwrap();
            apply(&mut tailer, &log, log.end());
            check_messages(&archive, &truth, &format!("seed {seed}, crash {crash}, in memory"))
                .await;
            tailer.flush_all(log.records[crash].at).unwrap();
            check(&archive, &truth, &format!("seed {seed}, crash {crash}, on disk")).await;
            assert_eq!(*archive.passed().borrow(), log.end());
        }
    }
}

#[tokio::test]
async fn crashes_between_many_flushes_change_nothing_in_the_end() {
    for seed in 10..14 {
        let log = lives(seed, 40);
        let truth = truth(&log);
        let mut draw = Draw(seed);
        let dir = tempfile::tempdir().unwrap();
        let config = Config { pending_messages: 8, recent_events: 6, ..config(dir.path()) };
        let mut durable = Position(0);
        loop {
            let (mut tailer, archive) = hikyaku::archive::open(&config, durable, &keys()).unwrap();
            let crash = draw.below(3) > 0 && durable < log.end();
            for placed in &log.records {
                if placed.position < tailer.applied() {
                    continue;
                }
                tailer
                    .apply(placed.at, placed.position, placed.next, placed.record.clone())
                    .unwrap();
                tailer.publish();
                durable = durable.max(placed.next);
                if tailer.flush_due() == Time::ZERO || draw.below(6) == 0 {
                    tailer.flush(placed.at).unwrap();
                }
                if crash && draw.below(25) == 0 {
                    break;
                }
            }
            if !crash {
                check(&archive, &truth, &format!("seed {seed}, in memory")).await;
                tailer.flush_all(log.records[0].at).unwrap();
                break;
            }
        }
        let (_tailer, archive) = hikyaku::archive::open(&config, log.end(), &keys()).unwrap();
        check(&archive, &truth, &format!("seed {seed}, reopened")).await;
    }
}

#[test]
fn a_flush_is_due_at_its_time_and_sooner_when_it_has_enough_to_write() {
    let log = lives(3, 60);
    let plenty = 1_000_000;
    for (most_ended, most_events) in [(5, plenty), (plenty, 20)] {
        let dir = tempfile::tempdir().unwrap();
        let (pending_messages, recent_events) = (most_ended * 64, most_events * 4);
        let config = Config { pending_messages, recent_events, ..config(dir.path()) };
        let (mut tailer, _archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
        let (mut flushed, mut flushes, mut keys) = (Position(0), 0, 0);
        let later = log.records[log.records.len() - 1].at + Duration::from_secs(60);
        tailer.flush(later).unwrap();
        for (count, placed) in log.records.iter().enumerate() {
            tailer.apply(placed.at, placed.position, placed.next, placed.record.clone()).unwrap();
            let truth = truth(&Log { records: log.records[..=count].to_vec() });
            let waits =
                |message: &&Message| message.state.is_terminal() && message.updated >= flushed;
            let ended = truth.messages.values().filter(waits).count();
            let events = truth.events.iter().filter(|event| event.position >= flushed);
            let events: Vec<_> = events.map(|event| &*event.key).collect();
            // The events of each key lie together, and should be a few.
            let enough = most_events.max(keys * 16).min(recent_events);
            let (of_keys, events) = (events.iter().collect::<BTreeSet<_>>().len(), events.len());
            if ended < most_ended && events < enough {
                assert_eq!(tailer.flush_due(), later + *config.flush_every, "{ended} {events}");
                continue;
            }
            assert_eq!(tailer.flush_due(), Time::ZERO, "{ended} {events}");
            tailer.flush(later).unwrap();
            (flushed, flushes, keys) = (placed.next, flushes + 1, of_keys);
        }
        assert!(flushes > 2 && keys > 1, "{flushes} {keys}");
    }
}

/// How far a flush is that goes on while records come.
enum Under {
    Nothing,
    Begun(Flush),
    Written(Flushed),
}

impl Under {
    fn go_on(self, tailer: &mut Tailer, now: Time) -> Self {
        match self {
            Self::Nothing => tailer.begin_flush(now).unwrap().map_or(Self::Nothing, Self::Begun),
            Self::Begun(flush) => {
                assert!(tailer.begin_flush(now).unwrap().is_none(), "one at a time");
                Self::Written(flush.write())
            }
            Self::Written(flushed) => {
                tailer.end_flush(flushed).unwrap();
                Self::Nothing
            }
        }
    }
}

#[tokio::test]
async fn what_comes_while_a_flush_is_written_is_in_the_next_one() {
    for seed in 30..36 {
        let log = lives(seed, 30);
        let truth_of_all = truth(&log);
        let mut draw = Draw(seed);
        let dir = tempfile::tempdir().unwrap();
        let config = Config { pending_messages: 12, recent_events: 8, ..config(dir.path()) };
        let (mut durable, mut crashes) = (Position(0), draw.below(4));
        let mut has_crashed = false;
        loop {
            let (mut tailer, archive) = hikyaku::archive::open(&config, durable, &keys()).unwrap();
            let mut under = Under::Nothing;
            for (number, placed) in log.records.iter().enumerate() {
                if placed.position < tailer.applied() {
                    continue;
                }
                apply(&mut tailer, &log, placed.next);
                durable = durable.max(placed.next);
                if tailer.is_crowded() || draw.below(3) == 0 {
                    under = under.go_on(&mut tailer, placed.at);
                }
                // After a crash the files have something of later records.
                if !has_crashed && draw.below(8) == 0 {
                    let so_far = Log { records: log.records[..=number].to_vec() };
                    let context = format!("seed {seed}, record {number}");
                    check(&archive, &truth(&so_far), &context).await;
                }
                if crashes > 0 && draw.below(40) == 0 {
                    break;
                }
            }
            if tailer.applied() == log.end() {
                // The rest of one flush, and a whole one.
                for _ in 0..5 {
                    under = under.go_on(&mut tailer, log.records[0].at);
                }
                check(&archive, &truth_of_all, &format!("seed {seed}, in memory")).await;
                break;
            }
            crashes -= 1;
            has_crashed = true;
        }
        let (mut tailer, archive) = hikyaku::archive::open(&config, log.end(), &keys()).unwrap();
        apply(&mut tailer, &log, log.end());
        tailer.flush_all(log.records[0].at).unwrap();
        check(&archive, &truth_of_all, &format!("seed {seed}, reopened")).await;
        assert_eq!(*archive.passed().borrow(), log.end());
    }
}

/// The files of an archive as they are at this moment, to put them back later.
fn copy_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let wanted = entries.filter(|entry| !entry.path().to_string_lossy().ends_with("-shm"));
    wanted
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Puts the files whose names begin with one of `stems` back to what they were.
fn put_back(dir: &Path, copy: &BTreeMap<String, Vec<u8>>, stems: &[&str]) {
    for stem in stems {
        for ending in [".db", ".db-wal", ".db-shm"] {
            let name = format!("{stem}{ending}");
            match copy.get(&name) {
                Some(octets) => std::fs::write(dir.join(&name), octets).unwrap(),
                None => drop(std::fs::remove_file(dir.join(&name))),
            }
        }
    }
}

#[tokio::test]
async fn a_crash_between_the_files_of_one_flush_changes_nothing_in_the_end() {
    let log = lives(5, 40);
    let truth = truth(&log);
    let midnight = log.records.iter().position(|p| p.at >= START + Duration::from_secs(3_600));
    let before = midnight.unwrap();
    for (nth, lost) in
        [&["archive"][..], &["archive", "2026-11-22"], &["archive", "2026-11-22", "2026-11-23"]]
            .into_iter()
            .enumerate()
    {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let (mut tailer, _) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
        apply(&mut tailer, &log, log.records[before + 15].position);
        tailer.flush(log.records[before].at).unwrap();
        let copy = copy_of(dir.path());
        assert!(copy.contains_key("2026-11-22.db") && copy.contains_key("2026-11-23.db"));
        let until = log.records[before + 30].position;
        apply(&mut tailer, &log, until);
        tailer.flush(log.records[before + 30].at).unwrap();
        drop(tailer);
        put_back(dir.path(), &copy, lost);
        let (mut tailer, archive) = hikyaku::archive::open(&config, until, &keys()).unwrap();
        apply(&mut tailer, &log, log.end());
        tailer.flush_all(log.records[0].at).unwrap();
        check(&archive, &truth, &format!("crash after {nth} files")).await;
    }
}

#[tokio::test]
async fn a_message_that_ends_soon_is_written_once_and_a_live_one_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
    let mut ids = IdSource::new(1);
    let (quick, slow) = (ids.next(START), ids.next(START));
    let mut log = Log::default();
    let slow_at = log.push(START, Record::Accepted(Arc::new(submission(slow, START, "shop", 2))));
    log.push(START, Record::Accepted(Arc::new(submission(quick, START, "shop", 1))));
    apply(&mut tailer, &log, log.end());
    let rows = || {
        let db = rusqlite::Connection::open(dir.path().join("2026-11-22.db")).unwrap();
        let count = |sql| db.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
        (count("SELECT count(*) FROM packs"), count("SELECT count(*) FROM events"))
    };
    // Messages and events lie in packs, one for each flush that had some.
    tailer.flush(START + Duration::from_secs(1)).unwrap();
    assert_eq!(rows(), (0, 1), "neither has ended, both events are written");
    assert_eq!(*archive.passed().borrow(), slow_at, "nothing of them may be trimmed");

    let end = finish(State::Cancelled, Some(Reason::Cancelled), "");
    let done = START + Duration::from_secs(2);
    log.push(done, Record::Finished { id: quick, at: done, finish: end });
    apply(&mut tailer, &log, log.end());
    tailer.flush(done).unwrap();
    assert_eq!(rows(), (1, 2), "the one that has ended");
    tailer.flush(START + Duration::from_secs(5)).unwrap();
    assert_eq!(rows(), (2, 2), "the one that is still live, too");
    assert_eq!(*archive.passed().borrow(), log.end());
}

#[tokio::test]
async fn what_waited_in_a_pack_and_was_written_again_is_read_where_it_was_written_last() {
    for seed in 1..=3 {
        let (log, mut draw) = (campaign(seed, 300), Draw(seed));
        let dir = tempfile::tempdir().unwrap();
        let (mut tailer, archive) =
            hikyaku::archive::open(&config(dir.path()), Position(0), &keys()).unwrap();
        let mut next = 300;
        while let Some(placed) = log.records.get(next) {
            apply(&mut tailer, &log, placed.position);
            tailer.flush_all(placed.at).unwrap();
            next += 1 + draw.index(60);
        }
        apply(&mut tailer, &log, log.end());
        check(&archive, &truth(&log), &format!("seed {seed}")).await;
        assert_eq!(tailer.strays(), 0);
    }
}

#[tokio::test]
async fn a_message_that_has_left_memory_changes_without_a_look_into_the_index() {
    changes_without_an_index(lives(21, 60), 0).await;
    changes_without_an_index(campaign(22, 60), 60).await;
}

/// All that `log` tells, written after each record from the `first` on.
async fn changes_without_an_index(mut log: Log, first: usize) {
    let dir = tempfile::tempdir().unwrap();
    // What has ended is looked for there, when something comes after all.
    let mut ended = BTreeSet::new();
    log.records.retain(|placed| {
        let Some(id) = placed.record.message_id() else { return true };
        let ends = matches!(placed.record, Record::Finished { .. });
        if ends { ended.insert(id) } else { !ended.contains(&id) }
    });
    assert!(ended.len() > 30, "{}", ended.len());
    let (mut tailer, archive) =
        hikyaku::archive::open(&config(dir.path()), Position(0), &keys()).unwrap();
    for placed in log.records.iter().skip(first) {
        apply(&mut tailer, &log, placed.next);
        tailer.flush_all(placed.at).unwrap();
        for day in ["2026-11-22", "2026-11-23"] {
            let path = dir.path().join(format!("{day}.db"));
            if path.exists() {
                let db = rusqlite::Connection::open(&path).unwrap();
                db.execute_batch("DELETE FROM chunks; DELETE FROM runs").unwrap();
            }
        }
    }
    assert_eq!(tailer.strays(), 0);
    assert_eq!(all_events(&archive, None, 100).await, truth(&log).events);
}

#[tokio::test]
async fn a_day_whose_file_is_taken_away_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
    let (mut ids, mut log) = (IdSource::new(1), Log::default());
    // Long enough that the file of the first day is not open any more.
    let days: Vec<_> = (0..20).map(|day| START + Duration::from_secs(day * 86_400)).collect();
    let messages: Vec<_> = days.iter().map(|at| ids.next(*at)).collect();
    for (id, at) in messages.iter().zip(&days) {
        log.push(*at, Record::Accepted(Arc::new(submission(*id, *at, "shop", 1))));
        apply(&mut tailer, &log, log.end());
        tailer.flush_all(*at).unwrap();
    }
    std::fs::remove_file(dir.path().join("2026-11-22.db")).unwrap();
    let done = days[19] + Duration::from_secs(60);
    for id in [messages[0], messages[19]] {
        let end = finish(State::Cancelled, Some(Reason::Cancelled), "");
        log.push(done, Record::Finished { id, at: done, finish: end });
    }
    apply(&mut tailer, &log, log.end());
    tailer.flush_all(done).unwrap();
    assert_eq!(tailer.strays(), 1, "its message is unknown now");
    let other = archive.message(messages[19], None).await.unwrap().unwrap();
    assert_eq!(other.state, State::Cancelled);
}

#[tokio::test]
async fn every_property_finds_its_messages_in_memory_and_on_disk() {
    let log = lives(21, 60);
    let truth = truth(&log);
    let dir = tempfile::tempdir().unwrap();
    let (mut tailer, archive) =
        hikyaku::archive::open(&config(dir.path()), Position(0), &keys()).unwrap();
    for on_disk in [false, true] {
        apply(&mut tailer, &log, log.end());
        if on_disk {
            tailer.flush_all(log.records[0].at).unwrap();
        }
        for probe in truth.messages.values().step_by(5) {
            let carrier_id =
                probe.segments.iter().map(|s| &s.carrier_message_id).find(|id| !id.is_empty());
            let to = Search { to: Some(format!("+{}", probe.to)), ..Search::default() };
            let client_ref = Search {
                client_ref: probe.client_ref.as_deref().map(Into::into),
                ..Search::default()
            };
            let campaign =
                Search { campaign: probe.campaign.as_deref().map(Into::into), ..Search::default() };
            let carrier_message_id = Search {
                carrier_message_id: carrier_id.map(|id| id.to_string()),
                ..Search::default()
            };
            let state = Search { state: Some(probe.state), limit: 3, ..Search::default() };
            let carrier = Search {
                carrier: Some(probe.carrier.as_ref().into()),
                limit: 3,
                ..Search::default()
            };
            let since = Search { since: Some(probe.created_at), limit: 9, ..Search::default() };
            let until = Search { until: Some(probe.created_at), limit: 9, ..Search::default() };
            same(&archive, &truth, to, |m| m.to == probe.to).await;
            same(&archive, &truth, client_ref, |m| m.client_ref == probe.client_ref).await;
            same(&archive, &truth, campaign, |m| {
                probe.campaign.is_none() || m.campaign == probe.campaign
            })
            .await;
            same(&archive, &truth, carrier_message_id, |m| {
                carrier_id.is_none() || m.id == probe.id
            })
            .await;
            same(&archive, &truth, state, |m| m.state == probe.state).await;
            same(&archive, &truth, carrier, |m| m.carrier == probe.carrier).await;
            same(&archive, &truth, since, |m| m.created_at >= probe.created_at).await;
            same(&archive, &truth, until, |m| m.created_at < probe.created_at).await;
        }
    }
}

async fn same(archive: &Archive, truth: &Truth, search: Search, wanted: impl Fn(&Message) -> bool) {
    for owner in [None, Some("shop"), Some("nobody")] {
        let found = all_messages(archive, search.clone(), owner).await;
        let mine = |m: &&Message| owner.is_none_or(|owner| *m.key == *owner);
        let mut ids: Vec<_> = truth.messages.values().filter(mine).filter(|m| wanted(m)).collect();
        ids.sort_by_key(|m| std::cmp::Reverse((m.created_at.as_secs() / 86_400, m.position)));
        let found: Vec<_> = found.iter().map(|m| m.id).collect();
        let ids: Vec<_> = ids.iter().map(|m| m.id).collect();
        assert_eq!(found, ids, "{search:?} of {owner:?}");
    }
}

#[tokio::test]
async fn the_feed_of_a_key_has_no_gap_where_memory_and_days_meet() {
    let log = lives(33, 60);
    let truth = truth(&log);
    let dir = tempfile::tempdir().unwrap();
    let config = Config { recent_events: 5, ..config(dir.path()) };
    let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
    let mut cursor = Position(0);
    let mut followed: Vec<Event> = Vec::new();
    for (index, placed) in log.records.iter().enumerate() {
        tailer.apply(placed.at, placed.position, placed.next, placed.record.clone()).unwrap();
        if index % 7 == 0 {
            tailer.publish();
        }
        if tailer.is_crowded() {
            tailer.flush(placed.at).unwrap();
        }
        if index % 3 == 0 {
            let page = archive.events(Feed::All, cursor, 2, Some("shop")).await.unwrap();
            followed.extend(page.events.iter().map(|event| Event::clone(event)));
            cursor = page.next;
        }
    }
    tailer.publish();
    while cursor < log.end() {
        let page = archive.events(Feed::All, cursor, 2, Some("shop")).await.unwrap();
        followed.extend(page.events.iter().map(|event| Event::clone(event)));
        cursor = page.next;
    }
    let mut wanted = truth.events.clone();
    wanted.retain(|event| &*event.key == "shop");
    assert!(!wanted.is_empty());
    assert_eq!(followed, wanted);
    let inbound = archive.events(Feed::Inbound, Position(0), 200, None).await.unwrap();
    let kinds: Vec<_> = inbound.events.iter().map(|event| event.kind).collect();
    let wanted = truth.events.iter().filter(|e| e.kind == EventKind::InboundReceived).count();
    assert_eq!(kinds, vec![EventKind::InboundReceived; wanted]);
}

#[tokio::test]
async fn an_unfinished_flush_hides_no_event_after_a_restart() {
    let log = lives(8, 20);
    let truth = truth(&log);
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (mut tailer, archive) = hikyaku::archive::open(&config, log.end(), &keys()).unwrap();
    apply(&mut tailer, &log, log.end());
    let early = archive.events(Feed::All, Position(0), 200, None).await.unwrap();
    assert_eq!((early.events.len(), early.next), (0, Position(0)), "read again, not yet written");
    tailer.flush(log.records[0].at).unwrap();
    assert_eq!(all_events(&archive, None, 200).await, truth.events);
}

#[tokio::test]
async fn days_beyond_the_retention_go_unless_a_message_in_them_is_still_open() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { keep_days: 3, ..config(dir.path()) };
    let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
    let mut ids = IdSource::new(4);
    let mut log = Log::default();
    let day = Duration::from_secs(86_400);
    let (old, kept, new) = (ids.next(START), ids.next(START + day), ids.next(START + 9 * day));
    for id in [old, kept, new] {
        let at = id.created_at();
        let mut message = submission(id, at, "shop", 1);
        message.expires_at = at + 30 * day;
        log.push(at, Record::Accepted(Arc::new(message)));
        if id != kept {
            let finish = finish(State::Cancelled, Some(Reason::Cancelled), "");
            log.push(at, Record::Finished { id, at, finish });
        }
    }
    apply(&mut tailer, &log, log.end());
    tailer.flush_all(START).unwrap();
    assert!(archive.message(old, None).await.unwrap().is_some());
    tailer.flush_all(START + 9 * day).unwrap();
    assert!(archive.message(old, None).await.unwrap().is_none());
    assert!(archive.message(kept, None).await.unwrap().is_some());
    assert!(archive.message(new, None).await.unwrap().is_some());
    let left = copy_of(dir.path());
    assert!(!left.keys().any(|name| name.starts_with("2026-11-22")), "{:?}", left.keys());
    let found = all_messages(&archive, Search::default(), None).await;
    assert_eq!(found.iter().map(|m| m.id).collect::<Vec<_>>(), [new, kept]);
    // The feed goes on with what is left.
    assert_eq!(all_events(&archive, None, 200).await.last().unwrap().message_id(), new);
}

#[tokio::test]
async fn hashed_numbers_are_found_but_nowhere_on_disk() {
    for numbers in [Numbers::Hashed, Numbers::Masked] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { numbers, ..config(dir.path()) };
        let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
        let mut ids = IdSource::new(6);
        let id = ids.next(START);
        let mut log = Log::default();
        log.push(START, Record::Accepted(Arc::new(submission(id, START, "shop", 12_345_678))));
        log.push(START, sending(id, START, 1, "alpha"));
        log.push(START, receipted(id, START, 1, 0, "DELIVERED"));
        log.push(START, Record::Inbound(Box::new(inbound(ids.next(START), START, None))));
        apply(&mut tailer, &log, log.end());
        tailer.flush_all(START).unwrap();
        drop(tailer);
        for (name, octets) in copy_of(dir.path()) {
            for number in ["819012345678", "819087654321"] {
                let there = octets.windows(number.len()).any(|window| window == number.as_bytes());
                assert!(!there, "{numbers:?}: a number in {name}");
            }
        }
        let search = Search { to: Some("+819012345678".to_owned()), ..Search::default() };
        let found = all_messages(&archive, search, None).await;
        assert_eq!(found.iter().map(|m| m.id).collect::<Vec<_>>(), [id]);
        let events = all_events(&archive, None, 10).await;
        let body = String::from_utf8(events[0].body()).unwrap();
        assert!(!body.contains("819012345678"), "{body}");
    }
}

#[tokio::test]
async fn texts_are_kept_only_when_the_config_says_so() {
    for store_text in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { store_text, ..config(dir.path()) };
        let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
        let id = IdSource::new(6).next(START);
        let mut log = Log::default();
        log.push(START, Record::Accepted(Arc::new(submission(id, START, "shop", 1))));
        apply(&mut tailer, &log, log.end());
        tailer.flush_all(START).unwrap();
        let text = archive.message(id, Some("shop")).await.unwrap().unwrap().text;
        assert_eq!(text.as_deref(), store_text.then_some("こんにちは"));
        assert!(archive.message(id, Some("bank")).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_very_long_timeline_keeps_its_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (mut tailer, archive) =
        hikyaku::archive::open(&config(dir.path()), Position(0), &keys()).unwrap();
    let id = IdSource::new(6).next(START);
    let mut log = Log::default();
    log.push(START, Record::Accepted(Arc::new(submission(id, START, "shop", 1))));
    for _ in 0..500 {
        log.push(START, sending(id, START, 1, "alpha"));
    }
    let end = finish(State::Expired, Some(Reason::Ttl), "alpha");
    log.push(START, Record::Finished { id, at: START, finish: end.clone() });
    apply(&mut tailer, &log, log.end());
    let message = archive.message(id, None).await.unwrap().unwrap();
    assert_eq!(message.timeline.len() + message.omitted as usize, 502);
    assert!(message.timeline.len() <= 256);
    assert_eq!(message.timeline[0].step, Step::Accepted { state: State::Queued });
    assert_eq!(message.timeline.last().unwrap().step, Step::Finished(end));
    assert_eq!(message.segments.len(), 2);
    assert_eq!(message.segments[1].state, SegmentState::Sending);
}

#[tokio::test]
async fn who_waits_for_a_message_hears_of_its_change_and_too_many_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { waiters: 2, ..config(dir.path()) };
    let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
    let mut ids = IdSource::new(6);
    let id = ids.next(START);
    let mut change = archive.watch(id).unwrap();
    let other = archive.watch(ids.next(START)).unwrap();
    assert!(archive.watch(ids.next(START)).is_none());
    drop(other);
    assert!(archive.watch(ids.next(START)).is_some());

    let mut log = Log::default();
    log.push(START, Record::Accepted(Arc::new(submission(id, START, "shop", 1))));
    apply(&mut tailer, &log, log.end());
    change.changed().await;
    archive.caught_up(log.end()).await;
    assert_eq!(archive.message(id, None).await.unwrap().unwrap().state, State::Queued);
}

#[tokio::test]
async fn a_journal_that_ends_before_the_archive_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let log = lives(3, 3);
    let (mut tailer, _) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
    apply(&mut tailer, &log, log.end());
    tailer.flush_all(START).unwrap();
    drop(tailer);
    let error = hikyaku::archive::open(&config, Position(7), &keys()).unwrap_err();
    let wanted = matches!(error, StoreError::Ahead { journal: 7, .. });
    assert!(wanted, "{error}");
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused_by_name_and_tells_the_cure() {
    for (name, known) in [("2026-11-22.db", 2), ("archive.db", 1)] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let path = dir.path().join(name);
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE t (x); PRAGMA user_version = 9").unwrap();
        drop(db);
        let error = hikyaku::archive::open(&config, Position(0), &keys()).unwrap_err();
        let wanted = format!(
            "{name}: expected layout {known} or older, found layout 9, which a newer hikyaku \
             wrote; start that one, or move the file away with the history that it holds"
        );
        assert!(error.to_string().ends_with(&wanted), "{error}");
        std::fs::remove_file(path).unwrap();
        hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
    }
}

#[tokio::test]
async fn what_a_handset_sends_belongs_to_the_key_that_owns_our_number() {
    for (owners, wanted) in [
        (BTreeMap::from([("0005123456".to_owned(), "shop".to_owned())]), "shop"),
        (BTreeMap::from([("*".to_owned(), "bank".to_owned())]), "bank"),
        (BTreeMap::new(), ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { inbound_owners: owners, ..config(dir.path()) };
        let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
        let mut log = Log::default();
        let id = IdSource::new(6).next(START);
        log.push(START, Record::Inbound(Box::new(inbound(id, START, None))));
        apply(&mut tailer, &log, log.end());
        let page = archive.events(Feed::Inbound, Position(0), 9, Some(wanted)).await.unwrap();
        assert_eq!(page.events.len(), 1, "{wanted:?}");
        let shown = as_json(&page.events[0]);
        assert_eq!(shown["type"], "inbound.received");
        assert_eq!(shown["data"]["text"], "あ");
        assert_eq!(shown["data"]["from"], "+819087654321");
        let other = archive.events(Feed::All, Position(0), 9, Some("other")).await.unwrap();
        assert_eq!(other.events.len(), 0);
    }
}

#[tokio::test]
async fn an_event_shows_what_webhooks_promise() {
    let dir = tempfile::tempdir().unwrap();
    let (mut tailer, archive) =
        hikyaku::archive::open(&config(dir.path()), Position(0), &keys()).unwrap();
    let id = IdSource::new(6).next(START);
    let mut log = Log::default();
    let at = START + Duration::from_millis(1_250);
    log.push(START, Record::Accepted(Arc::new(submission(id, START, "shop", 7))));
    log.push(at, sending(id, at, 1, "alpha"));
    for segment in 0..2 {
        log.push(at, answered(id, at, 1, segment, CommandStatus::ESME_ROK));
        log.push(at, receipted(id, at, 1, segment, "DELIVERED"));
    }
    let end = finish(State::Delivered, None, "alpha");
    log.push(at, Record::Finished { id, at, finish: end });
    apply(&mut tailer, &log, log.end());
    let page = archive.events(Feed::All, Position(0), 9, Some("shop")).await.unwrap();
    let kinds: Vec<_> = page.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Queued, EventKind::Submitted, EventKind::Delivered]);
    let mut shown = as_json(&page.events[2]);
    let carrier_id = |segment| format!("{:x}-1-{segment}", id.as_u128() >> 20);
    let wanted = serde_json::json!({
        "type": "message.delivered",
        "timestamp": "2026-11-22T23:00:01.250Z",
        "data": {
            "id": id, "client_ref": "order-7", "campaign": null, "to": "+819000000007",
            "class": "otp", "state": "delivered", "previous_state": "submitted", "reason": null,
            "retryable": null, "carrier": "alpha", "carrier_status": null,
            "carrier_error": "000", "route": "jp-otp", "attempt": 1,
            "segments": [
                {"seq": 1, "carrier_message_id": carrier_id(0), "state": "delivered", "error": "000"},
                {"seq": 2, "carrier_message_id": carrier_id(1), "state": "delivered", "error": "000"},
            ],
            "created_at": "2026-11-22T23:00:00.000Z", "submitted_at": "2026-11-22T23:00:01.250Z",
            "done_at": "2026-11-22T23:00:01.250Z",
        },
    });
    assert_eq!(shown.take(), wanted);
    let bodies: Vec<_> = page.events.iter().map(|event| event.id()).collect();
    assert!(bodies.is_sorted() && bodies[0] != bodies[1]);
}

/// The loop against a journal in files: it follows, ends when told, and has written all.
#[tokio::test(flavor = "multi_thread")]
async fn the_loop_follows_a_journal_and_writes_all_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let files = hikyaku::journal::disk::Files::new(dir.path().join("journal"));
    let mut journal =
        hikyaku::journal::open(files, &hikyaku::journal::Config::default(), &keys()).unwrap();
    let lives = lives(44, 30);
    let mut log = Log::default();
    let config = config(&dir.path().join("archive"));
    let (tailer, archive) = hikyaku::archive::open(&config, journal.end, &keys()).unwrap();
    let (durable, watched) = tokio::sync::watch::channel(journal.end);
    let stop = tokio_util::sync::CancellationToken::new();
    let follower = hikyaku::archive::Follower {
        reader: journal.reader.clone(),
        durable: watched,
        clock: hikyaku::clock::Clock::start(),
        stop: stop.clone(),
        patience: Duration::from_secs(3_600),
    };
    let runtime = tokio::runtime::Handle::current();
    let hand = Hand::start().unwrap();
    let run = move || hikyaku::archive::run(tailer, follower, hand, &runtime);
    let thread = std::thread::spawn(run);
    for placed in &lives.records {
        let mut octets = Vec::new();
        placed.record.encode(&mut octets);
        let position = journal.appender.push(&octets).unwrap();
        let next = journal.appender.end();
        log.records.push(Placed { position, next, ..placed.clone() });
        if let Some(batch) = journal.appender.take_batch() {
            durable.send_replace(journal.writer.write(batch).unwrap());
        }
    }
    archive.caught_up(log.end()).await;
    let truth = truth(&log);
    check(&archive, &truth, "followed").await;
    stop.cancel();
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    assert_eq!(*archive.passed().borrow(), log.end());
    drop(archive);
    let (_tailer, archive) = hikyaku::archive::open(&config, log.end(), &keys()).unwrap();
    check(&archive, &truth, "reopened").await;
    let unmatched = archive.unmatched(Position(0), 200).await.unwrap();
    let orphans = log.records.iter().filter(|p| matches!(p.record, Record::Orphan { .. })).count();
    assert_eq!(unmatched.len(), orphans);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_far_behind_holds_up_no_stop_and_goes_on_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let files = hikyaku::journal::disk::Files::new(dir.path().join("journal"));
    let mut journal =
        hikyaku::journal::open(files, &hikyaku::journal::Config::default(), &keys()).unwrap();
    let mut log = Log::default();
    for placed in &lives(45, 400).records {
        let mut octets = Vec::new();
        placed.record.encode(&mut octets);
        let position = journal.appender.push(&octets).unwrap();
        let next = journal.appender.end();
        log.records.push(Placed { position, next, ..placed.clone() });
        if let Some(batch) = journal.appender.take_batch() {
            journal.writer.write(batch).unwrap();
        }
    }
    let config = config(&dir.path().join("archive"));
    let mut stops = 0;
    let truth = truth(&log);
    loop {
        let (tailer, archive) = hikyaku::archive::open(&config, log.end(), &keys()).unwrap();
        let (_durable, watched) = tokio::sync::watch::channel(log.end());
        let stop = tokio_util::sync::CancellationToken::new();
        stop.cancel();
        let follower = hikyaku::archive::Follower {
            reader: journal.reader.clone(),
            durable: watched,
            clock: hikyaku::clock::Clock::start(),
            stop,
            patience: Duration::ZERO,
        };
        let runtime = tokio::runtime::Handle::current();
        let hand = Hand::start().unwrap();
        let run = move || hikyaku::archive::run(tailer, follower, hand, &runtime);
        tokio::task::spawn_blocking(run).await.unwrap();
        stops += 1;
        if *archive.passed().borrow() == log.end() {
            break;
        }
    }
    assert!(stops > 1, "it was not behind");
    let (_tailer, archive) = hikyaku::archive::open(&config, log.end(), &keys()).unwrap();
    check(&archive, &truth, "after some stops").await;
}

/// The files are written the latest first, so that an event is never later on disk than its row.
#[tokio::test]
async fn a_flush_that_fails_at_one_file_changes_nothing_in_the_end() {
    let log = lives(6, 40);
    let truth = truth(&log);
    let midnight = log.records.iter().position(|p| p.at >= START + Duration::from_secs(3_600));
    let before = midnight.unwrap();
    for (broken, crash) in [("22", false), ("22", true), ("23", false), ("23", true)] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
        apply(&mut tailer, &log, log.records[before + 15].position);
        tailer.flush(log.records[before].at).unwrap();
        let path = dir.path().join(format!("2026-11-{broken}.db"));
        let execute = |sql: &str| {
            rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        };
        for table in ["packs", "events"] {
            for what in ["INSERT", "UPDATE"] {
                execute(&format!(
                    "CREATE TRIGGER {table}_{what} BEFORE {what} ON {table} \
                     BEGIN SELECT RAISE(ABORT, 'broken'); END"
                ));
            }
        }
        let until = log.records[before + 50].position;
        apply(&mut tailer, &log, until);
        let passed = *archive.passed().borrow();
        assert!(tailer.flush_all(log.records[0].at).is_err(), "{broken} {crash}");
        assert_eq!(*archive.passed().borrow(), passed);
        for trigger in ["packs_INSERT", "packs_UPDATE", "events_INSERT", "events_UPDATE"] {
            execute(&format!("DROP TRIGGER {trigger}"));
        }
        if crash {
            (tailer, _) = hikyaku::archive::open(&config, until, &keys()).unwrap();
        }
        apply(&mut tailer, &log, log.end());
        tailer.flush_all(log.records[0].at).unwrap();
        let (_, archive) = hikyaku::archive::open(&config, log.end(), &keys()).unwrap();
        check(&archive, &truth, &format!("broken {broken}, crash {crash}")).await;
    }
}

/// All octets of the archive's files.
fn octets_of(dir: &Path) -> Vec<u8> {
    copy_of(dir).into_values().flatten().collect()
}

#[tokio::test]
async fn numbers_and_texts_lie_sealed_and_are_gone_with_their_key() {
    let log = lives(21, 60);
    let mut truth = truth(&log);
    let dir = tempfile::tempdir().unwrap();
    let config = Config { store_text: true, ..config(dir.path()) };
    let keys = keys();
    let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys).unwrap();
    apply(&mut tailer, &log, log.end());
    tailer.flush_all(START).unwrap();
    drop(tailer);
    let disk = octets_of(dir.path());
    let there = |words: &[u8]| disk.windows(words.len()).any(|found| found == words);
    let probe = truth.messages.values().next().unwrap().clone();
    assert!(there(b"order-1") && there(b"alpha"), "what is not sealed");
    for secret in [&*probe.to, "819012345678", "819087654321", "0005123456", "こんにちは", "stat:"]
    {
        assert!(!there(secret.as_bytes()), "{secret} lies open");
    }
    let by_number = Search { to: Some(probe.to.to_string()), ..Search::default() };
    assert_eq!(all_messages(&archive, by_number.clone(), None).await.len(), 1);
    let text = archive.message(probe.id, None).await.unwrap().unwrap().text;
    assert_eq!(text.as_deref(), Some("こんにちは"));

    let today = keys.today();
    keys.set_today(Day(today.0 + 31));
    keys.erase_below(keys.due()).unwrap();
    let (_tailer, archive) = hikyaku::archive::open(&config, log.end(), &keys).unwrap();
    for message in truth.messages.values_mut() {
        let mut origin = hikyaku::archive::Origin::clone(&message.origin);
        (origin.to, origin.from) = (ERASED.into(), None);
        message.origin = origin.into();
        for entry in &mut message.timeline {
            if let Step::Receipt { receipt, .. } = &mut entry.step {
                (receipt.source, receipt.raw) = (ERASED.into(), "".into());
            }
        }
    }
    for event in &mut truth.events {
        match &mut event.subject {
            Subject::Message(snapshot) => {
                snapshot.origin = truth.messages[&snapshot.id].origin.clone();
            }
            Subject::Inbound(inbound) => {
                (inbound.from, inbound.to, inbound.text) = (ERASED.into(), ERASED.into(), None);
            }
        }
    }
    check(&archive, &truth, "erased").await;
    assert_eq!(all_messages(&archive, by_number, None).await, []);
    let by_reference =
        Search { client_ref: probe.client_ref.as_deref().map(Into::into), ..Search::default() };
    assert_eq!(all_messages(&archive, by_reference, None).await.len(), 1);
    let unmatched = archive.unmatched(Position(0), 9).await.unwrap();
    assert!(!unmatched.is_empty());
    assert!(unmatched.iter().all(|receipt| &*receipt.receipt.source == ERASED));
    let shown = archive.events(Feed::All, Position(0), 1, None).await.unwrap();
    assert_eq!(as_json(&shown.events[0])["data"]["to"], ERASED);
}

#[tokio::test]
async fn a_message_that_outlives_its_key_is_written_again_under_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let keys = keys();
    let today = keys.today();
    let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys).unwrap();
    let mut ids = IdSource::new(4);
    let (renewed, other) = (ids.next(START), ids.next(START));
    let mut log = Log::default();
    for id in [renewed, other] {
        log.push(START, Record::Accepted(Arc::new(submission(id, START, "shop", 7))));
    }
    apply(&mut tailer, &log, log.end());
    tailer.flush_all(START).unwrap();
    keys.set_today(Day(today.0 + 20));
    let carried = Carried {
        submission: submission(renewed, START, "shop", 7),
        state: State::Queued,
        due: START,
        attempt: 0,
        tries: 0,
        throttles: 0,
        unknowns: 0,
        carrier: "".into(),
        past_carriers: Vec::new(),
        sent_at: None,
        submitted_at: None,
        segments: Vec::new(),
    };
    log.push(START, Record::Carried(Box::new(carried)));
    apply(&mut tailer, &log, log.end());
    tailer.flush_all(START).unwrap();
    assert_eq!(*archive.passed().borrow(), log.end());
    drop(tailer);
    keys.set_today(Day(today.0 + 35));
    keys.erase_below(keys.due()).unwrap();
    let (_tailer, archive) = hikyaku::archive::open(&config, log.end(), &keys).unwrap();
    let to = |message: Option<Message>| message.unwrap().to.clone();
    assert_eq!(&*to(archive.message(renewed, None).await.unwrap()), "819000000007");
    assert_eq!(&*to(archive.message(other, None).await.unwrap()), ERASED);
}

/// The day files of the first layout, with what `truth` holds, without terms.
fn first_layout(dir: &Path, truth: &Truth) {
    let blob = |value: Vec<u8>| [vec![1], value].concat();
    let day = |at: Time| at.as_secs() / 86_400;
    let file = |number: u64| {
        let name = Day(u32::try_from(number).unwrap()).to_string();
        let db = rusqlite::Connection::open(dir.join(format!("{name}.db"))).unwrap();
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS messages (position INTEGER PRIMARY KEY, \
             id BLOB NOT NULL UNIQUE, created INTEGER NOT NULL, key TEXT NOT NULL, \
             state TEXT NOT NULL, carrier TEXT NOT NULL, open_until INTEGER, body BLOB NOT NULL); \
             CREATE TABLE IF NOT EXISTS events (key TEXT NOT NULL, inbound INTEGER NOT NULL, \
             first INTEGER NOT NULL, last INTEGER NOT NULL, bodies BLOB NOT NULL); \
             CREATE UNIQUE INDEX IF NOT EXISTS events_place ON events (key, inbound, last); \
             CREATE TABLE IF NOT EXISTS unmatched (position INTEGER PRIMARY KEY, body BLOB); \
             CREATE TABLE IF NOT EXISTS runs (bucket INTEGER NOT NULL, level INTEGER NOT NULL, \
             run INTEGER NOT NULL, PRIMARY KEY (bucket, level, run)) WITHOUT ROWID; \
             CREATE TABLE IF NOT EXISTS chunks (bucket INTEGER NOT NULL, level INTEGER NOT NULL, \
             run INTEGER NOT NULL, last INTEGER NOT NULL, number INTEGER NOT NULL, body BLOB); \
             CREATE UNIQUE INDEX IF NOT EXISTS chunks_place \
             ON chunks (bucket, level, run, last, number); \
             INSERT OR IGNORE INTO runs VALUES (0, 0, 0); PRAGMA user_version = 1",
        )
        .unwrap();
        db
    };
    for message in truth.messages.values() {
        let body = blob(postcard::to_stdvec(message).unwrap());
        let position = i64::try_from(message.position.0).unwrap();
        let id = message.id.as_u128().to_be_bytes();
        let row = rusqlite::params![
            position,
            id,
            0,
            &*message.key,
            message.state.as_str(),
            "",
            None::<i64>,
            body
        ];
        let sql = "INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        file(day(message.created_at)).execute(sql, row).unwrap();
    }
    for event in &truth.events {
        let body = blob(postcard::to_stdvec(event).unwrap());
        let pack = [&u32::try_from(body.len()).unwrap().to_be_bytes(), body.as_slice()].concat();
        let position = i64::try_from(event.position.0).unwrap();
        let inbound = event.kind == EventKind::InboundReceived;
        let row = rusqlite::params![&*event.key, inbound, position, position, pack];
        let at = day(event.at).max(day(event.message_id().created_at()));
        file(at).execute("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
    }
}

#[tokio::test]
async fn files_of_the_first_layout_are_read_and_go_on_in_this_one() {
    let log = lives(7, 40);
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let half = log.records.len() / 2;
    let until = log.records[half].position;
    let early = truth(&Log { records: log.records[..half].to_vec() });
    first_layout(dir.path(), &early);
    let (mut tailer, archive) = hikyaku::archive::open(&config, until, &keys()).unwrap();
    apply(&mut tailer, &log, until);
    tailer.flush_all(START).unwrap();
    check(&archive, &early, "as it was").await;
    apply(&mut tailer, &log, log.end());
    tailer.flush_all(START).unwrap();
    check(&archive, &truth(&log), "gone on").await;
    drop(tailer);
    let (_tailer, archive) = hikyaku::archive::open(&config, log.end(), &keys()).unwrap();
    check(&archive, &truth(&log), "reopened").await;
    let db = rusqlite::Connection::open(dir.path().join("2026-11-22.db")).unwrap();
    let left: u32 = db.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
    assert!((left as usize) < early.messages.len(), "what was written again is a row no more");
}
