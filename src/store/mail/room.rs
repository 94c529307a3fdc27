//! For which mails there is room among those that wait.

use super::{Mail, WAITING_MAX};
use crate::store::turns::Caller;

/// Which places of the queue a mail may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Room {
    /// So many may wait at most, this one included; nothing if it is written whether there is room or not.
    pub(in crate::store) most: Option<u64>,
}

impl Room {
    /// That of a mail that somebody asks for.
    pub(in crate::store) const fn of(_: &Mail) -> Self {
        Self { most: Some(WAITING_MAX) }
    }

    /// That of a mail with a link. What the server itself has made of a mail that waits takes the place of that one, which is finished
    /// with: were it refused, nothing would leave a queue that is full.
    pub(in crate::store) const fn of_link(by: Caller) -> Self {
        Self { most: if matches!(by, Caller::System) { None } else { Some(WAITING_MAX) } }
    }

    /// Whether there is room while so many wait.
    pub(in crate::store) fn is_free(self, waiting: u64) -> bool {
        self.most.is_none_or(|most| waiting < most)
    }
}
