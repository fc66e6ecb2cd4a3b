//! Octets from the fuzzer into the body of `session`.
#![no_main]

#[path = "../bodies/session.rs"]
mod body;
#[path = "../bodies/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
