//! What a push says where it does not say what was written.

use protocol::rest::Language;

/// That there are so many new messages.
pub(super) fn messages(language: Language, count: u64) -> String {
    match (language, count) {
        (Language::En, ..=1) => "New message".to_owned(),
        (Language::En, _) => format!("{count} new messages"),
        (Language::Pt, ..=1) => "Nova mensagem".to_owned(),
        (Language::Pt, _) => format!("{count} novas mensagens"),
    }
}

/// A text, and that there are so many messages beside it.
pub(super) fn with_more(text: &str, more: u64) -> String {
    if more == 0 { text.to_owned() } else { format!("{text} (+{more})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_is_not_several() {
        assert_eq!(messages(Language::En, 1), "New message");
        assert_eq!(messages(Language::En, 3), "3 new messages");
        assert_eq!(messages(Language::Pt, 3), "3 novas mensagens");
        assert_eq!((with_more("Hello", 0), with_more("Hello", 2)), ("Hello".to_owned(), "Hello (+2)".to_owned()));
    }
}
