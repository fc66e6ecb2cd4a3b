//! Octets from the fuzzer into the body of `archive`.
#![no_main]

#[path = "../bodies/archive.rs"]
mod body;
#[path = "../bodies/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
