//! Error codes: one enum for frames (`error`) and for REST (problem documents, RFC 9457).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CloseCode, Timestamp};

/// Whether a request that failed is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// No: the same request would fail again.
    Never,
    /// Yes, the same request, after `retry_after_ms`; with backoff where none is given.
    Later,
    /// Yes, with the token of a refresh; if that is refused too, after a new login.
    AfterRefresh,
    /// Yes, after a new login.
    AfterLogin,
    /// Yes, after reading what it was made for again.
    AfterReading,
}

impl Retry {
    /// The answer in words, as the documentation prints it.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Never => "no",
            Self::Later => "yes, after `retry_after_ms`, else with backoff",
            Self::AfterRefresh => "after a refresh, else a new login",
            Self::AfterLogin => "after a new login",
            Self::AfterReading => "after reading it again",
        }
    }
}

macro_rules! error_codes {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident = $code:literal, $status:literal, $title:literal, $retry:ident $(, closes $close:ident)?;
    )*) => {
        /// Why a request failed. A stable word for programs; the `message` or `detail` beside it is for people.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
        pub enum ErrorCode {
            $($(#[doc = $doc])* #[serde(rename = $code)] $name,)*
        }

        impl ErrorCode {
            /// Every error code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status of the HTTP response that carries it.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The type of the problem document (RFC 9457, section 3.1.1).
            #[must_use]
            pub const fn problem_type(self) -> &'static str {
                match self { $(Self::$name => concat!("urn:members-book:problem:", $code),)* }
            }

            /// The title of the problem document: the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Whether the request is sent again.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry,)* }
            }

            /// The close code, if this error ends a WebSocket connection, whichever frame it answers.
            #[must_use]
            pub const fn close_code(self) -> Option<CloseCode> {
                match self { $(Self::$name => error_codes!(@close $($close)?),)* }
            }

            /// What it means and what to do, in a sentence or two.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)*).trim_ascii(),)* }
            }
        }
    };
    (@close) => { None };
    (@close $close:ident) => { Some(CloseCode::$close) };
}

error_codes! {
    /// The frame or body is not a JSON object of the expected form.
    Malformed = "malformed", 400, "Malformed request", Never;
    /// The frame has a `type` that the server does not know.
    UnknownType = "unknown_type", 400, "Unknown frame type", Never;
    /// The first frame of a connection must be `hello`.
    HelloRequired = "hello_required", 400, "Hello required", Never, closes NotTheProtocol;
    /// A second `hello` on one connection. Use `auth.renew` for a new token.
    HelloRepeated = "hello_repeated", 409, "Hello repeated", Never;
    /// A field is missing, has the wrong type or breaks a rule; the error names it.
    ValidationFailed = "validation_failed", 422, "Validation failed", Never;
    /// The message has no content after trimming.
    ContentEmpty = "content_empty", 422, "Empty message", Never;
    /// The message has more than 4,000 characters.
    ContentTooLong = "content_too_long", 422, "Message too long", Never;
    /// A message to oneself.
    MessageToSelf = "message_to_self", 422, "Message to oneself", Never;
    /// The picture cannot be used: it is no JPEG, PNG or WebP, is damaged or cut short, or has too many pixels.
    ImageInvalid = "image_invalid", 422, "Image invalid", Never;
    /// The link from a mail is not good: it or another one for the same was used, it is too old, or the password has changed since. Ask for
    /// another one.
    LinkInvalid = "link_invalid", 422, "Link invalid", Never;
    /// The request carries no access token.
    TokenMissing = "token_missing", 401, "Access token missing", AfterRefresh, closes Unauthorized;
    /// The access token is not one of ours, or not for this connection.
    TokenInvalid = "token_invalid", 401, "Access token invalid", AfterRefresh, closes Unauthorized;
    /// The access token has expired. Refresh it.
    TokenExpired = "token_expired", 401, "Access token expired", AfterRefresh, closes Unauthorized;
    /// The session was logged out or revoked. Log in again.
    SessionRevoked = "session_revoked", 401, "Session revoked", AfterLogin, closes Unauthorized;
    /// Unknown e-mail or wrong password; which of the two is not told.
    InvalidCredentials = "invalid_credentials", 401, "Invalid credentials", Never;
    /// The password is right, and the member has a second factor: send the login again with `second_factor`.
    SecondFactorRequired = "second_factor_required", 401, "Second factor required", Never;
    /// The code of the second factor is wrong, was used before or has expired. Send the login again with another one.
    SecondFactorInvalid = "second_factor_invalid", 401, "Second factor invalid", Never;
    /// The refresh token is unknown or has expired, or its session has ended. Log in again.
    RefreshTokenInvalid = "refresh_token_invalid", 401, "Refresh token invalid", AfterLogin;
    /// The refresh token was used before, and so was what it was exchanged for, or it was exchanged with another `attempt`, so it may have
    /// been stolen: its whole session is revoked. Log in again.
    RefreshTokenReused = "refresh_token_reused", 401, "Refresh token reused", AfterLogin;
    /// The member was deactivated by an administrator.
    MemberDeactivated = "member_deactivated", 403, "Member deactivated", Never, closes Deactivated;
    /// An administrator has suspended the member: they may log in again at `until`, which the problem document names.
    MemberSuspended = "member_suspended", 403, "Member suspended", Never, closes Deactivated;
    /// The registration waits for an administrator, who approves or rejects it. Log in later.
    ApprovalPending = "approval_pending", 403, "Approval pending", Never;
    /// The club takes members by invitation: register with the code of one.
    InvitationRequired = "invitation_required", 403, "Invitation required", Never;
    /// There is no such invitation, or it has expired, was used up or revoked; which of these is not told.
    InvitationInvalid = "invitation_invalid", 403, "Invitation invalid", Never;
    /// The club takes no members at the moment.
    RegistrationClosed = "registration_closed", 403, "Registration closed", Never;
    /// The member has not shown yet that the e-mail address is theirs: open the link in the mail that was sent to it. Logging in with the
    /// right password sends it again.
    EmailUnverified = "email_unverified", 403, "E-mail unverified", Never;
    /// The signed-in member may not do this.
    Forbidden = "forbidden", 403, "Forbidden", Never;
    /// The club demands a second factor of its administrators, and this one has none. Turn one on.
    SecondFactorMissing = "second_factor_missing", 403, "Second factor missing", Never;
    /// This needs a proof of the last 15 minutes of who is at the device: `POST /api/auth/step-up`, then send it again.
    StepUpRequired = "step_up_required", 403, "Step-up required", Never;
    /// There is no such resource.
    NotFound = "not_found", 404, "Not found", Never;
    /// There is no such member.
    MemberNotFound = "member_not_found", 404, "Member not found", Never;
    /// There is no such message among those of the signed-in member.
    MessageNotFound = "message_not_found", 404, "Message not found", Never;
    /// There is no such conversation among those of the signed-in member.
    ConversationNotFound = "conversation_not_found", 404, "Conversation not found", Never;
    /// There is no such recommendation among those of the signed-in member.
    RecommendationNotFound = "recommendation_not_found", 404, "Recommendation not found", Never;
    /// There is no such session among those of the signed-in member that are good.
    SessionNotFound = "session_not_found", 404, "Session not found", Never;
    /// There is no such invitation among those that the signed-in member has made.
    InvitationNotFound = "invitation_not_found", 404, "Invitation not found", Never;
    /// The resource does not know this HTTP method.
    MethodNotAllowed = "method_not_allowed", 405, "Method not allowed", Never;
    /// Another member has this e-mail address already.
    EmailTaken = "email_taken", 409, "E-mail taken", Never;
    /// The club has an administrator already, so nobody sets it up any more. Log in, or register.
    AlreadySetUp = "already_set_up", 409, "Already set up", Never;
    /// The other member of the conversation was deactivated and can receive no messages.
    RecipientDeactivated = "recipient_deactivated", 409, "Recipient deactivated", Never;
    /// The member has a second factor already. Turn it off first.
    SecondFactorEnabled = "second_factor_enabled", 409, "Second factor enabled", Never;
    /// The last active administrator can be neither demoted nor deactivated, and cannot leave.
    LastAdmin = "last_admin", 409, "Last administrator", Never;
    /// The registration was approved already.
    AlreadyDecided = "already_decided", 409, "Already decided", Never;
    /// The member has as many open invitations as they may have, or has made as many within a day as they may make. Revoke one, or wait.
    TooManyInvitations = "too_many_invitations", 409, "Too many invitations", Never;
    /// The resource has changed since the version that `If-Match` names. Read it again.
    Stale = "stale", 412, "Stale version", AfterReading;
    /// The body is over the size limit. On the socket no `error` says so: the connection closes.
    PayloadTooLarge = "payload_too_large", 413, "Payload too large", Never, closes TooLarge;
    /// The body is not of the content type that the resource takes: `application/json`, or `image/jpeg`, `image/png` or
    /// `image/webp` for a photo.
    UnsupportedMediaType = "unsupported_media_type", 415, "Unsupported media type", Never;
    /// The server listens on its own machine only, and the request is for a name that it does not answer to. Its operator sets `PUBLIC_URL` to
    /// where clients reach it.
    Misdirected = "misdirected", 421, "Misdirected request", Never;
    /// The resource is a WebSocket: upgrade the connection.
    UpgradeRequired = "upgrade_required", 426, "Upgrade required", Never;
    /// Too much too fast. Wait `retry_after_ms` (REST: `Retry-After`) and send it again.
    RateLimited = "rate_limited", 429, "Rate limited", Later;
    /// The member has the allowed number of connections already.
    TooManyConnections = "too_many_connections", 429, "Too many connections", Later, closes TooMuch;
    /// A fault of the server; it is logged.
    Internal = "internal", 500, "Internal error", Later;
    /// The server is at its limit and did nothing. Send it again after `retry_after_ms`.
    Overloaded = "overloaded", 503, "Overloaded", Later;
    /// As many registrations wait for an administrator as may wait; this one was not stored. Register later, or with an invitation.
    ApplicationsFull = "applications_full", 503, "Too many registrations wait", Later;
    /// The store cannot be read or written at the moment; nothing was acknowledged. Send it again later.
    Unavailable = "unavailable", 503, "Store unavailable", Later;
    /// The server sends no mail, so there are no links in any. Ask an administrator of the club.
    MailUnavailable = "mail_unavailable", 503, "Mail unavailable", Never;
    /// The server pushes nothing to devices of this kind, so none can be registered.
    PushUnavailable = "push_unavailable", 503, "Push unavailable", Never;
    /// The server is shutting down.
    Draining = "draining", 503, "Shutting down", Later, closes GoingAway;
    /// No answer in time, so whether the request took effect is unknown. Send it again: a message with the same
    /// `client_id` is stored once.
    Timeout = "timeout", 504, "Timed out", Later;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// The derive of utoipa does not see names that come out of a macro.
#[cfg(feature = "openapi")]
crate::openapi::describe!(ErrorCode, {
    "type": "string",
    "description": "Why a request failed: a stable word for programs.",
    "enum": (ErrorCode::ALL),
});

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// The path of the field, such as `contact_info.phone`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// The body of every REST error: a problem document (RFC 9457), `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A URN that identifies the kind of problem.
    #[cfg_attr(feature = "openapi", schema(example = "urn:members-book:problem:validation_failed"))]
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The kind of problem in a few words.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The same code as in `error` frames.
    pub code: ErrorCode,
    /// Every bad field, for `validation_failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// When what is refused for a time will be allowed, for `member_suspended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(optional))]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub until: Option<Timestamp>,
}

impl Problem {
    /// A problem of this kind.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            problem_type: code.problem_type().to_owned(),
            title: code.title().to_owned(),
            status: code.http_status(),
            detail: detail.into(),
            code,
            errors: Vec::new(),
            until: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_written_as_its_name_says() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..600).contains(&code.http_status()), "{code}");
            assert!(!code.meaning().is_empty(), "{code}");
        }
    }
}
