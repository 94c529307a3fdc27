//! Links that change the address of their member: who may ask for one, and how many there are.
//!
//! One is asked for by its member alone, with what they have shown of who they are, and is good as long as that is: a new password, a second
//! factor that is turned on or off, a suspension and the end of all sessions end it. The newest ends those of before. There are
//! [`CHANGES_MAX`] an hour, and several members together do not have more sent to one address ([`CHANGES_TO_MAX`]).

use std::time::Duration;

use protocol::Timestamp;

use super::{LINKS_MAX, LINKS_WITHIN, NewLink, Purpose, forgotten_at};
use crate::store::{
    archive::LinkRow,
    changes::{Actor, Overtaken},
    members::{MemberRecord, email_key},
    second_factor::CodeUse,
};

/// Links that change the address of one member and are made in [`CHANGES_WITHIN`]; in [`LINKS_WITHIN`] it is [`LINKS_MAX`].
pub const CHANGES_MAX: u32 = 5;
/// As many more of either there are for who has had none yet with the credentials that they have: whoever knew a former password has not used up
/// what there is. Over all credentials, or whoever changes the password again and again has links without end.
pub const CHANGES_LEFT: u32 = 2;
/// See [`CHANGES_MAX`].
pub const CHANGES_WITHIN: Duration = Duration::from_secs(60 * 60);
/// Links of all members that change their address to the same one and are made in [`LINKS_WITHIN`]. Beyond that each member has one: nobody
/// keeps another one from an address by asking for it.
pub const CHANGES_TO_MAX: u32 = 12;

/// A link to be written that changes the address of its member, with what they have shown for it.
#[derive(Debug, Clone)]
pub struct NewChange {
    /// The link, with the new address.
    pub link: NewLink,
    /// The [`MemberRecord::credentials`] of the record whose password was verified.
    pub credentials: u64,
    /// The code of the second factor that was given, of who has one. It is used up with the link.
    pub code: Option<CodeUse>,
    /// Who asks.
    pub by: Actor,
}

/// What came of asking for a link that changes an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It is written, and its mail where the address is to be written to.
    Written,
    /// There were too many lately: the next one can be asked for at this time. Nothing was used up.
    TooMany(Timestamp),
    /// The member has left.
    NotFound,
    /// The member has other credentials by now than were verified.
    Stale,
    /// The code was used meanwhile, or is good no more.
    CodeUsed,
    /// Whoever asks may not any more.
    Overtaken(Overtaken),
}

/// An address that a member has asked for, as long as that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedChange {
    /// The address.
    pub email: String,
    /// When.
    pub at: Timestamp,
}

impl NewChange {
    /// As it is stored when it was sent once.
    pub(in crate::store) fn row(&self) -> LinkRow {
        LinkRow { credentials: Some(self.credentials), ..self.link.row() }
    }

    /// As it is stored where nobody registers with the address: over from the beginning.
    pub(in crate::store) fn row_of_nobody(&self) -> LinkRow {
        LinkRow { is_over: true, ..self.row() }
    }

    /// The new address.
    pub(in crate::store) fn email(&self) -> &str {
        self.link.email.as_deref().unwrap_or_default()
    }

    /// The form of the new address under which links of all members to it are counted.
    pub(in crate::store) fn email_key(&self) -> String {
        email_key(self.email())
    }

    /// Why its member, as they are now, does not get it: as of a change of the password.
    pub(in crate::store) fn refused_by(&self, record: Option<&MemberRecord>) -> Option<Asked> {
        match record.filter(|record| !record.is_erased) {
            None => Some(Asked::NotFound),
            Some(record) if record.credentials != self.credentials => Some(Asked::Stale),
            Some(_) => None,
        }
    }

    /// When there are not too many any more, if there are. `theirs`: the links of the member; `full_since`: when the first of the newest
    /// [`CHANGES_TO_MAX`] links of all members to the address was made, if there are so many that are not forgotten.
    pub(in crate::store) fn too_many_until(
        &self,
        theirs: &[LinkRow],
        full_since: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let at = self.link.at;
        let mut made: Vec<(Timestamp, bool)> = theirs
            .iter()
            .filter(|link| link.purpose == Purpose::ChangeEmail)
            .map(|link| (link.made_at, link.credentials == Some(self.credentials)))
            .collect();
        made.sort_unstable_by(|one, other| other.cmp(one));
        let of_the_newest = |most: u32, within: Duration| {
            let has_own = made.iter().any(|(made_at, is_own)| *is_own && made_at.after(within) > at);
            let most = if has_own { most } else { most + CHANGES_LEFT };
            let last = usize::try_from(most).ok().and_then(|most| made.get(most.checked_sub(1)?));
            last.map(|(last, _)| last.after(within)).filter(|until| *until > at)
        };
        let bounds = [
            of_the_newest(CHANGES_MAX, CHANGES_WITHIN),
            of_the_newest(LINKS_MAX, LINKS_WITHIN),
            self.too_many_to_it_until(theirs, full_since),
        ];
        bounds.into_iter().flatten().max()
    }

    /// The same of one address, which gets as many from all members as there are in a day, and one of each member beyond.
    fn too_many_to_it_until(&self, theirs: &[LinkRow], full_since: Option<Timestamp>) -> Option<Timestamp> {
        let (key, since) = (self.email_key(), forgotten_at(self.link.at));
        let to_it = theirs.iter().filter(|link| link.email.as_deref().is_some_and(|email| email_key(email) == key));
        let own = to_it.map(|link| link.made_at).filter(|made_at| *made_at > since).max()?;
        Some(own.min(full_since?).after(LINKS_WITHIN))
    }
}

#[cfg(test)]
mod tests {
    use protocol::MemberId;

    use super::*;
    use crate::store::mail::{AskedFrom, TokenId};

    const HOUR: u64 = 3_600;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_795_370_633_120).after(Duration::from_secs(seconds))
    }

    fn asked(seconds: u64, email: &str) -> NewChange {
        let (member, token, purpose) = (MemberId::from_bytes([1; 12]), TokenId([1; 16]), Purpose::ChangeEmail);
        let (email, at) = (Some(email.to_owned()), at(seconds));
        let link = NewLink { member, purpose, token, hash: [1; 32], asked: AskedFrom(1), email, at };
        NewChange { link, credentials: 0, code: None, by: Actor::default() }
    }

    /// Found by an attacker: whoever had asked too often was told to wait for an hour, whichever bound it was and however soon it was over.
    #[test]
    fn who_asks_too_often_waits_until_the_bound_that_was_hit_lets_one_through() {
        let rows = |times: &[u64]| times.iter().map(|time| asked(*time, "x@example.com").row()).collect::<Vec<_>>();
        let until = |now: u64, times: &[u64]| asked(now, "new@example.com").too_many_until(&rows(times), None);
        assert_eq!(until(50, &[0, 10, 20, 30]), None);
        assert_eq!(until(50, &[0, 10, 20, 30, 40]), Some(at(HOUR)));
        assert_eq!(until(HOUR, &[0, 10, 20, 30, 40]), None, "and then there is one");
        let day: Vec<u64> = (0..12).map(|number| number * HOUR).collect();
        assert_eq!(until(12 * HOUR, &day), Some(at(24 * HOUR)));
        assert_eq!(until(24 * HOUR, &day), None);
        let both: Vec<u64> = (0..7).map(|number| number * HOUR).chain((0..5).map(|n| 23 * HOUR + n)).collect();
        assert_eq!(until(23 * HOUR + 60, &both), Some(at(24 * HOUR)), "both are over then");
    }

    /// Found by an attacker: whoever changed the password after every five had 9,000 links an hour sent to whom they liked.
    #[test]
    fn two_are_left_for_who_has_other_credentials_and_no_more_for_who_changes_them_again() {
        let mut rows = Vec::new();
        let mut asks = |now: u64, credentials: u64| {
            let change = NewChange { credentials, ..asked(now, "new@example.com") };
            let until = change.too_many_until(&rows, None);
            if until.is_none() {
                rows.push(change.row());
            }
            until
        };
        assert!((0..5).all(|number| asks(number, 0).is_none()));
        assert_eq!(asks(5, 0), Some(at(HOUR)));
        assert_eq!((asks(6, 1), asks(7, 1)), (None, Some(at(HOUR + 1))));
        assert_eq!((asks(8, 2), asks(9, 2), asks(10, 3)), (None, Some(at(HOUR + 2)), Some(at(HOUR))));
        assert_eq!((asks(HOUR, 3), asks(HOUR, 4)), (None, Some(at(HOUR + 1))));
    }

    #[test]
    fn who_asks_for_an_address_that_has_too_many_waits_for_theirs_or_for_the_others() {
        let theirs = [asked(100, " X@example.com").row()];
        let until = |full_since: Option<u64>| asked(200, "x@Example.com").too_many_until(&theirs, full_since.map(at));
        assert_eq!(
            (until(None), until(Some(50)), until(Some(150))),
            (None, Some(at(50 + 24 * HOUR)), Some(at(100 + 24 * HOUR)))
        );
        assert_eq!(asked(200, "y@example.com").too_many_until(&theirs, Some(at(50))), None);
    }
}
