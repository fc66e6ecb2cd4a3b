//! A machine whose wall clock is wrong: a library before the C library's own tells it so.
//!
//! The library is made by the C compiler that also makes the archive's engine.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// The wall clock of some processes.
#[derive(Debug)]
pub(crate) struct WrongClock {
    dir: TempDir,
}

impl WrongClock {
    pub(crate) fn new() -> Self {
        let clock = Self { dir: TempDir::new().unwrap() };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/wrong_clock.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.library()).arg(source);
        assert!(compile.status().unwrap().success(), "cc cannot compile {source}");
        clock
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("wrong_clock.so")
    }

    /// Shifts the wall clock that `command` will see by so many seconds.
    pub(crate) fn shift(&self, command: &mut Command, seconds: i64) {
        command.env("LD_PRELOAD", self.library()).env("WALL_CLOCK_SHIFT", seconds.to_string());
    }
}
