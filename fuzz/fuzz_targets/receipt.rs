//! Octets from the fuzzer into the body of `receipt`.
#![no_main]

#[path = "../bodies/receipt.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
