//! Addresses for which a push service refuses everything: their registration ends in the end, as if nobody were there any more.
//!
//! In memory, and each node counts for itself: a restart begins anew, which costs requests and nothing else.

use std::time::Duration;

use protocol::Timestamp;
use quick_cache::sync::Cache;

use crate::store::push::AddressHash;

/// Refusals in a row after which nobody tries any more.
const REFUSALS_MAX: u32 = 20;
/// For how long it has to have refused at least: what is wrong with the setup of this server is put right meanwhile.
const SINCE: Duration = Duration::from_secs(3_600);
/// Addresses that are remembered.
const KNOWN: usize = 10_000;

/// How often each address was refused since something was taken for it, and since when.
pub(super) struct Refusals(Cache<AddressHash, (u32, Timestamp)>);

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Cache::new(KNOWN))
    }

    /// It was refused. Returns whether that is enough.
    pub(super) fn refused(&self, address: AddressHash, now: Timestamp) -> bool {
        let (count, since) = self.0.get(&address).unwrap_or((0, now));
        let count = count.saturating_add(1);
        let is_enough = count >= REFUSALS_MAX && now.since(since) >= SINCE;
        if is_enough {
            self.0.remove(&address);
        } else {
            self.0.insert(address, (count, since));
        }
        is_enough
    }

    /// Something was taken for it.
    pub(super) fn taken(&self, address: AddressHash) {
        self.0.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_refusals_in_more_than_an_hour_are_enough_unless_something_was_taken() {
        let (refusals, address) = (Refusals::new(), AddressHash([1; 32]));
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        assert!((0..40).all(|_| !refusals.refused(address, at(0))), "within an hour");
        refusals.taken(address);
        assert!((0..19).all(|number| !refusals.refused(address, at(10 + number * 10))), "nineteen");
        assert!(refusals.refused(address, at(200)));
    }
}
