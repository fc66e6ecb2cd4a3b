//! Secrets through the real process: where they may be, and that they show nowhere.

use std::process::Command;

use hikyaku::smsc;
use serde_json::json;
use tempfile::TempDir;

use crate::process::Carriers;
use crate::process::EXE;
use crate::process::House;
use crate::process::one_carrier;
use crate::process::quick;
use crate::process::text;

const CARRIER: &str = "[carriers.a]\nhost = \"h\"\nsystem_id = \"s\"\nrate = \"5/s\"\n";

/// What `check` says of a configuration, and whether it is content.
fn checked(config: &str, env: &[(&str, &str)]) -> (bool, String) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("hikyaku.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(EXE);
    command.args(["check", path.to_str().unwrap()]).env_remove("CREDENTIALS_DIRECTORY");
    let output = command.envs(env.iter().copied()).output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    (output.status.success(), said)
}

#[test]
fn a_password_in_the_configuration_is_refused_with_its_cure_and_shown_nowhere() {
    let inline = format!("{CARRIER}password = \"hunter2\"\n");
    let table =
        "[carriers]\na = { host = \"h\", system_id = \"s\", rate = 5, password = \"hunter2\" }\n";
    let broken = format!("{CARRIER}password = \"hunter2\" \"\n");
    for config in [&inline, table, &broken] {
        let (content, said) = checked(config, &[]);
        assert!(!content && !said.contains("hunter2"), "{said}");
        assert!(said.contains("password_file") || *config == broken, "{said}");
    }
    let (content, said) = checked(CARRIER, &[("HIKYAKU__CARRIERS__A__PASSWORD", "hunter2")]);
    assert!(!content && !said.contains("hunter2") && said.contains("password_file"), "{said}");
    assert!(said.contains("environment variable HIKYAKU__CARRIERS__A__PASSWORD"), "{said}");
}

#[test]
fn check_looks_at_the_files_that_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("password");
    let config = format!("{CARRIER}password_file = {path:?}\n");
    let (content, said) = checked(&config, &[]);
    assert!(!content && said.contains("hikyaku.toml:5:17") && said.contains("make it"), "{said}");
    for (password, mode, expected) in [
        ("hunter2\n", 0o600, None),
        ("hunter2\n", 0o644, Some("chmod o-r")),
        ("hunter2hunter2\n", 0o600, Some("password is 14 octets, at most 8")),
    ] {
        std::fs::write(&path, password).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (content, said) = checked(&config, &[]);
        assert_eq!(content, password.len() < 9, "{said}");
        assert!(expected.is_none_or(|words| said.contains(words)), "{said}");
        assert!(
            !said.contains("hunter2") && (expected.is_some() || !said.contains("warning")),
            "{said}"
        );
    }
    let tls = format!("{CARRIER}[api.tls]\ncert_file = {path:?}\nkey_file = {path:?}\n");
    let (content, said) = checked(&tls, &[]);
    assert!(!content && said.contains("expected certificates as PEM"), "{said}");
    let credential = format!("{CARRIER}password_credential = \"password\"\n");
    let (content, said) = checked(&credential, &[]);
    assert!(content && said.contains("LoadCredential=password:"), "{said}");
    std::fs::write(&path, "hunter2\n").unwrap();
    let env = [("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())];
    let (content, said) = checked(&credential, &env);
    assert!(content && !said.contains("warning"), "{said}");
}

#[test]
fn a_carriers_password_is_in_no_log_and_no_metric() {
    let carriers = Carriers::new();
    let (carrier, port) = carriers.open(smsc::Config { password: "hunter2".into(), ..quick() });
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "hunter2\n").unwrap();
    let config = one_carrier(port).replace("rate =", &format!("password_file = {path:?}\nrate ="));
    let house = House::new(&format!("{config}\n[log]\nlevel = \"trace\"\n"));
    let daemon = house.start();
    let body = json!({"to": "+819012345678", "text": "in"});
    let answer = house.client.post("/v1/messages", &body).unwrap();
    assert_eq!(house.end_of(answer.body["id"].as_str().unwrap())["state"], "delivered");
    assert_eq!(carrier.tally().accepted, 1, "the password was sent");
    let metrics = house.client.get("/metrics").unwrap().text;
    assert!(metrics.contains("hikyaku_bind_up") && !metrics.contains("hunter2"));
    assert!(daemon.stop().success());
    let said = house.said();
    assert!(said.contains("bound") && !said.contains("hunter2"), "{said}");
}
