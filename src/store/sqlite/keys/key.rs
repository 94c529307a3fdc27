//! What entries are found by.

use std::hash::Hasher;

use protocol::{ClientMessageId, MessageId};
use rusqlite::Connection;
use siphasher::sip::SipHasher24;

/// What an entry is found by: 64 bits of a hash. The lowest one tells ids of clients (0) from ids of messages (1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Key(pub(super) u64);

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl Key {
    pub(super) fn is_of_client(self) -> bool {
        self.0 & 1 == 0
    }
}

/// How ids become keys: a hash with a secret of the file, so that nobody can choose ids whose keys are near each other.
#[derive(Clone, Copy)]
pub(in super::super) struct Hashing(SipHasher24);

impl Hashing {
    /// That of a file.
    pub(in super::super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let secret = connection.query_row("SELECT key_secret FROM meta", [], |row| row.get(0))?;
        Ok(Self(SipHasher24::new_with_key(&secret)))
    }

    /// What a sender calls an entry of a conversation: the keys of both.
    pub(in super::super) fn client_id(self, conversation: i64, sender: i64, id: ClientMessageId) -> Key {
        let Self(mut hash) = self;
        hash.write(&conversation.to_le_bytes());
        hash.write(&sender.to_le_bytes());
        hash.write(id.as_bytes());
        Key(hash.finish() & !1)
    }

    /// The id of a message.
    pub(in super::super) fn message(self, id: MessageId) -> Key {
        Key(self.0.hash(id.as_bytes()) | 1)
    }
}
