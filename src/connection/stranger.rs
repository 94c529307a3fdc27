//! A connection that nobody has signed in on, without I/O: it says hello, or it is refused. There is nothing else that it could
//! ask for; what a signed-in one can is [`Machine`](super::machine::Machine)'s.

use protocol::{
    ClientFrame, CloseCode, DecodeError, ErrorCode, Request, RequestId, ServerFrame, client::Hello,
    limits::TOO_MUCH_WAIT_MS, server::Error,
};
use tokio::time::Instant;

use super::{Timing, millis, silence::Silence};
use crate::{
    failure::{Failure, Surface},
    hub::{Close, Frame},
};

/// What a stranger has said who wants to sign in.
#[derive(Debug)]
pub(super) struct Greeting {
    /// The id of the request.
    pub(super) id: Option<RequestId>,
    /// The request.
    pub(super) hello: Hello,
}

/// The end of a connection that cannot be served: what is said last, and how it closes.
#[derive(Debug)]
pub(super) struct Farewell {
    /// Why.
    pub(super) frame: Frame,
    /// How.
    pub(super) close: Close,
}

impl Farewell {
    /// Hello was refused, or what has to follow it failed.
    pub(super) fn new(id: Option<&RequestId>, failure: Failure) -> Self {
        let code = failure.code.close_code().unwrap_or(match failure.code {
            ErrorCode::RateLimited => CloseCode::TooMuch,
            ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::Timeout => CloseCode::TryAgainLater,
            _ => CloseCode::Internal,
        });
        let close = Close { code, retry_after_ms: failure.retry_after.map(millis) };
        Self { frame: error(id, failure), close }
    }
}

/// A connection before hello.
#[derive(Debug)]
pub(super) struct Stranger {
    silence: Silence,
}

impl Stranger {
    /// A connection that was just made.
    pub(super) fn new(timing: &Timing, now: Instant) -> Self {
        Self { silence: Silence::new(timing.hello, timing.silence(), now) }
    }

    /// When [`Self::tick`] is due.
    pub(super) fn deadline(&self) -> Instant {
        self.silence.due()
    }

    /// Time has passed: how the connection closes, if it does.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Close> {
        self.silence.is_over(now).then_some(Close::with(CloseCode::TimedOut))
    }
}

/// The first text frame of a connection, decoded.
pub(super) fn first_frame(request: Result<Request, DecodeError>) -> Result<Greeting, Farewell> {
    match request {
        Ok(Request { id, frame: ClientFrame::Hello(hello) }) => Ok(Greeting { id, hello }),
        Ok(Request { id, .. }) => Err(Farewell::new(id.as_ref(), ErrorCode::HelloRequired.into())),
        Err(bad) => Err(Farewell { frame: decode_error(bad), close: Close::with(CloseCode::NotTheProtocol) }),
    }
}

/// How a connection closes that has sent what no client of this protocol sends.
pub(super) fn violation(code: CloseCode) -> Close {
    Close { code, retry_after_ms: (code == CloseCode::TooMuch).then_some(TOO_MUCH_WAIT_MS) }
}

/// A failure as a frame.
pub(super) fn error(id: Option<&RequestId>, failure: Failure) -> Frame {
    let Failure { code, message, fields, retry_after, .. } = failure.worded_for(Surface::Socket);
    let field = fields.into_iter().next().map(|error| error.field);
    let error = Error { code, message, field, retry_after_ms: retry_after.map(millis) };
    Frame::encode(&ServerFrame::Error(error), id)
}

/// What is wrong with a text that is no frame, as a frame.
pub(super) fn decode_error(bad: DecodeError) -> Frame {
    let DecodeError { id, code, field, message } = bad;
    Frame::encode(&ServerFrame::Error(Error { code, message, field, retry_after_ms: None }), id.as_ref())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::Envelope;

    use super::*;
    use crate::connection::TIMING;

    fn said(farewell: &Farewell) -> (ErrorCode, u16) {
        let frame = Envelope::decode(farewell.frame.text()).unwrap().frame;
        let ServerFrame::Error(error) = frame else { panic!("not an error: {frame:?}") };
        (error.code, farewell.close.code.number())
    }

    #[test]
    fn hello_is_all_that_can_be_said() {
        let hello = r#"{"type":"hello","id":"h","token":"t","device":{"id":"d","platform":"ios"}}"#;
        let Greeting { id, hello } = first_frame(Request::decode(hello)).unwrap();
        assert_eq!((id.as_ref().map(RequestId::as_str), hello.token.as_str()), (Some("h"), "t"));
    }

    #[test]
    fn anything_but_hello_first_closes_with_4400() {
        let conversation = "03".repeat(12);
        let read = format!(r#"{{"type":"message.read","id":"1","conversation":"{conversation}","seq":1}}"#);
        for (first, code) in [
            (r#"{"type":"ping"}"#, ErrorCode::HelloRequired),
            (read.as_str(), ErrorCode::HelloRequired),
            ("nonsense", ErrorCode::Malformed),
            (r#"{"type":"dance"}"#, ErrorCode::UnknownType),
            (r#"{"type":"hello","token":"t"}"#, ErrorCode::ValidationFailed),
        ] {
            let farewell = first_frame(Request::decode(first)).unwrap_err();
            assert_eq!(said(&farewell), (code, 4400), "{first}");
        }
    }

    #[test]
    fn without_hello_in_time_it_closes_with_4408() {
        let started = Instant::now();
        let mut stranger = Stranger::new(&TIMING, started);
        let mut closed = None;
        while closed.is_none() {
            let due = stranger.deadline();
            closed = stranger.tick(due).map(|close| (due - started, close.code.number()));
        }
        assert_eq!(closed, Some((Duration::from_secs(10), 4408)));
    }

    #[test]
    fn a_refused_hello_closes_with_the_code_of_its_error() {
        for (code, close) in [
            (ErrorCode::TokenExpired, 4401),
            (ErrorCode::TokenMissing, 4401),
            (ErrorCode::SessionRevoked, 4401),
            (ErrorCode::MemberDeactivated, 4403),
            (ErrorCode::TooManyConnections, 4429),
            (ErrorCode::RateLimited, 4429),
            (ErrorCode::Overloaded, 1013),
            (ErrorCode::Unavailable, 1013),
            (ErrorCode::Timeout, 1013),
            (ErrorCode::Internal, 4500),
        ] {
            assert_eq!(said(&Farewell::new(Some(&"h".parse().unwrap()), code.into())), (code, close));
        }
    }
}
