//! What one carrier can carry, as its configuration says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::coding::Coding;
use super::national::National;
use super::repertoire::Preset;
use super::repertoire::Repertoire;
use super::split::Policy;
use super::split::Transport;

/// How one carrier takes texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// What the carrier takes `data_coding` 0 for.
    pub default_alphabet: DefaultAlphabet,
    /// How a long message says that its segments belong together.
    pub long: Transport,
    /// The most segments of one message.
    pub max_segments: NonZeroU8,
    /// The most septets, octets or UTF-16 units of one message in all its segments.
    pub max_units: Option<NonZeroU32>,
    /// What a cut between segments may go through.
    pub policy: Policy,
    /// Whether texts are brought to Unicode's form NFC first: it joins decomposed kana.
    pub nfc: bool,
    /// What a line break is sent as.
    pub newline: Newline,
    /// The languages whose GSM tables may be used where they save segments.
    pub national_shifts: Vec<National>,
    /// The character set that the carrier sends short messages through.
    pub charset_short: Option<Repertoire>,
    /// The most units of a message that `charset_short` applies to.
    pub charset_short_units: u32,
    /// What to send in place of a character that cannot be carried as it is.
    pub map: BTreeMap<char, String>,
    /// Ready-made tables that are asked after `map`.
    pub map_presets: Vec<Preset>,
    /// The numbers that say how a message is coded.
    pub data_coding: DataCodings,
    /// Whether GSM septets are packed, eight in seven octets.
    pub packed: bool,
}

impl Default for Profile {
    fn default() -> Self {
        const TEN: NonZeroU8 = NonZeroU8::MIN.saturating_add(9);
        Self {
            default_alphabet: DefaultAlphabet::Gsm,
            long: Transport::Udh8,
            max_segments: TEN,
            max_units: None,
            policy: Policy::Graphemes,
            nfc: true,
            newline: Newline::Lf,
            national_shifts: Vec::new(),
            charset_short: None,
            charset_short_units: 70,
            map: BTreeMap::new(),
            map_presets: Vec::new(),
            data_coding: DataCodings::default(),
            packed: false,
        }
    }
}

impl Profile {
    /// What is sent for `character` where only what `carries` takes can be sent.
    pub(super) fn replacement(
        &self,
        character: char,
        carries: &impl Fn(char) -> bool,
    ) -> Option<Cow<'_, str>> {
        let mapped = self.map.get(&character).filter(|text| text.chars().all(carries));
        let mut presets = self.map_presets.iter();
        mapped
            .map(|text| Cow::Borrowed(text.as_str()))
            .or_else(|| presets.find_map(|preset| preset.replacement(character, carries)))
    }
}

/// The alphabet that a carrier takes `data_coding` 0 for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefaultAlphabet {
    /// GSM 03.38, a septet an octet unless `packed` is set.
    #[default]
    Gsm,
    /// ISO 8859-1.
    Latin1,
    /// ASCII.
    Ascii,
    /// Windows 1252.
    Cp1252,
}

impl DefaultAlphabet {
    /// The coding of a text in this alphabet.
    pub const fn coding(self) -> Coding {
        match self {
            Self::Gsm => Coding::Gsm7,
            Self::Latin1 => Coding::Latin1,
            Self::Ascii => Coding::Ascii,
            Self::Cp1252 => Coding::Cp1252,
        }
    }
}

/// What a line break is sent as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Newline {
    /// LF: one unit.
    #[default]
    Lf,
    /// CR LF: two units.
    Crlf,
}

/// The `data_coding` of each kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataCodings {
    /// A text in the default alphabet.
    pub default: u8,
    /// A UCS-2 text.
    pub ucs2: u8,
    /// Octets that are no text.
    pub binary: u8,
}

impl Default for DataCodings {
    fn default() -> Self {
        Self { default: 0x00, ucs2: 0x08, binary: 0x04 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_with_its_defaults() {
        let profile: Profile = toml::from_str(
            r#"
            long = "udh16"
            national_shifts = ["turkish", "portuguese"]
            charset_short = "shift_jis"
            map_presets = ["jis_variants", "spelled_out"]
            newline = "crlf"
            [map]
            "髙" = "高"
            "♡" = ""
            [data_coding]
            ucs2 = 24
            "#,
        )
        .unwrap();
        assert_eq!((profile.long, profile.max_segments.get()), (Transport::Udh16, 10));
        assert_eq!(profile.national_shifts, [National::Turkish, National::Portuguese]);
        assert_eq!(profile.map.get(&'髙').map(String::as_str), Some("高"));
        assert_eq!((profile.data_coding.ucs2, profile.data_coding.binary), (24, 4));
        assert!(profile.nfc && profile.charset_short_units == 70);
    }

    #[test]
    fn a_profile_with_a_fault_is_refused() {
        for bad in [
            "stray = 1",
            "long = \"udh\"",
            "max_segments = 0",
            "max_segments = 256",
            "max_units = 0",
            "national_shifts = [\"klingon\"]",
            "[map]\n\"ab\" = \"c\"",
            "[data_coding]\nstray = 1",
            "[data_coding]\nucs2 = 256",
        ] {
            assert!(toml::from_str::<Profile>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_profile_written_out_is_the_same() {
        let profile = Profile { map: [('髙', "高".to_owned())].into(), ..Profile::default() };
        let text = toml::to_string(&profile).unwrap();
        assert_eq!(toml::from_str::<Profile>(&text).unwrap(), profile);
    }
}
