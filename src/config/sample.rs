//! The commented sample, made from the schema and the defaults, so that neither can forget a key.

use serde_json::Value as Json;
use toml::Value;

use crate::api::admin::Operator;
use crate::api::config::Client;
use crate::config::Config;
use crate::config::Source;
use crate::config::read;
use crate::config::schema;
use crate::config::section;

/// What a configuration needs at least: one carrier and one route.
const EXAMPLE: &str = r#"
[carriers.example]
host = "smsc.example.com"
system_id = "acme"
password_credential = "example"
rate = "50/s"

[[routes]]
name = "default"
carriers = ["example"]
"#;

const HEAD: &str = "\
# A hikyaku configuration with every key. What is commented out stands at its default.
#
# Any key can be set from the environment too: HIKYAKU__API__LISTEN sets api.listen.
# `hikyaku check FILE` names every fault of a file at once; `hikyaku schema` is for editors.
";

/// The sample's text.
pub fn sample() -> String {
    let Ok(config) = read(&Source::from_text("sample", EXAMPLE)) else { return String::new() };
    let shown = |config: &Config| Value::try_from(config).map(section::flat).ok();
    let (Some(value), Some(default)) = (shown(&config), shown(&Config::default())) else {
        return String::new();
    };
    let schema = schema();
    let mut sample = Sample { out: HEAD.to_owned(), schema: &schema };
    sample.table("", &schema, &value, Some(&default));
    sample.out
}

struct Sample<'a> {
    out: String,
    schema: &'a Json,
}

impl<'a> Sample<'a> {
    /// Writes the keys of a table, then the tables in it.
    fn table(&mut self, path: &str, node: &'a Json, value: &Value, default: Option<&Value>) {
        let properties = node.get("properties").and_then(Json::as_object);
        let (tables, keys): (Vec<_>, Vec<_>) = properties
            .into_iter()
            .flatten()
            .map(|(key, property)| (key, property, self.resolve(property)))
            .partition(|(_, _, node)| holds_tables(node, self.schema));
        for (key, property, node) in keys {
            self.comment(doc(property).or_else(|| doc(node)));
            let default = default.and_then(|table| table.get(key));
            match value.get(key) {
                Some(value) if Some(value) == default => self.line(&format!("#{key} = {value}")),
                Some(value) => self.line(&format!("{key} = {value}")),
                None => self.line(&format!("#{key} is not set")),
            }
        }
        for (key, property, node) in tables {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let default = default.and_then(|table| table.get(key));
            let doc = doc(property).or_else(|| doc(node));
            self.below(&path, node, doc, value.get(key), default);
        }
    }

    /// Writes what stands under a key that holds a table, a map of tables or a list of tables.
    fn below(
        &mut self,
        path: &str,
        node: &'a Json,
        doc: Option<&str>,
        value: Option<&Value>,
        default: Option<&Value>,
    ) {
        if let Some(item) = node.get("additionalProperties").filter(|item| item.is_object()) {
            let item = self.resolve(item);
            let default = item_default(path);
            let entries = value.and_then(Value::as_table).filter(|entries| !entries.is_empty());
            if entries.is_none() {
                let nothing = Value::Table(toml::Table::new());
                self.header(doc, &format!("#[{path}.example]"));
                let value = default.as_ref().unwrap_or(&nothing);
                self.table(&format!("{path}.example"), item, value, default.as_ref());
            }
            for (name, value) in entries.into_iter().flatten() {
                self.header(doc, &format!("[{path}.{name}]"));
                self.table(&format!("{path}.{name}"), item, value, default.as_ref());
            }
        } else if let Some(item) = node.get("items") {
            let item = self.resolve(item);
            for value in value.and_then(Value::as_array).into_iter().flatten() {
                self.header(doc, &format!("[[{path}]]"));
                self.table(path, item, value, Some(&Value::Table(toml::Table::new())));
            }
        } else if let Some(value) = value {
            self.header(doc, &format!("[{path}]"));
            self.table(path, node, value, default);
        } else {
            self.header(doc, &format!("#[{path}]"));
            let nothing = Value::Table(toml::Table::new());
            self.table(path, node, &nothing, None);
        }
    }

    /// The schema that a property really has: behind its reference, and without `null`.
    fn resolve(&self, node: &'a Json) -> &'a Json {
        if let Some(name) = node.get("$ref").and_then(Json::as_str) {
            let target = self.schema.pointer(name.trim_start_matches('#'));
            return target.map_or(node, |target| self.resolve(target));
        }
        let options = node.get("anyOf").and_then(Json::as_array);
        let real = options
            .into_iter()
            .flatten()
            .find(|option| option.get("type").and_then(Json::as_str) != Some("null"));
        real.map_or(node, |real| self.resolve(real))
    }

    fn header(&mut self, doc: Option<&str>, header: &str) {
        self.out.push('\n');
        self.comment(doc);
        self.line(header);
    }

    fn comment(&mut self, doc: Option<&str>) {
        let Some(doc) = doc else { return };
        // Links to items of the code mean nothing in a file.
        let text = doc.split("\n\n").next().unwrap_or(doc).replace('\n', " ").replace('`', "");
        let mut line = String::from("#");
        for word in text.split_whitespace() {
            if line.chars().count() + word.chars().count() >= 98 {
                self.line(&line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }
}

fn doc(node: &Json) -> Option<&str> {
    node.get("description").and_then(Json::as_str)
}

/// Whether the value is written as a table of its own, or several.
fn holds_tables(node: &Json, schema: &Json) -> bool {
    let is_table = |node: &Json| {
        let target = node
            .get("$ref")
            .and_then(Json::as_str)
            .and_then(|name| schema.pointer(name.trim_start_matches('#')));
        target.unwrap_or(node).get("properties").is_some()
    };
    is_table(node)
        || node.get("additionalProperties").is_some_and(is_table)
        || node.get("items").is_some_and(is_table)
}

/// What an entry of a map is when nothing is said of it.
fn item_default(path: &str) -> Option<Value> {
    match path {
        "api.clients" => Value::try_from(Client::default()).ok(),
        "admin.operators" => Value::try_from(Operator::default()).ok(),
        "carriers" => {
            let mut link = Value::try_from(crate::link::Config::default()).ok()?;
            let traffic: crate::route::CarrierConfig = toml::from_str("rate = \"1/s\"").ok()?;
            let traffic = Value::try_from(traffic).ok()?;
            link.as_table_mut()?.extend(traffic.as_table()?.clone());
            Some(link)
        }
        _ => None,
    }
}
