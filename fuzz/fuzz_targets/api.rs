//! Octets from the fuzzer into the body of `api`, in the house of the tests.
#![no_main]

#[path = "../bodies/api.rs"]
mod body;
#[path = "../../tests/it/api/house.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod house;
#[path = "../bodies/script.rs"]
#[expect(dead_code, reason = "other bodies use the rest")]
mod script;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets));
