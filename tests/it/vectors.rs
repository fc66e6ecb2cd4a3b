//! The test vectors: `tests/vectors`, or the folder that `HIKYAKU_VECTORS` names.

use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

/// The folder of the vectors.
pub(crate) fn dir() -> PathBuf {
    std::env::var_os("HIKYAKU_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), PathBuf::from)
}

/// All vectors of the file `name`, a JSON object a line.
pub(crate) fn load(name: &str) -> Vec<Value> {
    let path = dir().join(name);
    let text = std::fs::read_to_string(&path);
    assert!(text.is_ok(), "{}: {text:?}", path.display());
    let text = text.unwrap();
    let vectors: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!vectors.is_empty(), "{} has no vector", path.display());
    vectors
}

/// The octets that `hex` writes.
pub(crate) fn octets(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "half an octet in {hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The octets in hex, lower case.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
