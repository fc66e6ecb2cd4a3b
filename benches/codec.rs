//! How long the codec takes a PDU, and how long a text takes to become segments:
//! `cargo bench --bench codec`.
//!
//! Reads a stream of whole PDUs through `Frames`, as a link does, and writes PDUs into one buffer.
//! A text is planned when it is accepted, and cut when it is sent. Prints the best of several
//! rounds, since the machine is never quite idle.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the clock, prints its table, and a panic ends it"
)]

#[path = "play/pdus.rs"]
mod pdus;

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;
use hikyaku::pdu::Frame;
use hikyaku::pdu::Frames;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::encode;
use hikyaku::text::EncodingChoice;
use hikyaku::text::Profile;
use hikyaku::text::plan;
use tokio_util::codec::Decoder;

use crate::pdus::receipt;
use crate::pdus::submit_sm;
use crate::pdus::submit_sm_resp;

/// PDUs in one buffer, as one read of a busy link brings.
const BATCH: u32 = 64;
const ROUNDS: u32 = 5_000;

fn main() {
    println!("{:<28}{:>8}{:>14}{:>14}", "PDU", "octets", "decode ns", "encode ns");
    measure("submit_sm, one segment", &submit_sm(b"Your code is 123456."));
    measure("submit_sm, 140 octets", &submit_sm(&[0x30; 140]));
    measure("submit_sm_resp", &submit_sm_resp());
    measure("deliver_sm, receipt", &receipt());
    println!("\n{:<28}{:>8}{:>14}{:>14}", "text", "segments", "plan ns", "cut ns");
    measure_text("160 GSM-7", &"Your code is 123456.".repeat(8));
    measure_text("60 Japanese", &"飛脚".repeat(30));
    measure_text("670 Japanese", &"飛脚".repeat(335));
}

fn measure_text(name: &str, text: &str) {
    let profile = Profile::default();
    let make = || plan(black_box(text), EncodingChoice::Auto, &profile, None).unwrap();
    let made = make();
    let timed = |work: &dyn Fn()| {
        best(|| {
            let start = Instant::now();
            (0..BATCH).for_each(|_| work());
            start.elapsed()
        })
    };
    let plan = timed(&|| drop(black_box(make())));
    let cut = timed(&|| drop(black_box(made.segments(7))));
    println!("{name:<28}{:>8}{plan:>14}{cut:>14}", made.segments);
}

fn measure(name: &str, pdu: &Pdu) {
    let mut octets = BytesMut::new();
    encode(pdu, &mut octets).unwrap();
    let length = octets.len();
    let batch = octets.repeat(BATCH.try_into().unwrap());
    let (decode, encode) = (best(|| decode_batch(&batch)), best(|| encode_batch(pdu)));
    println!("{name:<28}{length:>8}{decode:>14}{encode:>14}");
}

/// The least nanoseconds a PDU took on average in a batch.
fn best(mut batch: impl FnMut() -> Duration) -> u128 {
    let least = (0..ROUNDS).map(|_| batch()).min().unwrap();
    least.as_nanos() / u128::from(BATCH)
}

fn decode_batch(batch: &[u8]) -> Duration {
    let mut frames = Frames::default();
    let mut src = BytesMut::from(batch);
    let start = Instant::now();
    while let Some(frame) = frames.decode(&mut src).unwrap() {
        assert!(matches!(black_box(frame), Frame::Pdu(_)));
    }
    start.elapsed()
}

fn encode_batch(pdu: &Pdu) -> Duration {
    let mut out = BytesMut::with_capacity(64 * 1024);
    let start = Instant::now();
    for _ in 0..BATCH {
        encode(black_box(pdu), &mut out).unwrap();
    }
    let spent = start.elapsed();
    black_box(out);
    spent
}
