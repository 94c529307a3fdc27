//! For which mails there is room among those that wait, and in which order those are sent that strangers have asked for.
//!
//! Anybody can have mails written, from thousands of networks and about thousands of addresses. Four things hold all the same:
//!
//! - What no stranger asks for has a part of its own ([`MEMBERS_MAX`]): notices, what a member asks for who is signed in,
//!   who was invited. Strangers take none of it.
//! - Networks take turns ([`turn`]): however much one asks for, another one waits for one mail of it. So do those of what has failed
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

/// Which mails are sent one after the other, over one connection. Which lane a mail is in follows from its kind and its [`turn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What no stranger has asked for, and links for members who have shown that the address is theirs.
    Members,
    /// What costs no mail: addresses of which it is found out whether somebody has them. It waits for none, and none for it.
    Lookups,
    /// What has failed of that, or would ([`MailStore::set_aside`](super::MailStore::set_aside)).
    MembersAside,
    /// What strangers have asked for, and links for who has not shown that.
    Strangers,
    /// What has failed of that, or would.
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
    /// What the server has made of a mail that waited, and is finished with: were it refused, nothing would leave a queue that is full.
    Made,
}

/// Which places of the queue a mail may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Room {
    /// Of which part it takes one.
    pub(in crate::store) part: Part,
    /// Of which network's share it is, and with whom it takes turns; nothing if it does not. What is of members takes turns once it is set aside.
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
    /// theirs is one. Who has goes before those: there are only so many members, and few links of each.
    pub(in crate::store) const fn of_link(by: Caller, must_verify: bool, asked: AskedFrom) -> Self {
        match (by, must_verify) {
            (Caller::System, true) => Self { part: Part::Made, share: Some(asked) },
            (Caller::System, false) => Self { part: Part::Made, share: None },
            (_, true) => Self::of_strangers(asked),
            (_, false) => Self::MEMBERS,
        }
    }

    const fn of_strangers(asked: AskedFrom) -> Self {
        Self { part: Part::Strangers, share: Some(asked) }
    }
}

/// When a mail that is of a share is sent, among those of its kinds: the lowest number goes first, so that networks take turns however many
/// mails each has waiting. `last` is the highest of its share that waits, of those that cost a mail or of those that do not (so that nobody can tell by a queue that is full
/// whether an address is taken), `next` the lowest of all that strangers have written:
/// who comes goes on from there and not before who waits for their turn. In one turn goes first what costs no mail.
pub(in crate::store) fn turn(kind: Kind, last: Option<i64>, next: Option<i64>) -> i64 {
    let number = last.map_or(0, |last| last / 2 + 1).max(next.map_or(0, |next| next / 2));
    number * 2 + i64::from(kind != Kind::ForgotPassword)
}

impl Kind {
    /// The kinds that a mail takes turns with, in those of its share.
    pub(in crate::store) fn in_turn_with(self) -> Vec<&'static str> {
        let costs_mail = |kind: Self| kind != Self::ForgotPassword;
        Self::names_of(|kind| {
            (kind.is_of_strangers() || kind == Self::ResetPassword) && costs_mail(kind) == costs_mail(self)
        })
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
            Some(_) if kind.is_of_strangers() => Some(Self::Strangers),
            Some(FIRST_TURN) => Some(Self::Made),
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

/// The turn of what was made for a member who has shown that the address is theirs: before all who have to wait for theirs.
pub(in crate::store) const FIRST_TURN: i64 = 0;

/// The turns of mails of another store, which are written many at a time: within that, networks take turns.
#[derive(Debug, Default)]
pub(in crate::store) struct Restored(HashMap<(AskedFrom, bool), i64>);

impl Restored {
    /// The turn of the next one; nothing of one that no stranger has asked for.
    pub(in crate::store) fn turn(&mut self, mail: &Mail) -> Option<i64> {
        let (asked, kind) = (mail.asked()?, mail.kind());
        let last = self.0.entry((asked, kind == Kind::ForgotPassword)).or_insert(-2);
        *last = turn(kind, Some(*last).filter(|last| *last >= 0), None);
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
        for (must_verify, share) in [(true, Some(ASKED)), (false, None)] {
            assert_eq!(Room::of_link(Caller::System, must_verify, ASKED), Room { part: Part::Made, share });
        }
    }

    #[test]
    fn who_comes_later_waits_for_one_of_each_and_not_for_all() {
        assert_eq!(turn(Kind::VerifyEmail, None, None), 1);
        assert_eq!(turn(Kind::ForgotPassword, None, Some(1)), 0, "it costs no mail");
        assert_eq!(turn(Kind::VerifyEmail, Some(1), Some(1)), 3);
        assert_eq!(turn(Kind::VerifyEmail, None, Some(201)), 201, "not before who has waited for their turn");
        assert_eq!(turn(Kind::VerifyEmail, Some(401), Some(201)), 403);
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
        assert_eq!(Aside::of(Kind::ResetPassword, Some(FIRST_TURN)), Some(Aside::Made));
        assert_eq!(Aside::of(Kind::ResetPassword, Some(5)), Some(Aside::MadeUnshown));
    }

    #[test]
    fn what_comes_from_another_store_takes_turns() {
        let mut restored = Restored::default();
        let mut turn = |asked| {
            restored.turn(&Mail::ForgotPassword { email: "ana@example.com".to_owned(), asked: AskedFrom(asked) })
        };
        assert_eq!([1, 1, 2, 1].map(&mut turn), [0, 2, 0, 4].map(Some));
        let member = protocol::MemberId::from_bytes([1; 12]);
        let notice = Mail::Approved { member, at: protocol::Timestamp::from_millis(0) };
        assert_eq!(Restored::default().turn(&notice), None);
    }
}
