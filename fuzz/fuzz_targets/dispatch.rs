//! Octets from the fuzzer as a script for the dispatcher: that of the tests, with all its checks.
#![no_main]

#[path = "../../tests/it/dispatch/random.rs"]
#[expect(dead_code, reason = "the tests have their chances from a seed")]
mod random;
#[path = "../../tests/it/dispatch/world.rs"]
#[expect(dead_code, reason = "the scripted tests use the rest")]
mod world;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| random::play(octets));
