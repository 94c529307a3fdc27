//! The settings of the allocator.
//!
//! jemalloc keeps pages that were freed for 10 s, and gives them back when something is allocated or freed in the same
//! arena: after a burst, on threads that have nothing to do, that is never. A thread of its own looks after it here, and
//! pages are kept for half as long.

use tikv_jemalloc_ctl::{Access as _, AsName as _, Error, arenas, background_thread};

/// How long pages that were freed are kept, in milliseconds; they go back little by little meanwhile.
const DECAY_MS: isize = 5_000;

/// Has memory that was freed go back to the system within [`DECAY_MS`].
///
/// # Errors
/// When the allocator was built without one of these settings. Memory is kept for longer then, and nothing else happens.
pub fn give_back_soon() -> Result<(), Error> {
    // For the arenas that are made later, and for those that exist.
    "arenas.dirty_decay_ms\0".name().write(DECAY_MS)?;
    for arena in 0..arenas::narenas::read()? {
        // Most of them are not there yet.
        let _ = format!("arena.{arena}.dirty_decay_ms\0").name().write(DECAY_MS);
    }
    background_thread::write(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_takes_its_settings() {
        give_back_soon().unwrap();
        assert!(background_thread::read().unwrap());
        let decay: isize = "arenas.dirty_decay_ms\0".name().read().unwrap();
        assert_eq!(decay, DECAY_MS);
    }
}
