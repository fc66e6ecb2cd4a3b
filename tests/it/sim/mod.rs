//! The whole gateway on one thread and one clock, from one seed.
//!
//! A world is the real dispatcher over the real journal on a simulated disk, real sessions on both
//! ends of simulated connections, the simulated carrier's own mind, and clients. A seed draws the
//! load, the carriers' limits and manners, the routes, and what breaks: connections at any octet,
//! black holes, unbinds, garbage, slow, failing and full disks, and crashes that lose whatever was
//! not synced, also in the middle of an operation of the disk. Then everything is held to the
//! promises of the crate, by what is durable, what clients were told and what carriers saw; never
//! by what the dispatcher says of itself.
//!
//! `HIKYAKU_SEEDS=100000` runs more seeds than usual, `HIKYAKU_SEED=7` one of them with its story.
//!
//! # Planted faults
//!
//! Each was put into the dispatcher once, alone, to see whether the simulation finds it: after how
//! many seeds it does, and by which promise.
//!
//! | fault | seeds | promise |
//! |---|---|---|
//! | a `deliver_sm` is answered before its record is durable | 1 | answered before it is durable |
//! | a client is told accepted before the record is durable | 1 | told before it is durable |
//! | a segment leaves before its record is durable | 1 | leaves without a durable record |
//! | a receipt that comes before its answer is lost | 1 | ends unknown, a carrier said delivered |
//! | a number is given the same reference again | 1 | reference used for the same number |
//! | idempotency keys are forgotten | 1 | accepted twice for one key |
//! | what was lost with a link counts as never sent | 2 | goes to a carrier again, which has it |
//! | the rate lets segments through 60 ms early | 4 | more segments in a second than allowed |
//! | a restart forgets what was on its way | 9 | never ends |
//! | a message that expires waiting for the rate leaves | 29 | leaves after its time to live |
//! | the journal is trimmed past messages that wait | 48 | a replay finds another state |
//!
//! Leaving out that a carrier may have what is sent to it again (`resend_unknown`) takes 99 seeds:
//! it was no plant, and is how that fault was found.

mod carrier;
mod checks;
mod coverage;
mod draw;
mod link;
mod plan;
mod process;
mod story;
mod truth;
mod wire;
mod world;

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use self::coverage::Coverage;
use self::story::Broken;
use self::world::World;

/// How many seeds run when nobody says otherwise.
const SEEDS: u64 = 300;

/// Runs one seed; gives what it reached, or what went wrong and the story of it.
fn run(seed: u64, is_told: bool) -> Result<Coverage, String> {
    let mut world = World::new(seed, is_told);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.live()));
    let broken = match outcome {
        Ok(Ok(())) => return Ok(world.coverage),
        Ok(Err(broken)) => broken,
        Err(_) => Broken { message: None, how: "a panic; its message stands above".into() },
    };
    let about = broken.message.map_or_else(String::new, |message| format!(" (m{message})"));
    let story = world.story.about(broken.message);
    Err(format!("seed {seed}{about}: {}\n{story}", broken.how))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn promises_hold_whatever_breaks() {
    if let Some(seed) = number("HIKYAKU_SEED") {
        if let Err(story) = run(seed, true) {
            panic!("{story}");
        }
        return;
    }
    let seeds = number("HIKYAKU_SEEDS").unwrap_or(SEEDS);
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    for seed in 0..seeds {
        match run(seed, false) {
            Ok(reached) => coverage.add(reached),
            Err(what) => failures.push((seed, what)),
        }
        if failures.len() >= 10 {
            break;
        }
    }
    println!("{coverage}");
    if let Some((seed, _)) = failures.first() {
        let all: Vec<&str> =
            failures.iter().map(|(_, what)| what.lines().next().unwrap_or_default()).collect();
        let story = run(*seed, true).err().unwrap_or_default();
        panic!("{}\n\n{story}", all.join("\n"));
    }
    if seeds >= SEEDS {
        let lacks = coverage.lacks(REACHED);
        assert!(lacks.is_empty(), "never reached: {lacks:#?}");
    }
}

/// What some seed must reach.
const REACHED: &[&str] = &[
    "effect cancel_sm",
    "effect fetch",
    "effect query_sm",
    "effect trim",
    "event Closing",
    "event Lost",
    "event TimedOut",
    "fault BlackHole",
    "fault CrashAtOperation",
    "fault Cut",
    "fault FailingDisk",
    "fault FullDisk",
    "fault Kill",
    "fault PowerLoss",
    "fault SlowDisk",
    "fault Unbind",
    "fault crash at an operation",
    "carrier cuts",
    "carrier unbinds",
    "carrier writes garbage",
    "bind ESME_RALYBND",
    "bind ESME_RSYSERR",
    "answer late",
    "answer unsaid",
    "submit swallowed",
    "receipt before the answer",
    "receipt doubled",
    "receipt held back",
    "receipt answered ESME_RX_T_APPN",
    "live state compared with a replay",
    "client asks again",
    "sync failed",
    "notice Alarm",
    "notice RateChanged",
    "notice ReceiptUnmatched",
    "record again throttled",
    "record carried finished",
    "record carried idempotency",
    "record carried",
    "record corrected delivered",
    "record fallback no answer",
    "record fallback no bind",
    "record fallback not delivered",
    "record fallback receipt has",
    "record fallback receipt says",
    "record fallback refused with",
    "record fallback throttled",
    "record finished cancelled",
    "record finished delivered",
    "record finished expired",
    "record finished rejected",
    "record finished undeliverable",
    "record finished unknown",
    "record inbound",
    "record orphan dropped",
    "record retry",
    "record unanswered LinkLost",
    "record unanswered Restart",
    "record unanswered Timeout",
    "record unanswered Unsent",
    "reply Accepted",
    "reply Cancelled",
    "reply IdempotencyInProgress",
    "reply QueueFull",
    "reply Replayed",
    "reply StoreUnavailable",
    "reply TooLate",
];

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 14, 15] {
        let told = |seed| {
            let mut world = World::new(seed, true);
            let kept = world.live();
            (world.steps, kept.err().map(|broken| broken.how), world.story.about(None))
        };
        assert_eq!(told(seed), told(seed), "seed {seed}");
    }
}
