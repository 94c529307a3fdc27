//! Why a request failed, in the words of the protocol; translated into `error` frames and problem documents.

use std::time::Duration;

use protocol::{ErrorCode, FieldError, Timestamp};

/// Why a request failed. It changed nothing, except where the code says that this is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why, for people. Never carries content, tokens or the inside of the server.
    pub message: String,
    /// The bad fields.
    pub fields: Vec<FieldError>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// When what is refused for a time will be allowed.
    pub until: Option<Timestamp>,
    /// The input that a rule of the service objects to, and why, until a surface has worded it ([`Self::worded_for`]).
    pub refused: Option<(Input, &'static str)>,
}

/// An input of the service that the surfaces have different names for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The member that a message is for.
    Receiver,
    /// The place in a list where a page begins.
    PageStart,
}

/// Where a failure is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// An `error` frame.
    Socket,
    /// A problem document.
    Rest,
}

impl Input {
    /// What a surface calls it.
    #[must_use]
    pub const fn name(self, surface: Surface) -> &'static str {
        match (self, surface) {
            (Self::Receiver, Surface::Socket) => "to",
            (Self::Receiver, Surface::Rest) => "receiver_id",
            (Self::PageStart, Surface::Socket) => "after",
            (Self::PageStart, Surface::Rest) => "cursor",
        }
    }
}

impl Failure {
    /// A failure with a message for people.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fields: Vec::new(), retry_after: None, until: None, refused: None }
    }

    /// A failure that says no more than what its code means.
    #[must_use]
    pub fn of(code: ErrorCode) -> Self {
        Self::new(code, code.meaning())
    }

    /// A failure because of one field.
    #[must_use]
    pub fn field(code: ErrorCode, field: &str, message: &str) -> Self {
        let error = FieldError { field: field.to_owned(), message: message.to_owned() };
        Self { fields: vec![error], ..Self::new(code, format!("{field}: {message}")) }
    }

    /// A failure because of an input that each surface has a name of its own for.
    #[must_use]
    pub fn input(code: ErrorCode, input: Input, message: &'static str) -> Self {
        Self { refused: Some((input, message)), ..Self::of(code) }
    }

    /// The same failure in the words of a surface: the message and the bad fields have its names.
    #[must_use]
    pub fn worded_for(self, surface: Surface) -> Self {
        match self.refused {
            Some((input, message)) => {
                Self { retry_after: self.retry_after, ..Self::field(self.code, input.name(surface), message) }
            }
            // There it is a field, and no header.
            None if (self.code, surface) == (ErrorCode::TokenMissing, Surface::Socket) => {
                Self::field(self.code, "token", "the frame carries no access token")
            }
            None => self,
        }
    }

    /// The same failure with a time to wait.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same failure, which is over at a time.
    #[must_use]
    pub fn until(mut self, until: Timestamp, now: Timestamp) -> Self {
        self.until = Some(until);
        self.retry_after(until.since(now))
    }

    /// A message is refused only because an earlier one into the same conversation was, and is waited for.
    #[must_use]
    pub fn earlier_one_first(wait: Duration) -> Self {
        let message = "An earlier message into this conversation was refused. Send that one again first.";
        Self::new(ErrorCode::RateLimited, message).retry_after(wait)
    }

    /// The server is at its limit.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::of(ErrorCode::Overloaded).retry_after(Duration::from_secs(1))
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::of(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_surface_has_its_own_name_for_an_input_in_the_message_and_in_the_field() {
        let failure = || Failure::input(ErrorCode::MessageToSelf, Input::Receiver, "that is yourself");
        for (surface, name) in [(Surface::Socket, "to"), (Surface::Rest, "receiver_id")] {
            let Failure { code, message, fields, .. } = failure().worded_for(surface);
            assert_eq!((code, message), (ErrorCode::MessageToSelf, format!("{name}: that is yourself")));
            assert_eq!(fields.first().map(|error| error.field.as_str()), Some(name));
        }
        let no_token = |surface| Failure::of(ErrorCode::TokenMissing).worded_for(surface);
        assert_eq!(no_token(Surface::Socket).message, "token: the frame carries no access token");
        assert_eq!(no_token(Surface::Rest), Failure::of(ErrorCode::TokenMissing));
        let plain = Failure::of(ErrorCode::Forbidden);
        assert_eq!(plain.clone().worded_for(Surface::Rest), plain);
    }
}
