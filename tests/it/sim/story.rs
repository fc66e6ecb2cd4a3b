//! What happened, for people: told only when a seed is known to fail.

use std::time::Duration;

use hikyaku::time::Time;

/// Lines with their time and the message that they are about, if any.
#[derive(Debug, Default)]
pub(super) struct Story {
    is_told: bool,
    lines: Vec<(Duration, Option<usize>, String)>,
}

/// How many lines a failing seed prints.
const SHORT: usize = 60;

impl Story {
    pub(super) const fn new(is_told: bool) -> Self {
        Self { is_told, lines: Vec::new() }
    }

    pub(super) fn tell(
        &mut self,
        now: Time,
        message: Option<usize>,
        line: impl FnOnce() -> String,
    ) {
        if self.is_told {
            self.lines.push((now.since(super::world::START), message, line()));
        }
    }

    /// The last lines about a message, with the faults that met everybody; without a message the
    /// last of all.
    pub(super) fn about(&self, message: Option<usize>) -> String {
        let is_fault = |line: &str| GENERAL.iter().any(|general| line.starts_with(general));
        let lines = self.lines.iter().filter(|(_, about, line)| match message {
            None => true,
            Some(_) => *about == message || (about.is_none() && is_fault(line)),
        });
        let lines: Vec<String> = lines
            .map(|(at, about, line)| {
                let about = about.map_or_else(|| "    ".to_owned(), |it| format!("m{it:<3}"));
                format!("{:>11.6} {about} {line}", at.as_secs_f64())
            })
            .collect();
        lines[lines.len().saturating_sub(SHORT)..].join("\n")
    }
}

/// How the lines begin that tell what met everybody.
const GENERAL: [&str; 4] = ["fault", "the process", "the disk", "power"];

/// A promise that was broken.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// By what became of this message, if of one.
    pub(super) message: Option<usize>,
    /// How.
    pub(super) how: String,
}

/// Nothing, or the promise that was broken.
pub(super) type Kept = Result<(), Broken>;

pub(super) fn broken(message: Option<usize>, how: impl Into<String>) -> Kept {
    Err(Broken { message, how: how.into() })
}
