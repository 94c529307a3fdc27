//! What an error of the driver, or of the server behind it, means.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use super::StoreError;

/// A unique index refused a write.
pub(super) const DUPLICATE_KEY: i32 = 11_000;
/// The server gave up because the time for the command was over.
const MAX_TIME_EXPIRED: i32 = 50;

/// Characters of a reason that comes from the driver.
const REASON_CHARS: usize = 300;

/// What went wrong in a call.
#[derive(Debug)]
pub(super) enum Fault {
    /// The driver, or the server through it.
    Driver(Error),
    /// The data is not what we wrote.
    Data(String),
    /// A statement of a bulk command was refused, with this code.
    Refused(i32),
    /// It may have been carried out, but no majority has confirmed it in time.
    Undurable,
    /// Ready-made.
    Store(StoreError),
}

impl Fault {
    /// Whether asking again can help: the connection or the server was in trouble, rather than the command.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Driver(error) => is_passing(error),
            Self::Refused(code) => PASSING_CODES.contains(code),
            Self::Undurable => true,
            Self::Store(error) => matches!(error, StoreError::Unavailable(_) | StoreError::Timeout),
            Self::Data(_) => false,
        }
    }

    /// Whether a bulk write that ended with this may have written something: the server has stopped within it.
    pub(super) fn may_have_written(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Undurable | Self::Data(_) => true,
            // The server has refused the command as a whole, or what it did is unknown.
            Self::Driver(error) => !was_not_sent(error) && !matches!(&*error.kind, ErrorKind::Command(_)),
            Self::Store(_) => false,
        }
    }

    /// What it means after a write that was sent: one whose answer was lost may have happened.
    pub(super) fn of_write(self) -> Self {
        match &self {
            Self::Driver(error) if may_have_happened(error) => Self::Undurable,
            _ => self,
        }
    }

    /// Whether the server was never asked.
    pub(super) fn was_not_sent(&self) -> bool {
        match self {
            Self::Driver(error) => was_not_sent(error),
            Self::Store(_) => true,
            Self::Refused(_) | Self::Undurable | Self::Data(_) => false,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<mongodb::bson::error::Error> for Fault {
    fn from(error: mongodb::bson::error::Error) -> Self {
        Self::Data(error.to_string())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Driver(error) => store_error(&error),
            Fault::Data(what) => Self::Inconsistent(what),
            Fault::Refused(code) => Self::Inconsistent(format!("it refused a write with the code {code}")),
            Fault::Undurable => Self::Timeout,
            Fault::Store(error) => error,
        }
    }
}

/// What an error of the driver means for the caller. Never carries what was in a document.
pub(super) fn store_error(error: &Error) -> StoreError {
    match &*error.kind {
        ErrorKind::Command(command) if command.code == MAX_TIME_EXPIRED => StoreError::Timeout,
        ErrorKind::Command(command) => {
            StoreError::Unavailable(format!("it answered {} ({})", command.code_name, command.code))
        }
        ErrorKind::Write(WriteFailure::WriteError(write)) => {
            StoreError::Inconsistent(format!("it refused a write with the code {}", write.code))
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
            StoreError::Unavailable(format!("a write is not durable: {} ({})", concern.code_name, concern.code))
        }
        ErrorKind::InsertMany(_) => StoreError::Inconsistent("it refused a write".to_owned()),
        ErrorKind::Bson(error) => StoreError::Inconsistent(error.to_string()),
        ErrorKind::InvalidResponse { message, .. } => StoreError::Inconsistent(message.clone()),
        ErrorKind::Shutdown => StoreError::Unavailable("it is closed".to_owned()),
        // The driver adds the raw reply of the server to some.
        _ => StoreError::Unavailable(error.to_string().chars().take(REASON_CHARS).collect()),
    }
}

/// The code of a refused command.
pub(super) fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

/// Whether a write was refused by a unique index.
pub(super) fn is_duplicate(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code == DUPLICATE_KEY,
        ErrorKind::Command(command) => command.code == DUPLICATE_KEY,
        _ => false,
    }
}

/// Whether the server was never asked.
fn was_not_sent(error: &Error) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::ServerSelection { .. }
            | ErrorKind::DnsResolve { .. }
            | ErrorKind::Authentication { .. }
            | ErrorKind::InvalidTlsConfig { .. }
            | ErrorKind::InvalidArgument { .. }
            | ErrorKind::Shutdown
    )
}

/// Whether a command may have been carried out although it failed: the connection broke, or no majority has confirmed it.
fn may_have_happened(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Io(_) | ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        // Some of what writes many documents, which nobody repeats.
        ErrorKind::Command(command) => PASSING_CODES.contains(&command.code),
        _ => false,
    }
}

/// Whether asking again can help: the connection or the server was in trouble, rather than the command.
fn is_passing(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Command(command) => PASSING_CODES.contains(&command.code),
        ErrorKind::Bson(_) | ErrorKind::InvalidArgument { .. } | ErrorKind::Shutdown | ErrorKind::Write(_) => false,
        _ => true,
    }
}

/// Codes of a server that is going away, changing its role, late or overloaded, as in the driver specification for
/// retryable writes; and the time limit of a command.
const PASSING_CODES: &[i32] = &[
    6, 7, 24, 50, 64, 89, 91, 112, 134, 189, 202, 262, 317, 384, 462, 9001, 10_058, 10_107, 11_600, 11_602, 13_435,
    13_436,
];
