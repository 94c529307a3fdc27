//! Comparing what people write: case, accents, punctuation and words without weight do not matter.

use std::collections::BTreeSet;

use crate::text;

/// Words that say nothing about a company or a position.
const WEIGHTLESS: &[&str] = &[
    "a", "ag", "and", "at", "co", "company", "corp", "da", "das", "de", "do", "dos", "e", "for", "gmbh", "group", "in",
    "inc", "lda", "limited", "llc", "ltd", "of", "sa", "sl", "the",
];

/// The words of a text that carry weight, without case and accents.
#[must_use]
pub fn words(text: &str) -> BTreeSet<String> {
    let all = text::words(text);
    let weighty: BTreeSet<String> = all.iter().filter(|word| !WEIGHTLESS.contains(&word.as_str())).cloned().collect();
    // A company may be called nothing but "The Group".
    if weighty.is_empty() { all.into_iter().collect() } else { weighty }
}

/// How alike two texts are, 0 to 1: the share of their words that both have (Jaccard). 0 when either has none.
#[must_use]
pub fn likeness(one: Option<&str>, other: Option<&str>) -> f64 {
    let (Some(one), Some(other)) = (one, other) else { return 0.0 };
    let (one, other) = (words(one), words(other));
    let all = one.union(&other).count();
    if all == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a field has at most a hundred words")]
    let share = one.intersection(&other).count() as f64 / all as f64;
    share
}

/// One space between words, none around them.
#[must_use]
pub fn tidy_spaces(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every word with a capital first letter and small others, except words that are small in names.
#[must_use]
pub fn title_case(text: &str) -> String {
    const SMALL: &[&str] = &["and", "da", "das", "de", "do", "dos", "e", "of", "van", "von"];
    let cased = text.split_whitespace().enumerate().map(|(place, word)| {
        let small = word.to_lowercase();
        if place > 0 && SMALL.contains(&small.as_str()) { small } else { capitalised(&small) }
    });
    cased.collect::<Vec<_>>().join(" ")
}

/// The text with a capital first letter.
#[must_use]
pub fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().into_iter().flat_map(char::to_uppercase).chain(rest).collect()
}

/// Whether a text has letters, and all of them are small.
#[must_use]
pub fn all_small(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

/// Whether a text shouts: at least five letters in a row, and no small one anywhere. Abbreviations do not.
#[must_use]
pub fn all_capitals(text: &str) -> bool {
    let long = text.split(|c: char| !c.is_alphabetic()).any(|word| word.chars().count() >= 5);
    long && text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_legal_forms_do_not_matter() {
        let alike = |one: &str, other: &str| likeness(Some(one), Some(other));
        assert_eq!(alike("Ação Capital, Lda.", "ACAO CAPITAL"), 1.0);
        assert_eq!(alike("The Group", "group, the"), 1.0);
        assert_eq!(alike("Software Engineer", "Engineer"), 0.5);
        assert_eq!(alike("Acme", "Globex"), 0.0);
        assert_eq!(alike("...", "---"), 0.0);
        assert_eq!(likeness(None, Some("Acme")), 0.0);
        assert_eq!(alike("株式会社", "株式会社"), 1.0);
    }

    #[test]
    fn names_are_cased_as_names_are() {
        assert_eq!(title_case("ANA MARIA DE SOUSA"), "Ana Maria de Sousa");
        assert_eq!(title_case("de souza"), "De Souza");
        assert_eq!(capitalised("élan"), "Élan");
        assert!(all_small("ana lima") && !all_small("Ana") && !all_small("7"));
        assert!(all_capitals("SOFTWARE ENGINEER") && !all_capitals("CEO") && !all_capitals("IBM SA"));
    }
}
