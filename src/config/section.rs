//! A carrier's table: the keys of its connections and of its traffic side by side.
//!
//! Two modules own these keys, each with its own struct that refuses what it does not know; so the
//! table is split before serde sees it and joined again for people.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use config::Map;
use config::Value;
use config::ValueKind;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value as Json;

use crate::config::DATA_DIR;
use crate::config::PLACES;
use crate::config::load::Fault;
use crate::config::load::Path;
use crate::config::load::Step;
use crate::link;
use crate::route::CarrierConfig;

/// One carrier: how it is reached, and how it is sent to. In a file the keys of both stand in one
/// table, `[carriers.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarrierSection {
    /// How it is reached.
    pub link: link::Config,
    /// How it is sent to.
    pub traffic: CarrierConfig,
}

/// The keys that [`link::Config`] owns.
static LINK_KEYS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let schema = schemars::schema_for!(link::Config).to_value();
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
});

/// Splits the carriers' tables, and puts the data folders where `data_dir` says.
pub(super) fn shape(tree: &mut Map<String, Value>) {
    if let Some(ValueKind::Table(carriers)) = tree.get_mut("carriers").map(|v| &mut v.kind) {
        for section in carriers.values_mut() {
            if let ValueKind::Table(keys) = &mut section.kind {
                let (link, traffic): (Map<_, _>, Map<_, _>) =
                    keys.drain().partition(|(key, _)| LINK_KEYS.contains(key));
                keys.insert("link".into(), Value::new(None, ValueKind::Table(link)));
                keys.insert("traffic".into(), Value::new(None, ValueKind::Table(traffic)));
            }
        }
    }
    let data_dir = match tree.get("data_dir").map(|value| &value.kind) {
        None => DATA_DIR.to_owned(),
        Some(ValueKind::String(dir)) => dir.clone(),
        Some(_) => return,
    };
    for (table, key, name) in PLACES {
        let entry = tree
            .entry(table.to_owned())
            .or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
        if let ValueKind::Table(keys) = &mut entry.kind {
            keys.entry(key.to_owned())
                .or_insert_with(|| Value::new(None, format!("{data_dir}/{name}")));
        }
    }
}

/// Leads a path in the shaped tree back to what was written.
pub(super) fn unshape(mut path: Path) -> Path {
    let key = |step: Option<&Step>, names: &[&str]| matches!(step, Some(Step::Key(key)) if names.contains(&key.as_str()));
    if key(path.first(), &["carriers"]) && key(path.get(2), &["link", "traffic"]) {
        path.remove(2);
    }
    path
}

/// The faults with the cure of a password that stands in the configuration itself: every reader of
/// the file, and `/proc` of the process, would have it.
pub(super) fn cured(mut faults: Vec<Fault>) -> Vec<Fault> {
    for fault in &mut faults {
        let path: Vec<&str> = fault.key.split('.').collect();
        if let ["carriers", _, "password"] = path[..] {
            fault.message = "a password does not stand in the configuration: write it into a file \
                that only hikyaku can read, and name that in `password_file`, or name a credential \
                of the service manager in `password_credential`"
                .into();
        }
    }
    faults
}

/// Joins the carriers' tables again.
pub(super) fn flat(mut value: toml::Value) -> toml::Value {
    let carriers = value.get_mut("carriers").and_then(toml::Value::as_table_mut);
    for (_, section) in carriers.into_iter().flatten() {
        let Some(table) = section.as_table_mut() else { continue };
        for part in ["link", "traffic"] {
            if let Some(toml::Value::Table(keys)) = table.remove(part) {
                table.extend(keys);
            }
        }
    }
    value
}

impl JsonSchema for CarrierSection {
    fn schema_name() -> Cow<'static, str> {
        "CarrierSection".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut joined = CarrierConfig::json_schema(generator);
        let link = link::Config::json_schema(generator);
        let more = link.get("properties").and_then(Json::as_object).cloned().unwrap_or_default();
        if let Some(keys) = joined.get_mut("properties").and_then(Json::as_object_mut) {
            keys.extend(more);
        }
        joined.insert(
            "description".to_owned(),
            Json::String("One carrier: how it is reached, and how it is sent to.".to_owned()),
        );
        joined
    }
}
