//! What serde and `serde_json` say is wrong, in the words of JSON: writers of clients, and readers of forms, know no Rust.

use std::borrow::Cow;

/// The same in plain words; what is not known stays as it is.
pub(super) fn in_plain_words(message: &str) -> Cow<'_, str> {
    let of = |begin| message.strip_prefix(begin);
    let typed = of("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "));
    if let Some((found, expected)) = typed {
        return Cow::Owned(format!("must be {}, not {}", kind(expected), value(found)));
    }
    let valued = of("invalid value: ").and_then(|rest| rest.rsplit_once(", expected "));
    if let Some((_, expected)) = valued {
        return Cow::Owned(format!("must be {}", kind(expected)));
    }
    // The names of what there is have no quotes in them, but what was given may.
    let named = of("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected "));
    if let Some((_, expected)) = named {
        return Cow::Owned(format!("must be {}", expected.replace('`', "")));
    }
    Cow::Borrowed(match message {
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => {
            "a lone surrogate escape (\\ud800 to \\udfff); text must be Unicode"
        }
        r"control character (\u0000-\u001F) found while parsing a string" => {
            r"a control character must be escaped, such as \n or \u0001"
        }
        "invalid escape" => r"an escape that JSON does not have, or a \u without four hexadecimal digits",
        _ => message,
    })
}

/// A kind of value that was expected.
fn kind(expected: &str) -> &str {
    match expected {
        "a map" => "an object",
        "a sequence" => "an array",
        "a boolean" => "true or false",
        "a borrowed string" | "string or map" | "map with a single key" => "a string",
        "u8" | "u16" | "u32" | "u64" | "usize" => "an integer that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// What was given. The value itself is known to whoever sent it.
fn value(found: &str) -> &str {
    match found {
        "map" => "an object",
        "sequence" => "an array",
        "null" | "unit" | "unit value" | "Option value" => "null",
        other => match other.split_once(' ').map(|(kind, _)| kind) {
            Some("string") => "a string",
            Some("boolean") => "true or false",
            Some("integer" | "floating") => "a number",
            _ => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        One,
        TwoWords,
        Three,
    }

    #[derive(Debug, Deserialize)]
    struct Thing {
        #[expect(dead_code, reason = "only read from JSON")]
        name: String,
    }

    fn said<T: for<'de> Deserialize<'de> + std::fmt::Debug>(value: Value) -> String {
        in_plain_words(&serde_json::from_value::<T>(value).unwrap_err().to_string()).into_owned()
    }

    /// Found from outside: "invalid type: integer `5`, expected a string".
    #[test]
    fn what_serde_says_is_said_in_the_words_of_json() {
        for (value, given) in [
            (json!(5), "a number"),
            (json!(-1.5), "a number"),
            (json!(true), "true or false"),
            (json!(null), "null"),
            (json!([]), "an array"),
            (json!({}), "an object"),
        ] {
            assert_eq!(said::<String>(value), format!("must be a string, not {given}"));
        }
        assert_eq!(said::<bool>(json!("a, expected b")), "must be true or false, not a string");
        assert_eq!(said::<Vec<String>>(json!({})), "must be an array, not an object");
        assert_eq!(said::<Thing>(json!("x")), "must be an object, not a string");
        assert_eq!(said::<u32>(json!("x")), "must be an integer that is not negative, not a string");
        assert_eq!(said::<u32>(json!(-1)), "must be an integer that is not negative");
        assert_eq!(said::<Word>(json!("`four`, expected `x`")), "must be one of one, two_words, three");
        assert_eq!(said::<Word>(json!(4)), "must be a string, not a number");
        assert_eq!(said::<Word>(json!({ "one": 1, "three": 2 })), "must be a string");
        assert_eq!(in_plain_words("what nobody knows"), "what nobody knows");
    }
}
