//! Who reads, and how much: what readers need to be fair between members.

use protocol::{MemberId, SessionId};

/// Whose request a read belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A member.
    Member(MemberId),
    /// A session whose member is not known yet.
    Session(SessionId),
    /// The server itself, or somebody who is not signed in.
    System,
}

/// How much a read may have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// A few look-ups, or a page.
    Light,
    /// Longer: a sync, a search, everything of a member. Never takes all readers.
    Heavy,
}

/// A read, as far as its turn depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Turn {
    /// Whose it is.
    pub caller: Caller,
    /// How much it is.
    pub weight: Weight,
}

impl Turn {
    /// A light read of nobody in particular.
    pub const SYSTEM: Self = Self { caller: Caller::System, weight: Weight::Light };
    /// A long read of nobody in particular.
    pub const HEAVY_SYSTEM: Self = Self { caller: Caller::System, weight: Weight::Heavy };

    /// A light read of a member.
    #[must_use]
    pub const fn light(member: MemberId) -> Self {
        Self { caller: Caller::Member(member), weight: Weight::Light }
    }

    /// A long read of a member.
    #[must_use]
    pub const fn heavy(member: MemberId) -> Self {
        Self { caller: Caller::Member(member), weight: Weight::Heavy }
    }

    /// The check of a session.
    #[must_use]
    pub const fn session(session: SessionId) -> Self {
        Self { caller: Caller::Session(session), weight: Weight::Light }
    }
}
