//! What is believed of what comes back.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::receipts::{Asked, ID_MAX_BYTES};
use crate::store::push::{AddressHash, RegistrationId};

/// What Expo says about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ticket {
    /// It has taken it. The id of the ticket, if it says one.
    Taken(Option<String>),
    /// Nobody is at the address any more.
    Gone,
    /// It is too long.
    TooLong,
    /// Too many are sent to the device.
    TooMany,
    /// The project lacks what Apple or Google want to see.
    Setup,
    /// It says nothing, or something that nobody knows.
    Unknown,
}

/// What is counted of a receipt that says [`Ticket::Setup`].
pub(super) const SETUP: &str = "setup";

/// What it says about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tickets {
    /// One ticket for each message.
    Each(Vec<Ticket>),
    /// They are of several projects: each, and its addresses.
    Mixed(Vec<(String, Vec<String>)>),
    /// Nothing that can be used.
    Nonsense,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct One {
    status: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    error: Option<String>,
}

impl One {
    fn ticket(self) -> Ticket {
        match (self.status.as_str(), self.details.and_then(|details| details.error).as_deref()) {
            ("ok", _) => Ticket::Taken(self.id.filter(|id| (1..=ID_MAX_BYTES).contains(&id.len()))),
            ("error", Some("DeviceNotRegistered")) => Ticket::Gone,
            ("error", Some("MessageTooBig")) => Ticket::TooLong,
            ("error", Some("MessageRateExceeded")) => Ticket::TooMany,
            ("error", Some("InvalidCredentials" | "MismatchSenderId")) => Ticket::Setup,
            _ => Ticket::Unknown,
        }
    }
}

/// The tickets of a request of so many messages, in their order. One that is missing or cannot be read is unknown.
pub(super) fn tickets(answer: &[u8], count: usize) -> Tickets {
    if let Some(projects) = mixed(answer) {
        return Tickets::Mixed(projects);
    }
    let Ok(Answer { data: Some(data) }) = serde_json::from_slice(answer) else { return Tickets::Nonsense };
    let read = |one| serde_json::from_value::<One>(one).map_or(Ticket::Unknown, One::ticket);
    let mut tickets: Vec<Ticket> = data.into_iter().map(read).collect();
    // Nobody knows which of them are missing.
    if tickets.len() > count {
        return Tickets::Nonsense;
    }
    tickets.resize(count, Ticket::Unknown);
    Tickets::Each(tickets)
}

/// The projects and the addresses of each, if an answer says that there are several.
pub(super) fn mixed(answer: &[u8]) -> Option<Vec<(String, Vec<String>)>> {
    #[derive(Deserialize)]
    struct Refusal {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
        #[serde(default)]
        details: Value,
    }
    let refusal: Refusal = serde_json::from_slice(answer).ok()?;
    let error = refusal.errors.into_iter().find(|error| error.code == "PUSH_TOO_MANY_EXPERIENCE_IDS")?;
    let projects: HashMap<String, Vec<String>> = serde_json::from_value(error.details).ok()?;
    (projects.len() > 1).then(|| projects.into_iter().collect())
}

/// What receipts say: the addresses at which nobody is any more, and those that are to be asked about again.
pub(super) fn receipts(
    answer: &[u8],
    asked: Vec<Asked>,
    mut count: impl FnMut(&'static str),
) -> (Vec<(AddressHash, RegistrationId)>, Vec<Asked>) {
    #[derive(Deserialize)]
    struct Receipts {
        data: HashMap<String, Value>,
    }
    let Ok(Receipts { mut data }) = serde_json::from_slice(answer) else { return (Vec::new(), asked) };
    let (mut gone, mut open) = (Vec::new(), Vec::new());
    for one in asked {
        let Some(receipt) = data.remove(&one.id) else {
            open.push(one);
            continue;
        };
        let ticket = serde_json::from_value::<One>(receipt).map_or(Ticket::Unknown, One::ticket);
        count(match ticket {
            Ticket::Taken(_) => "delivered",
            Ticket::Gone => "gone",
            Ticket::TooLong => "too_long",
            Ticket::TooMany => "too_many",
            Ticket::Setup => SETUP,
            Ticket::Unknown => "failed",
        });
        if ticket == Ticket::Gone {
            gone.push((one.hash, one.registration));
        }
    }
    (gone, open)
}

#[cfg(test)]
mod tests {
    use protocol::Timestamp;
    use serde_json::json;

    use super::*;

    fn read(answer: &Value, count: usize) -> Tickets {
        tickets(&serde_json::to_vec(answer).unwrap(), count)
    }

    #[test]
    fn every_documented_error_of_a_ticket_is_known() {
        let error = |error: &str| json!({ "status": "error", "message": "m", "details": { "error": error } });
        let answer = json!({ "data": [
            { "status": "ok", "id": "a" }, { "status": "ok" }, error("DeviceNotRegistered"), error("MessageTooBig"),
            error("MessageRateExceeded"), error("InvalidCredentials"), error("MismatchSenderId"), error("New"),
            { "status": "error", "message": "m" }, null, "nonsense",
        ] });
        let expected = [
            Ticket::Taken(Some("a".to_owned())),
            Ticket::Taken(None),
            Ticket::Gone,
            Ticket::TooLong,
            Ticket::TooMany,
            Ticket::Setup,
            Ticket::Setup,
            Ticket::Unknown,
            Ticket::Unknown,
            Ticket::Unknown,
            Ticket::Unknown,
            Ticket::Unknown,
        ];
        assert_eq!(read(&answer, 12), Tickets::Each(expected.to_vec()), "one is missing");
        assert_eq!(read(&answer, 3), Tickets::Nonsense, "there are too many");
        for nonsense in [json!(null), json!({}), json!({ "data": {} }), json!("x")] {
            assert_eq!(read(&nonsense, 1), Tickets::Nonsense, "{nonsense}");
        }
    }

    #[test]
    fn messages_of_several_projects_are_told_apart() {
        let details = json!({ "@ana/one": ["ExponentPushToken[a]"], "@ben/two": ["ExponentPushToken[b]"] });
        let answer =
            json!({ "errors": [{ "code": "PUSH_TOO_MANY_EXPERIENCE_IDS", "message": "m", "details": details }] });
        let Tickets::Mixed(mut projects) = read(&answer, 2) else { panic!() };
        projects.sort();
        let expected = [("@ana/one", "ExponentPushToken[a]"), ("@ben/two", "ExponentPushToken[b]")];
        assert_eq!(projects, expected.map(|(project, token)| (project.to_owned(), vec![token.to_owned()])));
        let other = json!({ "errors": [{ "code": "PUSH_TOO_MANY_NOTIFICATIONS", "message": "m" }] });
        assert_eq!(read(&other, 2), Tickets::Nonsense);
    }

    #[test]
    fn a_receipt_that_is_not_there_yet_is_asked_for_again() {
        let asked = |id: &str, byte| {
            let (hash, sent) = (AddressHash([byte; 32]), Timestamp::from_millis(5));
            Asked { id: id.to_owned(), hash, registration: RegistrationId(i64::from(byte)), sent, due: sent }
        };
        let answer = json!({ "data": {
            "a": { "status": "ok" },
            "b": { "status": "error", "message": "m", "details": { "error": "DeviceNotRegistered" } },
            "c": { "status": "error", "message": "m", "details": { "error": "New" } },
        } });
        let mut counted = Vec::new();
        let all = vec![asked("a", 1), asked("b", 2), asked("c", 3), asked("d", 4)];
        let answer = serde_json::to_vec(&answer).unwrap();
        let (gone, open) = receipts(&answer, all.clone(), |outcome| counted.push(outcome));
        assert_eq!(gone, [(AddressHash([2; 32]), RegistrationId(2))]);
        assert_eq!(open, [asked("d", 4)]);
        assert_eq!(counted, ["delivered", "gone", "failed"]);
        assert_eq!(receipts(b"<html>", all.clone(), |_| ()), (Vec::new(), all));
    }
}
