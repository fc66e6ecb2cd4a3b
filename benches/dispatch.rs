//! What the dispatcher costs: `cargo bench --bench dispatch`.
//!
//! Memory of a million live messages, in a lane and waiting for receipts; then the CPU of whole
//! lives, from a door to the receipt, beside ever more messages that wait. Records are encoded and
//! dropped: the journal has its own bench.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its table, and a panic ends it"
)]

mod play;

use std::time::Duration;

use hikyaku::message::Class;

use crate::play::Play;
use crate::play::SLOW_RATE;

const MILLION: usize = 1_000_000;

fn main() {
    // Each measure has a process of its own: memory that one gave back would count for the next.
    match std::env::args().nth(1).as_deref() {
        Some("waiting") => println!("{}", waiting()),
        Some("submitted") => println!("{}", submitted(1)),
        Some("submitted-10") => println!("{}", submitted(10)),
        Some("lives") => println!("{:.1}", lives(0, 1)),
        Some("lives-beside") => println!("{:.1}", lives(MILLION, 1)),
        Some("lives-10") => println!("{:.1}", lives(0, 10)),
        Some("otp") => println!("{:.2}", otp(0)),
        Some("otp-behind") => println!("{:.2}", otp(MILLION)),
        _ => {
            println!("octets of memory a message, 1,000,000 segments of them:");
            measure("waits in a lane", "waiting");
            measure("waits for its receipt", "submitted");
            measure("the same, ten segments", "submitted-10");
            println!("\nmicroseconds of CPU a life (accept, submit, answer, receipt):");
            measure("one segment", "lives");
            measure("beside 1,000,000 in a lane", "lives-beside");
            measure("ten segments", "lives-10");
            println!("\nthe 99th percentile of an otp's wait, in the carrier's token times:");
            measure("alone", "otp");
            measure("behind 1,000,000 marketing", "otp-behind");
        }
    }
}

fn measure(name: &str, measure: &str) {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program).arg(measure).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{measure}: {}\n{said}", output.status);
    print!("{name:<28}{:>8}", String::from_utf8(output.stdout).unwrap());
}

/// Octets a message that waits for a carrier without a bind.
fn waiting() -> usize {
    let mut bench = Play::new();
    let before = resident();
    for number in 0..MILLION {
        bench.accept("waits", 1);
        if number % 64 == 0 {
            bench.turn();
        }
    }
    bench.turn();
    let bodies = bench.dispatch.snapshot(bench.now).body_bytes;
    (resident() - before - bodies) / MILLION
}

/// Octets a message that a carrier took, and that waits for its receipts.
fn submitted(segments: u8) -> usize {
    let mut bench = Play::new();
    let before = resident();
    let messages = MILLION / usize::from(segments);
    for number in 0..messages {
        bench.accept("main", segments);
        if number % 64 == 0 {
            bench.turn();
            bench.answer_all();
        }
    }
    while bench.dispatch.snapshot(bench.now).body_bytes > 0 {
        bench.turn();
        bench.answer_all();
    }
    (resident() - before) / messages
}

/// Microseconds of CPU from a door to the receipt, beside so many messages that wait.
fn lives(backlog: usize, segments: u8) -> f64 {
    const LIVES: u64 = 200_000;
    let mut bench = Play::new();
    for number in 0..backlog {
        bench.accept("waits", 1);
        if number % 4_096 == 0 {
            bench.turn();
        }
    }
    bench.turn();
    let lives = LIVES / u64::from(segments);
    let before = cpu();
    bench.lives(segments, lives);
    let took = (cpu() - before).as_secs_f64() * 1e6;
    let live = bench.dispatch.snapshot(bench.now).live;
    assert_eq!(live, backlog, "every life has ended");
    took / f64::from(u32::try_from(lives).unwrap())
}

/// How long one in a hundred otps waits at a carrier that has so many marketing messages before it.
fn otp(marketing: usize) -> f64 {
    const OTPS: u32 = 1_000;
    let mut bench = Play::new();
    for number in 0..marketing {
        bench.accept_as(Class::Marketing, "slowly", 1);
        if number % 4_096 == 0 {
            bench.turn();
        }
    }
    bench.left = Some(Vec::new());
    let mut waits = Vec::new();
    for number in 0..OTPS {
        // Not in step with the carrier's tokens.
        (0..30 + number % 10).for_each(|_| bench.turn());
        bench.answer_all();
        let (to, since) = (bench.accept_as(Class::Otp, "slowly", 1), bench.now);
        let left = |bench: &Play| {
            let left = bench.left.as_ref().unwrap();
            left.iter().rev().find(|(at, other)| *at >= since && *other == to).map(|(at, _)| *at)
        };
        while left(&bench).is_none() {
            bench.turn();
        }
        waits.push(left(&bench).unwrap().since(since));
        bench.left = Some(Vec::new());
    }
    waits.sort_unstable();
    waits.get(waits.len() * 99 / 100).unwrap().as_secs_f64() * f64::from(SLOW_RATE)
}

/// The CPU time of this thread: other work on the machine does not count.
fn cpu() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split_whitespace().next().unwrap().parse().unwrap())
}

/// Octets of memory that the process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1_024
}
