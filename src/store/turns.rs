//! Who reads, and how much: what readers need to be fair between members.

use std::net::IpAddr;

use protocol::{MemberId, SessionId};

/// Look-ups in one read from which on it is a heavy one.
const MANY: usize = 50;

/// Whose request a read belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A member.
    Member(MemberId),
    /// A session whose member is not known yet.
    Session(SessionId),
    /// A subscriber's address ([`crate::sources::subscriber`]) from which somebody signs in.
    Address(IpAddr),
    /// Whoever wants to know whether the store answers.
    Health,
    /// The server's own work, caused by nobody in particular.
    System,
}

/// How much a read may have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// A few look-ups, or a page.
    Light,
    /// As much as a heavy one, but of those that everybody asks for at the same time when a server starts: part of a sync. What
    /// is heavy takes turns with it, and does not wait behind thousands of them.
    Sync,
    /// Longer: a search, whatever looks at everything of a member. With syncs it never takes all readers.
    Heavy,
}

impl Weight {
    /// Whether it is light: all others are long, and share their places.
    #[must_use]
    pub const fn is_light(self) -> bool {
        matches!(self, Self::Light)
    }
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
    /// A light read of the server itself.
    pub const SYSTEM: Self = Self { caller: Caller::System, weight: Weight::Light };
    /// A long read of the server itself.
    pub const HEAVY_SYSTEM: Self = Self { caller: Caller::System, weight: Weight::Heavy };

    /// A light read.
    #[must_use]
    pub const fn of(caller: Caller) -> Self {
        Self { caller, weight: Weight::Light }
    }

    /// So many look-ups in one read.
    #[must_use]
    pub const fn look_ups(caller: Caller, count: usize) -> Self {
        Self { caller, weight: if count < MANY { Weight::Light } else { Weight::Heavy } }
    }

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

    /// Part of a sync of a member.
    #[must_use]
    pub const fn sync(member: MemberId) -> Self {
        Self { caller: Caller::Member(member), weight: Weight::Sync }
    }

    /// The check of a session.
    #[must_use]
    pub const fn session(session: SessionId) -> Self {
        Self { caller: Caller::Session(session), weight: Weight::Light }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_look_ups_in_one_read_are_heavy() {
        let of = |count| Turn::look_ups(Caller::Health, count).weight;
        assert_eq!(
            (of(0), of(MANY - 1), of(MANY), of(500)),
            (Weight::Light, Weight::Light, Weight::Heavy, Weight::Heavy)
        );
    }
}
