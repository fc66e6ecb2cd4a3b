//! Characters of daily use that neither join nor change beside others, found without a table.

/// Whether `character` is its own form NFC and a grapheme cluster of its own beside any other of
/// these: Latin letters, kana and the ideographs of daily use.
///
/// One pair is a single cluster all the same: `\r\n`.
pub(super) const fn is_plain(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{2FF}'
            | '\u{3000}'..='\u{3029}'
            | '\u{3030}'..='\u{3098}'
            | '\u{309B}'..='\u{30FF}'
            | '\u{4E00}'..='\u{9FFF}'
            | '\u{FF01}'..='\u{FF9D}'
    )
}

/// Whether all of `text` is.
pub(super) fn all_plain(text: &str) -> bool {
    let octets = text.as_bytes();
    let mut at = 0;
    while let Some(&first) = octets.get(at) {
        at += match first {
            ..0x80 => 1,
            // Up to U+02FF.
            0xC2..=0xCB => 2,
            // U+5000 to U+9FFF.
            0xE5..=0xE9 => 3,
            _ => match text.get(at..).and_then(|rest| rest.chars().next()) {
                Some(character) if is_plain(character) => character.len_utf8(),
                _ => return false,
            },
        };
    }
    true
}

/// Whether a text may be cut between its octets before `cut` and those from there on, as far as
/// that is known without a table.
pub(super) fn stands_apart(text: &str, cut: usize) -> bool {
    let Some((before, behind)) = text.split_at_checked(cut) else { return false };
    match (before.chars().next_back(), behind.chars().next()) {
        (Some('\r'), Some('\n')) => false,
        (Some(before), Some(behind)) => is_plain(before) && is_plain(behind),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_normalization::IsNormalized;
    use unicode_normalization::char::canonical_combining_class;
    use unicode_normalization::is_nfc_quick;
    use unicode_segmentation::GraphemeCursor;

    /// Plain characters, their neighbours in the tables, and some that join.
    const AROUND: &str = "[\u{0}-\u{400}\u{1F00}\u{200B}-\u{200F}\u{302A}\u{3000}-\u{3105}\u{3131}\u{4DFF}-\u{4E10}\u{9FFE}-\u{A010}\u{AC00}\u{1100}\u{F900}\u{FE0F}\u{FF00}-\u{FFA0}\u{1F1E6}\u{1F469}\u{1F3FD}]";

    proptest! {
        #[test]
        fn what_stands_apart_is_the_edge_of_a_cluster(before in AROUND, a in AROUND, b in AROUND) {
            let text = format!("{before}{a}{b}");
            let cut = before.len() + a.len();
            if stands_apart(&text, cut) {
                let mut cursor = GraphemeCursor::new(cut, text.len(), true);
                prop_assert_eq!(cursor.is_boundary(&text, 0), Ok(true), "{:?}", text);
            }
        }
    }

    #[test]
    fn plain_characters_are_their_own_form_nfc_beside_each_other() {
        for character in ('\0'..=char::MAX).filter(|character| is_plain(*character)) {
            let quick = is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes;
            let starts = canonical_combining_class(character) == 0;
            assert!(quick && starts, "{character:?}");
        }
    }

    #[test]
    fn every_plain_character_is_found_by_its_octets() {
        for character in '\0'..=char::MAX {
            let text = character.to_string();
            assert_eq!(all_plain(&text), is_plain(character), "{character:?}");
        }
        assert!(!all_plain("飛か\u{3099}") && all_plain("飛脚 aé\r\n"));
        assert!(!stands_apart("a\r\nb", 2) && stands_apart("a\r\nb", 3) && !stands_apart("ab", 0));
    }
}
