//! Which tickets are asked about, and when. In memory: what a crash forgets is found out with the next push to the same address.

use std::{collections::VecDeque, time::Duration};

use protocol::Timestamp;

use crate::store::push::{AddressHash, RegistrationId};

/// When a ticket is asked about first.
const AFTER: Duration = Duration::from_secs(15 * 60);
/// When it is asked about again if there is no receipt yet.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// When Expo has forgotten it.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3_600);
/// Tickets of one request.
const AT_ONCE: usize = 300;
/// Tickets that are kept: about 150 bytes each. What comes while there are so many is not asked about: if the oldest went instead, no ticket
/// would become due where more than so many are taken in [`AFTER`].
const KEPT: usize = 50_000;
/// Longest id of a ticket, in bytes; they have 36.
pub(super) const ID_MAX_BYTES: usize = 64;

/// A ticket that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its id.
    pub(super) id: String,
    /// Where its message went.
    pub(super) hash: AddressHash,
    /// For which registration of that.
    pub(super) registration: RegistrationId,
    /// When that was sent.
    pub(super) sent: Timestamp,
    /// When it is asked about.
    pub(super) due: Timestamp,
}

/// Tickets, the one that is due first in front.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    waiting: VecDeque<Asked>,
}

impl Receipts {
    /// A message was taken. Without an id nobody can ask what became of it.
    pub(super) fn add(&mut self, id: Option<String>, to: (AddressHash, RegistrationId), sent: Timestamp) {
        let (hash, registration) = to;
        if let Some(id) = id {
            self.push(Asked { id, hash, registration, sent, due: sent.after(AFTER) });
        }
    }

    /// Those to be asked about now.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Asked> {
        let count = self.waiting.iter().take(AT_ONCE).take_while(|asked| asked.due <= now).count();
        self.waiting.drain(..count).collect()
    }

    /// Those whose receipts were not there.
    pub(super) fn again(&mut self, asked: Vec<Asked>, now: Timestamp) {
        for one in asked.into_iter().filter(|one| now.since(one.sent) < FORGOTTEN) {
            self.push(Asked { due: now.after(AGAIN), ..one });
        }
    }

    fn push(&mut self, asked: Asked) {
        if self.waiting.len() < KEPT {
            self.waiting.push_back(asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(0).after(Duration::from_secs(60 * minutes))
    }

    #[test]
    fn a_ticket_is_asked_about_every_quarter_of_an_hour_for_a_day() {
        let mut receipts = Receipts::default();
        receipts.add(None, (AddressHash([0; 32]), RegistrationId::default()), at(0));
        receipts.add(Some("a".to_owned()), (AddressHash([1; 32]), RegistrationId::default()), at(0));
        assert!(receipts.due(at(14)).is_empty());
        let mut times = 0;
        for now in (15..=25 * 60).step_by(15) {
            let asked = receipts.due(at(now));
            times += asked.len();
            receipts.again(asked, at(now));
        }
        assert_eq!(times, 96);
        assert!(receipts.waiting.is_empty());
    }

    #[test]
    fn so_many_at_once_and_so_many_in_all() {
        let mut receipts = Receipts::default();
        for number in 0..KEPT + 1_000 {
            receipts.add(Some(number.to_string()), (AddressHash([1; 32]), RegistrationId::default()), at(0));
        }
        assert_eq!(receipts.waiting.len(), KEPT);
        let due = receipts.due(at(15));
        assert_eq!(
            (due.len(), due[0].id.as_str()),
            (AT_ONCE, "0"),
            "where too many come some are asked about all the same"
        );
    }
}
