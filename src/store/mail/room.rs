//! For which mails there is room among those that wait, and in which order those are sent that strangers have asked for.
//!
//! Anybody can have mails written, from thousands of networks and about thousands of addresses. Four things hold all the same:
//!
//! - What no stranger asks for has a part of its own ([`MEMBERS_MAX`]): notices, what a member asks for who is signed in,
//!   who was invited. Strangers take none of it.
//! - Networks take turns ([`Sequence`]): however much one asks for, another one waits for one mail of it. So do those of what has failed
//!   ([`Aside`]), and members there.
//! - Each part is sent over a connection of its own ([`Lane`]), and so is what has failed of each: whatever keeps one back keeps none of the
//!   others back. Where a lane has mails of two kinds, those take turns too ([`MailStore::take`](super::MailStore::take)).
//! - When the part of strangers is full ([`STRANGERS_MAX`]), who comes takes the place of what would be sent last, of what was set aside first, unless that would be
//!   themselves. So who floods pushes out their own flood: with a thousand networks as with one, whoever asks for something from
//!   elsewhere gets a place, and a near one.

use std::collections::HashMap;

use super::{AskedFrom, Kind, Mail};
use crate::store::turns::Caller;

/// Mails that wait at a time, over all nodes, that no stranger has asked for. With more nothing is taken in that a member asks for; what a
/// change tells its member is.
pub const MEMBERS_MAX: u64 = 3_000;
/// Mails that wait at a time, over all nodes, that anybody can have written.
pub const STRANGERS_MAX: u64 = 2_700;
/// As many of them are asked for from one network (a /24 of IPv4, a /48 of IPv6).
pub const SHARE_MAX: u64 = 300;

/// What became of a mail that has given way to one that is sent sooner, for metrics.
pub(in crate::store) const DISPLACED: &str = "displaced";

/// Which mails are sent one after the other, over one connection. Which lane a mail is in follows from its kind and its turn ([`Sequence`], [`Aside`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What no stranger has asked for, and links for members who have shown that the address is theirs.
    Members,
    /// What costs no mail: addresses of which it is found out whether somebody has them. It waits for none, and none for it.
    Lookups,
    /// What has failed in [`Self::Members`], or would ([`MailStore::set_aside`](super::MailStore::set_aside)).
    MembersAside,
    /// What strangers have asked for, and links for who has not shown that.
    Strangers,
    /// What has failed in [`Self::Strangers`], or would.
    StrangersAside,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Members, Self::Lookups, Self::MembersAside, Self::Strangers, Self::StrangersAside];

    /// Its name, for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lookups => "lookups",
            Self::Members => "members",
            Self::MembersAside => "members_aside",
            Self::Strangers => "strangers",
            Self::StrangersAside => "strangers_aside",
        }
    }

    /// That of what is set aside in it.
    #[must_use]
    pub const fn aside(self) -> Self {
        match self {
            Self::Lookups | Self::Members | Self::MembersAside => Self::MembersAside,
            Self::Strangers | Self::StrangersAside => Self::StrangersAside,
        }
    }

    /// Whether it is of what was set aside.
    #[must_use]
    pub const fn is_aside(self) -> bool {
        matches!(self, Self::MembersAside | Self::StrangersAside)
    }
}

/// Part of the queue, with a bound of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Part {
    /// What no stranger has asked for.
    Members,
    /// What anybody can have written.
    Strangers,
    /// What the server has made of a mail that waited, and is finished with, for who has shown that the address is theirs: were it refused,
    /// nothing would leave a queue that is full.
    Made,
    /// The same for who has not shown that.
    MadeUnshown,
}

/// Which places of the queue a mail may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Room {
    /// Of which part it takes one.
    pub(in crate::store) part: Part,
    /// Of which network's share it is, which takes turns with others; of what is of members nothing, or of who was invited, which takes turns once it
    /// is set aside.
    pub(in crate::store) share: Option<AskedFrom>,
}

impl Room {
    /// That of what no stranger has asked for.
    pub(in crate::store) const MEMBERS: Self = Self { part: Part::Members, share: None };

    /// That of a mail that somebody asks for.
    pub(in crate::store) const fn of(mail: &Mail) -> Self {
        match mail.asked() {
            Some(asked) => Self::of_strangers(asked),
            None => Self::MEMBERS,
        }
    }

    /// That of the mail to somebody who registers. Who was invited has the room of members, whether the address is taken or not.
    pub(in crate::store) const fn of_registration(is_invited: bool, asked: AskedFrom) -> Self {
        let part = if is_invited { Part::Members } else { Part::Strangers };
        Self { part, share: Some(asked) }
    }

    /// That of a mail with a link. What comes of a mail that waited was asked for by a stranger, and who has not shown that the address is
    /// theirs is one. Who has goes before those, and takes turns by the network that has asked all the same: one person may have many accounts.
    pub(in crate::store) const fn of_link(by: Caller, must_verify: bool, asked: AskedFrom) -> Self {
        match (by, must_verify) {
            (Caller::System, true) => Self { part: Part::MadeUnshown, share: Some(asked) },
            (Caller::System, false) => Self { part: Part::Made, share: Some(asked) },
            (_, true) => Self::of_strangers(asked),
            (_, false) => Self::MEMBERS,
        }
    }

    const fn of_strangers(asked: AskedFrom) -> Self {
        Self { part: Part::Strangers, share: Some(asked) }
    }
}

/// Which mails take turns with each other, by the networks that have asked for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Sequence {
    /// Addresses that are asked about. Apart from the others, so that nobody can tell by a queue that is full whether an address is taken.
    Lookups,
    /// Mails of strangers.
    Strangers,
    /// What was made for members who have shown that the address is theirs.
    Made,
}

/// The first turn of what was made for members who have shown that the address is theirs.
pub(in crate::store) const MADE: i64 = 1 << 50;

impl Sequence {
    /// All of them.
    pub(in crate::store) const ALL: [Self; 3] = [Self::Lookups, Self::Strangers, Self::Made];

    /// That of a mail.
    pub(in crate::store) fn of(kind: Kind, part: Part) -> Self {
        match (kind, part) {
            (Kind::ForgotPassword, _) => Self::Lookups,
            (_, Part::Made) => Self::Made,
            _ => Self::Strangers,
        }
    }

    /// The names of its kinds.
    pub(in crate::store) fn kinds(self) -> Vec<&'static str> {
        Kind::names_of(|kind| (kind == Kind::ForgotPassword) == (self == Self::Lookups))
    }

    /// Its first turn, and the first that is none of its turns any more.
    pub(in crate::store) const fn turns(self) -> (i64, i64) {
        match self {
            Self::Lookups | Self::Strangers => (0, MADE),
            Self::Made => (MADE, i64::MAX),
        }
    }

    /// The turn of a mail: the lowest goes first, so that networks take turns however many mails each has waiting. `last` is the highest of its
    /// share that waits, `next` the lowest of all: who comes goes on from there, and not before who waits for their turn.
    pub(in crate::store) fn turn(self, last: Option<i64>, next: Option<i64>) -> i64 {
        let (first, _) = self.turns();
        last.map_or(first, |last| last + 1).max(next.unwrap_or(first))
    }
}

/// The place of a mail that takes the place of one that waits, of its network and turn each: the better of both, so that whoever else asks for it
/// does not have it sent later.
pub(in crate::store) fn better<S>(former: Option<(S, i64)>, new: (S, i64)) -> (S, i64) {
    match former {
        Some(former) if former.1 >= 0 && former.1 < new.1 && (former.1 >= MADE) == (new.1 >= MADE) => former,
        _ => new,
    }
}

/// What was set aside because it has failed, or would. Each counts in its part as before, and is in another lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Aside {
    /// What strangers have written.
    Strangers = 1,
    /// What was made of a mail that waited, for who has not shown that the address is theirs.
    MadeUnshown = 2,
    /// What no stranger has asked for.
    Members = 3,
    /// What was made of a mail that waited, for who has shown that the address is theirs.
    Made = 4,
}

/// So many turns has each kind of what was set aside; former versions, which had one, have written what is in those of strangers now.
const STRETCH: i64 = 1 << 40;

impl Aside {
    /// What a mail becomes that is set aside and has this turn; nothing if it was already.
    pub(in crate::store) const fn of(kind: Kind, turn: Option<i64>) -> Option<Self> {
        match turn {
            None => Some(Self::Members),
            Some(turn) if turn < 0 => None,
            Some(turn) if turn >= MADE => Some(Self::Made),
            Some(_) if kind.is_of_strangers() => Some(Self::Strangers),
            Some(_) => Some(Self::MadeUnshown),
        }
    }

    /// The first of its turns.
    pub(in crate::store) const fn first(self) -> i64 {
        -(self as i64) * STRETCH
    }

    /// The first one that is none of its turns any more.
    pub(in crate::store) const fn end(self) -> i64 {
        self.first() + STRETCH
    }

    /// The turn of a mail of a network, or of a member, of which so many are set aside already: the lowest goes first, so that whoever
    /// has many there keeps others back by one of them at a time.
    pub(in crate::store) fn turn(self, others: u64) -> i64 {
        self.first() + i64::try_from(others).unwrap_or(i64::MAX).min(STRETCH - 1)
    }
}

impl Lane {
    /// What was set aside and is in this lane.
    pub(in crate::store) const fn asides(self) -> &'static [Aside] {
        match self {
            Self::Lookups | Self::Members | Self::Strangers => &[],
            Self::MembersAside => &[Aside::Members, Aside::Made],
            Self::StrangersAside => &[Aside::Strangers, Aside::MadeUnshown],
        }
    }
}

/// The turns of mails of another store, which are written many at a time: within that, networks take turns.
#[derive(Debug, Default)]
pub(in crate::store) struct Restored(HashMap<(AskedFrom, bool), i64>);

impl Restored {
    /// The turn of the next one; nothing of one that no stranger has asked for.
    pub(in crate::store) fn turn(&mut self, mail: &Mail) -> Option<i64> {
        let (asked, sequence) = (mail.asked()?, Sequence::of(mail.kind(), Part::Strangers));
        let last = self.0.entry((asked, sequence == Sequence::Lookups)).or_insert(-1);
        *last = sequence.turn(Some(*last).filter(|last| *last >= 0), None);
        Some(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: AskedFrom = AskedFrom(7);

    #[test]
    fn what_strangers_ask_for_is_theirs_and_what_is_made_of_it_takes_turns_too() {
        let stranger = Room { part: Part::Strangers, share: Some(ASKED) };
        assert_eq!(Room::of_registration(false, ASKED), stranger);
        assert_eq!(Room::of_link(Caller::Health, true, ASKED), stranger);
        assert_eq!(Room::of_registration(true, ASKED), Room { part: Part::Members, share: Some(ASKED) });
        assert_eq!(Room::of_link(Caller::Health, false, ASKED), Room::MEMBERS);
        for (must_verify, part) in [(true, Part::MadeUnshown), (false, Part::Made)] {
            assert_eq!(Room::of_link(Caller::System, must_verify, ASKED), Room { part, share: Some(ASKED) });
        }
    }

    #[test]
    fn who_comes_later_waits_for_one_of_each_and_not_for_all() {
        let turn = |last, next| Sequence::Strangers.turn(last, next);
        assert_eq!([turn(None, None), turn(Some(0), Some(0)), turn(Some(7), Some(3))], [0, 1, 8]);
        assert_eq!(turn(None, Some(100)), 100, "not before who has waited for their turn");
        assert_eq!([Sequence::Made.turn(None, None), Sequence::Made.turn(Some(MADE), None)], [MADE, MADE + 1]);
        assert_eq!(better(Some(("a", 3)), ("b", 5)), ("a", 3), "whoever else asks does not have it sent later");
        assert_eq!(better(Some(("a", 7)), ("b", 5)), ("b", 5), "nor does who has asked before");
        for former in [-5, MADE] {
            assert_eq!(better(Some(("a", former)), ("b", 5)), ("b", 5), "of another sequence");
        }
    }

    #[test]
    fn what_is_set_aside_keeps_others_back_by_one_at_a_time() {
        let kinds = [Aside::Strangers, Aside::MadeUnshown, Aside::Members, Aside::Made];
        let turns = kinds.map(|aside| [aside.turn(0), aside.turn(1), aside.turn(u64::MAX)]);
        assert!(turns.iter().zip(kinds).all(|(turns, aside)| turns.is_sorted() && turns[2] < aside.end()), "{turns:?}");
        assert!(turns.iter().rev().flatten().is_sorted() && turns[0][2] == -1, "{turns:?}");
        assert_eq!(Aside::of(Kind::VerifyEmail, Some(-5)), None);
        assert_eq!(Aside::of(Kind::VerifyEmail, Some(5)), Some(Aside::Strangers));
        assert_eq!(Aside::of(Kind::VerifyEmail, None), Some(Aside::Members));
        assert_eq!(Aside::of(Kind::ResetPassword, Some(MADE + 5)), Some(Aside::Made));
        assert_eq!(Aside::of(Kind::ResetPassword, Some(5)), Some(Aside::MadeUnshown));
    }

    #[test]
    fn what_comes_from_another_store_takes_turns() {
        let mut restored = Restored::default();
        let mut turn = |asked| {
            restored.turn(&Mail::ForgotPassword { email: "ana@example.com".to_owned(), asked: AskedFrom(asked) })
        };
        assert_eq!([1, 1, 2, 1].map(&mut turn), [0, 1, 0, 2].map(Some));
        let member = protocol::MemberId::from_bytes([1; 12]);
        let notice = Mail::Approved { member, at: protocol::Timestamp::from_millis(0) };
        assert_eq!(Restored::default().turn(&notice), None);
    }
}
