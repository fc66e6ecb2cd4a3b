//! What the archive's writing costs: `cargo bench --bench archive -- [MESSAGES] [A FLUSH]`.
//!
//! It applies the records of messages that were accepted, sent, answered, receipted and finished,
//! and writes them to day files below `TMPDIR`; the records are made before. The processor's
//! instructions a message, without those of making the records, are the difference of two runs
//! under callgrind:
//!
//! ```text
//! cargo bench --bench archive --no-run
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/deps/archive-* 20000 2000
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/deps/archive-* 20000 0
//! ```
//!
//! The second one makes the records and applies none. Measured so with 4,000 messages, 2,000 a
//! flush, this crate in one codegen unit and no LTO: 37,200 instructions a message, of which applying
//! takes 7,900, packing its message 7,200, the number's HMAC 5,800 (without SHA instructions, which
//! valgrind lacks), writing 12,900 (events 5,400, SQLite 3,300, index 2,000), and dropping what was
//! written 2,400; 900 octets written a message. What is left is flat: no function of ours has 7 %.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the clock, prints, and may panic"
)]

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use hikyaku::archive;
use hikyaku::archive::Config;
use hikyaku::message::Answer;
use hikyaku::message::Class;
use hikyaku::message::Content;
use hikyaku::message::EncodingChoice;
use hikyaku::message::Finish;
use hikyaku::message::IdSource;
use hikyaku::message::MessageId;
use hikyaku::message::PlanSummary;
use hikyaku::message::Position;
use hikyaku::message::ReceiptRecord;
use hikyaku::message::ReceiptsWanted;
use hikyaku::message::Record;
use hikyaku::message::SegmentSet;
use hikyaku::message::State;
use hikyaku::message::Submission;
use hikyaku::message::Waited;
use hikyaku::pdu::CommandStatus;
use hikyaku::seal::Keys;
use hikyaku::time::Time;

/// 2026-11-22, noon in UTC.
const START: Time = Time::from_secs(1_795_348_800);

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let count = numbers.first().copied().unwrap_or(200_000);
    let a_flush = numbers.get(1).copied().unwrap_or(10_000);
    let records = records(count);
    let dir = tempfile::tempdir().unwrap();
    let config = Config { dir: dir.path().to_owned(), ..Config::default() };
    let keys = Keys::known(1);
    let (mut tailer, _archive) = archive::open(&config, Position(0), &keys).unwrap();
    let (began, cpu, written) = (Instant::now(), cpu_time(), written());
    let mut since_flush = 0;
    for (now, position, next, record) in records {
        if a_flush == 0 {
            continue;
        }
        since_flush += u64::from(matches!(record, Record::Finished { .. }));
        tailer.apply(now, position, next, record).unwrap();
        if since_flush >= a_flush {
            since_flush = 0;
            tailer.publish();
            tailer.flush(now).unwrap();
        }
    }
    tailer.publish();
    tailer.flush_all(START).unwrap();
    let (took, cpu) = (began.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
    let octets: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|it| it.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "{count} messages, {a_flush} a flush: {:.0} messages/s, {:.2} µs CPU, {:.0} octets written \
         and {:.0} kept a message",
        count as f64 / took,
        cpu * 1e6 / count as f64,
        (crate::written() - written) as f64 / count as f64,
        octets as f64 / count as f64,
    );
}

type Placed = (Time, Position, Position, Record);

/// Five records a message, those of 100 messages mixed as they are in a busy gateway.
fn records(count: u64) -> Vec<Placed> {
    let mut ids = IdSource::new(1);
    let mut records: Vec<Placed> = Vec::new();
    let mut end = 0;
    let mut push = |now, record: Record| {
        let mut octets = Vec::new();
        record.encode(&mut octets);
        let next = end + 32 + octets.len() as u64;
        records.push((now, Position(end), Position(next), record));
        end = next;
    };
    for hundred in 0..count.div_ceil(100) {
        let now = START + Duration::from_millis(hundred * 5);
        let messages: Vec<_> = (0..100).map(|n| (ids.next(now), hundred * 100 + n)).collect();
        let step = |number: usize| now + Duration::from_millis(1 + number as u64);
        for (id, number) in &messages {
            push(now, Record::Accepted(Arc::new(submission(*id, now, *number))));
        }
        for (number, make) in [sending, answered, receipted, finished].into_iter().enumerate() {
            for (id, _) in &messages {
                push(step(number), make(*id, step(number)));
            }
        }
    }
    records
}

fn submission(id: MessageId, at: Time, number: u64) -> Submission {
    Submission {
        id,
        accepted_at: at,
        key: if number.is_multiple_of(3) { "shop" } else { "bank" }.into(),
        to: format!("8190{number:08}").into(),
        from: Some("HIKYAKU".into()),
        content: Content::Text("ログインコードは 123456 です。5 分以内に入力してください。".into()),
        class: Class::Otp,
        client_ref: Some(format!("order-{number}").into()),
        campaign: None,
        tags: Vec::new(),
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
            segments: 1,
            units: 32,
        },
    }
}

fn sending(id: MessageId, at: Time) -> Record {
    Record::Sending {
        id,
        at,
        attempt: 1,
        carrier: "alpha".into(),
        bind: 1,
        reference: 7,
        total: 1,
        segments: SegmentSet::first(1),
        waited: Waited { bind_ms: 0, rate_ms: 3, window_ms: 1 },
    }
}

fn carrier_id(id: MessageId) -> Box<str> {
    format!("{:016x}", id.as_u128() & 0xffff_ffff_ffff_ffff).into()
}

fn answered(id: MessageId, at: Time) -> Record {
    let answer = Answer {
        bind: 1,
        sequence_number: 40,
        status: CommandStatus::ESME_ROK,
        carrier_message_id: carrier_id(id),
        failure_reason: None,
    };
    Record::Answered { id, at, attempt: 1, segment: 0, answer, state: State::Submitted }
}

fn receipted(id: MessageId, at: Time) -> Record {
    let raw = format!(
        "id:{} sub:001 dlvrd:001 submit date:2611221200 done date:2611221200 stat:DELIVRD err:000",
        carrier_id(id)
    );
    let receipt = ReceiptRecord {
        carrier_message_id: carrier_id(id),
        text_id: "".into(),
        source: "819012345678".into(),
        state: "DELIVERED".into(),
        is_final: true,
        error: "000".into(),
        raw: raw.into(),
    };
    Record::Receipt { id, at, attempt: 1, segment: 0, receipt }
}

fn finished(id: MessageId, at: Time) -> Record {
    let finish = Finish {
        state: State::Delivered,
        reason: None,
        carrier: "alpha".into(),
        carrier_status: None,
        carrier_error: "000".into(),
    };
    Record::Finished { id, at, finish }
}

/// The time that all threads of this process have computed.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// The octets that this process has written.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|octets| octets.parse().ok()).unwrap_or_default()
}
