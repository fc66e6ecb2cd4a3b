//! What a carrier's own character set can carry, and what to send in place of the rest.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use unicode_normalization::UnicodeNormalization;

/// A character set that a carrier sends messages through, although they come to it in Unicode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repertoire {
    /// JIS X 0201 and JIS X 0208, as the standard maps them: with `〜` U+301C and `−` U+2212.
    ShiftJis,
    /// Microsoft's: with `～` U+FF5E and `－` U+FF0D in their place, and with the NEC and IBM
    /// additions such as `①`, `㈱` and `髙`.
    Cp932,
}

impl Repertoire {
    /// The name that the API and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ShiftJis => "shift_jis",
            Self::Cp932 => "cp932",
        }
    }

    /// Whether `character` arrives as it was sent.
    pub fn holds(self, character: char) -> bool {
        match self {
            Self::ShiftJis => match character {
                '〜' | '−' | '‖' | '¢' | '£' | '¬' => true,
                '～' | '－' | '∥' | '￠' | '￡' | '￢' => false,
                _ => matches!(shift_jis(character), Some(Place::Standard)),
            },
            Self::Cp932 => match character {
                '−' => false,
                _ => shift_jis(character).is_some(),
            },
        }
    }
}

/// Where a character stands in Shift_JIS.
enum Place {
    /// In JIS X 0201 or JIS X 0208.
    Standard,
    /// Among the NEC or IBM additions.
    Addition,
}

/// The place of `character` in Shift_JIS as browsers and Microsoft have it.
fn shift_jis(character: char) -> Option<Place> {
    let (mut utf8, mut octets) = ([0; 4], [0; 8]);
    let mut encoder = encoding_rs::SHIFT_JIS.new_encoder();
    let text = character.encode_utf8(&mut utf8);
    let (result, _, written) =
        encoder.encode_from_utf8_without_replacement(text, &mut octets, true);
    if result != encoding_rs::EncoderResult::InputEmpty {
        return None;
    }
    match octets.get(..written)? {
        // A control that JIS X 0201 does not have.
        [0x80] => None,
        [0x87 | 0xED.., _] => Some(Place::Addition),
        _ => Some(Place::Standard),
    }
}

/// A ready-made table of what to send in place of a character that cannot be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Typographic quotes, dashes, dots and spaces become ASCII ones; invisible characters go.
    Punctuation,
    /// The other code point of the same sign: `〜` and `～`, `−` and `－`, `‖` and `∥`, `¢` and
    /// `￠`; and `―` for `—`.
    JisVariants,
    /// What Unicode says a composed sign is made of: `(株)` for `㈱`, `(1)` for `①`, `III` for
    /// `Ⅲ`, `km` for `㎞`.
    SpelledOut,
    /// The common form of a variant kanji: `高` for `髙`, `頬` for `頰`. It changes names.
    KanjiVariants,
}

impl Preset {
    /// What may stand for `character`, the best first.
    fn candidates(self, character: char) -> Vec<Cow<'static, str>> {
        match self {
            Self::Punctuation => listed(PUNCTUATION, character),
            Self::JisVariants => listed(JIS_VARIANTS, character),
            Self::SpelledOut => spelled_out(character).into_iter().map(Cow::Owned).collect(),
            Self::KanjiVariants => listed(KANJI_VARIANTS, character),
        }
    }

    /// What stands for `character` where only what `carries` takes can be sent.
    pub(super) fn replacement(
        self,
        character: char,
        carries: &impl Fn(char) -> bool,
    ) -> Option<Cow<'static, str>> {
        self.candidates(character).into_iter().find(|text| text.chars().all(carries))
    }
}

type Row = (&'static str, &'static [&'static str]);

/// The candidates of the row that has `character` on its left.
fn listed(rows: &'static [Row], character: char) -> Vec<Cow<'static, str>> {
    let row = rows.iter().find(|(characters, _)| characters.contains(character));
    row.map(|(_, texts)| texts.iter().copied().map(Cow::Borrowed).collect()).unwrap_or_default()
}

/// The compatibility decomposition of `character`, with circled numbers in parentheses.
fn spelled_out(character: char) -> Option<String> {
    let text: String = std::iter::once(character).nfkc().collect();
    match character {
        '①'..='⑳' | '㉑'..='㉟' | '㊱'..='㊿' => Some(format!("({text})")),
        _ => Some(text).filter(|text| !text.chars().eq([character])),
    }
}

const PUNCTUATION: &[Row] = &[
    ("‘’‚‛′`´", &["'"]),
    ("“”„‟″«»", &["\""]),
    ("‐‑‒–—―−", &["-"]),
    ("…", &["..."]),
    ("•‣", &["-"]),
    ("⁄", &["/"]),
    ("￥", &["¥"]),
    (
        "\t\u{A0}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\
         \u{200A}\u{202F}\u{205F}\u{3000}",
        &[" "],
    ),
    ("\u{AD}\u{200B}\u{200C}\u{200D}\u{200E}\u{200F}\u{2060}\u{FE0F}\u{FEFF}", &[""]),
];

const JIS_VARIANTS: &[Row] = &[
    ("〜", &["～", "~"]),
    ("～", &["〜", "~"]),
    ("−", &["－", "-"]),
    ("－", &["−", "-"]),
    ("—", &["―", "-"]),
    ("–", &["-"]),
    ("‖", &["∥"]),
    ("∥", &["‖"]),
    ("¢", &["￠"]),
    ("￠", &["¢"]),
    ("£", &["￡"]),
    ("￡", &["£"]),
    ("¬", &["￢"]),
    ("￢", &["¬"]),
];

const KANJI_VARIANTS: &[Row] = &[
    ("髙", &["高"]),
    ("﨑", &["崎"]),
    ("𠮷", &["吉"]),
    ("𠮟", &["叱"]),
    ("塡", &["填"]),
    ("頰", &["頬"]),
    ("剝", &["剥"]),
    ("噓", &["嘘"]),
    ("鷗", &["鴎"]),
    ("德", &["徳"]),
    ("瀨", &["瀬"]),
    ("增", &["増"]),
    ("寬", &["寛"]),
    ("黃", &["黄"]),
    ("吞", &["呑"]),
    ("俠", &["侠"]),
    ("啞", &["唖"]),
    ("嚙", &["噛"]),
    ("囊", &["嚢"]),
    ("屢", &["屡"]),
    ("搔", &["掻"]),
    ("摑", &["掴"]),
    ("潑", &["溌"]),
    ("瀆", &["涜"]),
    ("焰", &["焔"]),
    ("瘦", &["痩"]),
    ("禱", &["祷"]),
    ("簞", &["箪"]),
    ("繡", &["繍"]),
    ("繫", &["繋"]),
    ("萊", &["莱"]),
    ("蔣", &["蒋"]),
    ("蟬", &["蝉"]),
    ("蠟", &["蝋"]),
    ("軀", &["躯"]),
    ("醬", &["醤"]),
    ("顚", &["顛"]),
    ("驒", &["騨"]),
    ("鹼", &["鹸"]),
    ("麴", &["麹"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(characters: &str, shift_jis: bool, cp932: bool) {
        for character in characters.chars() {
            let found = (Repertoire::ShiftJis.holds(character), Repertoire::Cp932.holds(character));
            assert_eq!(found, (shift_jis, cp932), "{character} U+{:04X}", u32::from(character));
        }
    }

    #[test]
    fn the_documented_traps_are_told_apart() {
        holds("〜−‖¢£¬", true, false);
        holds("～－∥￠￡￢", false, true);
        holds("①㈱髙﨑Ⅰ", false, true);
        holds("—鷗噓剝塡頰𠮟♡☎€©™😀한é", false, false);
        holds("あア漢字ｱｲｳ、。「」―・￥¥\\~ABC123 \n", true, true);
    }

    #[test]
    fn the_repertoires_are_as_large_as_the_standards() {
        let count = |set: Repertoire| (' '..=char::MAX).filter(|&it| set.holds(it)).count();
        // ASCII, 63 half-width forms, 6,879 of JIS X 0208, yen and overline.
        assert_eq!(count(Repertoire::ShiftJis), 7_040);
        // 447 additions of NEC and IBM more.
        assert_eq!(count(Repertoire::Cp932), 7_487);
    }

    #[test]
    fn a_preset_chooses_what_the_carrier_has() {
        let of = |preset: Preset, character, set: Repertoire| {
            preset.replacement(character, &|c| set.holds(c)).map(Cow::into_owned)
        };
        let wave = |character, set| of(Preset::JisVariants, character, set);
        assert_eq!(wave('〜', Repertoire::Cp932).as_deref(), Some("～"));
        assert_eq!(wave('～', Repertoire::ShiftJis).as_deref(), Some("〜"));
        let dash = of(Preset::JisVariants, '—', Repertoire::ShiftJis);
        assert_eq!(dash.as_deref(), Some("―"));
        let spelled = |character| of(Preset::SpelledOut, character, Repertoire::ShiftJis);
        assert_eq!(spelled('㈱').as_deref(), Some("(株)"));
        assert_eq!(spelled('⑫').as_deref(), Some("(12)"));
        assert_eq!(spelled('Ⅲ').as_deref(), Some("III"));
        assert_eq!(spelled('漢'), None);
        let kanji = of(Preset::KanjiVariants, '髙', Repertoire::ShiftJis);
        assert_eq!(kanji.as_deref(), Some("高"));
        let gsm = |c: char| c.is_ascii();
        let quote = Preset::Punctuation.replacement('“', &gsm);
        assert_eq!(quote.as_deref(), Some("\""));
        assert_eq!(Preset::Punctuation.replacement('日', &gsm), None);
    }

    #[test]
    fn every_kanji_variant_has_a_form_that_shift_jis_holds() {
        for (variant, forms) in KANJI_VARIANTS {
            assert!(!variant.chars().all(|c| Repertoire::ShiftJis.holds(c)), "{variant}");
            let form = forms[0].chars().next().unwrap();
            assert!(Repertoire::ShiftJis.holds(form), "{form}");
        }
    }
}
