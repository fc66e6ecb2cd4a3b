//! The configuration: the shipped files, the schema, and faults in any table.

use std::path::Path;

use hikyaku::config;
use hikyaku::config::Source;

fn shipped() -> Vec<Source> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).unwrap();
            sources.push(Source::from_text(&path.display().to_string(), &text));
        }
    }
    assert!(!sources.is_empty());
    sources
}

fn told(source: &Source) -> String {
    config::read(source).err().map(|faults| source.draw(&faults)).unwrap_or_default()
}

#[test]
fn the_sample_is_what_init_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/hikyaku.toml");
    let sample = config::sample();
    if std::env::var_os("HIKYAKU_BLESS").is_some() {
        std::fs::write(&path, &sample).unwrap();
    }
    let shipped = std::fs::read_to_string(&path).unwrap();
    assert_eq!(shipped, sample, "run the tests with HIKYAKU_BLESS=1 to write {}", path.display());
}

#[test]
fn every_shipped_file_is_read() {
    for source in shipped() {
        assert_eq!(told(&source), "", "{}", source.name);
    }
}

#[test]
fn a_commented_key_is_at_its_default() {
    let sample = config::sample();
    let mut in_table = true;
    let mut open = String::new();
    for line in sample.lines() {
        // Under a header that is commented out stands what a table would hold.
        if line.starts_with(['[']) || line.starts_with("#[") {
            in_table = line.starts_with('[');
        }
        let key = line
            .strip_prefix('#')
            .filter(|key| in_table && key.contains(" = ") && !key.starts_with([' ', '[']));
        open.push_str(key.unwrap_or(line));
        open.push('\n');
    }
    let read = |text: &str| {
        let source = Source::from_text("sample", text);
        config::read(&source).map_err(|faults| source.draw(&faults)).unwrap()
    };
    assert_eq!(read(&open).shown().unwrap(), read(&sample).shown().unwrap());
}

#[test]
fn a_stray_key_in_any_table_is_refused_with_its_place() {
    let sample = config::sample();
    let headers: Vec<usize> = sample
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with('['))
        .map(|(n, _)| n)
        .collect();
    assert!(headers.len() > 20, "{headers:?}");
    for header in headers {
        let mut lines: Vec<&str> = sample.lines().collect();
        lines.insert(header + 1, "stray_key = 1");
        let source = Source::from_text("stray.toml", &lines.join("\n"));
        let faults = config::read(&source).unwrap_err();
        let place = format!("{}:1", header + 2);
        assert!(
            faults.iter().any(|fault| fault.place.to_string() == place
                && fault.message.contains("unknown field `stray_key`")),
            "{}: {faults:?}",
            lines[header]
        );
    }
}

#[test]
fn the_schema_knows_a_carriers_keys_and_refuses_others() {
    let schema = config::schema();
    let carrier = &schema["$defs"]["CarrierSection"];
    for key in ["host", "rate", "binds", "text", "session"] {
        assert!(carrier["properties"].get(key).is_some(), "{key}");
    }
    assert_eq!(carrier["additionalProperties"], serde_json::Value::Bool(false));
}

#[test]
fn faults_of_meaning_are_all_named_at_once() {
    let text = "\
        [carriers.alpha]\nhost = \"\"\nsystem_id = \"a\"\nrate = \"5/s\"\nbinds = 0\n\
        [carriers.Beta]\nhost = \"h\"\nsystem_id = \"b\"\nrate = \"5/s\"\n\
        [[routes]]\nname = \"x\"\ncarriers = [\"gamma\"]\n\
        [api.clients.shop]\nroutes = [\"nowhere\"]\n";
    let faults = config::read(&Source::from_text("f.toml", text)).unwrap_err();
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    for key in ["carriers.alpha.host", "carriers.alpha.binds", "carriers.Beta"] {
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    assert!(keys.iter().any(|key| key.starts_with("routes[0].carriers")), "{keys:?}");
    assert!(keys.contains(&"api.clients.shop.routes[0]"), "{keys:?}");
    for fault in &faults {
        assert_ne!(fault.place, config::Place::Nowhere, "{fault:?}");
    }
}
