//! How fast the journal is on this machine's disk: `cargo bench --bench journal`.
//!
//! It writes some hundred megabytes below `TMPDIR` and removes them. Two threads as in the gateway:
//! one appends, one writes and syncs what waits.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the clock, prints, and may panic"
)]

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use hikyaku::journal::Config;
use hikyaku::journal::Opened;
use hikyaku::journal::Position;
use hikyaku::journal::disk::Files;
use hikyaku::journal::open;
use hikyaku::journal::run;
use hikyaku::seal::Keys;

fn main() {
    println!("append, 700 octets a record, group commit:");
    for waiting in [1, 64, 1_000, 10_000] {
        append(waiting);
    }
    println!("\nreplay, 1,000,000 records of 500 octets:");
    replay();
}

/// Appends for some seconds, with at most `waiting` records that are not durable.
fn append(waiting: usize) {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut appender, writer, .. } = journal(dir.path());
    let (batches, receiver) = mpsc::channel();
    let (durable, ends) = mpsc::channel();
    let writer = thread::spawn(move || {
        run(writer, &receiver, |end| durable.send((end.unwrap(), Instant::now())).unwrap())
    });
    let record = vec![b'x'; 700];
    let mut sent: std::collections::VecDeque<(Position, Instant)> = [].into();
    let mut waits: Vec<Duration> = Vec::new();
    let mut syncs = 0;
    let (began, cpu) = (Instant::now(), cpu_time());
    while began.elapsed() < Duration::from_secs(3) {
        while sent.len() < waiting {
            let now = Instant::now();
            for _ in 0..16.min(waiting - sent.len()) {
                sent.push_back((appender.push(&record).unwrap(), now));
            }
            batches.send(appender.take_batch().unwrap()).unwrap();
        }
        let (end, at) = ends.recv().unwrap();
        syncs += 1;
        while sent.front().is_some_and(|(position, _)| *position < end) {
            waits.extend(sent.pop_front().map(|(_, since)| at - since));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = (cpu_time() - cpu).as_secs_f64() * 1e6 / waits.len() as f64;
    drop(batches);
    assert!(writer.join().unwrap().failure().is_none());
    waits.sort_unstable();
    let quantile = |q: usize| waits.get(waits.len() * q / 1_000).unwrap();
    println!(
        "  {waiting:>6} waiting: {:>9.0} records/s, {:>6.0} syncs/s, {cpu:.2} µs CPU a record, \
         durable after p50 {:.2?} p99 {:.2?}",
        waits.len() as f64 / seconds,
        f64::from(syncs) / seconds,
        quantile(500),
        quantile(990),
    );
}

fn replay() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = journal(dir.path());
    let record = vec![b'x'; 500];
    let began = Instant::now();
    for _ in 0..1_000_000 / 1_000 {
        (0..1_000).for_each(|_| assert!(opened.appender.push(&record).is_ok()));
        opened.writer.write(opened.appender.take_batch().unwrap()).unwrap();
    }
    println!("  written, 1,000 a sync:    {:.2?}", began.elapsed());
    drop(opened);
    let began = Instant::now();
    let opened = journal(dir.path());
    println!("  opened:                   {:.2?}", began.elapsed());
    let began = Instant::now();
    let mut follow = opened.reader.follow(opened.first);
    let mut octets = 0;
    while let Some(next) = follow.next_record() {
        octets += next.unwrap().1.len();
    }
    println!("  followed, {octets} octets: {:.2?}", began.elapsed());
    let mut positions = Vec::new();
    for (i, next) in opened.reader.follow(opened.first).enumerate() {
        if i % 97 == 0 {
            positions.push(next.unwrap().0);
        }
    }
    let began = Instant::now();
    for i in 0..positions.len() {
        let at = positions.get(i * 7_919 % positions.len()).unwrap();
        assert_eq!(opened.reader.read(*at).unwrap().len(), 500);
    }
    println!("  read one:                 {:.2?}", began.elapsed().div_f64(positions.len() as f64));
}

fn journal(dir: &Path) -> Opened {
    open(Files::new(dir), &Config::default(), &Keys::known(0)).unwrap()
}

/// The time that all threads of this process have computed.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
