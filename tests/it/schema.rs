//! The API fuzzed from its own OpenAPI document by a foreign program: the PyPI package
//! `schemathesis` against the real process.
//!
//! `tests/run` installs it and says where in `HIKYAKU_PEERS`; without that this test says so and
//! passes. `HIKYAKU_SCHEMA_SECONDS` and `HIKYAKU_SCHEMA_SEED` make it longer and different.

use std::path::Path;
use std::process::Command;

use crate::foreign::peers;
use crate::foreign::script;
use crate::process::House;
use crate::process::free_port;

/// Two carriers that are never up: whatever is accepted waits.
fn house() -> House {
    let port = free_port();
    House::new(&format!(
        "[carriers.one]\nhost = \"127.0.0.1\"\nport = {port}\nsystem_id = \"t\"\nrate = \"10/s\"\n\
         [[routes]]\nname = \"all\"\ncarriers = [\"one\"]\n"
    ))
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn fuzz(peers: &Path, house: &House) -> std::process::Output {
    let url = format!("http://127.0.0.1:{}", house.client.port);
    let work = tempfile::tempdir().unwrap();
    Command::new("python3")
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(script("schemathesis.toml"))
        .arg("run")
        .arg(format!("{url}/openapi.json"))
        .args(["--no-color", "--no-shrink", "--max-examples", "25"])
        .args(["--seed", &setting("HIKYAKU_SCHEMA_SEED", "1")])
        .args(["--max-time", &setting("HIKYAKU_SCHEMA_SECONDS", "40")])
        .env("PYTHONPATH", peers.join("python"))
        .env("HIKYAKU_URL", url)
        .env("HIKYAKU_TOKEN", &house.client.token)
        .current_dir(work.path())
        .output()
        .unwrap()
}

#[test]
fn the_api_keeps_to_its_own_document_whatever_is_sent() {
    let Some(peers) = peers() else { return };
    let house = house();
    let daemon = house.start();
    let output = fuzz(&peers, &house);
    let said = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{faults}");
    let tested = said.lines().find_map(|line| line.trim().strip_prefix("Tested: "));
    let tested: usize = tested.unwrap_or_default().parse().unwrap();
    assert!(tested >= 20, "only {tested} operations were tried: {said}");
    assert!(daemon.stop().success(), "{}", house.said());
    assert!(!house.said().contains("panicked"), "{}", house.said());
}
