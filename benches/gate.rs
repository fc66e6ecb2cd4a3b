//! Counts instructions, and fails when there are more than were kept: `cargo bench --profile gate
//! --bench gate`.
//!
//! Callgrind counts what a measure executes on a processor that valgrind plays, so the numbers are
//! the same on a busy machine and on an idle one. They are kept in `benches/gate.counts`;
//! `HIKYAKU_BLESS=1` in front of the command writes that file anew. Another compiler makes other
//! instructions: renew the file with it, in a commit of its own.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench prints its table, and a panic ends it"
)]

#[path = "play/pdus.rs"]
mod pdus;
mod play;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::num::NonZeroU8;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;

use bytes::BytesMut;
use hikyaku::archive;
use hikyaku::journal;
use hikyaku::journal::disk::Files;
use hikyaku::message::Position;
use hikyaku::message::Record;
use hikyaku::pdu::Body;
use hikyaku::pdu::Frames;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::encode;
use hikyaku::receipt::DeliverFields;
use hikyaku::receipt::ReceiptOptions;
use hikyaku::receipt::read;
use hikyaku::seal::Keys;
use hikyaku::text::EncodingChoice;
use hikyaku::text::Profile;
use hikyaku::text::plan;
use hikyaku::time::Time;
use tokio_util::codec::Decoder;

use crate::play::Play;

/// What is counted: its name, how often its work is done, and the work.
struct Measure(&'static str, u32, fn(u32));

const MEASURES: [Measure; 19] = [
    Measure("decode_submit_sm", 1_000, |n| decode(&pdus::submit_sm(TEXT), n)),
    Measure("encode_submit_sm", 1_000, |n| encode_all(&pdus::submit_sm(TEXT), n)),
    Measure("decode_submit_sm_resp", 1_000, |n| decode(&pdus::submit_sm_resp(), n)),
    Measure("encode_submit_sm_resp", 1_000, |n| encode_all(&pdus::submit_sm_resp(), n)),
    Measure("decode_deliver_sm", 1_000, |n| decode(&pdus::receipt(), n)),
    Measure("encode_deliver_sm", 1_000, |n| encode_all(&pdus::receipt(), n)),
    Measure("split_gsm7_160", 100, |n| split(&"0123456789".repeat(16), n)),
    Measure("split_japanese_60", 100, |n| split(&"飛脚".repeat(30), n)),
    Measure("split_japanese_670", 100, |n| split(&"飛脚".repeat(335), n)),
    Measure("read_receipt", 1_000, read_receipt),
    Measure("dispatch_accept", LIVES, accept),
    Measure("dispatch_submit", LIVES, submit),
    Measure("dispatch_answer", LIVES, answer),
    Measure("dispatch_receipt", LIVES, receipt),
    Measure("dispatch_life", LIVES, |n| life(1, n)),
    Measure("dispatch_life_10_segments", LIVES / 10, |n| life(10, n)),
    Measure("journal_append", LIVES, append),
    Measure("journal_decode", LIVES, decode_records),
    Measure("archive_write", LIVES, archive_write),
];

const TEXT: &[u8] = b"Your code is 123456.";

/// How many messages go through the dispatcher.
const LIVES: u32 = 1_000;

/// How many per cent more than kept are too many.
const TOLERANCE: u64 = 5;

const COUNTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/gate.counts");

const COMMAND: &str = "HIKYAKU_BLESS=1 cargo bench --profile gate --bench gate";

fn main() -> ExitCode {
    let asked = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    match asked {
        Some(name) => {
            let known = |it: &&Measure| it.0 == name;
            let Measure(_, times, work) = MEASURES.iter().find(known).unwrap();
            work(*times);
            ExitCode::SUCCESS
        }
        None => judge(),
    }
}

// Counting and judging.

fn judge() -> ExitCode {
    if !cfg!(target_arch = "x86_64") {
        println!("the counts are those of x86_64: nothing is compared here");
        return ExitCode::SUCCESS;
    }
    let kept = kept();
    let mut counts = String::new();
    let mut is_worse = false;
    println!("{:<28}{:>12}{:>12}{:>9}", "instructions", "kept", "counted", "change");
    for Measure(name, times, _) in MEASURES {
        let count = instructions(name) / u64::from(times);
        counts += &format!("{name} {count}\n");
        let before = kept.get(name).copied();
        let change = before.map_or_else(String::new, |before| {
            format!("{:+.1} %", (count as f64 / before as f64 - 1.0) * 100.0)
        });
        println!("{name:<28}{:>12}{count:>12}{change:>9}", before.unwrap_or_default());
        is_worse |= before.is_none_or(|before| count * 100 > before * (100 + TOLERANCE));
    }
    if std::env::var_os("HIKYAKU_BLESS").is_some() {
        let head = "# Instructions by callgrind, x86_64. This writes the file anew:";
        std::fs::write(COUNTS, format!("{head}\n# {COMMAND}\n# {}\n{counts}", compiler())).unwrap();
        return ExitCode::SUCCESS;
    }
    if is_worse {
        println!("\nmore than {TOLERANCE} % above what is kept, or not kept at all.");
        println!("mend it; or, if it is meant or the compiler is another, keep these counts:");
        println!("{COMMAND}\nthis compiler: {}", compiler());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output().unwrap();
    String::from_utf8(version.stdout).unwrap().trim().to_owned()
}

fn kept() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(COUNTS).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    pairs.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
}

/// How many instructions [`counted`] executes in a process that does one measure.
fn instructions(name: &str) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*gate*counted*")
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        // The C library picks its copying by the processor: these are in all of them.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX,-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM",
        )
        .output()
        .unwrap_or_else(|error| panic!("valgrind counts the instructions: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    let count = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    count.unwrap_or_else(|| panic!("{name}: {said}")).trim().parse().unwrap()
}

/// What is counted: callgrind finds it by its name.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

// What is measured.

fn decode(pdu: &Pdu, times: u32) {
    let mut octets = BytesMut::new();
    (0..times).for_each(|_| encode(pdu, &mut octets).unwrap());
    let mut frames = Frames::default();
    let decoded = counted(|| {
        let mut decoded = 0;
        while let Some(frame) = frames.decode(&mut octets).unwrap() {
            black_box(frame);
            decoded += 1;
        }
        decoded
    });
    assert_eq!(decoded, times);
}

fn encode_all(pdu: &Pdu, times: u32) {
    let mut out = BytesMut::with_capacity(1 << 20);
    counted(|| (0..times).for_each(|_| encode(black_box(pdu), &mut out).unwrap()));
    black_box(out);
}

fn split(text: &str, times: u32) {
    let profile = Profile::default();
    let most = NonZeroU8::new(10);
    counted(|| {
        for _ in 0..times {
            let plan = plan(black_box(text), EncodingChoice::Auto, &profile, most).unwrap();
            black_box(plan.segments(7));
        }
    });
}

fn read_receipt(times: u32) {
    let Body::DeliverSm(deliver) = pdus::receipt().body else { panic!("it is a deliver_sm") };
    let options = ReceiptOptions::default();
    let fields = DeliverFields::from(&deliver);
    counted(|| {
        for _ in 0..times {
            black_box(read(black_box(&fields), &options));
        }
    });
}

/// Messages that no carrier takes yet: as much as accepting them costs, and their records.
fn accept(times: u32) {
    let mut play = Play::new();
    counted(|| {
        (0..times).for_each(|_| play.accept("waits", 1));
        play.turn();
    });
}

fn submit(times: u32) {
    let mut play = Play::new();
    (0..times).for_each(|_| play.accept("main", 1));
    counted(|| {
        while play.sent.len() < times as usize {
            play.turn();
        }
    });
}

fn answer(times: u32) {
    let mut play = submitted(times);
    counted(|| {
        play.answer_all();
        play.turn();
    });
}

fn receipt(times: u32) {
    let mut play = submitted(times);
    play.answer_all();
    play.turn();
    counted(|| {
        (0..u64::from(times)).for_each(|number| play.receipt(number));
        play.turn();
    });
    assert_eq!(play.dispatch.snapshot(play.now).live, 0, "every life has ended");
}

fn submitted(count: u32) -> Play {
    let mut play = Play::new();
    (0..count).for_each(|_| play.accept("main", 1));
    while play.sent.len() < count as usize {
        play.turn();
    }
    play
}

fn life(segments: u8, times: u32) {
    let mut play = Play::new();
    counted(|| play.lives(segments, u64::from(times)));
    assert_eq!(play.dispatch.snapshot(play.now).live, 0, "every life has ended");
}

/// The records of whole lives, in their order.
fn records(lives: u32) -> Vec<Record> {
    let mut play = Play::new();
    play.records = Some(Vec::new());
    play.lives(1, lives.into());
    play.records.unwrap()
}

fn append(times: u32) {
    let records = records(times);
    let dir = tempfile::tempdir().unwrap();
    let mut opened = journal(dir.path());
    let mut scratch = Vec::new();
    counted(|| {
        for batch in records.chunks(64) {
            for record in batch {
                scratch.clear();
                record.encode(&mut scratch);
                opened.appender.push(&scratch).unwrap();
            }
            black_box(opened.appender.take_batch());
        }
    });
}

fn journal(dir: &Path) -> journal::Opened {
    journal::open(Files::new(dir), &journal::Config::default(), &Keys::known(1)).unwrap()
}

fn decode_records(times: u32) {
    let mut encoded = Vec::new();
    for record in records(times) {
        let mut octets = Vec::new();
        record.encode(&mut octets);
        encoded.push(octets);
    }
    counted(|| encoded.iter().for_each(|octets| drop(black_box(Record::decode(octets).unwrap()))));
}

/// Whole lives applied and written, in one flush.
fn archive_write(times: u32) {
    let dir = tempfile::tempdir().unwrap();
    let config = archive::Config { dir: dir.path().to_owned(), ..archive::Config::default() };
    let (mut tailer, _archive) = archive::open(&config, Position(0), &Keys::known(1)).unwrap();
    let now = Time::from_secs(1_790_000_000);
    let records = records(times);
    counted(|| {
        for (number, record) in (0..).zip(records) {
            // As far apart as they are in a journal.
            let [position, next] = [number, number + 1].map(|at: u64| Position(at * 200));
            tailer.apply(now, position, next, record).unwrap();
        }
        tailer.publish();
        tailer.flush_all(now).unwrap();
    });
}
