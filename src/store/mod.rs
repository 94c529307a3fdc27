//! The stores: one trait per aggregate, and the implementations behind them.
//!
//! Only `service` calls a store. What a write returns `Ok` for is durable. Every method is safe to abandon: dropping
//! its future never leaves a change half made, because the work itself runs in the store and not in the caller.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`members`], [`sessions`], [`conversations`], [`audit`], [`recommendations`], [`jobs`], [`invitations`], [`mail`] | the trait of each aggregate and its records |
//! | [`fleet`] | what a store that several nodes share tells each of them |
//! | [`epochs`] | which positions, and so which cursors, are still good |
//! | [`entries`] | entries of a log as they are stored, and the versions of that form |
//! | [`changes`] | what can be changed of a member, the same for every store |
//! | [`second_factor`] | the second factor of a member, and what becomes of it when a code is used |
//! | [`rules`] | the rules of a conversation, decided from facts, the same for every store |
//! | [`sync`] | what is read for a sync |
//! | [`pages`] | how much a page, a list and a sync hold |
//! | [`turns`], [`queue`] | whose a call is, and whose turn it is: what both stores need to be fair |
//! | [`push`] | devices that are told of messages, and what they are to be told |
//! | [`addresses`] | addresses that nobody registers with |
//! | [`archive`] | a store as rows, to move everything to another one |
//! | [`restore`] | what is ended after a backup was restored |
//! | [`sqlite`] | the embedded store |
//! | [`mongo`] | the production store |

pub mod addresses;
pub mod archive;
pub mod audit;
pub mod changes;
pub mod conversations;
pub mod entries;
pub mod epochs;
pub mod fleet;
pub mod invitations;
pub mod jobs;
pub mod lists;
pub mod mail;
pub mod members;
pub mod mongo;
mod pages;
pub mod push;
mod queue;
pub mod recommendations;
pub mod restore;
mod rules;
pub mod second_factor;
pub mod sessions;
pub mod sqlite;
pub mod sync;
pub mod turns;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use protocol::ErrorCode;

pub use archive::Archive;
pub use audit::AuditStore;
pub use conversations::{ConversationLog, ConversationStore, Recovery};
pub use fleet::FleetStore;
pub use invitations::InvitationStore;
pub use jobs::JobStore;
pub use mail::MailStore;
pub use members::MemberStore;
pub use push::PushStore;
pub use recommendations::RecommendationStore;
pub use sessions::SessionStore;

use crate::failure::Failure;
use conversations::{ConversationCounts, StoreId};

/// Why the store could not do what was asked. Nothing was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read or written at the moment: no space, an I/O error, no connection.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Its queue is full; nothing was tried.
    #[error("the store is overloaded")]
    Overloaded,
    /// No answer in time: whether it happened is unknown.
    #[error("the store did not answer in time")]
    Timeout,
    /// It contradicts itself or us: a fault in the code or in the data.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(String),
}

impl StoreError {
    /// Whether what was asked for may have happened all the same.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Timeout | Self::Inconsistent(_))
    }

    /// What kind it is, for the metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::Inconsistent(_) => "inconsistent",
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            // The reason is the operator's, and is logged where it arises.
            StoreError::Unavailable(_) => Self::of(ErrorCode::Unavailable).retry_after(Duration::from_secs(5)),
            StoreError::Overloaded => Self::overloaded(),
            StoreError::Timeout => Self::of(ErrorCode::Timeout).retry_after(Duration::from_secs(1)),
            StoreError::Inconsistent(reason) => {
                tracing::error!(reason, "a fault in the store or its data");
                Self::of(ErrorCode::Internal)
            }
        }
    }
}

/// What a store is as a whole.
#[async_trait]
pub trait Backend: Send + Sync {
    /// One line for people: which kind, and where. No credentials.
    fn describe(&self) -> String;

    /// Waits until it is known whether this process may use it. One that does not answer at the moment may be used.
    ///
    /// # Errors
    /// Another process uses it that does not share it; the message says which.
    async fn opened(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether it can be read and written.
    ///
    /// # Errors
    /// The reason why not.
    async fn check(&self) -> Result<(), StoreError>;

    /// Which database this is.
    fn store_id(&self) -> StoreId;

    /// How many conversations and messages there are.
    ///
    /// # Errors
    /// The store.
    async fn count(&self) -> Result<ConversationCounts, StoreError>;

    /// How large it is, in bytes.
    ///
    /// # Errors
    /// The store.
    async fn size(&self) -> Result<u64, StoreError>;

    /// Ends what a restored backup has brought back: all sessions and links, mails that wait, and open invitations unless they are to be
    /// kept; with what the audit log keeps of it. Takes the time that it needs. May be made again: it ends what is left, and tells of that
    /// only. No server may use the store meanwhile.
    ///
    /// # Errors
    /// The store: some of it may be ended.
    async fn end_after_restore(&self, ending: restore::Ending) -> Result<restore::Ended, StoreError>;

    /// Finishes what is under way and closes. Later calls fail with [`StoreError::Unavailable`].
    async fn close(&self);
}

/// A store: its aggregates, whichever implementation is behind them.
#[derive(Clone)]
pub struct Store {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Sessions and their refresh tokens.
    pub sessions: Arc<dyn SessionStore>,
    /// Conversations with their watermarks and receipts, to be read.
    pub conversations: Arc<dyn ConversationStore>,
    /// Their logs, to be written.
    pub log: Arc<dyn ConversationLog>,
    /// What is to be finished after others; nothing where there are no others.
    pub recovery: Option<Arc<dyn Recovery>>,
    /// What it tells of other nodes; nothing where there are no others.
    pub fleet: Option<Arc<dyn FleetStore>>,
    /// The audit log.
    pub audit: Arc<dyn AuditStore>,
    /// Everything, as rows.
    pub archive: Arc<dyn Archive>,
    /// Recommendations.
    pub recommendations: Arc<dyn RecommendationStore>,
    /// Invitations.
    pub invitations: Arc<dyn InvitationStore>,
    /// What is to be done after changes.
    pub jobs: Arc<dyn JobStore>,
    /// Mail to be sent, and the links in it.
    pub mail: Arc<dyn MailStore>,
    /// Devices that are told of messages, and what they are to be told.
    pub push: Arc<dyn PushStore>,
    /// The store as a whole.
    pub backend: Arc<dyn Backend>,
}
