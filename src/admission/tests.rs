use tokio_test::{assert_pending, assert_ready_eq, task::spawn};

use super::*;
use crate::{
    budget::Budget,
    hub::{Close, OutboxLimits},
};
use protocol::CloseCode;

fn places(total: usize, per_address: usize, per_network: usize) -> Arc<Places> {
    let proxies = Arc::from(["10.0.0.0/8".parse().unwrap()]);
    Places::new(Limits { total, per_address, per_network }, proxies, Arc::new(Metrics::new()))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The outcome for a connection that is held, and for one that is refused.
fn admit(places: &Arc<Places>, from: &str, held: &mut Vec<Place>) -> Result<(), NoRoom> {
    held.push(places.admit(ip(from), Instant::now())?);
    Ok(())
}

#[test]
fn an_address_and_a_network_are_limited_until_somebody_signs_in() {
    let (places, mut held) = (places(100, 2, 3), Vec::new());
    assert_eq!(admit(&places, "192.0.2.1", &mut held), Ok(()));
    assert_eq!(admit(&places, "192.0.2.1", &mut held), Ok(()));
    assert_eq!(admit(&places, "192.0.2.1", &mut held), Err(NoRoom::Address));
    assert_eq!(admit(&places, "192.0.2.9", &mut held), Ok(()));
    assert_eq!(admit(&places, "192.0.2.10", &mut held), Err(NoRoom::Network));
    assert_eq!(admit(&places, "192.0.3.1", &mut held), Ok(()));
    held[0].signed_in();
    assert_eq!(admit(&places, "192.0.2.1", &mut held), Ok(()));
    assert_eq!(admit(&places, "2001:db8:1:1::1", &mut held), Ok(()));
    assert_eq!(admit(&places, "2001:db8:1:1::2", &mut held), Ok(()));
    assert_eq!(admit(&places, "2001:db8:1:1::3", &mut held), Err(NoRoom::Address), "a /64 is one address");
    assert_eq!(admit(&places, "2001:db8:1:2::1", &mut held), Ok(()));
    assert_eq!(admit(&places, "2001:db8:1:3::1", &mut held), Err(NoRoom::Network), "a /48 is one network");
    drop(held);
    let state = places.lock();
    assert!(state.taken == 0 && state.strangers.is_empty(), "nothing is kept about anybody");
}

#[test]
fn the_oldest_stranger_of_the_largest_address_makes_room() {
    let (places, mut held) = (places(4, 0, 0), Vec::new());
    for from in ["192.0.2.1", "192.0.2.2", "192.0.2.2"] {
        admit(&places, from, &mut held).unwrap();
    }
    assert_eq!(admit(&places, "192.0.2.2", &mut held), Err(NoRoom::Total), "it has the most itself");
    let mut ends: Vec<_> = held.iter().map(|place| spawn(place.ended())).collect();
    for end in &mut ends {
        assert_pending!(end.poll());
    }
    let newcomer = places.admit(ip("198.51.100.1"), Instant::now());
    assert!(newcomer.is_ok());
    assert_pending!(ends[0].poll());
    assert_ready_eq!(ends[1].poll(), Order::MakeRoom);
    assert_pending!(ends[2].poll());
    // All addresses have one now: those who have just come are not closed for others who have.
    assert_eq!(places.admit(ip("198.51.100.2"), Instant::now()).err(), Some(NoRoom::Total));
    let later = Instant::now() + PATIENCE;
    assert!(places.admit(ip("198.51.100.2"), later).is_ok(), "but those who are silent are");
}

#[test]
fn a_member_is_never_closed_for_somebody_else_and_strangers_never_have_all_places() {
    let (places, mut held) = (places(4, 0, 0), Vec::new());
    for _ in 0..4 {
        admit(&places, "192.0.2.1", &mut held).unwrap();
        held.last().unwrap().signed_in();
    }
    let later = Instant::now() + PATIENCE;
    assert_eq!(places.admit(ip("198.51.100.1"), later).err(), Some(NoRoom::Total));
    for place in &held {
        assert_pending!(spawn(place.ended()).poll());
    }
    held.clear();
    for _ in 0..3 {
        admit(&places, "192.0.2.1", &mut held).unwrap();
    }
    assert_eq!(admit(&places, "192.0.2.1", &mut held), Err(NoRoom::Total));
    held[1].signed_in();
    assert_eq!(admit(&places, "192.0.2.1", &mut held), Ok(()), "there is a place left for who signs in");
}

#[test]
fn a_place_that_was_given_away_is_not_freed_twice() {
    let (places, mut held) = (places(2, 0, 0), Vec::new());
    admit(&places, "192.0.2.1", &mut held).unwrap();
    admit(&places, "192.0.2.1", &mut held).unwrap();
    admit(&places, "192.0.2.2", &mut held).unwrap();
    held[0].signed_in();
    assert_eq!(places.lock().taken, 2);
    held.remove(0);
    assert_eq!(places.lock().taken, 2);
    held.clear();
    assert_eq!(places.lock().taken, 0);
}

#[test]
fn a_trusted_proxy_speaks_for_many() {
    let (places, mut held) = (places(100, 2, 3), Vec::new());
    for _ in 0..10 {
        admit(&places, "10.0.0.1", &mut held).unwrap();
    }
    assert_eq!(held[0].belongs_to(ip("192.0.2.1")), Ok(()));
    assert_eq!(held[1].belongs_to(ip("192.0.2.1")), Ok(()));
    assert_eq!(held[2].belongs_to(ip("192.0.2.1")), Err(NoRoom::Address));
    assert_eq!(held[3].belongs_to(ip("192.0.2.2")), Ok(()));
    assert_eq!(held[3].belongs_to(ip("192.0.2.1")), Ok(()), "it is somebody's already");
    held.remove(0);
    assert_eq!(held[1].belongs_to(ip("192.0.2.1")), Ok(()));
    assert_eq!(held[4].belongs_to(ip("10.0.0.1")), Ok(()), "an address that no proxy has told");
}

#[test]
fn a_socket_that_makes_room_is_told_when_to_come_back() {
    let places = places(1, 0, 0);
    let limits = OutboxLimits { frames: 1, bytes: 1 };
    let budget = Arc::new(Budget::new(usize::MAX, Arc::new(Metrics::new())));
    let outbox = || Arc::new(Outbox::new(limits, Arc::clone(&budget)));
    let close = Close { code: CloseCode::TooMuch, retry_after_ms: Some(5_000) };
    for early in [true, false] {
        let (place, outbox) = (places.admit(ip("192.0.2.1"), Instant::now()).unwrap(), outbox());
        if early {
            place.closes_through(&outbox);
        }
        let _newcomer = places.admit(ip("192.0.2.2"), Instant::now() + PATIENCE).unwrap();
        place.closes_through(&outbox);
        assert_eq!(outbox.closing(), Some(close));
    }
}
