//! The binary: hands its arguments to [`hikyaku::cli`].

use std::process::ExitCode;

/// A message makes a hundred allocations on its way, many of them freed by another thread, and
/// millions of them stay for hours; `benches/README.md` has what others cost.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    hikyaku::cli::main()
}
