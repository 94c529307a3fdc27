//! Texts as people look for them: accents and case do not matter.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// The text without accents and case, in compatibility form (UAX 15, NFKD).
#[must_use]
pub fn fold(text: &str) -> String {
    // Lower case first: it may bring further marks (`İ`).
    text.to_lowercase().nfkd().filter(|c| !is_combining_mark(*c)).collect::<String>().to_lowercase()
}

/// The words of a text, folded: what is between characters that are neither letter nor digit.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    fold(text).split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accents_and_case_do_not_matter() {
        assert_eq!(fold("Ângela SÓCIO"), "angela socio");
        assert_eq!(fold("ﬁ İstanbul"), "fi istanbul");
        assert_eq!(words("Sá-Carneiro, João (2nd)"), ["sa", "carneiro", "joao", "2nd"]);
        assert_eq!(words(" — "), Vec::<String>::new());
    }
}
