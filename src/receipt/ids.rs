//! Which submitted segment a receipt is about, in whichever form its carrier repeats the id.
//!
//! Carriers repeat the id of a `submit_sm_resp` in another case, with other zeros in front, or as
//! the same number in another base. [`IdIndex`] finds it without a scan: each pending id is kept
//! under a hash of its plain form (lower case, no zeros in front), and each form that a receipt's
//! id may have had in the answer is looked up. A number's plain form is the same whatever it looks
//! like, so one entry an id serves every mode, and the mode may change while ids wait.

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::BuildHasherDefault;
use std::hash::DefaultHasher;
use std::hash::Hasher;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// How a carrier's ids in receipts differ from those in its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdMode {
    /// Not at all.
    Exact,
    /// In case, and in the zeros in front.
    CiZeros,
    /// The answer is hexadecimal, the receipt decimal.
    HexDec,
    /// The answer is decimal, the receipt hexadecimal.
    DecHex,
    /// Both are hexadecimal, in any case, with zeros or `0x` in front.
    HexHex,
    /// Both are decimal, with zeros in front.
    DecDec,
    /// The first of `exact`, `ci_zeros`, `hex_dec` and `dec_hex` that fits any pending id.
    #[default]
    Auto,
}

impl IdMode {
    /// The modes to try, in their order.
    const fn rules(self) -> &'static [Self] {
        match self {
            Self::Exact => &[Self::Exact],
            Self::CiZeros => &[Self::CiZeros],
            Self::HexDec => &[Self::HexDec],
            Self::DecHex => &[Self::DecHex],
            Self::HexHex => &[Self::HexHex],
            Self::DecDec => &[Self::DecDec],
            Self::Auto => &[Self::Exact, Self::CiZeros, Self::HexDec, Self::DecHex],
        }
    }

    /// The keys under which an id that fits the receipt's `id` by this one rule is kept.
    ///
    /// A number of the receipt's base fits by its value, anything else by its plain form: where
    /// either side is no number, the rule is `ci_zeros`.
    fn receipt_keys(self, id: &str) -> Keys {
        let as_text = Key::Plain.of(&plain(id));
        match self {
            Self::Exact | Self::CiZeros | Self::DecDec | Self::Auto => Keys::one(as_text),
            Self::HexDec => match decimal(id) {
                Some(digits) => Keys::number(&convert(digits, 10, 16)),
                None => Keys::one(as_text),
            },
            Self::DecHex => match hexadecimal(id) {
                Some(digits) => {
                    // Only what is no decimal number may fit by its plain form.
                    let key = Key::Plain.of(&convert(digits, 16, 10));
                    let other = decimal(id).is_none().then_some(as_text);
                    Keys([Some(key), other, None])
                }
                None => Keys::one(as_text),
            },
            Self::HexHex => match hexadecimal(id) {
                Some(digits) => Keys::number(&plain(digits)).and(as_text),
                None => Keys::one(as_text),
            },
        }
    }
}

/// The keys of one id, without doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keys([Option<u64>; 3]);

impl Keys {
    const fn one(key: u64) -> Self {
        Self([Some(key), None, None])
    }

    /// The keys of a hexadecimal number, written with `0x` or without.
    fn number(digits: &str) -> Self {
        Self([Some(Key::Plain.of(digits)), Some(Key::Prefixed.of(digits)), None])
    }

    fn and(self, key: u64) -> Self {
        let Self([first, second, _]) = self;
        Self([first, second, Some(key).filter(|_| first != Some(key))])
    }

    fn iter(self) -> impl Iterator<Item = u64> {
        self.0.into_iter().flatten()
    }
}

/// What a key is the hash of.
#[derive(Clone, Copy)]
enum Key {
    /// The plain form of an id.
    Plain,
    /// The plain form of the digits behind `0x`.
    Prefixed,
    /// The id as it is.
    Exact,
}

impl Key {
    fn of(self, text: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(self as u8);
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

/// An id of an answer, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    keys: Keys,
    /// Tells ids apart that have the same plain form.
    exact: u32,
}

impl Pending {
    /// `None` for an id that is empty: it fits nothing.
    fn of(id: &str) -> Option<Self> {
        let id = trim(id);
        let as_text = Key::Plain.of(&plain(id));
        let prefixed = hexadecimal(id).filter(|digits| digits.len() < id.len());
        let prefixed = prefixed.map(|digits| Key::Prefixed.of(&plain(digits)));
        let keys = Keys([Some(as_text), prefixed, None]);
        (!id.is_empty()).then(|| Self { keys, exact: exact(id) })
    }
}

fn exact(id: &str) -> u32 {
    let [a, b, c, d, ..] = Key::Exact.of(id).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// An id without the blanks and NULs around it.
fn trim(id: &str) -> &str {
    id.trim_matches(|character: char| character.is_whitespace() || character == '\0')
}

/// Lower case, without zeros in front.
fn plain(id: &str) -> String {
    id.trim_start_matches('0').to_ascii_lowercase()
}

/// The most digits of a number; a longer id is text.
const NUMBER_DIGITS: usize = 256;

fn decimal(id: &str) -> Option<&str> {
    let digits = id.bytes().all(|octet| octet.is_ascii_digit());
    (digits && !id.is_empty() && id.len() <= NUMBER_DIGITS).then_some(id)
}

/// The digits of a hexadecimal number, without its `0x`.
fn hexadecimal(id: &str) -> Option<&str> {
    let digits = id.strip_prefix("0x").or_else(|| id.strip_prefix("0X")).unwrap_or(id);
    let all = digits.bytes().all(|octet| octet.is_ascii_hexdigit());
    (all && !digits.is_empty() && digits.len() <= NUMBER_DIGITS).then_some(digits)
}

/// The number that `digits` of base `from` write, in plain digits of base `to`; of any size.
fn convert(digits: &str, from: u32, to: u32) -> String {
    if let Ok(number) = u128::from_str_radix(digits, from) {
        return match (number, to) {
            (0, _) => String::new(),
            (number, 16) => format!("{number:x}"),
            (number, _) => number.to_string(),
        };
    }
    // The digits of base `to`, the lowest first.
    let mut converted: Vec<u32> = Vec::with_capacity(2 * digits.len());
    for digit in digits.chars().filter_map(|digit| digit.to_digit(from)) {
        let mut carry = digit;
        for place in &mut converted {
            carry += *place * from;
            *place = carry % to;
            carry /= to;
        }
        while carry > 0 {
            converted.push(carry % to);
            carry /= to;
        }
    }
    converted.iter().rev().filter_map(|&digit| char::from_digit(digit, to)).collect()
}

/// The ids of one receipt, in the order in which they are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiptIds<'a> {
    /// From the TLV, or from the text when there is no TLV.
    pub first: Option<&'a str>,
    /// From the text, where the TLV has another one.
    pub second: Option<&'a str>,
}

impl<'a> ReceiptIds<'a> {
    fn iter(self) -> impl Iterator<Item = &'a str> {
        self.first.into_iter().chain(self.second).map(trim).filter(|id| !id.is_empty())
    }
}

/// What a receipt's ids fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match<V> {
    /// Nothing.
    None,
    /// One pending id, by this rule: never `Auto`, which is several.
    One(V, IdMode),
    /// Several: only what else the receipt says can tell which.
    Ambiguous(Vec<V>),
}

/// The ids of one carrier's answers whose receipts are still to come, each with a value.
///
/// An id takes a hash, a check and the value: some 40 octets for a value of eight. Two ids with
/// the same 96 bits of hash would be taken for one; among ten million that is not to be expected
/// in the life of a gateway. `V` is small: a message and one of its segments.
#[derive(Clone, Debug)]
pub struct IdIndex<V> {
    /// The first entry of each key.
    first: HashMap<u64, Entry<V>, Ready>,
    /// The others of keys that several ids have.
    others: HashMap<u64, Vec<Entry<V>>, Ready>,
}

/// The keys are hashes already.
type Ready = BuildHasherDefault<ReadyHasher>;

#[derive(Clone, Copy, Debug)]
struct Entry<V> {
    exact: u32,
    value: V,
}

impl<V> Default for IdIndex<V> {
    fn default() -> Self {
        Self { first: HashMap::default(), others: HashMap::default() }
    }
}

impl<V: Copy + PartialEq> IdIndex<V> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the id of an answer. An empty one is not kept: no receipt fits it.
    pub fn insert(&mut self, id: &str, value: V) {
        let Some(pending) = Pending::of(id) else { return };
        let entry = Entry { exact: pending.exact, value };
        for key in pending.keys.iter() {
            match self.first.entry(key) {
                hash_map::Entry::Vacant(place) => {
                    place.insert(entry);
                }
                hash_map::Entry::Occupied(_) => self.others.entry(key).or_default().push(entry),
            }
        }
    }

    /// Removes what [`IdIndex::insert`] added. Returns whether it was there.
    pub fn remove(&mut self, id: &str, value: V) -> bool {
        let Some(pending) = Pending::of(id) else { return false };
        let is_it = |entry: &Entry<V>| entry.exact == pending.exact && entry.value == value;
        let mut removed = false;
        for key in pending.keys.iter() {
            removed |= self.remove_one(key, is_it);
        }
        removed
    }

    fn remove_one(&mut self, key: u64, is_it: impl Fn(&Entry<V>) -> bool) -> bool {
        let others = self.others.get_mut(&key);
        let removed = if self.first.get(&key).is_some_and(&is_it) {
            match others.and_then(Vec::pop) {
                Some(entry) => self.first.insert(key, entry).is_some(),
                None => self.first.remove(&key).is_some(),
            }
        } else {
            let at = others.as_ref().and_then(|others| others.iter().position(is_it));
            at.zip(others).map(|(at, others)| others.swap_remove(at)).is_some()
        };
        if self.others.get(&key).is_some_and(Vec::is_empty) {
            self.others.remove(&key);
        }
        removed
    }

    /// What the ids of a receipt fit; the second only when the first fits nothing.
    pub fn lookup(&self, mode: IdMode, ids: ReceiptIds<'_>) -> Match<V> {
        for id in ids.iter() {
            for &rule in mode.rules() {
                let found = self.find(rule, id);
                match found[..] {
                    [] => {}
                    [value] => return Match::One(value, rule),
                    _ => return Match::Ambiguous(found),
                }
            }
        }
        Match::None
    }

    /// All that fit one id by one rule.
    fn find(&self, rule: IdMode, id: &str) -> Vec<V> {
        let exact = (rule == IdMode::Exact).then(|| exact(id));
        let mut found: Vec<Entry<V>> = Vec::new();
        for key in rule.receipt_keys(id).iter() {
            let others = self.others.get(&key).into_iter().flatten();
            let entries = self.first.get(&key).into_iter().chain(others);
            for entry in entries.filter(|entry| exact.is_none_or(|exact| entry.exact == exact)) {
                let known = |it: &Entry<V>| it.exact == entry.exact && it.value == entry.value;
                if !found.iter().any(known) {
                    found.push(*entry);
                }
            }
        }
        found.into_iter().map(|entry| entry.value).collect()
    }

    /// How many keys are kept: about one an id.
    pub fn len(&self) -> usize {
        self.first.len() + self.others.values().map(Vec::len).sum::<usize>()
    }

    /// Whether no id waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

/// Passes on a key that is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct ReadyHasher(u64);

impl Hasher for ReadyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(octet);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// The receipts of one carrier that came before the answers they are about, each with a value.
#[derive(Clone, Debug)]
pub struct EarlyIndex<V> {
    entries: HashMap<u64, Vec<V>, Ready>,
}

impl<V> Default for EarlyIndex<V> {
    fn default() -> Self {
        Self { entries: HashMap::default() }
    }
}

impl<V: Copy + PartialEq> EarlyIndex<V> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the ids of a receipt that fits no answer yet.
    pub fn insert(&mut self, mode: IdMode, ids: ReceiptIds<'_>, value: V) {
        for key in early_keys(mode, ids) {
            self.entries.entry(key).or_default().push(value);
        }
    }

    /// Removes what [`EarlyIndex::insert`] added with the same mode and ids.
    pub fn remove(&mut self, mode: IdMode, ids: ReceiptIds<'_>, value: V) {
        for key in early_keys(mode, ids) {
            if let Some(values) = self.entries.get_mut(&key) {
                values.retain(|it| *it != value);
                if values.is_empty() {
                    self.entries.remove(&key);
                }
            }
        }
    }

    /// The receipts that may be about the answer with this id, in the order they came.
    ///
    /// All that fit are there, maybe with others: insert the id into the [`IdIndex`] and look each
    /// up again. They stay until they are removed.
    pub fn candidates(&self, id: &str) -> Vec<V> {
        let keys = Pending::of(id).into_iter().flat_map(|pending| pending.keys.iter());
        let mut found: Vec<V> = Vec::new();
        for value in keys.filter_map(|key| self.entries.get(&key)).flatten() {
            if !found.contains(value) {
                found.push(*value);
            }
        }
        found
    }

    /// Whether no receipt waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The keys that an answer to any of the ids has, each once.
fn early_keys(mode: IdMode, ids: ReceiptIds<'_>) -> Vec<u64> {
    let rules = mode.rules().iter();
    let keys = rules.flat_map(|rule| ids.iter().flat_map(|id| rule.receipt_keys(id).iter()));
    let mut keys: Vec<u64> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODES: [IdMode; 7] = [
        IdMode::Exact,
        IdMode::CiZeros,
        IdMode::HexDec,
        IdMode::DecHex,
        IdMode::HexHex,
        IdMode::DecDec,
        IdMode::Auto,
    ];

    /// The rule as it is written down, for one pair of ids.
    fn fits(rule: IdMode, pending: &str, receipt: &str) -> bool {
        let value = |id, base| match base {
            10 => decimal(id).map(plain),
            _ => hexadecimal(id).map(|digits| convert(digits, 16, 10)),
        };
        let bases = match rule {
            IdMode::Exact => return pending == receipt,
            IdMode::HexDec => Some((16, 10)),
            IdMode::DecHex => Some((10, 16)),
            IdMode::HexHex => Some((16, 16)),
            IdMode::DecDec => Some((10, 10)),
            IdMode::CiZeros | IdMode::Auto => None,
        };
        let values = bases.and_then(|(a, b)| value(pending, a).zip(value(receipt, b)));
        values.map_or_else(|| plain(pending) == plain(receipt), |(a, b)| a == b)
    }

    fn by_scan(mode: IdMode, pending: &[String], ids: ReceiptIds<'_>) -> Match<usize> {
        for id in ids.iter() {
            for &rule in mode.rules() {
                let fits = |at: &usize| {
                    !trim(&pending[*at]).is_empty() && fits(rule, trim(&pending[*at]), id)
                };
                let found: Vec<usize> = (0..pending.len()).filter(fits).collect();
                match found[..] {
                    [] => {}
                    [at] => return Match::One(at, rule),
                    _ => return Match::Ambiguous(found),
                }
            }
        }
        Match::None
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_lookup_finds_what_a_scan_finds(
            pending in prop::collection::vec("(0[xX])?0?[0-3aAx]{0,3}", 0..8),
            first in prop::option::of("(0[xX])?0?[0-9aAx]{0,3}"),
            second in prop::option::of("(0[xX])?0?[0-3aAx]{0,3}"),
        ) {
            let mut index = IdIndex::new();
            for (at, id) in pending.iter().enumerate() {
                index.insert(id, at);
            }
            let ids = ReceiptIds { first: first.as_deref(), second: second.as_deref() };
            for mode in MODES {
                let mut found = index.lookup(mode, ids);
                if let Match::Ambiguous(values) = &mut found {
                    values.sort_unstable();
                }
                prop_assert_eq!(found, by_scan(mode, &pending, ids), "{:?}", mode);
            }
        }

        #[test]
        fn an_early_receipt_is_a_candidate_for_each_answer_it_fits(
            pending in "(0[xX])?0?[0-3aAx]{0,3}",
            first in prop::option::of("(0[xX])?0?[0-9aAx]{0,3}"),
            second in prop::option::of("(0[xX])?0?[0-3aAx]{0,3}"),
        ) {
            let ids = ReceiptIds { first: first.as_deref(), second: second.as_deref() };
            for mode in MODES {
                let mut early = EarlyIndex::new();
                early.insert(mode, ids, 7);
                let expected = by_scan(mode, std::slice::from_ref(&pending), ids);
                if expected != Match::None {
                    prop_assert_eq!(early.candidates(&pending), [7], "{:?}", mode);
                }
                early.remove(mode, ids, 7);
                prop_assert!(early.is_empty());
            }
        }

        #[test]
        fn numbers_of_any_size_convert_there_and_back(digits in "[1-9a-f][0-9a-f]{0,80}") {
            let decimal = convert(&digits, 16, 10);
            prop_assert_eq!(convert(&decimal, 10, 16), digits);
        }

        #[test]
        fn what_is_removed_is_gone_and_the_rest_stays(
            ids in prop::collection::vec("(0x)?0?[12a]{1,2}", 1..12),
            gone in prop::collection::vec(any::<bool>(), 12),
        ) {
            let (mut index, mut left) = (IdIndex::new(), IdIndex::new());
            for (at, id) in ids.iter().enumerate() {
                index.insert(id, at);
            }
            for (at, id) in ids.iter().enumerate() {
                if gone[at] {
                    prop_assert!(index.remove(id, at));
                    prop_assert!(!index.remove(id, at));
                } else {
                    left.insert(id, at);
                }
            }
            prop_assert_eq!(index.len(), left.len());
            for id in &ids {
                let ids = ReceiptIds { first: Some(id), second: None };
                let sorted = |index: &IdIndex<usize>| match index.lookup(IdMode::CiZeros, ids) {
                    Match::Ambiguous(mut values) => {
                        values.sort_unstable();
                        Match::Ambiguous(values)
                    }
                    other => other,
                };
                prop_assert_eq!(sorted(&index), sorted(&left));
            }
        }
    }

    #[test]
    fn the_rule_that_fits_is_told() {
        let mut index = IdIndex::new();
        index.insert("38601fa", 1);
        let ids = ReceiptIds { first: Some("0059113978"), second: None };
        assert_eq!(index.lookup(IdMode::Auto, ids), Match::One(1, IdMode::HexDec));
    }

    #[test]
    fn an_endless_id_costs_no_arithmetic() {
        let long = "9".repeat(60_000);
        let mut index = IdIndex::new();
        index.insert(&long, 1);
        let ids = ReceiptIds { first: Some(&long), second: None };
        assert_eq!(index.lookup(IdMode::HexDec, ids), Match::One(1, IdMode::HexDec));
    }
}
