//! The national language tables of the GSM alphabet (3GPP 23.038 annex A).
//!
//! The tables of the Indic scripts follow one plan: a code chart of Unicode in its own order, with
//! holes where the script has no letter. They are written here as that plan and what each script
//! adds.
#![expect(clippy::indexing_slicing, reason = "evaluated by the compiler: a fault is not built")]

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::gsm::HOLE;
use super::gsm::Table;

/// A national language identifier (3GPP 23.038 §6.2.1.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the languages")]
pub enum National {
    Turkish = 1,
    /// Has a single shift table only.
    Spanish = 2,
    Portuguese = 3,
    Bengali = 4,
    Gujarati = 5,
    Hindi = 6,
    Kannada = 7,
    Malayalam = 8,
    Oriya = 9,
    Punjabi = 10,
    Tamil = 11,
    Telugu = 12,
    Urdu = 13,
}

impl National {
    /// All languages that have tables.
    pub const ALL: [Self; 13] = [
        Self::Turkish,
        Self::Spanish,
        Self::Portuguese,
        Self::Bengali,
        Self::Gujarati,
        Self::Hindi,
        Self::Kannada,
        Self::Malayalam,
        Self::Oriya,
        Self::Punjabi,
        Self::Tamil,
        Self::Telugu,
        Self::Urdu,
    ];

    /// The octet in a header that names the language.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The language that `id` names; `None` for the default alphabet and for reserved ids.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.id() == id)
    }

    /// Whether the language has a table in place of the default alphabet.
    pub fn has_locking(self) -> bool {
        self.locking().is_some()
    }

    pub(super) fn locking(self) -> Option<&'static Table> {
        match self {
            Self::Turkish => Some(&TURKISH),
            Self::Spanish => None,
            Self::Portuguese => Some(&PORTUGUESE),
            Self::Bengali => Some(&BENGALI),
            Self::Gujarati => Some(&GUJARATI),
            Self::Hindi => Some(&HINDI),
            Self::Kannada => Some(&KANNADA),
            Self::Malayalam => Some(&MALAYALAM),
            Self::Oriya => Some(&ORIYA),
            Self::Punjabi => Some(&PUNJABI),
            Self::Tamil => Some(&TAMIL),
            Self::Telugu => Some(&TELUGU),
            Self::Urdu => Some(&URDU),
        }
    }

    pub(super) fn single(self) -> &'static Table {
        match self {
            Self::Turkish => &TURKISH_SINGLE,
            Self::Spanish => &SPANISH_SINGLE,
            Self::Portuguese => &PORTUGUESE_SINGLE,
            Self::Bengali => &BENGALI_SINGLE,
            Self::Gujarati => &GUJARATI_SINGLE,
            Self::Hindi => &HINDI_SINGLE,
            Self::Kannada => &KANNADA_SINGLE,
            Self::Malayalam => &MALAYALAM_SINGLE,
            Self::Oriya => &ORIYA_SINGLE,
            Self::Punjabi => &PUNJABI_SINGLE,
            Self::Tamil => &TAMIL_SINGLE,
            Self::Telugu => &TELUGU_SINGLE,
            Self::Urdu => &URDU_SINGLE,
        }
    }
}

static TURKISH: Table = table(
    "@£$¥€éùıòÇ\nĞğ\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{FFFF}ŞşßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
     İABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§çabcdefghijklmnopqrstuvwxyzäöñüà",
);
static PORTUGUESE: Table = table(
    "@£$¥êéúíóç\nÔô\rÁáΔ_ªÇÀ∞^\\€Ó|\u{FFFF}ÂâÊÉ !\"#º%&'()*+,-./0123456789:;<=>?\
     ÍABCDEFGHIJKLMNOPQRSTUVWXYZÃÕÚÜ§~abcdefghijklmnopqrstuvwxyzãõ`üà",
);
static URDU: Table = table(
    "\u{627}\u{622}\u{628}\u{67B}\u{680}\u{67E}\u{6A6}\u{62A}\u{6C2}\u{67F}\n\u{679}\u{67D}\r\
     \u{67A}\u{67C}\u{62B}\u{62C}\u{681}\u{684}\u{683}\u{685}\u{686}\u{687}\u{62D}\u{62E}\u{62F}\
     \u{FFFF}\u{68C}\u{688}\u{689}\u{68A} !\u{68F}\u{68D}\u{630}\u{631}\u{691}\u{693})(\u{699}\
     \u{632},\u{696}.\u{698}0123456789:;\u{69A}\u{633}\u{634}?\u{635}\u{636}\u{637}\u{638}\u{639}\
     \u{641}\u{642}\u{6A9}\u{6AA}\u{6AB}\u{6AF}\u{6B3}\u{6B1}\u{644}\u{645}\u{646}\u{6BA}\u{6BB}\
     \u{6BC}\u{648}\u{6C4}\u{6D5}\u{6C1}\u{6BE}\u{621}\u{6CC}\u{6D0}\u{6D2}\u{64D}\u{650}\u{64F}\
     \u{657}\u{654}abcdefghijklmnopqrstuvwxyz\u{655}\u{651}\u{653}\u{656}\u{670}",
);
static BENGALI: Table = indic(
    0x0980,
    &[0x0D, 0x0E, 0x11, 0x12, 0x29, 0x31, 0x33, 0x34, 0x35, 0x45, 0x46, 0x49, 0x4A],
    [0x4E, 0x57, 0x5C, 0x5D, 0x70, 0x71],
);
static GUJARATI: Table = indic(
    0x0A80,
    &[0x0E, 0x12, 0x29, 0x31, 0x34, 0x46, 0x4A],
    [0x50, 0x60, 0x61, 0x62, 0x63, 0x71],
);
static HINDI: Table = indic(0x0900, &[], [0x50, 0x72, 0x7B, 0x7C, 0x7E, 0x7F]);
static KANNADA: Table = indic(
    0x0C80,
    &[0x01, 0x0D, 0x11, 0x29, 0x34, 0x45, 0x49],
    [0x55, 0x56, 0x60, 0x61, 0x62, 0x63],
);
static MALAYALAM: Table = indic(
    0x0D00,
    &[0x01, 0x0D, 0x11, 0x29, 0x3C, 0x45, 0x49],
    [0x57, 0x60, 0x61, 0x62, 0x63, 0x79],
);
static ORIYA: Table = indic(
    0x0B00,
    &[0x0D, 0x0E, 0x11, 0x12, 0x29, 0x31, 0x34, 0x45, 0x46, 0x49, 0x4A],
    [0x56, 0x57, 0x60, 0x61, 0x62, 0x63],
);
static PUNJABI: Table = indic(
    0x0A00,
    &[
        0x0B, 0x0C, 0x0D, 0x0E, 0x11, 0x12, 0x29, 0x31, 0x34, 0x37, 0x3D, 0x43, 0x44, 0x45, 0x46,
        0x49, 0x4A,
    ],
    [0x51, 0x70, 0x71, 0x72, 0x73, 0x74],
);
static TAMIL: Table = indic(
    0x0B80,
    &[
        0x01, 0x0B, 0x0C, 0x0D, 0x11, 0x16, 0x17, 0x18, 0x1B, 0x1D, 0x20, 0x21, 0x22, 0x25, 0x26,
        0x27, 0x2B, 0x2C, 0x2D, 0x3C, 0x3D, 0x43, 0x44, 0x45, 0x49,
    ],
    [0x50, 0x57, 0x70, 0x71, 0x72, 0x79],
);
static TELUGU: Table = indic(
    0x0C00,
    &[0x0D, 0x11, 0x29, 0x34, 0x3C, 0x45, 0x49],
    [0x55, 0x56, 0x60, 0x61, 0x62, 0x63],
);

/// What the three Latin single shift tables share with the default extension table.
const SIGNS: &[(u8, &str)] = &[
    (0x0A, "\u{C}"),
    (0x14, "^"),
    (0x28, "{}"),
    (0x2F, "\\"),
    (0x3C, "[~]"),
    (0x40, "|"),
    (0x65, "€"),
];
static TURKISH_SINGLE: Table = add(
    sparse(SIGNS),
    &[(0x47, "Ğ"), (0x49, "İ"), (0x53, "Ş"), (0x63, "ç"), (0x67, "ğ"), (0x69, "ı"), (0x73, "ş")],
);
static SPANISH_SINGLE: Table = add(
    sparse(SIGNS),
    &[
        (0x09, "ç"),
        (0x41, "Á"),
        (0x49, "Í"),
        (0x4F, "Ó"),
        (0x55, "Ú"),
        (0x61, "á"),
        (0x69, "í"),
        (0x6F, "ó"),
        (0x75, "ú"),
    ],
);
static PORTUGUESE_SINGLE: Table = add(
    sparse(SIGNS),
    &[
        (0x05, "ê"),
        (0x09, "ç\u{C}Ôô"),
        (0x0E, "Áá"),
        (0x12, "ΦΓ^ΩΠΨΣΘ"),
        (0x1F, "Ê"),
        (0x41, "À"),
        (0x49, "Í"),
        (0x4F, "Ó"),
        (0x55, "Ú"),
        (0x5B, "ÃÕ"),
        (0x61, "Â"),
        (0x69, "í"),
        (0x6F, "ó"),
        (0x75, "ú"),
        (0x7B, "ãõ"),
        (0x7F, "â"),
    ],
);
static BENGALI_SINGLE: Table = indic_single(
    "\u{9E6}\u{9E7}\u{9E8}\u{9E9}\u{9EA}\u{9EB}\u{9EC}\u{9ED}\u{9EE}\u{9EF}\u{9DF}\u{9E0}\u{9E1}\
     \u{9E2}\u{9E3}\u{9F2}\u{9F3}\u{9F4}\u{9F5}\u{9F6}\u{9F7}\u{9F8}\u{9F9}\u{9FA}",
);
static GUJARATI_SINGLE: Table = indic_single(
    "\u{964}\u{965}\u{AE6}\u{AE7}\u{AE8}\u{AE9}\u{AEA}\u{AEB}\u{AEC}\u{AED}\u{AEE}\u{AEF}",
);
static HINDI_SINGLE: Table = indic_single(
    "\u{964}\u{965}\u{966}\u{967}\u{968}\u{969}\u{96A}\u{96B}\u{96C}\u{96D}\u{96E}\u{96F}\u{951}\
     \u{952}\u{953}\u{954}\u{958}\u{959}\u{95A}\u{95B}\u{95C}\u{95D}\u{95E}\u{95F}\u{960}\u{961}\
     \u{962}\u{963}\u{970}\u{971}",
);
static KANNADA_SINGLE: Table = indic_single(
    "\u{964}\u{965}\u{CE6}\u{CE7}\u{CE8}\u{CE9}\u{CEA}\u{CEB}\u{CEC}\u{CED}\u{CEE}\u{CEF}\u{CDE}\
     \u{CF1}\u{CF2}",
);
static MALAYALAM_SINGLE: Table = indic_single(
    "\u{964}\u{965}\u{D66}\u{D67}\u{D68}\u{D69}\u{D6A}\u{D6B}\u{D6C}\u{D6D}\u{D6E}\u{D6F}\u{D70}\
     \u{D71}\u{D72}\u{D73}\u{D74}\u{D75}\u{D7A}\u{D7B}\u{D7C}\u{D7D}\u{D7E}\u{D7F}",
);
static ORIYA_SINGLE: Table = indic_single(
    "\u{964}\u{965}\u{B66}\u{B67}\u{B68}\u{B69}\u{B6A}\u{B6B}\u{B6C}\u{B6D}\u{B6E}\u{B6F}\u{B5C}\
     \u{B5D}\u{B5F}\u{B70}\u{B71}",
);
static PUNJABI_SINGLE: Table = indic_single(
    "\u{964}\u{965}\u{A66}\u{A67}\u{A68}\u{A69}\u{A6A}\u{A6B}\u{A6C}\u{A6D}\u{A6E}\u{A6F}\u{A59}\
     \u{A5A}\u{A5B}\u{A5C}\u{A5E}\u{A75}",
);
static TAMIL_SINGLE: Table = indic_single(
    "\u{964}\u{965}\u{BE6}\u{BE7}\u{BE8}\u{BE9}\u{BEA}\u{BEB}\u{BEC}\u{BED}\u{BEE}\u{BEF}\u{BF3}\
     \u{BF4}\u{BF5}\u{BF6}\u{BF7}\u{BF8}\u{BFA}",
);
static TELUGU_SINGLE: Table = indic_single(
    "\u{FFFF}\u{FFFF}\u{C66}\u{C67}\u{C68}\u{C69}\u{C6A}\u{C6B}\u{C6C}\u{C6D}\u{C6E}\u{C6F}\
     \u{C58}\u{C59}\u{C78}\u{C79}\u{C7A}\u{C7B}\u{C7C}\u{C7D}\u{C7E}\u{C7F}",
);
static URDU_SINGLE: Table = indic_single(
    "\u{600}\u{601}\u{6F0}\u{6F1}\u{6F2}\u{6F3}\u{6F4}\u{6F5}\u{6F6}\u{6F7}\u{6F8}\u{6F9}\u{60C}\
     \u{60D}\u{60E}\u{60F}\u{610}\u{611}\u{612}\u{613}\u{614}\u{61B}\u{61F}\u{640}\u{652}\u{658}\
     \u{66B}\u{66C}\u{672}\u{673}\u{6CD}\u{6D4}",
);

/// A locking table of an Indic script: the code chart at `chart`, offsets 0x01 to 0x4D in their
/// order, without the `holes`; then its last six letters around a to z.
const fn indic(chart: u32, holes: &[u8], last: [u8; 6]) -> Table {
    // The places of the chart's offsets; zero stands for what all scripts have there.
    const PLAN: [u8; 96] = [
        0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0, 0x0C, 0x0D, 0, 0x0E, 0x0F,
        0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0, 0x1B, 0x1C, 0x1D,
        0x1E, 0, 0, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0, 0, 0x25, 0x26, 0, 0x27, 0, 0x28, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x29, 0x2A, 0x2B, 0, 0x2C, 0x2D, 0x2E, 0x2F, 0x30, 0x31,
        0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3C, 0x3D, 0x3E, 0x3F, 0x40, 0x41, 0x42,
        0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D,
    ];
    let mut table = sparse(&[
        (0x0A, "\n"),
        (0x0D, "\r"),
        (0x20, " !"),
        (0x28, ")("),
        (0x2C, ","),
        (0x2E, "."),
        (0x30, "0123456789:;"),
        (0x3F, "?"),
        (0x61, "abcdefghijklmnopqrstuvwxyz"),
    ]);
    let mut at = 0;
    while at < PLAN.len() {
        if PLAN[at] != 0 && !has(holes, PLAN[at]) {
            table[at] = letter(chart, PLAN[at]);
        }
        at += 1;
    }
    let mut nth = 0;
    while nth < last.len() {
        table[if nth == 0 { 0x60 } else { 0x7A + nth }] = letter(chart, last[nth]);
        nth += 1;
    }
    table
}

/// A single shift table of an Indic script or of Urdu: the Latin letters and signs they share, and
/// the script's own, in order, in the places that are left.
const fn indic_single(own: &str) -> Table {
    const PLACES: [u8; 32] = [
        0x19, 0x1A, 0x1C, 0x1D, 0x1E, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2A,
        0x2B, 0x2C, 0x2D, 0x2E, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A,
        0x3B, 0x3F,
    ];
    let mut table = add(
        sparse(SIGNS),
        &[
            (0x00, "@£$¥¿\"¤%&'\u{C}*+"),
            (0x0E, "-/<=>¡^¡_#*"),
            (0x41, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ],
    );
    let (mut nth, mut at) = (0, 0);
    while at < own.len() {
        let (character, next) = char_at(own, at);
        table[PLACES[nth] as usize] = character;
        nth += 1;
        at = next;
    }
    table
}

/// A table written out, all its 128 characters in order.
pub(super) const fn table(characters: &str) -> Table {
    let mut table = [HOLE; 128];
    let (mut nth, mut at) = (0, 0);
    while at < characters.len() {
        let (character, next) = char_at(characters, at);
        table[nth] = character;
        nth += 1;
        at = next;
    }
    assert!(nth == 128, "a whole table has 128 characters");
    table
}

/// A table that is empty but for runs of characters, each from its septet on.
pub(super) const fn sparse(runs: &[(u8, &str)]) -> Table {
    add([HOLE; 128], runs)
}

const fn add(mut table: Table, runs: &[(u8, &str)]) -> Table {
    let mut run = 0;
    while run < runs.len() {
        let (first, characters) = runs[run];
        let (mut nth, mut at) = (first as usize, 0);
        while at < characters.len() {
            let (character, next) = char_at(characters, at);
            table[nth] = character;
            nth += 1;
            at = next;
        }
        run += 1;
    }
    table
}

const fn has(holes: &[u8], offset: u8) -> bool {
    let mut at = 0;
    while at < holes.len() {
        if holes[at] == offset {
            return true;
        }
        at += 1;
    }
    false
}

const fn letter(chart: u32, offset: u8) -> char {
    match char::from_u32(chart + offset as u32) {
        Some(letter) => letter,
        None => HOLE,
    }
}

/// The character that begins at the octet `at`, and where the next begins: `str::chars` is not for
/// the compiler yet.
const fn char_at(text: &str, at: usize) -> (char, usize) {
    let octets = text.as_bytes();
    let (mut code, length) = match octets[at] {
        lead @ 0..=0x7F => (lead as u32, 1),
        lead @ 0..=0xDF => (lead as u32 & 0x1F, 2),
        lead => (lead as u32 & 0x0F, 3),
    };
    let mut nth = 1;
    while nth < length {
        code = code << 6 | octets[at + nth] as u32 & 0x3F;
        nth += 1;
    }
    match char::from_u32(code) {
        Some(character) => (character, at + length),
        None => (HOLE, at + length),
    }
}
