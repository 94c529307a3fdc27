//! What a restored backup has brought back, and is ended after it.
//!
//! A backup knows nothing of what came after it. Sessions that were ended since are good again, links that were used can be used once
//! more, invitations that were revoked are open, and mails that were sent wait.

use protocol::{Timestamp, rest::AuditAction};
use serde_json::json;

use super::audit::AuditRecord;

/// What is ended after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// When.
    pub at: Timestamp,
    /// Whether open invitations are revoked, too.
    pub invitations: bool,
}

/// How much was ended after a restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Sessions: every member signs in again.
    pub sessions: u64,
    /// Links that set passwords and verify addresses.
    pub links: u64,
    /// Mails that waited.
    pub mails: u64,
    /// Open invitations; nothing if they were to be kept.
    pub invitations: Option<u64>,
}

impl Ended {
    /// What the audit log keeps of it: nobody has done it, to nobody.
    #[must_use]
    pub fn audit(&self, at: Timestamp) -> AuditRecord {
        let Self { sessions, links, mails, invitations } = self;
        AuditRecord {
            at,
            actor: None,
            action: AuditAction::Restored,
            target: None,
            details: json!({ "sessions": sessions, "links": links, "mails": mails, "invitations": invitations }),
            address: None,
        }
    }
}
