//! For which mails there is room among those that wait, and in which order those are sent that strangers have asked for.

use super::{AskedFrom, Kind, Mail, WAITING_MAX};
use crate::store::turns::Caller;

/// As many wait at most that anybody can have written. The rest is for what members ask for and for who was invited.
pub const STRANGERS_MAX: u64 = WAITING_MAX / 10 * 9;
/// As many of them are asked for from one network (a /24 of IPv4, a /48 of IPv6): it does not keep others out.
pub const SHARE_MAX: u64 = WAITING_MAX / 10;

/// Which places of the queue a mail may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Room {
    /// So many may wait at most, this one included; nothing if it is written whether there is room or not.
    most: Option<u64>,
    /// Of which network's share it is.
    pub(in crate::store) share: Option<AskedFrom>,
}

impl Room {
    /// That of a mail that somebody asks for.
    pub(in crate::store) const fn of(mail: &Mail) -> Self {
        match mail.asked() {
            Some(asked) => Self::of_strangers(asked),
            None => Self { most: Some(WAITING_MAX), share: None },
        }
    }

    /// That of the mail to somebody who registers. Who was invited has the room of members, whether the address is taken or not.
    pub(in crate::store) const fn of_registration(is_invited: bool, asked: AskedFrom) -> Self {
        if is_invited { Self { most: Some(WAITING_MAX), share: None } } else { Self::of_strangers(asked) }
    }

    /// That of a mail with a link. What the server itself has made of a mail that waits takes the place of that one, which is finished
    /// with: were it refused, nothing would leave a queue that is full. Who has not shown that the address is theirs is a stranger.
    pub(in crate::store) const fn of_link(by: Caller, must_verify: bool, asked: AskedFrom) -> Self {
        let room = if must_verify { Self::of_strangers(asked) } else { Self { most: Some(WAITING_MAX), share: None } };
        if matches!(by, Caller::System) { Self { most: None, ..room } } else { room }
    }

    const fn of_strangers(asked: AskedFrom) -> Self {
        Self { most: Some(STRANGERS_MAX), share: Some(asked) }
    }

    /// Whether there is room while so many wait, and so many of them of its share.
    pub(in crate::store) fn is_free(self, waiting: u64, of_share: u64) -> bool {
        self.most.is_none_or(|most| waiting < most && (self.share.is_none() || of_share < SHARE_MAX))
    }
}

/// When a mail that is of a share is sent, among those of its kinds: the lowest number goes first, so that networks take turns however many
/// mails each has waiting. `last` is the highest of its share and kind that waits, `next` the lowest of all that strangers have written:
/// who comes goes on from there and not before who waits for their turn. In one turn goes first what costs no mail.
pub(in crate::store) fn turn(kind: Kind, last: Option<i64>, next: Option<i64>) -> i64 {
    let number = last.map_or(0, |last| last / 2 + 1).max(next.map_or(0, |next| next / 2));
    number * 2 + i64::from(kind != Kind::ForgotPassword)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: AskedFrom = AskedFrom(7);

    #[test]
    fn a_network_has_a_share_and_strangers_leave_some_room() {
        let stranger = Room::of_registration(false, ASKED);
        assert!(stranger.is_free(STRANGERS_MAX - 1, SHARE_MAX - 1));
        assert!(!stranger.is_free(SHARE_MAX, SHARE_MAX) && !stranger.is_free(STRANGERS_MAX, 0));
        for reserved in [Room::of_registration(true, ASKED), Room::of_link(Caller::Health, false, ASKED)] {
            assert!(reserved.is_free(WAITING_MAX - 1, SHARE_MAX) && !reserved.is_free(WAITING_MAX, 0));
        }
        assert_eq!(Room::of_link(Caller::Health, true, ASKED), stranger);
        for must_verify in [true, false] {
            assert!(Room::of_link(Caller::System, must_verify, ASKED).is_free(u64::MAX, u64::MAX));
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
}
