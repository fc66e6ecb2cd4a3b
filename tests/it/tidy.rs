//! Checks of the code itself: the layering of `src/`, the purity of the core, a doc on each file.
use std::path::Path;

/// Each module with the modules it may import. The order is the layering: a module may only name
/// ones that stand above it, so no cycle can be written down.
const LAYERS: &[(&str, Kind, &[&str])] = &[
    ("time", Kind::Core, &[]),
    ("pdu", Kind::Core, &["time"]),
    ("text", Kind::Core, &["time", "pdu"]),
    ("session", Kind::Core, &["time", "pdu"]),
    ("message", Kind::Core, &["time", "pdu", "text"]),
    ("receipt", Kind::Core, &["time", "pdu", "text", "message"]),
    ("route", Kind::Core, &["time", "pdu", "text", "message", "receipt"]),
    ("dispatch", Kind::Core, &["time", "pdu", "text", "session", "message", "receipt", "route"]),
    ("clock", Kind::Shell, &["time"]),
    ("threads", Kind::Shell, &[]),
    ("tls", Kind::Shell, &["time"]),
    ("seal", Kind::Shell, &["time", "clock"]),
    ("journal", Kind::Shell, &["time", "message", "seal"]),
    ("archive", Kind::Shell, &["time", "clock", "threads", "pdu", "message", "seal", "journal"]),
    ("link", Kind::Shell, &["time", "clock", "tls", "pdu", "session", "dispatch"]),
    (
        "notify",
        Kind::Shell,
        &[
            "time", "clock", "threads", "tls", "message", "route", "text", "dispatch", "seal",
            "archive",
        ],
    ),
    (
        "api",
        Kind::Shell,
        &[
            "time", "clock", "tls", "pdu", "message", "route", "text", "dispatch", "archive",
            "notify",
        ],
    ),
    ("ops", Kind::Shell, &["time", "pdu", "message", "route", "dispatch", "archive"]),
    ("smsc", Kind::Shell, &["time", "clock", "tls", "pdu", "text", "session"]),
    (
        "config",
        Kind::Shell,
        &[
            "time", "tls", "pdu", "text", "session", "message", "receipt", "route", "dispatch",
            "seal", "journal", "archive", "link", "api", "notify", "ops", "smsc",
        ],
    ),
    (
        "gateway",
        Kind::Shell,
        &[
            "time", "clock", "tls", "pdu", "text", "session", "message", "receipt", "route",
            "dispatch", "seal", "journal", "archive", "link", "api", "notify", "ops", "smsc",
            "config",
        ],
    ),
    (
        "cli",
        Kind::Shell,
        &[
            "time", "clock", "tls", "pdu", "text", "message", "route", "config", "gateway", "smsc",
            "ops", "api", "notify",
        ],
    ),
];

/// What only the shell may say.
const SHELL_ONLY: &[&str] =
    &["async fn", ".await", "tokio::", "std::net", "std::fs", "std::env", "::now()"];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Core,
    Shell,
}

#[test]
fn layers_are_ordered() {
    for (i, (module, _, imports)) in LAYERS.iter().enumerate() {
        for import in *imports {
            assert!(
                LAYERS[..i].iter().any(|(m, ..)| m == import),
                "{module} may not import {import}: it stands below"
            );
        }
    }
}

#[test]
fn sources_are_tidy() {
    let mut faults = Vec::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut faults);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn visit(dir: &Path, faults: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, faults);
        } else {
            check(&path, &std::fs::read_to_string(&path).unwrap(), faults);
        }
    }
}

fn check(path: &Path, text: &str, faults: &mut Vec<String>) {
    let mut fault =
        |line: usize, what: String| faults.push(format!("{}:{line}: {what}", path.display()));
    if !text.starts_with("//!") {
        fault(1, "no //! doc on the first line".into());
    }
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let module =
        inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
    if module == "lib" || module == "main" {
        return;
    }
    let Some((_, kind, imports)) = LAYERS.iter().find(|(m, ..)| *m == module) else {
        return fault(1, format!("module {module} is missing from LAYERS in tests/it/tidy.rs"));
    };
    for (n, line) in code(text) {
        if line.contains("use crate::{") {
            fault(n + 1, "write one `use crate::module::Item;` a line".into());
        }
        for used in line.split("crate::").skip(1) {
            let used =
                used.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
            if used != module && !imports.contains(&used) {
                fault(n + 1, format!("{module} may not import {used}"));
            }
        }
        for word in SHELL_ONLY.iter().filter(|w| *kind == Kind::Core && line.contains(**w)) {
            fault(n + 1, format!("`{word}` in the core"));
        }
    }
}

/// The numbered lines of `text`, without comments and without the tests at its bottom.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let tests = |line: &&str| line.starts_with("#[cfg(test)]");
    let comment = |line: &str| line.trim_start().starts_with("//");
    text.lines().take_while(move |l| !tests(l)).enumerate().filter(move |(_, l)| !comment(l))
}
