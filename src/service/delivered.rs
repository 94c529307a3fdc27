//! Which entries were pushed here already: on a node among others, the same entry may come from the lane that finds it in the
//! log, and from the node that stored it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use protocol::{ConversationId, MemberId};

/// Parts that are locked for themselves.
const SHARDS: usize = 16;
/// Members of conversations that a part remembers, at least, of the latest; twice as many at most. What is forgotten may be pushed
/// twice.
const REMEMBERED: usize = 4_096;

/// The newest entry of a conversation that was pushed to a member, and which of the 128 up to it were.
#[derive(Debug, Clone, Copy)]
struct Pushed {
    newest: u64,
    /// The lowest bit is the newest entry.
    bits: u128,
}

impl Pushed {
    /// Whether an entry is pushed for the first time, as far as is known.
    fn first(&mut self, seq: u64) -> bool {
        if seq > self.newest {
            let by = u32::try_from(seq - self.newest).unwrap_or(u32::MAX);
            self.bits = self.bits.checked_shl(by).unwrap_or(0) | 1;
            self.newest = seq;
            return true;
        }
        let Some(bit) = u32::try_from(self.newest - seq).ok().and_then(|place| 1_u128.checked_shl(place)) else {
            return true;
        };
        let is_first = self.bits & bit == 0;
        self.bits |= bit;
        is_first
    }
}

/// A member of a conversation.
type Place = (ConversationId, MemberId);

/// What a part remembers: those that were pushed to since it was full, and those of before.
#[derive(Default)]
struct Shard {
    young: HashMap<Place, Pushed>,
    old: HashMap<Place, Pushed>,
}

impl Shard {
    fn first(&mut self, place: Place, seq: u64) -> bool {
        if let Some(pushed) = self.young.get_mut(&place) {
            return pushed.first(seq);
        }
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        match self.old.remove(&place) {
            Some(mut pushed) => {
                let is_first = pushed.first(seq);
                self.young.insert(place, pushed);
                is_first
            }
            None => {
                self.young.insert(place, Pushed { newest: seq, bits: 1 });
                true
            }
        }
    }
}

/// The entries that were pushed to members lately: 17 MiB at most.
#[derive(Default)]
pub struct Delivered {
    shards: [Mutex<Shard>; SHARDS],
}

impl Delivered {
    /// Whether an entry is to be pushed to a member: it is for the first time.
    pub fn first(&self, conversation: ConversationId, member: MemberId, seq: u64) -> bool {
        // The id is a hash.
        let [.., last] = *conversation.as_bytes();
        let Some(shard) = self.shards.get(usize::from(last) % SHARDS) else { return true };
        shard.lock().unwrap_or_else(PoisonError::into_inner).first((conversation, member), seq)
    }

    /// Forgets all: the log may have gone back, so that other entries get the numbers of those that were pushed.
    pub fn forget(&self) {
        for shard in &self.shards {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const ONE: ConversationId = ConversationId::from_bytes([1; 12]);
    const ANA: MemberId = MemberId::from_bytes([7; 12]);

    #[test]
    fn an_entry_is_pushed_once_whatever_the_order() {
        let delivered = Delivered::default();
        for (seq, first) in
            [(5, true), (5, false), (3, true), (7, true), (3, false), (6, true), (6, false), (200, true)]
        {
            assert_eq!(delivered.first(ONE, ANA, seq), first, "{seq}");
        }
        assert!(delivered.first(ONE, ANA, 7), "too long ago to be known");
        assert!(delivered.first(ConversationId::from_bytes([2; 12]), ANA, 5));
        assert!(delivered.first(ONE, MemberId::from_bytes([8; 12]), 200), "for another member it is the first time");
    }

    #[test]
    fn what_is_forgotten_is_pushed_again() {
        let delivered = Delivered::default();
        assert!(delivered.first(ONE, ANA, 5) && !delivered.first(ONE, ANA, 5));
        delivered.forget();
        assert!(delivered.first(ONE, ANA, 5));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let delivered = Delivered::default();
        for number in 0..200_000_u32 {
            let mut id = [0; 12];
            id[..4].copy_from_slice(&number.to_be_bytes());
            assert!(delivered.first(ConversationId::from_bytes(id), ANA, 1));
        }
        let kept: usize = delivered
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap())
            .map(|shard| shard.young.len() + shard.old.len())
            .sum();
        assert!(kept <= SHARDS * 2 * REMEMBERED);
    }

    #[test]
    fn who_is_pushed_to_now_and_then_is_not_forgotten_for_all_the_others() {
        let (delivered, busy) = (Delivered::default(), MemberId::from_bytes([9; 12]));
        for number in 0..40_000_u32 {
            let mut member = [0; 12];
            member[..4].copy_from_slice(&number.to_be_bytes());
            // All in one part.
            delivered.first(ONE, MemberId::from_bytes(member), 1);
            if number % 4_000 == 0 {
                assert_eq!(delivered.first(ONE, busy, 1), number == 0);
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_pushed_twice_within_the_window(seqs in prop::collection::vec(1_u64..128, 1..400)) {
            let (delivered, mut known) = (Delivered::default(), HashSet::new());
            for seq in seqs {
                prop_assert_eq!(delivered.first(ONE, ANA, seq), known.insert(seq));
            }
        }
    }
}
