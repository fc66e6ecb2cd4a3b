//! TLVs that a carrier wants with every submit.

use std::borrow::Cow;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;

use crate::message::Submission;
use crate::pdu::Tag;
use crate::pdu::Tlvs;

/// One TLV for every submit.
///
/// `value` may hold `{key}`, `{class}`, `{campaign}`, `{client_ref}`, `{from}` (the sender as asked for), `{to}` and
/// `{tag:NAME}`, which is what follows `NAME:` or `NAME=` in one of the message's tags; `{{` is a
/// brace. A TLV whose value lacks a part is left out, or the carrier does not get the message when
/// it is `required`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlvConfig {
    /// The tag by its SMPP name or its number, as in `"0x1400"`.
    pub tag: String,
    /// How the value is written.
    #[serde(rename = "type")]
    pub kind: TlvType,
    /// The value: a number (also `"0x1f"`), hex digits for octets, or text.
    #[serde(deserialize_with = "text_or_number")]
    #[schemars(with = "TextOrNumber")]
    pub value: String,
    /// The most octets of a text or of octets.
    pub max: Option<u16>,
    /// Whether the carrier cannot take a message without it.
    #[serde(default)]
    pub required: bool,
}

/// How a TLV's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlvType {
    /// A number of one octet.
    Int1,
    /// A number of two octets.
    Int2,
    /// A number of four octets.
    Int4,
    /// A number of eight octets.
    Int8,
    /// Octets, written in hex.
    Octets,
    /// Text with a NUL behind it, in Latin-1.
    COctet,
}

impl TlvType {
    /// The word for it in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int1 => "int1",
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Octets => "octets",
            Self::COctet => "c_octet",
        }
    }
}

/// What `value` may be in the config.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a number")]
enum TextOrNumber {
    Text(String),
    Number(u64),
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match TextOrNumber::deserialize(deserializer)? {
        TextOrNumber::Text(text) => text,
        TextOrNumber::Number(number) => number.to_string(),
    })
}

/// A TLV that was checked.
#[derive(Clone, Debug)]
pub(super) struct CustomTlv {
    tag: Tag,
    kind: TlvType,
    parts: Vec<Part>,
    max: usize,
    required: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Key,
    Class,
    Campaign,
    ClientRef,
    From,
    To,
    Tag(String),
}

/// Why a TLV cannot be written for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlvError {
    /// A part of a required value is not in the message.
    #[error("TLV {tag} is required and the message lacks a part of its value")]
    Missing {
        /// The TLV.
        tag: Tag,
    },
    /// The value is not of the TLV's type.
    #[error("TLV {tag}: the value is not of its type {}", kind.as_str())]
    Type {
        /// The TLV.
        tag: Tag,
        /// Its type.
        kind: TlvType,
    },
    /// The value is too long.
    #[error("TLV {tag}: the value is {len} octets, at most {max}")]
    TooLong {
        /// The TLV.
        tag: Tag,
        /// Octets.
        len: usize,
        /// How many there may be.
        max: usize,
    },
}

impl CustomTlv {
    /// The TLV that `config` describes, or the key that is wrong and why.
    pub(super) fn new(config: &TlvConfig) -> Result<Self, (&'static str, String)> {
        let tag = parse_tag(&config.tag).ok_or_else(|| {
            let found = &config.tag;
            (
                "tag",
                format!(
                    "expected a TLV's SMPP name or a number such as \"0x1400\", found {found:?}"
                ),
            )
        })?;
        if OURS.contains(&tag) {
            return Err(("tag", format!("{tag} is written by the gateway itself")));
        }
        let parts = parse(&config.value).map_err(|message| ("value", message))?;
        let max = usize::from(config.max.unwrap_or(u16::MAX));
        let tlv = Self { tag, kind: config.kind, parts, max, required: config.required };
        if let [Part::Literal(text)] = tlv.parts.as_slice() {
            tlv.octets(text).map_err(|error| ("value", error.to_string()))?;
        }
        Ok(tlv)
    }

    /// Adds the TLV as `submission` has it.
    pub(super) fn push(&self, submission: &Submission, tlvs: &mut Tlvs) -> Result<(), TlvError> {
        let tag = self.tag;
        let Some(value) = self.value(submission) else {
            return if self.required { Err(TlvError::Missing { tag }) } else { Ok(()) };
        };
        let octets = self.octets(&value)?;
        let len = octets.len();
        tlvs.push(tag, &octets).map_err(|_| TlvError::TooLong { tag, len, max: self.max })
    }

    fn value<'a>(&'a self, submission: &'a Submission) -> Option<Cow<'a, str>> {
        if let [part] = self.parts.as_slice() {
            return part.of(submission).map(Cow::Borrowed);
        }
        let parts = self.parts.iter().map(|part| part.of(submission));
        parts.collect::<Option<String>>().map(Cow::Owned)
    }

    fn octets(&self, value: &str) -> Result<Vec<u8>, TlvError> {
        let tag = self.tag;
        let wrong = TlvError::Type { tag, kind: self.kind };
        let int = |octets: usize| {
            let number = parse_number(value).ok_or(wrong)?.to_be_bytes();
            let (head, tail) = number.split_at(8 - octets);
            if head.iter().any(|octet| *octet != 0) {
                return Err(wrong);
            }
            Ok(tail.to_vec())
        };
        let octets = match self.kind {
            TlvType::Int1 => int(1)?,
            TlvType::Int2 => int(2)?,
            TlvType::Int4 => int(4)?,
            TlvType::Int8 => int(8)?,
            TlvType::Octets => parse_hex(value).ok_or(wrong)?,
            TlvType::COctet => c_octets(value).ok_or(wrong)?,
        };
        let len = octets.len();
        if len > self.max { Err(TlvError::TooLong { tag, len, max: self.max }) } else { Ok(octets) }
    }
}

impl Part {
    fn of<'a>(&'a self, submission: &'a Submission) -> Option<&'a str> {
        let value = match self {
            Self::Literal(text) => return Some(text),
            Self::Key => Some(&*submission.key),
            Self::Class => Some(submission.class.as_str()),
            Self::Campaign => submission.campaign.as_deref(),
            Self::ClientRef => submission.client_ref.as_deref(),
            Self::From => submission.from.as_deref(),
            Self::To => Some(&*submission.to),
            Self::Tag(name) => submission
                .tags
                .iter()
                .find_map(|tag| tag.strip_prefix(name.as_str())?.strip_prefix([':', '='])),
        };
        value.filter(|value| !value.is_empty())
    }
}

/// Reads a template.
fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, behind) = rest.split_at(at);
        literal.push_str(before);
        if let Some(after) = behind.strip_prefix("{{").or_else(|| behind.strip_prefix("}}")) {
            literal.push_str(behind.get(..1).unwrap_or_default());
            rest = after;
            continue;
        }
        let (name, after) =
            behind.strip_prefix('{').and_then(|inside| inside.split_once('}')).ok_or_else(
                || format!("a brace without its other half in {text:?}; write {{{{ for a brace"),
            )?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(placeholder(name)?);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() || parts.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

fn placeholder(name: &str) -> Result<Part, String> {
    Ok(match name {
        "key" => Part::Key,
        "class" => Part::Class,
        "campaign" => Part::Campaign,
        "client_ref" => Part::ClientRef,
        "from" => Part::From,
        "to" => Part::To,
        name => match name.strip_prefix("tag:").filter(|tag| !tag.is_empty()) {
            Some(tag) => Part::Tag(tag.to_owned()),
            None => {
                let mut message = String::from("expected ");
                for known in ["key", "class", "campaign", "client_ref", "from", "to"] {
                    let _infallible = write!(message, "{{{known}}}, ");
                }
                return Err(format!("{message}or {{tag:NAME}}, found {{{name}}}"));
            }
        },
    })
}

fn parse_tag(text: &str) -> Option<Tag> {
    Tag::from_name(text).or_else(|| u16::try_from(parse_number(text)?).ok().map(Tag))
}

fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    }
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

fn c_octets(text: &str) -> Option<Vec<u8>> {
    let octet = |char| u8::try_from(char).ok().filter(|octet| *octet != 0);
    text.chars().map(octet).chain([Some(0)]).collect()
}

/// The TLVs that composing writes.
const OURS: [Tag; 6] = [
    Tag::MESSAGE_PAYLOAD,
    Tag::SAR_MSG_REF_NUM,
    Tag::SAR_TOTAL_SEGMENTS,
    Tag::SAR_SEGMENT_SEQNUM,
    Tag::USER_MESSAGE_REFERENCE,
    Tag::MORE_MESSAGES_TO_SEND,
];
