//! Numbers and senders: as people write them, as they are kept, and as each carrier wants them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error as _;
use thiserror::Error;

use crate::pdu::Address;
use crate::pdu::COctetString;
use crate::pdu::Npi;
use crate::pdu::Ton;

use super::coding::Coding;
use super::gsm::Shifts;

/// The fewest and the most digits of a number (ITU-T E.164 §6.2.1).
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// The most characters of anything that is to be an address.
const INPUT_CHARS: usize = 64;

/// The most septets of an alphanumeric sender (3GPP 23.040 §9.1.2.5).
const NAME_SEPTETS: usize = 11;

/// The most digits of a sender that is no E.164 number.
const SENDER_DIGITS: usize = 15;

/// A telephone number with its country code, 7 to 15 digits.
///
/// As text it is `+819012345678`; in a binary format it is one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct E164(u64);

impl E164 {
    /// Reads a number as people write it: `+81 90-1234-5678`, `090(1234)5678`, `００１８１９０…`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(input: &str, region: Region) -> Result<Self, AddressError> {
        let Written { plus, digits } = Written::read(input)?;
        if plus {
            return Self::from_digits(&digits);
        }
        let exit = match region {
            Region::Jp => digits.strip_prefix("010").or_else(|| digits.strip_prefix("00")),
            Region::None => digits.strip_prefix("00"),
        };
        match (exit, digits.strip_prefix('0'), region) {
            (Some(international), ..) => Self::from_digits(international),
            (None, Some(national), Region::Jp) => Self::from_digits(&format!("81{national}")),
            (None, Some(_), Region::None) => Err(AddressError::NoCountryCode),
            (None, None, _) => Self::from_digits(&digits),
        }
    }

    /// Takes digits that begin with a country code.
    fn from_digits(digits: &str) -> Result<Self, AddressError> {
        let trunk = digits.strip_prefix("810").map(|rest| format!("81{rest}"));
        let digits = trunk.as_deref().unwrap_or(digits);
        if digits.starts_with('0') {
            return Err(AddressError::NoCountryCode);
        }
        if let Some(national) = digits.strip_prefix("81") {
            check_japanese(national)?;
        }
        match digits.len() {
            0 => Err(AddressError::Empty),
            found if found < *DIGITS.start() => Err(AddressError::TooShort { found }),
            found if found > *DIGITS.end() => Err(AddressError::TooLong { found }),
            found => digits.parse().map(Self).map_err(|_| AddressError::TooLong { found }),
        }
    }

    /// The digits, country code first, without a `+`.
    pub fn digits(self) -> Digits {
        let mut octets = [0; 15];
        let (mut rest, mut at) = (self.0, octets.len());
        for octet in octets.iter_mut().rev() {
            if rest == 0 {
                break;
            }
            let digit = u8::try_from(rest % 10).unwrap_or_default();
            *octet = b'0' + digit;
            rest /= 10;
            at -= 1;
        }
        Digits { octets, at }
    }

    /// The number with its middle hidden, as it may stand in a log: `+8190****5678`.
    pub fn masked(self) -> String {
        mask(&self.to_string())
    }
}

/// How many digits a Japanese number has, by its first ones (the numbering plan of the Ministry of
/// Internal Affairs and Communications); counted with the 0 in front.
fn check_japanese(national: &str) -> Result<(), AddressError> {
    let expected = match national.as_bytes() {
        [b'2' | b'6', b'0', b'0', ..] => 14,
        [b'2' | b'5'..=b'9', b'0', ..] => 11,
        _ => 10,
    };
    let found = national.len() + 1;
    if found == expected { Ok(()) } else { Err(AddressError::JapaneseLength { found, expected }) }
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl fmt::Debug for E164 {
    /// Masked: a number stands in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl FromStr for E164 {
    type Err = AddressError;

    /// Reads a number that has its country code, as [`E164`] prints it.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text, Region::None)
    }
}

impl Serialize for E164 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for E164 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parsed = if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse()
        } else {
            u64::deserialize(deserializer)?.to_string().parse()
        };
        parsed.map_err(D::Error::custom)
    }
}

/// The digits of an [`E164`] number, as a string.
#[derive(Clone, Copy)]
pub struct Digits {
    octets: [u8; 15],
    at: usize,
}

impl Deref for Digits {
    type Target = str;

    fn deref(&self) -> &str {
        let digits = self.octets.get(self.at..).unwrap_or_default();
        std::str::from_utf8(digits).unwrap_or_default()
    }
}

/// The country whose numbers may be written without a country code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// Japan: `090…` is `+8190…`; `010` and `00` lead abroad.
    #[default]
    Jp,
    /// None: only `00` and `+` lead to a number, or nothing before the country code.
    None,
}

/// What is wrong with an address. The address itself is not told: errors are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// There is no digit in it.
    #[error("it is empty")]
    Empty,
    /// A character that belongs to no number.
    #[error("character {index} is no digit")]
    NotADigit {
        /// Where, counted in characters from 0.
        index: usize,
    },
    /// Fewer digits than any number has.
    #[error("{found} digits with the country code, at least 7 are needed")]
    TooShort {
        /// How many digits.
        found: usize,
    },
    /// More digits than any number has.
    #[error("{found} digits with the country code, at most 15 are allowed")]
    TooLong {
        /// How many digits.
        found: usize,
    },
    /// A number without a country code where none is assumed, or with one that begins with 0.
    #[error("no country code: write it as + and the country code")]
    NoCountryCode,
    /// A Japanese number with too many digits or too few.
    #[error("{found} digits with the leading 0, a Japanese number that begins so has {expected}")]
    JapaneseLength {
        /// How many digits.
        found: usize,
        /// How many numbers that begin so have.
        expected: usize,
    },
    /// More characters than an address can have.
    #[error("{found} characters, an address has at most {allowed}")]
    InputTooLong {
        /// How many characters.
        found: usize,
        /// How many there may be.
        allowed: usize,
    },
    /// A sender's name that a handset cannot show whole.
    #[error("a name of {found} GSM septets, at most 11 are allowed")]
    NameTooLong {
        /// How many septets.
        found: usize,
    },
    /// A character that a sender's name cannot have.
    #[error("character {index} cannot stand in a sender's name")]
    NotInName {
        /// Where, counted in characters from 0.
        index: usize,
    },
    /// A sender of digits that is too long.
    #[error("a sender of {found} digits, at most {allowed} are allowed")]
    SenderTooLong {
        /// How many digits.
        found: usize,
        /// How many there may be.
        allowed: usize,
    },
}

/// A number as somebody wrote it, without what only helps the eye.
struct Written {
    plus: bool,
    digits: String,
}

impl Written {
    fn read(input: &str) -> Result<Self, AddressError> {
        check_input(input)?;
        let mut written = Self { plus: false, digits: String::with_capacity(input.len()) };
        for (index, character) in input.chars().enumerate() {
            match character {
                '0'..='9' => written.digits.push(character),
                '０'..='９' => {
                    let digit = u32::from(character) - u32::from('０');
                    written.digits.extend(char::from_digit(digit, 10));
                }
                '+' | '＋' if written.digits.is_empty() && !written.plus => written.plus = true,
                _ if is_separator(character) => {}
                _ => return Err(AddressError::NotADigit { index }),
            }
        }
        if written.digits.is_empty() { Err(AddressError::Empty) } else { Ok(written) }
    }
}

fn check_input(input: &str) -> Result<(), AddressError> {
    match input.chars().count() {
        found if found > INPUT_CHARS => {
            Err(AddressError::InputTooLong { found, allowed: INPUT_CHARS })
        }
        _ => Ok(()),
    }
}

const fn is_separator(character: char) -> bool {
    matches!(
        character,
        ' ' | '\u{A0}' | '\u{3000}' | '-' | '‐'
            ..='―' | '−' | '－' | 'ー' | 'ｰ' | '(' | ')' | '（' | '）' | '.' | '/'
    )
}

/// Who a message is from: a number, a short code or a name.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Sender(Box<str>);

/// The kinds of senders, which carriers number differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderKind {
    /// A number with its country code.
    International,
    /// Digits that begin with 0: a national number, or one that carriers agreed on.
    National,
    /// At most six digits.
    ShortCode,
    /// A name of at most eleven GSM characters.
    Name,
}

impl Sender {
    /// Reads a sender: digits, with `+` in front of a country code, or a name.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(input: &str) -> Result<Self, AddressError> {
        check_input(input)?;
        let input = input.trim();
        match Written::read(input) {
            Ok(Written { plus: true, digits }) => {
                E164::from_digits(&digits).map(|number| Self(number.to_string().into()))
            }
            Ok(Written { digits, .. }) if digits.len() > SENDER_DIGITS => {
                let (found, allowed) = (digits.len(), SENDER_DIGITS);
                Err(AddressError::SenderTooLong { found, allowed })
            }
            Ok(Written { digits, .. }) => Ok(Self(digits.into())),
            Err(AddressError::NotADigit { .. }) => Self::name(input),
            Err(error) => Err(error),
        }
    }

    fn name(input: &str) -> Result<Self, AddressError> {
        let mut found = 0;
        for (index, character) in input.chars().enumerate() {
            found += Coding::Gsm7
                .units(character, Shifts::NONE)
                .filter(|_| !character.is_control())
                .ok_or(AddressError::NotInName { index })?;
        }
        if found > NAME_SEPTETS {
            return Err(AddressError::NameTooLong { found });
        }
        Ok(Self(input.into()))
    }

    /// The sender as the API shows it: a name, digits, or `+` and digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which kind of sender it is.
    pub fn kind(&self) -> SenderKind {
        match self.0.as_bytes() {
            [b'+', ..] => SenderKind::International,
            digits if !digits.iter().all(u8::is_ascii_digit) => SenderKind::Name,
            digits if digits.len() <= 6 => SenderKind::ShortCode,
            [b'0', ..] => SenderKind::National,
            _ => SenderKind::International,
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Sender {
    /// Masked: it may be somebody's number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.0))
    }
}

impl FromStr for Sender {
    type Err = AddressError;

    fn from_str(input: &str) -> Result<Self, AddressError> {
        Self::parse(input)
    }
}

impl<'de> Deserialize<'de> for Sender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Sender {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sender".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Digits, + and digits, or a name of at most 11 GSM characters."
        })
    }
}

/// An address with its middle hidden, as it may stand in a log: `+8190****5678`.
///
/// Long ones keep four digits at the end, short ones two, and the shortest none.
pub fn mask(address: &str) -> String {
    let characters: Vec<char> = address.chars().collect();
    let plus = usize::from(address.starts_with('+'));
    let (head, tail) = match characters.len() - plus {
        0..=4 => (0, 0),
        5..=9 => (plus + 2, 2),
        _ => (plus + 4, 4),
    };
    let first = characters.iter().take(head);
    let last = characters.iter().skip(characters.len() - tail);
    first.chain(&['*'; 4]).chain(last).collect()
}

/// How one carrier wants senders and destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AddressForms {
    /// How it wants senders.
    pub source: SourceForm,
    /// How it wants destinations.
    pub destination: DestinationForm,
}

/// How one carrier wants senders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SourceForm {
    /// The type of number; by the kind of sender when it is not given.
    pub ton: Option<u8>,
    /// The numbering plan; by the kind of sender when it is not given.
    pub npi: Option<u8>,
    /// Whether `+` stands in front of a country code.
    pub plus: bool,
    /// What other digits a number begins with at this carrier; the first rule that fits is used.
    pub rewrite: Vec<Rewrite>,
    /// The alphabet of names; `@` is 0x00 in GSM, which would end the name, and becomes `-`.
    pub alphabet: NameAlphabet,
    /// The sender registered at this carrier, whatever the message says.
    pub fixed: Option<Sender>,
    /// The senders registered at this carrier in place of others.
    pub map: BTreeMap<String, Sender>,
}

/// How one carrier wants destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationForm {
    /// The type of number; 1, or 2 when the digits begin with 0, when it is not given.
    pub ton: Option<u8>,
    /// The numbering plan; 1 when it is not given.
    pub npi: Option<u8>,
    /// Whether `+` stands in front of a country code.
    pub plus: bool,
    /// What other digits a number begins with at this carrier; the first rule that fits is used.
    pub rewrite: Vec<Rewrite>,
}

/// Other digits at the beginning of a number: `from = "81"`, `to = "0"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// The digits it begins with.
    pub from: Prefix,
    /// The digits it shall begin with.
    pub to: Prefix,
}

/// Up to four digits, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Prefix(String);

impl Prefix {
    /// The most digits.
    const DIGITS: usize = 4;
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        if digits.len() > Self::DIGITS || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
            return Err(D::Error::custom(format!("expected at most {} digits", Self::DIGITS)));
        }
        Ok(Self(digits))
    }
}

impl JsonSchema for Prefix {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Prefix".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]{0,4}$" })
    }
}

/// The alphabet of names in addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameAlphabet {
    /// The GSM alphabet, a septet an octet.
    #[default]
    Gsm,
    /// ISO 8859-1; what it lacks becomes `?`.
    Latin1,
}

impl AddressForms {
    /// The destination address of a message to `number`.
    pub fn destination(&self, number: E164) -> Address {
        let form = &self.destination;
        let digits = rewrite(&form.rewrite, &number.digits());
        let kind = number_kind(&digits);
        address(form.ton, form.npi, form.plus, kind, digits.into_bytes())
    }

    /// The source address of a message from `sender`, or from whom the carrier has registered.
    ///
    /// Without a sender it is empty: the SMSC fills it in.
    pub fn source(&self, sender: Option<&Sender>) -> Address {
        let form = &self.source;
        let mapped = sender.and_then(|sender| form.map.get(sender.as_str()));
        let Some(sender) = form.fixed.as_ref().or(mapped).or(sender) else {
            return Address::default();
        };
        match sender.kind() {
            SenderKind::Name => {
                let octets = form.alphabet.octets(sender.as_str());
                address(form.ton, form.npi, false, SenderKind::Name, octets)
            }
            SenderKind::ShortCode => {
                let digits = sender.as_str().as_bytes().to_vec();
                address(form.ton, form.npi, false, SenderKind::ShortCode, digits)
            }
            SenderKind::International | SenderKind::National => {
                let digits = rewrite(&form.rewrite, sender.as_str().trim_start_matches('+'));
                let kind = number_kind(&digits);
                address(form.ton, form.npi, form.plus, kind, digits.into_bytes())
            }
        }
    }
}

fn rewrite(rules: &[Rewrite], digits: &str) -> String {
    let rewritten = rules.iter().find_map(|rule| {
        let rest = digits.strip_prefix(&rule.from.0)?;
        Some([&rule.to.0, rest].concat())
    });
    rewritten.unwrap_or_else(|| digits.to_owned())
}

fn number_kind(digits: &str) -> SenderKind {
    if digits.starts_with('0') { SenderKind::National } else { SenderKind::International }
}

/// The address of `octets`; the numbers are those of its kind where none are given.
fn address(
    ton: Option<u8>,
    npi: Option<u8>,
    plus: bool,
    kind: SenderKind,
    mut octets: Vec<u8>,
) -> Address {
    let (usual_ton, usual_npi) = match kind {
        SenderKind::International => (Ton::INTERNATIONAL, Npi::ISDN),
        SenderKind::National => (Ton::NATIONAL, Npi::ISDN),
        SenderKind::ShortCode => (Ton::NETWORK_SPECIFIC, Npi::UNKNOWN),
        SenderKind::Name => (Ton::ALPHANUMERIC, Npi::UNKNOWN),
    };
    if plus && kind == SenderKind::International {
        octets.insert(0, b'+');
    }
    Address {
        ton: ton.map_or(usual_ton, Ton),
        npi: npi.map_or(usual_npi, Npi),
        addr: COctetString::new(octets).unwrap_or_default(),
    }
}

impl NameAlphabet {
    fn octets(self, name: &str) -> Vec<u8> {
        match self {
            Self::Gsm => {
                let mut octets = Vec::with_capacity(NAME_SEPTETS);
                Coding::Gsm7.write(&name.replace('@', "-"), Shifts::NONE, &mut octets);
                octets
            }
            Self::Latin1 => name.chars().map(|it| u8::try_from(it).unwrap_or(b'?')).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jp(input: &str) -> Result<String, AddressError> {
        E164::parse(input, Region::Jp).map(|number| number.to_string())
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for input in [
            "+819012345678",
            "819012345678",
            "090-1234-5678",
            " 090 (1234) 5678 ",
            "０９０ー１２３４ー５６７８",
            "＋８１　９０−１２３４−５６７８",
            "+81 (0)90-1234-5678",
            "00819012345678",
            "010 81 90 1234 5678",
            "090.1234.5678",
        ] {
            assert_eq!(jp(input).as_deref(), Ok("+819012345678"), "{input}");
        }
        assert_eq!(jp("03-1234-5678").as_deref(), Ok("+81312345678"));
        assert_eq!(jp("06012345678").as_deref(), Ok("+816012345678"));
        assert_eq!(jp("020 1234 5678").as_deref(), Ok("+812012345678"));
        assert_eq!(jp("02001234567890").as_deref(), Ok("+812001234567890"));
        assert_eq!(jp("+1 212 555 0100").as_deref(), Ok("+12125550100"));
        assert_eq!(jp("00012125550100"), Err(AddressError::NoCountryCode));
    }

    #[test]
    fn what_is_wrong_with_a_number_is_told() {
        assert_eq!(jp(""), Err(AddressError::Empty));
        assert_eq!(jp("+-"), Err(AddressError::Empty));
        assert_eq!(jp("090-1234x5678"), Err(AddressError::NotADigit { index: 8 }));
        assert_eq!(jp("090+12345678"), Err(AddressError::NotADigit { index: 3 }));
        let length = |found, expected| Err(AddressError::JapaneseLength { found, expected });
        assert_eq!(jp("090-1234-567"), length(10, 11));
        assert_eq!(jp("+8190123456789"), length(12, 11));
        assert_eq!(jp("0200123456789"), length(13, 14));
        assert_eq!(jp("031234567"), length(9, 10));
        assert_eq!(jp("+123456"), Err(AddressError::TooShort { found: 6 }));
        assert_eq!(jp("+1234567890123456"), Err(AddressError::TooLong { found: 16 }));
        assert_eq!(jp("+0123456789"), Err(AddressError::NoCountryCode));
        let long = AddressError::InputTooLong { found: 65, allowed: 64 };
        assert_eq!(jp(&"1".repeat(65)), Err(long));
        let abroad = E164::parse("09012345678", Region::None);
        assert_eq!(abroad, Err(AddressError::NoCountryCode));
        assert_eq!(
            AddressError::JapaneseLength { found: 10, expected: 11 }.to_string(),
            "10 digits with the leading 0, a Japanese number that begins so has 11"
        );
    }

    #[test]
    fn a_number_survives_both_kinds_of_serde() {
        let number: E164 = "+819012345678".parse().unwrap();
        assert_eq!(serde_json::to_string(&number).unwrap(), "\"+819012345678\"");
        assert_eq!(serde_json::from_str::<E164>("\"819012345678\"").unwrap(), number);
        let octets = postcard::to_stdvec(&number).unwrap();
        assert_eq!((octets.len(), postcard::from_bytes::<E164>(&octets).unwrap()), (6, number));
        assert!(serde_json::from_str::<E164>("\"+81901234\"").is_err());
        assert_eq!(&*number.digits(), "819012345678");
        let longest = E164::parse("+999999999999999", Region::None).unwrap();
        assert_eq!(&*longest.digits(), "999999999999999");
    }

    #[test]
    fn what_is_logged_hides_the_number() {
        let number: E164 = "+819012345678".parse().unwrap();
        assert_eq!(number.masked(), "+8190****5678");
        assert_eq!(format!("{number:?}"), "+8190****5678");
        assert_eq!(mask("09012345678"), "0901****5678");
        assert_eq!(mask("0005123"), "00****23");
        assert_eq!(mask("1234"), "****");
        assert_eq!(mask("+"), "****");
        assert_eq!(format!("{:?}", Sender::parse("MyCompany").unwrap()), "My****ny");
    }

    #[test]
    fn senders_are_numbers_codes_or_names() {
        let kind = |input| Sender::parse(input).map(|sender| sender.kind());
        assert_eq!(kind("+81 90-1234-5678"), Ok(SenderKind::International));
        assert_eq!(kind("0005123456"), Ok(SenderKind::National));
        assert_eq!(kind("20345"), Ok(SenderKind::ShortCode));
        assert_eq!(kind("Bank 24"), Ok(SenderKind::Name));
        assert_eq!(kind("12345678901"), Ok(SenderKind::International));
        assert_eq!(Sender::parse(" 090-1234-5678 ").unwrap().as_str(), "09012345678");
        assert_eq!(kind("ElevenChars"), Ok(SenderKind::Name));
        assert_eq!(kind("TwelveChars!"), Err(AddressError::NameTooLong { found: 12 }));
        assert_eq!(kind("[Bracket€]"), Err(AddressError::NameTooLong { found: 13 }));
        assert_eq!(kind("飛脚"), Err(AddressError::NotInName { index: 0 }));
        assert_eq!(kind("a\nb"), Err(AddressError::NotInName { index: 1 }));
        assert_eq!(kind(""), Err(AddressError::Empty));
        let long = AddressError::SenderTooLong { found: 16, allowed: 15 };
        assert_eq!(kind("0123456789012345"), Err(long));
    }

    fn forms(text: &str) -> AddressForms {
        toml::from_str(text).unwrap()
    }

    fn shown(address: &Address) -> (u8, u8, String) {
        (address.ton.0, address.npi.0, address.addr.to_text_lossy())
    }

    #[test]
    fn carriers_get_their_own_forms() {
        let number: E164 = "+819012345678".parse().unwrap();
        let destination = |text: &str| shown(&forms(text).destination(number));
        assert_eq!(destination(""), (1, 1, "819012345678".to_owned()));
        assert_eq!(destination("[destination]\nplus = true"), (1, 1, "+819012345678".to_owned()));
        let national = "[destination]\nplus = true\nrewrite = [{ from = \"81\", to = \"0\" }]";
        assert_eq!(destination(national), (2, 1, "09012345678".to_owned()));
        assert_eq!(destination("[destination]\nton = 0\nnpi = 0").0, 0);
    }

    #[test]
    fn senders_get_the_numbers_of_their_kind() {
        let source = |text: &str, sender: &str| {
            shown(&forms(text).source(Some(&Sender::parse(sender).unwrap())))
        };
        assert_eq!(source("", "+819012345678"), (1, 1, "819012345678".to_owned()));
        assert_eq!(source("", "0005123456"), (2, 1, "0005123456".to_owned()));
        assert_eq!(source("", "20345"), (3, 0, "20345".to_owned()));
        assert_eq!(source("", "A_b@c"), (5, 0, "A\u{11}b-c".to_owned()));
        let latin = "[source]\nalphabet = \"latin1\"";
        assert_eq!(source(latin, "A_b@é"), (5, 0, "A_b@é".to_owned()));
        let mapped = "[source.map]\nBank = \"20345\"";
        assert_eq!(source(mapped, "Bank"), (3, 0, "20345".to_owned()));
        assert_eq!(source(mapped, "Shop").2, "Shop");
        assert_eq!(source("[source]\nfixed = \"777777\"\nton = 6", "Shop").0, 6);
        let none = forms("").source(None);
        assert_eq!(shown(&none), (0, 0, String::new()));
    }

    #[test]
    fn no_form_is_longer_than_an_address() {
        let forms = forms(
            "[source]\nplus = true\nrewrite = [{ from = \"\", to = \"1234\" }]\n\
             [destination]\nplus = true\nrewrite = [{ from = \"\", to = \"1234\" }]",
        );
        let longest = E164::parse("+999999999999999", Region::None).unwrap();
        assert_eq!(forms.destination(longest).addr.len(), 20);
        let sender = Sender::parse("+999999999999999").unwrap();
        assert_eq!(forms.source(Some(&sender)).addr.len(), 20);
        let digits = Sender::parse("999999999999999").unwrap();
        assert_eq!(forms.source(Some(&digits)).addr.len(), 20);
        let name = Sender::parse("ÅÅÅÅÅÅÅÅÅÅÅ").unwrap();
        assert_eq!(forms.source(Some(&name)).addr.len(), 11);
    }

    #[test]
    fn a_form_that_is_none_is_refused() {
        for bad in [
            "[source]\nfixed = \"ABCDEFGHIJKL\"",
            "[source]\nrewrite = [{ from = \"8a\", to = \"0\" }]",
            "[destination]\nrewrite = [{ from = \"81\", to = \"12345\" }]",
            "[destination]\nalphabet = \"gsm\"",
            "[source]\nton = 300",
        ] {
            assert!(toml::from_str::<AddressForms>(bad).is_err(), "{bad}");
        }
    }
}
