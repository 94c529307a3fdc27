//! Who has sent the newest entries of a conversation, so that what is unread near its end is known without reading.
//!
//! It is kept by the writer beside the state of a conversation, and begins empty whenever that was read from the file: then
//! it tells nothing about the entries before, and a reader counts them ([`super::unread`]).

/// Entries that are remembered: as far behind as a member gets who reads while both sides have 64 messages on their way.
const ENTRIES: u8 = 128;

/// The senders of the newest entries: their places among the participants, which stay the same as long as the conversation's
/// members do. Whoever changes these begins with an empty one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recent {
    /// A ring; the next entry goes to [`Self::next`].
    senders: [u8; ENTRIES as usize],
    next: u8,
    known: u8,
}

impl Default for Recent {
    fn default() -> Self {
        Self { senders: [0; ENTRIES as usize], next: 0, known: 0 }
    }
}

impl Recent {
    /// An entry was appended by the participant at this place.
    pub(super) fn push(&mut self, place: usize) {
        let Ok(place) = u8::try_from(place) else {
            // Of one who has so many before them, readers count.
            *self = Self::default();
            return;
        };
        if let Some(slot) = self.senders.get_mut(usize::from(self.next)) {
            *slot = place;
        }
        self.next = (self.next + 1) % ENTRIES;
        self.known = (self.known + 1).min(ENTRIES);
    }

    /// How many of the newest `entries` the others have sent than the participant at this place, if that is known.
    pub(super) fn of_others(&self, place: usize, entries: u64) -> Option<u64> {
        let entries = u8::try_from(entries).ok().filter(|entries| *entries <= self.known)?;
        let newest = (1..=entries).map(|back| (self.next + ENTRIES - back) % ENTRIES);
        let senders = newest.filter_map(|at| self.senders.get(usize::from(at)));
        u64::try_from(senders.filter(|sender| usize::from(**sender) != place).count()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_a_plain_list_tells_and_nothing_of_what_it_has_not_seen() {
        let (mut recent, mut list) = (Recent::default(), Vec::new());
        assert_eq!(recent.of_others(0, 0), Some(0));
        assert_eq!(recent.of_others(0, 1), None);
        for number in 0..200_usize {
            let place = number * number % 7 % 3;
            recent.push(place);
            list.push(place);
            for (back, of) in (0..=list.len() + 1).flat_map(|back| [(back, 0), (back, 1), (back, 2)]) {
                let known = back <= list.len().min(usize::from(ENTRIES));
                let plain = known.then(|| list.iter().rev().take(back).filter(|sender| **sender != of).count() as u64);
                assert_eq!(recent.of_others(of, back as u64), plain, "the newest {back} of {}", list.len());
            }
        }
        recent.push(usize::from(u8::MAX) + 1);
        assert_eq!(recent.of_others(0, 1), None);
    }
}
