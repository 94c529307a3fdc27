//! A Bloom filter in blocks: which keys cannot be in a run. A key is looked for in one block, that is in one line of the
//! processor's cache.

use super::Key;

/// Words of a block: 64 bytes.
const WORDS: usize = 8;
/// Bits for each key, with which one key in a hundred that is not there is taken for one that is.
const BITS_PER_KEY: usize = 10;
/// Bits that a key sets in its block.
const BITS: u32 = 6;

/// The filter of a run.
pub(super) struct Filter {
    words: Box<[u64]>,
}

impl Filter {
    /// One for so many keys.
    pub(super) fn new(keys: usize) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(WORDS * 64).max(1);
        Self { words: vec![0; blocks * WORDS].into() }
    }

    /// One that was stored.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let words = bytes.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes);
        Self { words: words.collect() }
    }

    /// As it is stored.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The bytes it takes.
    pub(super) fn size(&self) -> usize {
        self.words.len() * 8
    }

    pub(super) fn insert(&mut self, key: Key) {
        let start = self.block(key);
        let block = self.words.get_mut(start..start + WORDS).unwrap_or_default();
        for (word, bit) in bits(key) {
            if let Some(word) = block.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Whether the key may be in the run.
    pub(super) fn may_have(&self, key: Key) -> bool {
        let start = self.block(key);
        let block = self.words.get(start..start + WORDS).unwrap_or_default();
        // Without a block nothing is known.
        bits(key).all(|(word, bit)| block.get(word).is_none_or(|word| word & bit != 0))
    }

    /// Where the block of a key begins.
    fn block(&self, Key(hash): Key) -> usize {
        let blocks = u64::try_from(self.words.len() / WORDS).unwrap_or(0);
        // The first half of the hash, spread over the blocks.
        usize::try_from(((hash >> 32) * blocks) >> 32).unwrap_or(0) * WORDS
    }
}

/// The bits of a key in its block: which word, and which bit of it.
fn bits(Key(hash): Key) -> impl Iterator<Item = (usize, u64)> {
    // From other bits than the block's.
    let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (hash >> 29);
    (0..BITS).map(move |number| {
        let nine = (mixed >> (number * 9)) & 511;
        (usize::try_from(nine >> 6).unwrap_or(0), 1 << (nine & 63))
    })
}

#[cfg(test)]
mod tests {
    use rand::{RngCore as _, SeedableRng as _};

    use super::*;

    #[test]
    fn what_is_in_it_is_found_and_little_else() {
        let mut random = rand::rngs::StdRng::seed_from_u64(7);
        let mut draw = move || Key(random.next_u64() & !1);
        let (known, strange): (Vec<_>, Vec<_>) =
            ((0..50_000).map(|_| draw()).collect(), (0..50_000).map(|_| draw()).collect());
        let mut filter = Filter::new(known.len());
        known.iter().for_each(|key| filter.insert(*key));
        let stored = Filter::from_bytes(&filter.to_bytes());
        for filter in [&filter, &stored] {
            assert!(known.iter().all(|key| filter.may_have(*key)));
            let wrong = strange.iter().filter(|key| filter.may_have(**key)).count();
            assert!(wrong < strange.len() / 40, "{wrong} of {}", strange.len());
        }
        assert!(Filter::from_bytes(&[]).may_have(Key(2)), "a filter that is gone hides nothing");
    }
}
