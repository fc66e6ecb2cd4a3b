//! The binary: hands its arguments to [`hikyaku::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    hikyaku::cli::main()
}
