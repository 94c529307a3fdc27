//! No member reads more at a time than the others leave them.
//!
//! The database has no queue of ours, so what is bounded is what a member has under way; the rest waits here, in the order
//! in which it came. The server itself has the places of one member.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::{
    StoreError,
    turns::{Turn, Weight},
};

/// Light reads of one caller that are under way at the same time.
const LIGHT: usize = 8;
/// Heavy ones.
const HEAVY: usize = 2;
/// Those under way and those that wait, for each weight; more are refused.
const EACH: usize = 256;

/// Whose reads are under way or wait.
#[derive(Default)]
pub(super) struct Turns {
    callers: Arc<Mutex<HashMap<Turn, Places>>>,
}

struct Places {
    free: Arc<Semaphore>,
    /// Those under way and those that wait: without any the entry is gone.
    users: usize,
}

/// A read under way. Given back when it is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _user: User,
}

/// Somebody who waits or reads.
struct User {
    callers: Arc<Mutex<HashMap<Turn, Places>>>,
    turn: Turn,
}

impl Drop for User {
    fn drop(&mut self) {
        if let Entry::Occupied(mut places) = lock(&self.callers).entry(self.turn) {
            places.get_mut().users -= 1;
            if places.get().users == 0 {
                places.remove();
            }
        }
    }
}

impl Turns {
    /// Waits for the turn of a read.
    pub(super) async fn wait(&self, turn: Turn) -> Result<Place, StoreError> {
        let (free, user) = self.enter(turn)?;
        // It is never closed.
        let permit = free.acquire_owned().await.map_err(|_| StoreError::Overloaded)?;
        Ok(Place { _permit: permit, _user: user })
    }

    fn enter(&self, turn: Turn) -> Result<(Arc<Semaphore>, User), StoreError> {
        let mut callers = lock(&self.callers);
        let size = match turn.weight {
            Weight::Light => LIGHT,
            Weight::Heavy => HEAVY,
        };
        let places = callers.entry(turn).or_insert_with(|| Places { free: Arc::new(Semaphore::new(size)), users: 0 });
        if places.users >= EACH {
            return Err(StoreError::Overloaded);
        }
        places.users += 1;
        Ok((Arc::clone(&places.free), User { callers: Arc::clone(&self.callers), turn }))
    }
}

/// Nothing under the lock panics.
fn lock(callers: &Mutex<HashMap<Turn, Places>>) -> MutexGuard<'_, HashMap<Turn, Places>> {
    callers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use protocol::MemberId;

    use super::*;

    #[tokio::test]
    async fn a_member_has_so_many_reads_at_a_time_and_others_have_theirs() {
        let turns = Turns::default();
        let turn = |number| match number {
            0 => Turn::HEAVY_SYSTEM,
            number => Turn::heavy(MemberId::from_bytes([number; 12])),
        };
        let system: Vec<_> = (0..HEAVY).map(|_| turns.wait(turn(0)).now_or_never().unwrap().unwrap()).collect();
        assert!(turns.wait(turn(0)).now_or_never().is_none(), "the server is a caller like others");
        let mut places: Vec<_> = (0..HEAVY).map(|_| turns.wait(turn(1)).now_or_never().unwrap().unwrap()).collect();
        let mut waiting: Vec<_> = (HEAVY..EACH).map(|_| Box::pin(turns.wait(turn(1)))).collect();
        assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        assert_eq!(turns.wait(turn(1)).await.err(), Some(StoreError::Overloaded), "too many wait");
        assert!(turns.wait(turn(2)).now_or_never().unwrap().is_ok(), "another member");
        assert!(turns.wait(Turn::light(MemberId::from_bytes([1; 12]))).now_or_never().unwrap().is_ok(), "a light one");
        places.pop();
        assert!(waiting[0].as_mut().now_or_never().unwrap().is_ok(), "the first one that waits");
        drop((places, waiting, system));
        assert!(lock(&turns.callers).is_empty(), "nothing is kept");
    }
}
