//! Text that members show to each other: names, companies, positions. What cannot be seen, or poses as something else, is
//! refused.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// The name of a member who has left; nobody else can have it.
pub const FORMER_MEMBER: &str = "Former member";
/// The domain of the addresses of members who have left, which nobody else can have: it is nobody's (RFC 6761, section 6.4).
pub const FORMER_DOMAIN: &str = "erased.invalid";
/// Most combining marks in a row, after NFC. Living languages need up to three.
const MARKS_MAX: usize = 4;

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';
const EMOJI_STYLE: char = '\u{fe0f}';

/// The form in which shown text is stored: NFC (UAX 15).
#[must_use]
pub fn normalized(text: &str) -> String {
    text.nfc().collect()
}

/// Checks text that others are shown.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check(text: &str) -> Result<(), &'static str> {
    let characters: Vec<char> = text.nfc().collect();
    if !characters.iter().any(|c| c.is_alphanumeric() && !is_invisible(*c)) {
        return Err("at least one letter or digit that can be seen");
    }
    let mut marks = 0;
    for (at, &c) in characters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| characters.get(at)).copied();
        let after = characters.get(at + 1).copied();
        if c.is_control() {
            return Err("no control characters");
        }
        if is_invisible(c) && !is_needed(c, before, after) {
            return Err("no invisible characters, and none that change the direction of the text");
        }
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        if marks > MARKS_MAX || (marks == 1 && before.is_none_or(char::is_whitespace)) {
            return Err("no accents without a letter, and at most four on one");
        }
    }
    Ok(())
}

/// Whether a name looks like that of a member who has left, whatever its case, width, accents or alphabet.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    skeleton(name) == skeleton(FORMER_MEMBER)
}

/// Whether an e-mail address is one of [`FORMER_DOMAIN`], in any case, with a dot at its end or without.
#[must_use]
pub fn is_of_former_member(email: &str) -> bool {
    let email = email.trim().trim_end_matches('.').to_lowercase();
    email.rsplit_once('@').is_some_and(|(_, domain)| domain == FORMER_DOMAIN)
}

/// What of a text is seen at a glance, in the manner of UTS 39: compatibility form, no accents, no case, no spaces, and
/// the usual letters for those that look like them.
fn skeleton(text: &str) -> String {
    let letters = text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).map(plain);
    letters.filter(|c| c.is_alphanumeric()).collect::<String>().replace("rn", "m")
}

/// The Latin letter that a letter looks like, of those in the reserved name.
fn plain(c: char) -> char {
    match c {
        '0' | '\u{3bf}' | '\u{43e}' | '\u{585}' | '\u{5e1}' | '\u{1d0f}' => 'o',
        '3' | '\u{3b5}' | '\u{435}' | '\u{454}' | '\u{1d07}' | '\u{258}' | '\u{259}' => 'e',
        '\u{3dd}' | '\u{584}' | '\u{a730}' | '\u{192}' | '\u{a799}' => 'f',
        '\u{433}' | '\u{280}' | '\u{1d26}' | '\u{ab47}' | '\u{ab48}' => 'r',
        '\u{43c}' | '\u{1d0d}' | '\u{217f}' => 'm',
        '\u{432}' | '\u{44c}' | '\u{3b2}' | '\u{299}' | '\u{184}' | '\u{185}' | '8' => 'b',
        other => other,
    }
}

/// Characters without a shape of their own (Default_Ignorable_Code_Point of UAX 44, and blanks that are letters), those
/// that change the direction of others, and those whose shape is nobody's (private use).
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffc}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}'
    )
}

/// Whether an invisible character does what it is for: joining letters of scripts that need it, and making emoji.
fn is_needed(c: char, before: Option<char>, after: Option<char>) -> bool {
    let (Some(before), after) = (before, after.unwrap_or(' ')) else { return false };
    match c {
        ZERO_WIDTH_NON_JOINER => joins(before) && joins(after),
        ZERO_WIDTH_JOINER => (joins(before) && (joins(after) || after == ' ')) || (is_emoji(before) && is_emoji(after)),
        EMOJI_STYLE => is_emoji(before) || before.is_ascii_digit(),
        _ => false,
    }
}

/// Letters and marks of scripts whose spelling needs the joiners: Arabic and its relatives, Indic, Khmer, Mongolian.
fn joins(c: char) -> bool {
    matches!(c, '\u{600}'..='\u{8ff}' | '\u{900}'..='\u{dff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{18af}'
        | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10a00}'..='\u{11fff}')
        && (c.is_alphabetic() || is_combining_mark(c))
}

fn is_emoji(c: char) -> bool {
    c == EMOJI_STYLE
        || matches!(c, '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}' | '\u{2190}'..='\u{21ff}'
            | '\u{2300}'..='\u{23ff}' | '\u{25aa}'..='\u{27bf}' | '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2bff}'
            | '\u{1f000}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_the_world_are_shown() {
        for name in [
            "Ana Lima",
            "João Sá-Carneiro",
            "Jose\u{301}",
            "O'Neill (2nd)",
            "Nguyễn Thị Minh Khai",
            "Νίκος",
            "Владимир",
            "山田　太郎",
            "김철수",
            "محمد",
            "می\u{200c}خواهم",
            "क्\u{200d}ष श्री",
            "สมชาย",
            "שָׁלוֹם",
            "Bén Ünïcode 🎩",
            "Ana 👩\u{200d}💻 ❤\u{fe0f}",
            "X Æ A-12",
            "7",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_seen_or_poses_is_refused() {
        for text in [
            "",
            " ",
            "---",
            "🎩",
            "\u{200b}",
            "\u{3164}",
            "\u{115f}\u{1160}\u{ffa0}",
            "\u{2800}",
            "\u{301}\u{302}",
            "\u{301}Ana",
            "Ana \u{301}Lima",
            "A\u{300}\u{316}\u{317}\u{318}\u{319}\u{31a}na",
            "Ana\u{202e}amiL",
            "Ana\u{2066}Lima\u{2069}",
            "Ana\u{200f}",
            "Ana\u{200b}Lima",
            "An\u{200d}a",
            "An\u{200c}a",
            "Ana\u{e0041}\u{e007f}",
            "Ana\u{ad}Lima",
            "Ana\u{fe0f}",
            "Ana\u{f8ff}",
            "Ana\u{feff}",
            "Ana\nLima",
            "Ana\u{2028}Lima",
        ] {
            assert!(check(text).is_err(), "{}", text.escape_unicode());
        }
    }

    #[test]
    fn nobody_poses_as_a_member_who_has_left() {
        for name in [
            "Former member",
            "FORMER MEMBER",
            "former  member",
            "Ｆｏｒｍｅｒ　ｍｅｍｂｅｒ",
            "Fórmer mémber",
            "Former-Member.",
            "Fоrmеr mеmbеr",
            "F0rmer member",
            "Forrner rnember",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["Former members", "A former member", "Member", "Norm Farmer"] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn one_form_is_stored() {
        assert_eq!(normalized("Jose\u{301}"), "José");
    }
}
