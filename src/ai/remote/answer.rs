//! What is believed of an answer: nothing that was not asked for, no number out of range, no text out of bounds.
//!
//! One thing wrong makes the whole answer wrong, except a text with a link or an address in it: members write the texts
//! that the service reads, and one who got it to repeat a link must not take the answer from everybody else.

use std::collections::BTreeMap;

use protocol::{
    limits,
    rest::ai::{ProfileField, Reason, ReasonKind},
};
use serde::Deserialize;

use super::question::{label, wordable};
use crate::ai::{Circle, Person, Suggestion, Wording, profile, rounded, words::tidy_spaces};

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Introductions {
    introductions: Vec<Introduction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Introduction {
    candidate: String,
    reason: String,
    confidence: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wordings {
    wordings: Vec<Worded>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Worded {
    field: String,
    suggestion: String,
    reason: String,
    confidence: f64,
}

/// What is wrong with an answer. Never repeats any of it.
type Problem = String;

/// What the model said.
pub(super) fn content(body: &[u8]) -> Result<String, Problem> {
    let completion: Completion = serde_json::from_slice(body).map_err(|_| "it is not a chat completion".to_owned())?;
    let message = completion.choices.into_iter().next().map(|choice| choice.message);
    message.and_then(|message| message.content).ok_or_else(|| "it says nothing".to_owned())
}

/// The introductions in an answer.
pub(super) fn suggestions(content: &str, circle: &Circle) -> Result<Vec<Suggestion>, Problem> {
    let Introductions { introductions } = parse(content)?;
    if introductions.len() > limits::INTRODUCTIONS_MAX {
        return Err("it has too many introductions".to_owned());
    }
    let mut open: BTreeMap<String, _> =
        circle.candidates.iter().enumerate().map(|(place, candidate)| (label(place), candidate.person.id)).collect();
    let mut suggestions = Vec::new();
    for Introduction { candidate, reason, confidence } in introductions {
        let member = open.remove(&candidate).ok_or("it names a candidate that was not sent, or one twice")?;
        let (text, confidence) = (text(&reason, limits::REASON_MAX_CHARS)?, checked(confidence)?);
        if harmless(&text) {
            let reasons = vec![Reason { kind: ReasonKind::Service, text }];
            suggestions.push(Suggestion { member, reasons, confidence });
        }
    }
    if suggestions.is_empty() { Err("nothing in it can be used".to_owned()) } else { Ok(suggestions) }
}

/// The wordings in an answer. None is an answer too.
pub(super) fn wordings(content: &str, own: &Person) -> Result<Vec<Wording>, Problem> {
    let Wordings { wordings } = parse(content)?;
    let mut open: BTreeMap<&str, ProfileField> = wordable(own).into_iter().collect();
    let mut found = Vec::new();
    for Worded { field, suggestion, reason, confidence } in wordings {
        let field = open.remove(field.as_str()).ok_or("it names a field that was not sent, or one twice")?;
        let suggestion = text(&suggestion, limits::CONTACT_MAX_CHARS)?;
        let (reason, confidence) = (text(&reason, limits::REASON_MAX_CHARS)?, checked(confidence)?);
        let current = if field == ProfileField::Company { &own.company } else { &own.position };
        if harmless(&suggestion) && harmless(&reason) && current.as_deref() != Some(suggestion.as_str()) {
            found.push(Wording { field, suggestion: Some(suggestion), reason, confidence });
        }
    }
    Ok(found)
}

fn parse<T: for<'de> Deserialize<'de>>(content: &str) -> Result<T, Problem> {
    serde_json::from_str(content).map_err(|_| "it does not follow the schema".to_owned())
}

fn checked(confidence: f64) -> Result<f64, Problem> {
    // NaN is in no range.
    if (0.0..=1.0).contains(&confidence) {
        Ok(rounded(confidence))
    } else {
        Err("a confidence is out of range".to_owned())
    }
}

fn text(text: &str, chars_max: usize) -> Result<String, Problem> {
    let disguised = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let tidy = tidy_spaces(text);
    if !(1..=chars_max).contains(&tidy.chars().count()) || tidy.chars().any(disguised) {
        return Err("a text is empty, too long, or has invisible characters".to_owned());
    }
    Ok(tidy)
}

/// Whether a text leads nowhere outside the club.
fn harmless(text: &str) -> bool {
    let text = text.to_lowercase();
    let digits = text.chars().filter(char::is_ascii_digit).count();
    !["://", "www.", "@"].iter().any(|lead| text.contains(lead)) && digits < profile::PHONE_DIGITS_MIN
}

#[cfg(test)]
mod tests {
    use protocol::{MemberId, model::Tier};
    use serde_json::{Value, json};

    use super::*;
    use crate::ai::Candidate;

    fn circle() -> Circle {
        let person = |id: u8| Person {
            id: MemberId::from_bytes([id; 12]),
            tier: Tier::Socio,
            company: Some("Acme".to_owned()),
            position: None,
            has_picture: false,
        };
        let candidate = |id| Candidate { person: person(id), contacts_in_common: 0 };
        Circle { own: person(0), candidates: vec![candidate(1), candidate(2)] }
    }

    fn introduced(introductions: &Value) -> Result<Vec<(u8, f64)>, Problem> {
        let found = suggestions(&json!({ "introductions": introductions }).to_string(), &circle())?;
        Ok(found.iter().map(|suggestion| (suggestion.member.as_bytes()[0], suggestion.confidence)).collect())
    }

    fn one(candidate: &str, reason: &str, confidence: f64) -> Value {
        json!({ "candidate": candidate, "reason": reason, "confidence": confidence })
    }

    #[test]
    fn candidates_that_were_sent_are_believed() {
        let answer = json!([one("c2", " Both  build rockets. ", 0.876), one("c1", "Same city.", 0.0)]);
        assert_eq!(introduced(&answer), Ok(vec![(2, 0.88), (1, 0.0)]));
    }

    #[test]
    fn one_thing_wrong_makes_the_answer_wrong() {
        let good = one("c1", "Both build rockets.", 0.5);
        for bad in [
            one("c3", "x", 0.5),
            one("c1", "again", 0.5),
            one("020202020202020202020202", "x", 0.5),
            one("c2", "x", 1.01),
            one("c2", "x", -0.1),
            one("c2", " ", 0.5),
            one("c2", &"x".repeat(301), 0.5),
            one("c2", "a\u{202e}b", 0.5),
            one("c2", "a\u{7}b", 0.5),
            json!({ "candidate": "c2", "reason": "x" }),
            json!({ "candidate": "c2", "reason": "x", "confidence": "high" }),
            json!({ "candidate": "c2", "reason": "x", "confidence": 0.5, "phone": "1" }),
        ] {
            assert!(introduced(&json!([good, bad])).is_err(), "{bad}");
        }
        assert!(introduced(&json!([])).is_err(), "nobody at all");
        assert!(suggestions("I cannot help with that.", &circle()).is_err());
        assert!(suggestions(r#"{"introductions": [{"candidate": "c1", "rea"#, &circle()).is_err());
    }

    #[test]
    fn a_link_costs_its_own_introduction_and_no_other() {
        let linked = |text: &str| introduced(&json!([one("c1", text, 0.5), one("c2", "Same city.", 0.5)]));
        for text in ["See https://evil.example", "www.evil.example", "write to a@evil.example", "call 912 345 678"] {
            assert_eq!(linked(text), Ok(vec![(2, 0.5)]), "{text}");
        }
    }

    #[test]
    fn wordings_are_of_fields_that_were_sent() {
        let own = circle().own;
        let worded = |field: &str, suggestion: &str| {
            let wording = json!({ "field": field, "suggestion": suggestion, "reason": "Clearer.", "confidence": 0.5 });
            wordings(&json!({ "wordings": [wording] }).to_string(), &own).map(|found| found.len())
        };
        assert_eq!(worded("company", "Acme Corporation"), Ok(1));
        assert_eq!(worded("company", "Acme"), Ok(0), "as it is already");
        assert!(worded("position", "CEO").is_err(), "it was not sent");
        assert!(worded("tier", "Infinity").is_err());
        assert!(worded("company", &"x".repeat(101)).is_err());
        assert_eq!(wordings(r#"{"wordings": []}"#, &own), Ok(vec![]));
    }

    #[test]
    fn a_completion_without_content_says_nothing() {
        assert!(content(br#"{"choices": []}"#).is_err());
        assert!(content(br#"{"choices": [{"message": {"content": null, "refusal": "no"}}]}"#).is_err());
        assert!(content(b"<html>").is_err());
        let good = br#"{"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}"#;
        assert_eq!(content(good), Ok("hi".to_owned()));
    }
}
