//! Octets from the fuzzer into the body of `smsc`.
#![no_main]

#[path = "../bodies/smsc.rs"]
mod body;
#[path = "../bodies/script.rs"]
mod script;
#[path = "../bodies/smsc_draws.rs"]
mod smsc_draws;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
