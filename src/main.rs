//! The binary: hands its arguments to [`hikyaku::cli`].

use std::process::ExitCode;

/// A message is some hundred small pieces of memory: with the C library's allocator the gateway
/// takes a sixth more CPU.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hikyaku::cli::main()
}
