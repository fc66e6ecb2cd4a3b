//! What must hold for every text, coding and carrier.

use std::num::NonZeroU8;
use std::num::NonZeroU32;

use hikyaku::pdu::DataCoding;
use hikyaku::text;
use hikyaku::text::Coding;
use hikyaku::text::DefaultAlphabet;
use hikyaku::text::EncodingChoice;
use hikyaku::text::National;
use hikyaku::text::Newline;
use hikyaku::text::Part;
use hikyaku::text::Plan;
use hikyaku::text::PlanError;
use hikyaku::text::Policy;
use hikyaku::text::Preset;
use hikyaku::text::Profile;
use hikyaku::text::Repertoire;
use hikyaku::text::Segment;
use hikyaku::text::Shifts;
use hikyaku::text::SplitError;
use hikyaku::text::SplitOptions;
use hikyaku::text::Transport;
use hikyaku::text::Udh;
use hikyaku::text::plan;
use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

/// Pieces of texts with all that is hard to cut.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[a-z0-9 ]{1,30}",
        4 => "[あ-んア-ン一-龠]{1,30}",
        2 => "[€\\[\\]{}^~|\\\\]{1,20}",
        2 => "[@£$¥èéùìòÇØøÅåΔΦΓΛ_ÆæßÉ§äöñüà]{1,10}",
        1 => Just("\r\n".to_owned()),
        1 => Just("が".to_owned()),
        1 => "(👨‍👩‍👧‍👦|🇯🇵|👍🏽|1️⃣|𠮷|葛󠄀|한|क्षि|กำ้){1,8}",
        1 => "[\u{300}-\u{310}]{1,90}",
        1 => "[ığşĞİŞçÁúãõÕÔ]{1,10}",
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn any_transport() -> impl Strategy<Value = Transport> {
    prop::sample::select(vec![
        Transport::Udh8,
        Transport::Udh16,
        Transport::Sar,
        Transport::Sar16,
        Transport::Payload,
    ])
}

fn any_options() -> impl Strategy<Value = SplitOptions> {
    let codings = vec![Coding::Gsm7, Coding::Latin1, Coding::Ascii, Coding::Cp1252, Coding::Ucs2];
    let language = || prop::option::weighted(0.3, prop::sample::select(&National::ALL[..]));
    (
        prop::sample::select(codings),
        prop::sample::select(vec![Policy::Graphemes, Policy::Units]),
        any_transport(),
        (language(), language()),
        any::<(u16, bool)>(),
    )
        .prop_map(|(coding, policy, transport, (locking, single), (reference, packed))| {
            let locking = locking.filter(|language| language.has_locking());
            let shifts = Shifts { locking, single };
            SplitOptions {
                policy,
                transport,
                shifts,
                reference,
                packed,
                ..SplitOptions::new(coding)
            }
        })
}

/// Only what the coding holds.
fn held(text: &str, options: &SplitOptions) -> String {
    text.chars().filter(|&c| options.coding.units(c, options.shifts).is_some()).collect()
}

/// What a receiver reads.
fn received(segments: &[Segment], coding: Coding, packed: bool) -> String {
    let (data_coding, default_alphabet) = match coding {
        Coding::Ucs2 => (8, DefaultAlphabet::Gsm),
        Coding::Latin1 => (0, DefaultAlphabet::Latin1),
        Coding::Ascii => (0, DefaultAlphabet::Ascii),
        Coding::Cp1252 => (0, DefaultAlphabet::Cp1252),
        Coding::Gsm7 | Coding::Binary => (0, DefaultAlphabet::Gsm),
    };
    let profile = Profile { default_alphabet, packed, ..Profile::default() };
    let read = |segment: &Segment| {
        let (header, octets) = Udh::split(segment.udhi(), &segment.user_data);
        text::decode_parts(DataCoding(data_coding), &profile, &[Some(Part { header, octets })])
            .unwrap()
    };
    segments.iter().map(read).collect()
}

/// Where the segments were cut, in octets of the text.
fn cuts(text: &str, segments: &[Segment], options: &SplitOptions) -> Vec<usize> {
    let mut units = text.char_indices().map(|(at, character)| {
        let units = options.coding.units(character, options.shifts).unwrap();
        (at + character.len_utf8(), units)
    });
    let mut cuts = Vec::new();
    for segment in &segments[..segments.len() - 1] {
        let mut left = segment.units;
        let mut end = 0;
        while left > 0 {
            let (at, units) = units.next().unwrap();
            assert!(units <= left, "a character is cut in two");
            (end, left) = (at, left - units);
        }
        cuts.push(end);
    }
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_split_is_read_again(text in any_text(), options in any_options()) {
        let text = held(&text, &options);
        // The count of septets is not told in SMPP: these two fill the last octet of a packed text.
        let text = if options.packed { text.replace(['@', '\r'], "") } else { text };
        let segments = text::split(&text, &options).unwrap();
        prop_assert_eq!(received(&segments, options.coding, options.packed), &*text);
        let measure = text::measure(&text, &options).unwrap();
        prop_assert_eq!(measure.segments, segments.len());
        prop_assert_eq!(measure.units, segments.iter().map(|s| s.units).sum::<usize>());
    }

    #[test]
    fn no_segment_is_over_its_limit(text in any_text(), options in any_options()) {
        let text = held(&text, &options);
        let segments = text::split(&text, &options).unwrap();
        if options.transport == Transport::Payload {
            prop_assert_eq!(segments.len(), 1);
            return Ok(());
        }
        for segment in &segments {
            // What an SMSC will add to a segment with SAR parameters.
            let added = match segment.sar {
                None => 0,
                Some(_) if options.transport == Transport::Sar16 => 7 - usize::from(segment.udhi()),
                Some(_) => 6 - usize::from(segment.udhi()),
            };
            let header = segment.udh().len() + added;
            let bits = match options.coding {
                Coding::Gsm7 => segment.units * 7,
                Coding::Ucs2 => segment.units * 16,
                _ => segment.units * 8,
            };
            prop_assert!(header * 8 + bits <= 140 * 8, "{header} + {bits} bits");
            let packed = options.packed || options.coding != Coding::Gsm7;
            prop_assert!(!packed || segment.user_data.len() + added <= 140);
        }
    }

    #[test]
    fn cuts_go_between_clusters(text in any_text(), options in any_options()) {
        let text = held(&text, &options);
        let segments = text::split(&text, &options).unwrap();
        let cuts = cuts(&text, &segments, &options);
        for (from, cluster) in text.grapheme_indices(true) {
            let units = cluster.chars().filter_map(|c| options.coding.units(c, options.shifts));
            // The smallest room there is.
            let fits = units.sum::<usize>() <= 66;
            let whole = !cuts.iter().any(|&cut| from < cut && cut < from + cluster.len());
            prop_assert!(options.policy == Policy::Units || !fits || whole, "{cuts:?} {from}");
        }
    }

    #[test]
    fn no_fewer_segments_would_do(text in any_text(), options in any_options()) {
        let options = SplitOptions { policy: Policy::Units, ..options };
        let text = held(&text, &options);
        let segments = text::split(&text, &options).unwrap();
        let most = segments[..segments.len() - 1].iter().map(|s| s.units).max().unwrap_or_default();
        for pair in segments.windows(2) {
            // At most the half of a pair is left free.
            prop_assert!(pair[0].units + 1 >= most, "{} of {most}", pair[0].units);
        }
    }
}

fn any_profile() -> impl Strategy<Value = Profile> {
    let alphabets = vec![
        DefaultAlphabet::Gsm,
        DefaultAlphabet::Latin1,
        DefaultAlphabet::Ascii,
        DefaultAlphabet::Cp1252,
    ];
    let presets =
        vec![Preset::Punctuation, Preset::JisVariants, Preset::SpelledOut, Preset::KanjiVariants];
    let sets = vec![Repertoire::ShiftJis, Repertoire::Cp932];
    (
        prop::sample::select(alphabets),
        any_transport(),
        prop::sample::select(vec![Newline::Lf, Newline::Crlf]),
        prop::sample::subsequence(National::ALL.to_vec(), 0..3),
        prop::option::of(prop::sample::select(sets)),
        prop::sample::subsequence(presets, 0..4),
        any::<(bool, bool)>(),
        1..30_u8,
    )
        .prop_map(|(alphabet, long, newline, shifts, set, presets, (nfc, units), most)| {
            Profile {
                default_alphabet: alphabet,
                long,
                newline,
                national_shifts: shifts,
                charset_short: set,
                map_presets: presets,
                nfc,
                max_units: NonZeroU32::new(2_000).filter(|_| units),
                max_segments: NonZeroU8::new(most).unwrap(),
                ..Profile::default()
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_kept_to_the_letter(
        text in any_text(),
        profile in any_profile(),
        choice in prop::sample::select(vec![
            EncodingChoice::Auto,
            EncodingChoice::Gsm7,
            EncodingChoice::Ucs2,
        ]),
        asked in prop::option::of(1..20_u8),
        reference: u16,
    ) {
        let asked = asked.and_then(NonZeroU8::new);
        let most = usize::from(asked.map_or(profile.max_segments, |it| it.min(profile.max_segments)).get());
        match plan(&text, choice, &profile, asked) {
            Ok(plan) => {
                let segments = plan.segments(reference);
                prop_assert_eq!(segments.len(), usize::from(plan.segments));
                prop_assert!(plan.segments_on_air <= most);
                prop_assert_eq!(segments.iter().map(|s| s.units).sum::<usize>(), plan.units);
                prop_assert_eq!(received(&segments, plan.coding, false), plan.text());
                prop_assert!(choice != EncodingChoice::Ucs2 || plan.coding == Coding::Ucs2);
                prop_assert!(choice != EncodingChoice::Gsm7 || plan.coding != Coding::Ucs2);
                let characters: Vec<char> = text.chars().collect();
                for replaced in &plan.replaced {
                    prop_assert!(replaced.index < characters.len());
                }
                if let Some(fault) = plan.forced_by {
                    prop_assert_eq!(plan.coding, Coding::Ucs2);
                    prop_assert!(fault.index < characters.len());
                    prop_assert!(profile.nfc || characters[fault.index] == fault.character);
                }
            }
            Err(PlanError::TooManySegments { needed, allowed, .. }) => {
                prop_assert_eq!(allowed, most);
                prop_assert!(needed > allowed);
            }
            Err(PlanError::TooManyUnits { units, allowed, .. }) => prop_assert!(units > allowed),
            Err(PlanError::Unencodable { faults, .. }) => {
                prop_assert!(!faults.is_empty() && faults.len() <= 32);
                prop_assert!(choice != EncodingChoice::Auto || profile.charset_short.is_some());
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn anything_received_is_read(
        octets in prop::collection::vec(any::<u8>(), 0..200),
        data_coding: u8,
        udhi: bool,
        packed: bool,
    ) {
        let profile = Profile { packed, ..Profile::default() };
        let (header, octets) = Udh::split(udhi, &octets);
        let part = Some(Part { header, octets });
        let one = text::decode(DataCoding(data_coding), &profile, &header, octets);
        let parts = text::decode_parts(DataCoding(data_coding), &profile, &[part]);
        prop_assert_eq!(one.is_some(), parts.is_some());
    }
}

#[test]
fn six_hundred_and_seventy_japanese_characters_are_ten_segments() {
    let text = "飛脚は江戸の便り".repeat(84).chars().take(670).collect::<String>();
    let through = |text: &str, long| {
        let profile = Profile { long, ..Profile::default() };
        plan(text, EncodingChoice::Auto, &profile, None)
    };
    let ten = through(&text, Transport::Udh8).unwrap();
    assert_eq!((ten.segments, ten.units, ten.coding), (10, 670, Coding::Ucs2));
    assert!(ten.segments(1).iter().all(|s| s.user_data.len() == 140));
    let sixteen = through(&text, Transport::Udh16);
    let too_long = PlanError::TooManySegments { needed: 11, allowed: 10, units: 670 };
    assert_eq!(sixteen, Err(too_long.clone()));
    let fits: String = text.chars().take(660).collect();
    assert_eq!(through(&fits, Transport::Udh16).unwrap().segments, 10);
    let emoji = format!("{}😀{}", "あ".repeat(66), "あ".repeat(602));
    assert_eq!(through(&emoji, Transport::Udh8), Err(too_long));
}

#[test]
fn every_number_of_segments_up_to_255_can_be_written() {
    for segments in [254, 255] {
        let text = "a".repeat(153 * segments);
        let split = text::split(&text, &SplitOptions::new(Coding::Gsm7)).unwrap();
        assert_eq!(split.len(), segments);
        assert_eq!(
            split.last().unwrap().udh(),
            [5, 0, 3, 0, u8::try_from(segments).unwrap(), u8::try_from(segments).unwrap()]
        );
    }
    let over = text::split(&"a".repeat(153 * 255 + 1), &SplitOptions::new(Coding::Gsm7));
    assert_eq!(over, Err(SplitError::TooLong { needed: 256, allowed: 255 }));
}

#[test]
fn a_message_payload_has_a_limit_too() {
    let options = SplitOptions { transport: Transport::Payload, ..SplitOptions::new(Coding::Ucs2) };
    assert_eq!(text::split(&"あ".repeat(32_767), &options).unwrap().len(), 1);
    let over = text::split(&"あ".repeat(32_768), &options);
    assert_eq!(over, Err(SplitError::TooLarge { octets: 65_536, allowed: 65_535 }));
}

#[test]
fn a_log_shows_nothing_of_a_message() {
    let plan: Plan = plan("秘密", EncodingChoice::Auto, &Profile::default(), None).unwrap();
    let shown = format!("{plan:?} {:?}", plan.segments(1));
    assert!(!shown.contains('密') && !shown.contains("5bc6"), "{shown}");
}
