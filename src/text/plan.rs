//! The choice of a coding for one carrier, and what the message costs there.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU8;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;
use unicode_normalization::IsNormalized;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::is_nfc_quick;
use unicode_segmentation::UnicodeSegmentation;

use crate::pdu::DataCoding;

use super::coding::Coding;
use super::gsm;
use super::gsm::Shifts;
use super::plain::all_plain;
use super::profile::Newline;
use super::profile::Profile;
use super::split;
use super::split::Measure;
use super::split::Segment;
use super::split::SplitOptions;
use super::split::Transport;
use super::udh::Udh;

/// The most faults of a text that are told.
const FAULTS_TOLD: usize = 32;

/// The most octets of a header that a caller gives.
const UDH_OCTETS: usize = 64;

/// What a caller asks a text to be coded as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodingChoice {
    /// The carrier's default alphabet where it holds the text, else UCS-2.
    #[default]
    Auto,
    /// The carrier's default alphabet, or an error.
    Gsm7,
    /// UCS-2.
    Ucs2,
}

/// How one message goes to one carrier: its coding and what it costs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How the characters become octets.
    pub coding: Coding,
    /// What says so on the wire.
    pub data_coding: DataCoding,
    /// How many messages carry it: the length of what [`Plan::segments`] returns.
    pub segments: u8,
    /// How many segments reach the handset: more than `segments` when the SMSC cuts a
    /// `message_payload`.
    pub segments_on_air: usize,
    /// Septets, octets or UTF-16 units in all, without headers.
    pub units: usize,
    /// The first character that the default alphabet does not hold, when that chose UCS-2.
    pub forced_by: Option<Fault>,
    /// The characters that others are sent for.
    pub replaced: Vec<Replaced>,
    content: Content,
    options: SplitOptions,
}

#[derive(Clone, PartialEq, Eq)]
enum Content {
    Text(String),
    Binary { octets: Bytes, elements: Bytes },
}

impl fmt::Debug for Content {
    /// Sizes only: message text is in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} octets)", text.len()),
            Self::Binary { octets, .. } => write!(f, "Binary({} octets)", octets.len()),
        }
    }
}

impl Plan {
    /// The text as it is sent: normalised, and with its replacements; empty for octets.
    pub fn text(&self) -> &str {
        match &self.content {
            Content::Text(text) => text,
            Content::Binary { .. } => "",
        }
    }

    /// How several segments say that they belong together.
    pub const fn transport(&self) -> Transport {
        self.options.transport
    }

    /// The national language tables that the text is written with.
    pub const fn shifts(&self) -> Shifts {
        self.options.shifts
    }

    /// Whether all of it goes into one `message_payload` since it is too long for one segment.
    pub const fn needs_payload(&self) -> bool {
        self.segments_on_air > 1 && matches!(self.options.transport, Transport::Payload)
    }

    /// The segments, under the reference number `reference`.
    pub fn segments(&self, reference: u16) -> Vec<Segment> {
        let options = SplitOptions { reference, ..self.options };
        match &self.content {
            Content::Text(text) => split::write(text, &options, self.segments),
            Content::Binary { octets, elements } => {
                split::write_octets(octets, elements, &options, self.segments)
            }
        }
    }
}

/// A character that stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it is in the text as it was given, counted in characters from 0.
    pub index: usize,
    /// The character; in form NFC when the profile asks for it.
    pub character: char,
}

/// A character that another text is sent for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Where it is in the text as it was given, counted in characters from 0.
    pub index: usize,
    /// The character.
    pub from: char,
    /// What is sent.
    pub to: String,
}

/// Why a message cannot go to a carrier as asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The carrier cannot carry these characters.
    #[error("{} characters are not in {set}", faults.len())]
    Unencodable {
        /// The characters, in order; at most 32.
        faults: Vec<Fault>,
        /// What does not hold them: the name of a coding or of a repertoire.
        set: &'static str,
    },
    /// More segments than allowed.
    #[error("the text needs {needed} segments ({units} units), at most {allowed} are allowed")]
    TooManySegments {
        /// How many it needs.
        needed: usize,
        /// How many there may be.
        allowed: usize,
        /// Its septets, octets or UTF-16 units.
        units: usize,
    },
    /// More units than the carrier takes.
    #[error("the text is {units} units ({needed} segments), the carrier takes {allowed} units")]
    TooManyUnits {
        /// Its septets, octets or UTF-16 units.
        units: usize,
        /// How many there may be.
        allowed: usize,
        /// How many segments it needs.
        needed: usize,
    },
    /// A header that is not one: its first octet must count the others.
    #[error("udh: its first octet says {said} more, {found} follow")]
    BadHeader {
        /// The octets that the header says it has.
        said: usize,
        /// The octets that it has.
        found: usize,
    },
    /// A header that leaves too little room behind it.
    #[error("udh: {octets} octets, at most {allowed}")]
    HeaderTooLong {
        /// How many octets it has.
        octets: usize,
        /// How many there may be.
        allowed: usize,
    },
}

/// Chooses the coding of `text` for the carrier of `profile`, and counts its segments.
///
/// `max_segments` is what the caller allows; the carrier's own limit holds too. `Auto` takes the
/// default alphabet where it holds the text, with the profile's replacements if it must; then
/// national tables where they save segments; then UCS-2.
///
/// # Errors
/// All that the carrier cannot carry, or by how much the text is too long. Nothing is ever cut.
pub fn plan(
    text: &str,
    choice: EncodingChoice,
    profile: &Profile,
    max_segments: Option<NonZeroU8>,
) -> Result<Plan, PlanError> {
    let given = Given { given: text, sent: normalise(text, profile), profile };
    let draft = match choice {
        EncodingChoice::Ucs2 => given.as_is(Coding::Ucs2, Shifts::NONE, None),
        EncodingChoice::Auto => given.auto(),
        EncodingChoice::Gsm7 => given.default_only()?,
    };
    let draft = given.narrow(draft)?;
    given.finish(draft, max_segments)
}

/// Octets for the carrier of `profile`, behind the header `udh` if one is given.
///
/// `udh` has its length in its first octet. `data_coding` is the profile's for octets unless one
/// is given. Octets that are too long for one message get a concatenation element in front of the
/// others; octets behind a header never travel with SAR parameters.
///
/// # Errors
/// A header that is not one, or by how much the octets are too long.
pub fn binary(
    octets: Bytes,
    udh: &[u8],
    data_coding: Option<DataCoding>,
    profile: &Profile,
    max_segments: Option<NonZeroU8>,
) -> Result<Plan, PlanError> {
    let elements = elements(udh)?;
    let transport = match profile.long {
        Transport::Sar if !elements.is_empty() => Transport::Udh8,
        Transport::Sar16 if !elements.is_empty() => Transport::Udh16,
        transport => transport,
    };
    let options = SplitOptions { transport, ..options(Coding::Binary, Shifts::NONE, profile) };
    let count = |transport| {
        split::count_octets(octets.len(), elements.len(), &SplitOptions { transport, ..options })
    };
    let measure = Measure { segments: count(transport), units: octets.len() };
    let segments_on_air = count(on_air(transport));
    let segments = limit(measure, segments_on_air, profile, max_segments)?;
    if segments > 1 && Udh::parse(udh).is_some_and(|(header, _)| header.concat.is_some()) {
        let (needed, units) = (segments.into(), octets.len());
        return Err(PlanError::TooManySegments { needed, allowed: 1, units });
    }
    Ok(Plan {
        coding: Coding::Binary,
        data_coding: data_coding.unwrap_or(DataCoding(profile.data_coding.binary)),
        segments,
        segments_on_air,
        units: octets.len(),
        forced_by: None,
        replaced: Vec::new(),
        content: Content::Binary { octets, elements },
        options,
    })
}

/// The elements of a header, without the octet that counts them.
fn elements(udh: &[u8]) -> Result<Bytes, PlanError> {
    match udh.split_first() {
        None => Ok(Bytes::new()),
        Some((&said, elements)) if usize::from(said) != elements.len() => {
            Err(PlanError::BadHeader { said: said.into(), found: elements.len() })
        }
        Some(_) if udh.len() > UDH_OCTETS => {
            Err(PlanError::HeaderTooLong { octets: udh.len(), allowed: UDH_OCTETS })
        }
        Some((_, elements)) => Ok(Bytes::copy_from_slice(elements)),
    }
}

/// A text on its way to a plan.
struct Given<'a> {
    /// As the caller wrote it.
    given: &'a str,
    /// Normalised.
    sent: Cow<'a, str>,
    profile: &'a Profile,
}

/// One way to send a text.
struct Draft<'a> {
    coding: Coding,
    shifts: Shifts,
    text: Cow<'a, str>,
    replaced: Vec<Replaced>,
    forced_by: Option<Fault>,
}

impl Given<'_> {
    fn auto(&self) -> Draft<'_> {
        match self.default_alphabet(1) {
            Ok(draft) => draft,
            Err(faults) => {
                let ucs2 = self.as_is(Coding::Ucs2, Shifts::NONE, faults.first().copied());
                self.national()
                    .filter(|it| self.segments(it) < self.segments(&ucs2))
                    .unwrap_or(ucs2)
            }
        }
    }

    fn default_only(&self) -> Result<Draft<'_>, PlanError> {
        self.default_alphabet(FAULTS_TOLD).or_else(|faults| {
            let set = self.profile.default_alphabet.coding().name();
            self.national().ok_or(PlanError::Unencodable { faults, set })
        })
    }

    /// The text in the carrier's default alphabet, or what that does not hold.
    fn default_alphabet(&self, most: usize) -> Result<Draft<'_>, Vec<Fault>> {
        let coding = self.profile.default_alphabet.coding();
        let (text, replaced) = match coding {
            Coding::Gsm7 if gsm::ascii_septets(&self.sent).is_some() => {
                (Cow::Borrowed(&*self.sent), Vec::new())
            }
            _ => self.fit(|character| holds(coding, Shifts::NONE, character), most)?,
        };
        Ok(Draft { coding, shifts: Shifts::NONE, text, replaced, forced_by: None })
    }

    /// The text in the national tables that need the fewest segments, if any of them hold it.
    fn national(&self) -> Option<Draft<'_>> {
        if self.profile.default_alphabet.coding() != Coding::Gsm7 {
            return None;
        }
        let with_header = matches!(self.profile.long, Transport::Udh8 | Transport::Udh16);
        let tables = self.profile.national_shifts.iter().flat_map(|&language| {
            let (single, locking) = (Some(language), language.has_locking().then_some(language));
            [(None, single), (locking, None), (locking, single)]
        });
        tables
            .map(|(locking, single)| Shifts { locking, single })
            .filter(|shifts| !shifts.is_none())
            .filter(|&shifts| self.sent.chars().all(|it| holds(Coding::Gsm7, shifts, it)))
            .map(|shifts| self.as_is(Coding::Gsm7, shifts, None))
            .filter(|draft| with_header || self.segments(draft) == 1)
            .min_by_key(|draft| {
                let Measure { segments, units } = self.measure(draft);
                (segments, units)
            })
    }

    fn as_is(&self, coding: Coding, shifts: Shifts, forced_by: Option<Fault>) -> Draft<'_> {
        let text = Cow::Borrowed(&*self.sent);
        Draft { coding, shifts, text, replaced: Vec::new(), forced_by }
    }

    /// The draft, with what the carrier's character set for short messages does not hold
    /// replaced.
    fn narrow<'a>(&'a self, draft: Draft<'a>) -> Result<Draft<'a>, PlanError> {
        let Some(set) = self.profile.charset_short.filter(|_| self.is_short(&draft)) else {
            return Ok(draft);
        };
        let carries = |it| set.holds(it) && holds(draft.coding, draft.shifts, it);
        let (text, replaced) = self
            .fit(carries, FAULTS_TOLD)
            .map_err(|faults| PlanError::Unencodable { faults, set: set.name() })?;
        let narrowed = Draft { text, replaced, ..draft };
        // A text that its replacements make long does not go through that character set.
        Ok(if self.is_short(&narrowed) { narrowed } else { draft })
    }

    fn is_short(&self, draft: &Draft<'_>) -> bool {
        let most = usize::try_from(self.profile.charset_short_units).unwrap_or(usize::MAX);
        self.measure(draft).units <= most
    }

    /// The text with replacements for what `carries` does not take, or the first `most`
    /// characters that have none.
    fn fit(
        &self,
        carries: impl Fn(char) -> bool,
        most: usize,
    ) -> Result<(Cow<'_, str>, Vec<Replaced>), Vec<Fault>> {
        if self.sent.chars().all(&carries) {
            return Ok((Cow::Borrowed(&*self.sent), Vec::new()));
        }
        let (mut text, mut replaced) = (String::with_capacity(self.sent.len()), Vec::new());
        let mut faults = Vec::new();
        for (index, from) in self.sent.chars().enumerate() {
            if carries(from) {
                text.push(from);
            } else if let Some(to) = self.profile.replacement(from, &carries) {
                text.push_str(&to);
                replaced.push(Replaced { index: self.origin(index), from, to: to.into_owned() });
            } else {
                faults.push(Fault { index: self.origin(index), character: from });
                if faults.len() >= most {
                    return Err(faults);
                }
            }
        }
        if faults.is_empty() { Ok((Cow::Owned(text), replaced)) } else { Err(faults) }
    }

    /// The place in the text as given of the character `index` of the normalised one.
    ///
    /// Normalising never joins or moves characters over the edge of a grapheme cluster.
    fn origin(&self, index: usize) -> usize {
        if matches!(self.sent, Cow::Borrowed(_)) {
            return index;
        }
        let (mut from, mut to) = (0, 0);
        for cluster in self.given.graphemes(true) {
            let before = cluster.chars().count();
            let after = normalise(cluster, self.profile).chars().count();
            if index < to + after {
                return from + (index - to).min(before.saturating_sub(1));
            }
            from += before;
            to += after;
        }
        from
    }

    fn measure(&self, draft: &Draft<'_>) -> Measure {
        let options = options(draft.coding, draft.shifts, self.profile);
        // Drafts hold only what their coding holds.
        split::measure(&draft.text, &options).unwrap_or(Measure { segments: 0, units: 0 })
    }

    fn segments(&self, draft: &Draft<'_>) -> usize {
        self.measure(draft).segments
    }

    fn finish(&self, draft: Draft<'_>, max_segments: Option<NonZeroU8>) -> Result<Plan, PlanError> {
        let measure = self.measure(&draft);
        let Draft { coding, shifts, text, replaced, forced_by } = draft;
        let options = options(coding, shifts, self.profile);
        let aired = SplitOptions { transport: on_air(options.transport), ..options };
        let segments_on_air = match options.transport {
            Transport::Payload => split::count(&text, measure.units, &aired),
            _ => measure.segments,
        };
        let segments = limit(measure, segments_on_air, self.profile, max_segments)?;
        let data_codings = self.profile.data_coding;
        Ok(Plan {
            coding,
            data_coding: DataCoding(match coding {
                Coding::Ucs2 => data_codings.ucs2,
                _ => data_codings.default,
            }),
            segments,
            segments_on_air,
            units: measure.units,
            forced_by,
            replaced,
            content: Content::Text(text.into_owned()),
            options,
        })
    }
}

/// The number of messages, when neither the carrier nor the caller has a limit below it.
fn limit(
    Measure { segments, units }: Measure,
    segments_on_air: usize,
    profile: &Profile,
    max_segments: Option<NonZeroU8>,
) -> Result<u8, PlanError> {
    let most_units = profile.max_units.and_then(|most| usize::try_from(most.get()).ok());
    if let Some(allowed) = most_units.filter(|&most| units > most) {
        return Err(PlanError::TooManyUnits { units, allowed, needed: segments_on_air });
    }
    let most = max_segments.map_or(profile.max_segments, |most| most.min(profile.max_segments));
    let (needed, allowed) = (segments_on_air, most.get().into());
    match u8::try_from(segments) {
        Ok(segments) if needed <= allowed => Ok(segments),
        _ => Err(PlanError::TooManySegments { needed, allowed, units }),
    }
}

/// Whether a text of this coding may hold `character`.
///
/// What comes under `data_coding` 0 in another alphabet goes on in the GSM one, and an SMSC drops
/// what that lacks: so both must hold it.
fn holds(coding: Coding, shifts: Shifts, character: char) -> bool {
    let held = coding.units(character, shifts).is_some();
    match coding {
        Coding::Gsm7 | Coding::Ucs2 | Coding::Binary => held,
        Coding::Latin1 | Coding::Ascii | Coding::Cp1252 => {
            held && Coding::Gsm7.units(character, Shifts::NONE).is_some()
        }
    }
}

fn options(coding: Coding, shifts: Shifts, profile: &Profile) -> SplitOptions {
    SplitOptions {
        coding,
        shifts,
        policy: profile.policy,
        transport: profile.long,
        reference: 0,
        max_segments: u8::MAX,
        packed: profile.packed,
    }
}

/// How the handset gets a long message: an SMSC cuts a `message_payload` as if we had.
const fn on_air(transport: Transport) -> Transport {
    match transport {
        Transport::Payload => Transport::Udh8,
        transport => transport,
    }
}

fn normalise<'a>(text: &'a str, profile: &Profile) -> Cow<'a, str> {
    match line_breaks(text, profile.newline) {
        Cow::Borrowed(text) if profile.nfc => compose(text).map_or(Cow::Borrowed(text), Cow::Owned),
        Cow::Owned(text) if profile.nfc => Cow::Owned(compose(&text).unwrap_or(text)),
        text => text,
    }
}

fn line_breaks(text: &str, newline: Newline) -> Cow<'_, str> {
    let lf = match text.contains('\r') {
        true => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
        false => Cow::Borrowed(text),
    };
    match newline {
        Newline::Crlf if lf.contains('\n') => Cow::Owned(lf.replace('\n', "\r\n")),
        _ => lf,
    }
}

/// The form NFC of `text`, when that is another text.
///
/// The compatibility ideographs stay: NFC would turn `\u{FA19}`, as a name is written, into `神`.
fn compose(text: &str) -> Option<String> {
    if all_plain(text) || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return None;
    }
    let ideograph = |c| matches!(c, '\u{F900}'..='\u{FAFF}' | '\u{2F800}'..='\u{2FA1F}');
    let mut composed = String::with_capacity(text.len());
    for run in text.split_inclusive(ideograph) {
        let kept = run.chars().next_back().filter(|&last| ideograph(last));
        let rest = run.strip_suffix(|c| kept == Some(c)).unwrap_or(run);
        composed.extend(rest.nfc().chain(kept));
    }
    (composed != text).then_some(composed)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::national::National;
    use super::super::profile::DefaultAlphabet;
    use super::super::repertoire::Preset;
    use super::super::repertoire::Repertoire;
    use super::*;

    fn auto(text: &str, profile: &Profile) -> Plan {
        plan(text, EncodingChoice::Auto, profile, None).unwrap()
    }

    fn fault(index: usize, character: char) -> Fault {
        Fault { index, character }
    }

    #[test]
    fn the_cheapest_coding_that_holds_the_text_is_taken() {
        let gsm = auto("Pay €5 [¥]", &Profile::default());
        assert_eq!((gsm.coding, gsm.data_coding, gsm.units), (Coding::Gsm7, DataCoding(0), 13));
        assert_eq!(gsm.forced_by, None);
        let ucs2 = auto("Pay 5円", &Profile::default());
        assert_eq!((ucs2.coding, ucs2.data_coding, ucs2.units), (Coding::Ucs2, DataCoding(8), 6));
        assert_eq!(ucs2.forced_by, Some(fault(5, '円')));
        let asked = plan("a", EncodingChoice::Ucs2, &Profile::default(), None).unwrap();
        assert_eq!((asked.coding, asked.forced_by), (Coding::Ucs2, None));
    }

    #[test]
    fn gsm_by_request_tells_all_that_stands_in_the_way() {
        let refused = plan("ア`b日", EncodingChoice::Gsm7, &Profile::default(), None);
        let faults = vec![fault(0, 'ア'), fault(1, '`'), fault(3, '日')];
        assert_eq!(refused, Err(PlanError::Unencodable { faults, set: "gsm7" }));
        let many = plan(&"日".repeat(99), EncodingChoice::Gsm7, &Profile::default(), None);
        assert!(matches!(many, Err(PlanError::Unencodable { faults, .. }) if faults.len() == 32));
    }

    #[test]
    fn another_default_alphabet_takes_only_what_gsm_has_too() {
        let latin = Profile { default_alphabet: DefaultAlphabet::Latin1, ..Profile::default() };
        assert_eq!(auto("é_@", &latin).segments(0)[0].payload(), b"\xE9_@");
        assert_eq!(auto("é_@", &latin).coding, Coding::Latin1);
        // Latin-1 has both, and the SMSC would drop the first.
        assert_eq!(auto("ç", &latin).coding, Coding::Ucs2);
        assert_eq!(auto("€", &latin).coding, Coding::Ucs2);
        let cp1252 = Profile { default_alphabet: DefaultAlphabet::Cp1252, ..Profile::default() };
        assert_eq!(auto("€", &cp1252).segments(0)[0].payload(), [0x80]);
        let ascii = Profile { default_alphabet: DefaultAlphabet::Ascii, ..Profile::default() };
        assert_eq!(
            (auto("a", &ascii).coding, auto("é", &ascii).coding),
            (Coding::Ascii, Coding::Ucs2)
        );
    }

    #[test]
    fn decomposed_letters_are_joined_and_names_keep_their_kanji() {
        let profile = Profile::default();
        let joined = auto("か\u{3099}a\u{30A}", &profile);
        assert_eq!((joined.text(), joined.units), ("がå", 2));
        assert_eq!(auto("\u{FA19}\u{FA1B}か\u{3099}", &profile).text(), "\u{FA19}\u{FA1B}が");
        let kept = Profile { nfc: false, ..Profile::default() };
        assert_eq!(auto("か\u{3099}", &kept).units, 2);
    }

    #[test]
    fn places_are_those_of_the_text_as_it_was_given() {
        let text = "a\r\nc\u{327}b\r\n日x";
        let forced = auto(text, &Profile { newline: Newline::Lf, ..Profile::default() });
        assert_eq!((forced.text(), forced.forced_by), ("a\nçb\n日x", Some(fault(3, 'ç'))));
        let later = auto("a\r\ne\u{301}\r日", &Profile::default());
        assert_eq!(later.forced_by, Some(fault(6, '日')));
    }

    #[test]
    fn line_breaks_are_sent_as_the_carrier_wants_them() {
        let crlf = Profile { newline: Newline::Crlf, ..Profile::default() };
        for text in ["a\nb", "a\r\nb", "a\rb"] {
            assert_eq!(auto(text, &Profile::default()).text(), "a\nb");
            assert_eq!((auto(text, &crlf).text(), auto(text, &crlf).units), ("a\r\nb", 4));
        }
    }

    #[test]
    fn national_tables_are_used_where_they_save_segments() {
        let turkish = Profile { national_shifts: vec![National::Turkish], ..Profile::default() };
        // 70 letters and fewer are one segment in UCS-2 as well, and that works everywhere.
        assert_eq!(auto(&"ş".repeat(70), &turkish).coding, Coding::Ucs2);
        let saved = auto(&"ş".repeat(71), &turkish);
        assert_eq!((saved.coding, saved.segments, saved.units), (Coding::Gsm7, 1, 71));
        assert_eq!(saved.shifts().locking, Some(National::Turkish));
        let asked = plan("ş", EncodingChoice::Gsm7, &turkish, None).unwrap();
        assert_eq!((asked.coding, asked.segments(0)[0].udhi()), (Coding::Gsm7, true));
        // No header may stand beside SAR parameters.
        let sar = Profile { long: Transport::Sar, ..turkish };
        assert_eq!(auto(&"ş".repeat(200), &sar).coding, Coding::Ucs2);
    }

    #[test]
    fn typography_is_simplified_only_where_that_saves_unicode() {
        let plain = Profile { map_presets: vec![Preset::Punctuation], ..Profile::default() };
        let saved = auto("“It’s” – 5…", &plain);
        assert_eq!((saved.coding, saved.text()), (Coding::Gsm7, "\"It's\" - 5..."));
        let first = Replaced { index: 0, from: '“', to: "\"".to_owned() };
        assert_eq!((saved.replaced.len(), saved.replaced.first()), (5, Some(&first)));
        let kept = auto("“日”", &plain);
        assert_eq!((kept.text(), kept.replaced.len()), ("“日”", 0));
        assert_eq!(kept.forced_by, Some(fault(1, '日')));
        let own = Profile { map: [('“', "<<".to_owned())].into(), ..plain };
        assert_eq!(auto("“a", &own).text(), "<<a");
    }

    fn au() -> Profile {
        Profile { charset_short: Some(Repertoire::ShiftJis), ..Profile::default() }
    }

    #[test]
    fn a_short_text_must_go_through_shift_jis_and_a_long_one_not() {
        let refused = plan("東京😀髙", EncodingChoice::Auto, &au(), None);
        let faults = vec![fault(2, '😀'), fault(3, '髙')];
        assert_eq!(refused, Err(PlanError::Unencodable { faults, set: "shift_jis" }));
        let long = format!("{}😀", "あ".repeat(69));
        assert_eq!(auto(&long, &au()).units, 71);
        let latin = plan("é", EncodingChoice::Auto, &au(), None);
        assert!(matches!(latin, Err(PlanError::Unencodable { set: "shift_jis", .. })));
    }

    #[test]
    fn a_map_makes_a_short_text_fit_and_leaves_a_long_one_alone() {
        let presets = vec![Preset::JisVariants, Preset::SpelledOut];
        let map = [('髙', "高".to_owned())].into();
        let profile = Profile { map_presets: presets, map, ..au() };
        let mapped = auto("髙い～㈱—①", &profile);
        assert_eq!(mapped.text(), "高い〜(株)―(1)");
        let indexes: Vec<usize> = mapped.replaced.iter().map(|it| it.index).collect();
        assert_eq!(indexes, [0, 2, 3, 4, 5]);
        // With its replacement it is too long for Shift_JIS, so it goes as it is.
        let grown = auto(&format!("{}㈱", "あ".repeat(69)), &profile);
        assert_eq!((grown.units, grown.replaced.len()), (70, 0));
        assert!(grown.text().ends_with('㈱'));
    }

    #[test]
    fn too_long_is_an_error_with_the_numbers() {
        let three = NonZeroU8::new(3);
        let over = plan(&"あ".repeat(202), EncodingChoice::Auto, &Profile::default(), three);
        let error = PlanError::TooManySegments { needed: 4, allowed: 3, units: 202 };
        assert_eq!(over, Err(error.clone()));
        assert_eq!(
            error.to_string(),
            "the text needs 4 segments (202 units), at most 3 are allowed"
        );
        let few = Profile { max_units: NonZeroU32::new(332), ..Profile::default() };
        let over = plan(&"あ".repeat(333), EncodingChoice::Auto, &few, None);
        assert_eq!(over, Err(PlanError::TooManyUnits { units: 333, allowed: 332, needed: 5 }));
    }

    #[test]
    fn a_payload_is_one_message_and_counts_as_many_on_air() {
        let profile = Profile { long: Transport::Payload, ..Profile::default() };
        let long = auto(&"あ".repeat(670), &profile);
        assert_eq!((long.segments, long.segments_on_air, long.needs_payload()), (1, 10, true));
        let segments = long.segments(1);
        assert_eq!((segments.len(), segments[0].user_data.len()), (1, 1_340));
        assert!(!auto("short", &profile).needs_payload());
        let over = plan(&"あ".repeat(671), EncodingChoice::Auto, &profile, None);
        assert!(matches!(over, Err(PlanError::TooManySegments { needed: 11, .. })));
    }

    fn octets(count: usize, udh: &[u8], profile: &Profile) -> Result<Plan, PlanError> {
        binary(Bytes::from(vec![7; count]), udh, None, profile, None)
    }

    #[test]
    fn octets_are_cut_behind_their_header() {
        let ports = [6, 5, 4, 0x0B, 0x84, 0x23, 0xF0];
        let one = octets(133, &ports, &Profile::default()).unwrap();
        assert_eq!((one.coding, one.data_coding), (Coding::Binary, DataCoding(4)));
        assert_eq!(one.segments(1)[0].user_data.len(), 140);
        let two = octets(134, &ports, &Profile::default()).unwrap().segments(0x1FF);
        assert_eq!(two[0].udh(), [11, 0, 3, 0xFF, 2, 1, 5, 4, 0x0B, 0x84, 0x23, 0xF0]);
        assert_eq!((two[0].payload().len(), two[1].payload().len()), (128, 6));
        let bare = octets(141, &[], &Profile { long: Transport::Sar16, ..Profile::default() });
        let bare = bare.unwrap().segments(0x1FF);
        assert_eq!((bare[0].udhi(), bare[0].payload().len()), (false, 133));
        assert_eq!(bare[1].sar.map(|sar| (sar.reference, sar.seq)), Some((0x1FF, 2)));
        let none = octets(0, &[], &Profile::default()).unwrap().segments(1);
        assert_eq!((none.len(), none[0].user_data.len()), (1, 0));
    }

    #[test]
    fn a_header_that_is_none_is_refused() {
        let bad = octets(1, &[6, 5], &Profile::default());
        assert_eq!(bad, Err(PlanError::BadHeader { said: 6, found: 1 }));
        let mut long = vec![0x70; 70];
        long[0] = 69;
        let long = octets(1, &long, &Profile::default());
        assert_eq!(long, Err(PlanError::HeaderTooLong { octets: 70, allowed: 64 }));
        // Who cuts for himself cuts small enough.
        let parted = octets(141, &[5, 0, 3, 1, 2, 1], &Profile::default());
        let error = PlanError::TooManySegments { needed: 2, allowed: 1, units: 141 };
        assert_eq!(parted, Err(error));
    }
}
