//! The text of a receipt: `id:… sub:… dlvrd:… submit date:… done date:… stat:… err:… text:…`, in
//! any order and case, with anything between (SMPP 3.4 appendix B).

use std::borrow::Cow;

use crate::pdu::DataCoding;
use crate::text;
use crate::text::Profile;
use crate::text::Udh;

/// The values found, as octets; `None` for a field that is missing or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) id: Option<&'a [u8]>,
    pub(super) sub: Option<&'a [u8]>,
    pub(super) dlvrd: Option<&'a [u8]>,
    pub(super) submit_date: Option<&'a [u8]>,
    pub(super) done_date: Option<&'a [u8]>,
    pub(super) stat: Option<&'a [u8]>,
    pub(super) err: Option<&'a [u8]>,
    /// All that follows `text:`, maybe nothing.
    pub(super) text: Option<&'a [u8]>,
    /// What stands before `text:`; nothing when no field was found, since it may be anything.
    pub(super) before_text: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Id,
    Sub,
    Dlvrd,
    SubmitDate,
    DoneDate,
    Stat,
    Err,
    Text,
}

impl Key {
    /// The words of each key with this initial, by which alone most words are told from all keys.
    /// Between two words stand a blank, an underscore or nothing.
    const fn words(initial: u8) -> &'static [(Self, &'static [&'static str])] {
        match initial.to_ascii_lowercase() {
            b'i' => &[(Self::Id, &["id"])],
            b's' => &[
                (Self::Sub, &["sub"]),
                (Self::SubmitDate, &["submit", "date"]),
                (Self::Stat, &["stat"]),
            ],
            b'd' => &[(Self::Dlvrd, &["dlvrd"]), (Self::DoneDate, &["done", "date"])],
            b'e' => &[(Self::Err, &["err"]), (Self::Err, &["error"])],
            b't' => &[(Self::Text, &["text"])],
            _ => &[],
        }
    }

    /// The key that `octets` begin with, its colon included, and what follows.
    fn at(octets: &[u8]) -> Option<(Self, &[u8])> {
        Self::words(*octets.first()?).iter().find_map(|(key, words)| {
            let rest = match words {
                [word] => strip(octets, word)?,
                [first, second] => {
                    let rest = strip(octets, first)?;
                    let rest = match rest {
                        [b' ' | b'_' | GSM_UNDERSCORE, rest @ ..] => rest,
                        rest => rest,
                    };
                    strip(rest, second)?
                }
                _ => return None,
            };
            Some((*key, rest.strip_prefix(b":")?))
        })
    }
}

/// `_` in the GSM alphabet.
const GSM_UNDERSCORE: u8 = 0x11;

fn strip<'a>(octets: &'a [u8], word: &str) -> Option<&'a [u8]> {
    let (start, rest) = octets.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word.as_bytes()).then_some(rest)
}

impl<'a> Fields<'a> {
    /// Finds the fields; the first of each kind counts.
    ///
    /// A key counts at the beginning and behind a separator. What follows `text:` is the message's
    /// and holds no field, but for a `stat:` where none came before.
    pub(super) fn read(octets: &'a [u8]) -> Self {
        let mut fields = Self::default();
        let mut rest = octets;
        while let Some((before, key, behind)) = next_key(rest) {
            if key == Key::Text {
                let length = octets.len() - rest.len() + before;
                fields.before_text = octets.get(..length).unwrap_or_default();
                fields.take_text(behind);
                return fields;
            }
            let (word, behind) = next_word(behind);
            fields.put(key, word);
            fields.before_text = octets;
            rest = behind;
        }
        fields
    }

    fn take_text(&mut self, octets: &'a [u8]) {
        self.text = Some(trim_text(octets));
        let mut rest = octets;
        while let Some((_, key, behind)) = next_key(rest).filter(|_| self.stat.is_none()) {
            let (word, behind) = next_word(behind);
            if key == Key::Stat {
                self.stat = word;
            }
            rest = behind;
        }
    }

    fn put(&mut self, key: Key, word: Option<&'a [u8]>) {
        let field = match key {
            Key::Id => &mut self.id,
            Key::Sub => &mut self.sub,
            Key::Dlvrd => &mut self.dlvrd,
            Key::SubmitDate => &mut self.submit_date,
            Key::DoneDate => &mut self.done_date,
            Key::Stat => &mut self.stat,
            Key::Err => &mut self.err,
            Key::Text => &mut self.text,
        };
        *field = field.or(word);
    }

    fn is_receipt(&self) -> bool {
        self.id.is_some() || self.stat.is_some()
    }
}

/// The next key: how many octets stand before it, which it is, and what is behind its colon.
///
/// `octets` begin where a key may stand.
fn next_key(octets: &[u8]) -> Option<(usize, Key, &[u8])> {
    let behind_separators = octets.iter().zip(1..).filter(|(octet, _)| is_separator(**octet));
    std::iter::once(0).chain(behind_separators.map(|(_, at)| at)).find_map(|at| {
        let (key, behind) = Key::at(octets.get(at..)?)?;
        Some((at, key, behind))
    })
}

/// The value behind a colon, and what follows from its separator on.
///
/// It may follow blanks. When the next thing is another key the value is empty.
fn next_word(octets: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let octets = octets.trim_ascii_start();
    if Key::at(octets).is_some() {
        return (None, octets);
    }
    let end = octets.iter().position(|&octet| is_separator(octet)).unwrap_or(octets.len());
    let (word, rest) = octets.split_at_checked(end).unwrap_or((octets, &[]));
    let word = trim_nuls(word);
    ((!word.is_empty()).then_some(word), rest)
}

const fn is_separator(octet: u8) -> bool {
    octet.is_ascii_whitespace() || matches!(octet, 0x0B | b',' | b';')
}

fn trim_nuls(mut octets: &[u8]) -> &[u8] {
    while let [rest @ .., 0] = octets {
        octets = rest;
    }
    octets
}

/// The text without the blanks in front of it and without what some SMSCs put behind it.
fn trim_text(mut octets: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = octets {
        octets = rest;
    }
    while let [rest @ .., 0 | b'\r' | b'\n'] = octets {
        octets = rest;
    }
    octets
}

/// The body as octets that read as ASCII: UCS-2 as UTF-8, all else as it is.
///
/// Some carriers say one and send the other; what has the fields of a receipt is believed.
pub(super) fn characters(body: &[u8], data_coding: DataCoding) -> Cow<'_, [u8]> {
    let utf16 = || {
        text::decode(DataCoding::UCS2, &Profile::default(), &Udh::default(), body)
            .map_or(Cow::Borrowed(body), |text| Cow::Owned(text.into_bytes()))
    };
    let says_utf16 = matches!(data_coding.0, 0x08 | 0x18..=0x1B | 0xE0..=0xEF);
    let looks_utf16 = matches!(body, [0, ..] | [0xFE, 0xFF, ..]);
    if !says_utf16 && !looks_utf16 {
        return Cow::Borrowed(body);
    }
    let as_is = Fields::read(body).is_receipt();
    if says_utf16 || !as_is {
        let utf16 = utf16();
        if !as_is || Fields::read(&utf16).is_receipt() {
            return utf16;
        }
    }
    Cow::Borrowed(body)
}

/// The octets as UTF-8, or else each as the character of its number: nothing is lost.
pub(super) fn string(octets: &[u8]) -> Box<str> {
    std::str::from_utf8(octets)
        .map_or_else(|_| octets.iter().copied().map(char::from).collect(), Into::into)
}

pub(super) fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_only_as_a_whole_word() {
        let fields = Fields::read(b"smsid:1 xid:2;ID: 3,substat:9 Done_Date:4 stat:A,err:;err:7");
        assert_eq!(fields.id, Some(&b"3"[..]));
        assert_eq!((fields.done_date, fields.stat), (Some(&b"4"[..]), Some(&b"A"[..])));
        assert_eq!(fields.err, Some(&b"7"[..]));
    }

    #[test]
    fn a_value_is_empty_when_another_key_follows() {
        let fields =
            Fields::read(b"id:  sub: dlvrd:1 submit\x11date:submit date: done date:x stat:");
        assert_eq!((fields.id, fields.sub, fields.stat), (None, None, None));
        assert_eq!((fields.dlvrd, fields.done_date), (Some(&b"1"[..]), Some(&b"x"[..])));
    }

    #[test]
    fn nothing_of_the_message_stands_before_its_text() {
        let fields = Fields::read(b"id:1 stat:DELIVRD Text: secret id:2\r\n\0");
        assert_eq!(fields.before_text, b"id:1 stat:DELIVRD ");
        assert_eq!(fields.text, Some(&b"secret id:2"[..]));
        assert_eq!(Fields::read(b"a secret").before_text, b"");
    }

    #[test]
    fn a_number_too_large_is_none() {
        assert_eq!((number(b"013"), number(b"99999999999"), number(b"")), (Some(13), None, None));
    }

    #[test]
    fn ucs2_is_found_whatever_data_coding_says() {
        let ucs2: Vec<u8> = "id:1 stat:X".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (body, data_coding) in [(&ucs2[..], 8), (&ucs2, 0), (b"id:1 stat:X", 8)] {
            assert_eq!(&*characters(body, DataCoding(data_coding)), b"id:1 stat:X");
        }
    }
}
