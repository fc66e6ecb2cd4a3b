//! Octets from the fuzzer into the body of `pdu`.
#![no_main]

#[path = "../bodies/pdu.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
