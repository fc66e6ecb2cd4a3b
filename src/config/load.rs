//! Layers the file and the environment, and finds every fault with its place.
//!
//! serde stops at the first fault. So each fault is noted, the piece of the tree that it is about
//! is taken out, and the rest is read again, until nothing is left to complain about.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use annotate_snippets::AnnotationKind;
use annotate_snippets::Level;
use annotate_snippets::Renderer;
use annotate_snippets::Snippet;
use config::Environment;
use config::File;
use config::FileFormat;
use config::Map;
use config::Value;
use config::ValueKind;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// The most faults that one reading reports.
const MAX_FAULTS: usize = 100;

/// In front of every environment variable that sets a key: `HIKYAKU__API__LISTEN`.
const ENV_PREFIX: &str = "HIKYAKU__";

/// What a configuration is read from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's name as people know it, for messages.
    pub name: String,
    /// The file's text, TOML.
    pub text: String,
    /// The environment; only names that begin with `HIKYAKU__` count.
    pub env: BTreeMap<String, String>,
}

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, with dots: `carriers.docomo.rate`, `routes[0].name`.
    pub key: String,
    /// What is wrong, what was expected, and the cure.
    pub message: String,
    /// Where it was written.
    pub place: Place,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// Octets of the file's text.
        span: Range<usize>,
    },
    /// In an environment variable.
    Environment(String),
    /// Nowhere: it is a default, or missing.
    Nowhere,
}

/// One step from a table to something in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A key of a table.
    Key(String),
    /// An element of an array.
    Index(usize),
}

/// A way from the root to a value.
pub(super) type Path = Vec<Step>;

/// A fault whose place is not looked up yet.
struct RawFault {
    path: Path,
    message: String,
    about_key: bool,
}

impl Source {
    /// Reads the layers into `T`.
    ///
    /// `shape` may move keys about before serde sees them; `unshape` leads a path back to what was
    /// written.
    ///
    /// # Errors
    /// Every fault, in the order of the file.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        shape: fn(&mut Map<String, Value>),
        unshape: fn(Path) -> Path,
    ) -> Result<T, Vec<Fault>> {
        let syntax = self.syntax_faults();
        if !syntax.is_empty() {
            return Err(syntax);
        }
        let mut tree = self.layers().map_err(|message| {
            vec![Fault { key: String::new(), message, place: Place::Nowhere }]
        })?;
        shape(&mut tree);
        collect_faults::<T>(tree).map_err(|raw| {
            let mut faults: Vec<Fault> = raw
                .into_iter()
                .map(|fault| {
                    let path = unshape(fault.path);
                    let place = self.place(&path, fault.about_key);
                    Fault { key: spell(&path), message: fault.message, place }
                })
                .collect();
            sort(&mut faults);
            faults
        })
    }

    /// Gives faults that were found in values their places.
    pub(super) fn locate(&self, found: Vec<(String, String)>) -> Vec<Fault> {
        let mut faults: Vec<Fault> = found
            .into_iter()
            .map(|(key, message)| Fault { place: self.place(&parse(&key), false), key, message })
            .collect();
        sort(&mut faults);
        faults
    }

    fn layers(&self) -> Result<Map<String, Value>, String> {
        config::Config::builder()
            .add_source(File::from_str(&self.text, FileFormat::Toml))
            .add_source(
                Environment::with_prefix("HIKYAKU")
                    .prefix_separator("__")
                    .separator("__")
                    .source(Some(self.env.clone().into_iter().collect())),
            )
            .build()
            .and_then(config::Config::try_deserialize::<Map<String, Value>>)
            .map_err(|error| error.to_string())
    }

    fn syntax_faults(&self) -> Vec<Fault> {
        let (_, errors) = DeTable::parse_recoverable(&self.text);
        errors
            .into_iter()
            .map(|error| Fault {
                key: String::new(),
                message: error.message().to_owned(),
                place: error.span().map_or(Place::Nowhere, |span| self.in_file(span)),
            })
            .collect()
    }

    /// Where the value at `path` was written; the nearest table around it when it is missing.
    fn place(&self, path: &[Step], about_key: bool) -> Place {
        if let Some(name) = self.variable(path) {
            return Place::Environment(name);
        }
        let Ok(root) = DeTable::parse(&self.text) else { return Place::Nowhere };
        find(root.get_ref(), path, about_key).map_or(Place::Nowhere, |span| self.in_file(span))
    }

    fn variable(&self, path: &[Step]) -> Option<String> {
        let keys: Vec<&str> = path
            .iter()
            .map(|step| match step {
                Step::Key(key) => Some(key.as_str()),
                Step::Index(_) => None,
            })
            .collect::<Option<_>>()?;
        let wanted = format!("{ENV_PREFIX}{}", keys.join("__")).to_lowercase();
        self.env.keys().find(|name| name.to_lowercase() == wanted).cloned()
    }

    fn in_file(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place::File { line, column, span }
    }

    /// Draws faults for a terminal, each with the line that it is about.
    pub fn draw(&self, faults: &[Fault]) -> String {
        let renderer = Renderer::plain();
        let text = blotted(&self.text);
        let mut out = String::new();
        for fault in faults {
            let title = Level::ERROR.primary_title(fault.message.as_str());
            let drawn = match &fault.place {
                Place::File { span, .. } => {
                    let mark = AnnotationKind::Primary.span(span.clone()).label(fault.key.as_str());
                    let snippet = Snippet::source(text.as_str()).path(&self.name).annotation(mark);
                    renderer.render(&[title.element(snippet)])
                }
                Place::Environment(name) => {
                    format!("error: {}\n  --> environment variable {name}", fault.message)
                }
                Place::Nowhere if fault.key.is_empty() => {
                    format!("error: {}\n  --> {}", fault.message, self.name)
                }
                Place::Nowhere => {
                    format!("error: {}: {}\n  --> {}", fault.key, fault.message, self.name)
                }
            };
            out.push_str(&drawn);
            out.push_str("\n\n");
        }
        out
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { line, column, .. } => write!(f, "{line}:{column}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Nowhere => f.write_str("not written"),
        }
    }
}

/// The text with what stands behind the key of a secret blotted out, octet for octet.
fn blotted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (open, secret) = line.split_at(secret_begins(line).unwrap_or(line.len()));
        out.push_str(open);
        for c in secret.chars() {
            let octets = if c.is_whitespace() { 0 } else { c.len_utf8() };
            (0..octets).for_each(|_| out.push('*'));
            out.extend((octets == 0).then_some(c));
        }
    }
    out
}

/// Where the value of the first secret in a line begins.
fn secret_begins(line: &str) -> Option<usize> {
    let keys = ["password", "secret"];
    let after = keys.iter().flat_map(|key| line.match_indices(key).map(|(at, key)| at + key.len()));
    let value = |after: usize| {
        let rest = line.get(after..)?;
        let equals = rest.trim_start_matches(['"', '\'', ' ', '\t']).strip_prefix('=')?;
        Some(line.len() - equals.len())
    };
    after.filter_map(value).min()
}

fn sort(faults: &mut [Fault]) {
    faults.sort_by_key(|fault| match &fault.place {
        Place::File { span, .. } => (0, span.start),
        Place::Environment(_) => (1, 0),
        Place::Nowhere => (2, 0),
    });
}

/// Reads `T` again and again, each time without what was at fault the time before.
fn collect_faults<T: DeserializeOwned>(mut tree: Map<String, Value>) -> Result<T, Vec<RawFault>> {
    let mut faults = Vec::new();
    let mut removed = Removed::default();
    loop {
        let value = Value::new(None, ValueKind::Table(tree.clone()));
        let error = match serde_path_to_error::deserialize::<_, T>(value) {
            Ok(value) if faults.is_empty() => return Ok(value),
            Ok(_) => return Err(faults),
            Err(error) => error,
        };
        let path = steps(error.path());
        let message = plain(&error.into_inner().to_string());
        let missing = missing_field(&message);
        let original = removed.original(&path);
        let expected = missing.as_ref().is_some_and(|field| removed.has(&original, field));
        if !expected {
            let about_key = message.starts_with("unknown field") || missing.is_some();
            let message = missing.map_or(message, |field| format!("missing field `{field}`"));
            faults.push(RawFault { path: original.clone(), message, about_key });
        }
        if path.is_empty() || faults.len() >= MAX_FAULTS || !take_out(&mut tree, &path) {
            return Err(faults);
        }
        removed.note(original);
    }
}

/// The field's name, when `message` says that one is missing. The `config` crate says
/// `missing configuration field "list[0]size"`.
fn missing_field(message: &str) -> Option<String> {
    let name = message
        .strip_prefix("missing field `")
        .or_else(|| message.strip_prefix("missing configuration field \""))?;
    let name = name.split(['`', '"']).next()?;
    name.rsplit(['.', ']']).next().map(str::to_owned)
}

/// What was taken out so far, in the places of the untouched tree.
#[derive(Default)]
struct Removed {
    paths: BTreeSet<Path>,
}

impl Removed {
    fn note(&mut self, path: Path) {
        self.paths.insert(path);
    }

    fn has(&self, table: &[Step], field: &str) -> bool {
        let mut path = table.to_vec();
        path.push(Step::Key(field.to_owned()));
        self.paths.contains(&path)
    }

    /// Counts the elements back in that were taken out of arrays before.
    fn original(&self, path: &[Step]) -> Path {
        let mut original: Path = Vec::new();
        for step in path {
            let Step::Index(index) = step else {
                original.push(step.clone());
                continue;
            };
            let mut index = *index;
            for gone in &self.paths {
                if let Some((Step::Index(at), array)) = gone.split_last()
                    && array == original.as_slice()
                    && *at <= index
                {
                    index += 1;
                }
            }
            original.push(Step::Index(index));
        }
        original
    }
}

fn take_out(tree: &mut Map<String, Value>, path: &[Step]) -> bool {
    let Some((Step::Key(first), rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        return tree.remove(first).is_some();
    }
    tree.get_mut(first).is_some_and(|value| take_out_of(value, rest))
}

fn take_out_of(value: &mut Value, path: &[Step]) -> bool {
    match (&mut value.kind, path) {
        (ValueKind::Table(table), _) => take_out(table, path),
        (ValueKind::Array(array), [Step::Index(index)]) => {
            let there = *index < array.len();
            if there {
                array.remove(*index);
            }
            there
        }
        (ValueKind::Array(array), [Step::Index(index), rest @ ..]) => {
            array.get_mut(*index).is_some_and(|value| take_out_of(value, rest))
        }
        _ => false,
    }
}

fn steps(path: &serde_path_to_error::Path) -> Path {
    path.iter()
        .filter_map(|segment| match segment {
            serde_path_to_error::Segment::Seq { index } => Some(Step::Index(*index)),
            serde_path_to_error::Segment::Map { key } => Some(Step::Key(key.clone())),
            _ => None,
        })
        .collect()
}

/// `carriers.docomo.binds[2]`.
fn spell(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

fn parse(key: &str) -> Path {
    let mut path = Vec::new();
    for part in key.split('.').filter(|part| !part.is_empty()) {
        let mut pieces = part.split('[');
        if let Some(name) = pieces.next().filter(|name| !name.is_empty()) {
            path.push(Step::Key(name.to_owned()));
        }
        for piece in pieces {
            if let Ok(index) = piece.trim_end_matches(']').parse() {
                path.push(Step::Index(index));
            }
        }
    }
    path
}

/// The message without what the `config` crate adds about its own sources.
fn plain(message: &str) -> String {
    message.split(" for key `").next().unwrap_or(message).to_owned()
}

fn find(table: &DeTable<'_>, path: &[Step], about_key: bool) -> Option<Range<usize>> {
    let (Step::Key(first), rest) = path.split_first()? else { return None };
    let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == first)?;
    if rest.is_empty() {
        return Some(if about_key { key.span() } else { value.span() });
    }
    find_in(value, rest, about_key).or_else(|| Some(key.span()))
}

fn find_in(value: &Spanned<DeValue<'_>>, path: &[Step], about_key: bool) -> Option<Range<usize>> {
    match (value.get_ref(), path) {
        (DeValue::Table(table), _) => find(table, path, about_key),
        (DeValue::Array(array), [Step::Index(index), rest @ ..]) => {
            let element = array.get(*index)?;
            if rest.is_empty() {
                return Some(element.span());
            }
            find_in(element, rest, about_key).or_else(|| Some(element.span()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by serde only")]
    struct Root {
        port: u16,
        name: String,
        list: Vec<Item>,
        #[serde(default)]
        inner: BTreeMap<String, Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by serde only")]
    struct Item {
        size: u8,
        #[serde(default)]
        word: String,
    }

    fn read(text: &str, env: &[(&str, &str)]) -> Result<Root, Vec<Fault>> {
        source(text, env).read(|_| {}, |path| path)
    }

    fn source(text: &str, env: &[(&str, &str)]) -> Source {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Source { name: "gw.toml".into(), text: text.into(), env }
    }

    fn told(faults: &[Fault]) -> Vec<String> {
        faults.iter().map(|f| format!("{} {}: {}", f.place, f.key, f.message)).collect()
    }

    #[test]
    fn every_fault_is_found_at_once_with_its_place() {
        let text = "port = \"http\"\nname = \"x\"\nrat = 1\n[[list]]\nsize = 300\n[[list]]\n\
                    word = \"a\"\n[[list]]\nsize = 1\nwrod = \"b\"\n[inner.one]\nsize = -1\n";
        let faults = told(&read(text, &[]).unwrap_err());
        assert_eq!(faults.len(), 6, "{faults:#?}");
        for (fault, start) in faults.iter().zip([
            "1:8 port: invalid type",
            "3:1 rat: unknown field `rat`",
            "5:8 list[0].size: invalid type",
            "6:1 list[1]: missing field `size`",
            "10:1 list[2].wrod: unknown field `wrod`",
            "12:8 inner.one.size: invalid type",
        ]) {
            assert!(fault.starts_with(start), "{fault:?} should start with {start:?}");
        }
    }

    #[test]
    fn an_environment_variable_overrides_the_file_and_is_blamed_for_its_faults() {
        let text = "port = 1\nname = \"x\"\nlist = []\n";
        assert_eq!(read(text, &[("HIKYAKU__PORT", "2775")]).unwrap().port, 2775);
        let faults = read(text, &[("HIKYAKU__PORT", "http")]).unwrap_err();
        assert_eq!(faults[0].place, Place::Environment("HIKYAKU__PORT".into()));
    }

    #[test]
    fn a_secret_is_blotted_out_of_a_drawn_line() {
        for line in [
            "password = \"hunter2\"",
            "a = { rate = 1, \"secret\"=\"hünter2\" } = ",
            "password=hunter2",
        ] {
            let source = source(line, &[]);
            let faults = source.read::<Root>(|_| {}, |path| path).unwrap_err();
            let drawn = source.draw(&faults);
            assert!(!drawn.contains("nter2") && drawn.contains("***"), "{drawn}");
        }
        let named = "password_file = 3\n";
        assert_eq!(blotted(named), named);
    }

    #[test]
    fn a_broken_file_is_drawn_with_the_line() {
        let source = source("port = = 1\n", &[]);
        let faults = source.read::<Root>(|_| {}, |path| path).unwrap_err();
        let drawn = source.draw(&faults);
        assert!(drawn.contains("gw.toml:1:"), "{drawn}");
    }
}
