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

fn is_empty(places: &Places) -> bool {
    let state = places.lock();
    state.strangers.is_empty() && state.leaving.is_empty() && state.members.is_empty()
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
    assert!(is_empty(&places), "nothing is kept about anybody");
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
    assert_eq!(places.lock().taken(), 2);
    held.remove(0);
    assert_eq!(places.lock().taken(), 2);
    held.clear();
    assert_eq!(places.lock().taken(), 0);
}

#[test]
fn a_trusted_proxy_speaks_for_many() {
    let (places, mut held) = (places(100, 2, 3), Vec::new());
    for _ in 0..10 {
        admit(&places, "10.0.0.1", &mut held).unwrap();
    }
    assert_eq!(held[0].belongs_to(ip("192.0.2.1"), Instant::now()), Ok(()));
    assert_eq!(held[1].belongs_to(ip("192.0.2.1"), Instant::now()), Ok(()));
    assert_eq!(held[2].belongs_to(ip("192.0.2.1"), Instant::now()), Err(NoRoom::Address));
    assert_eq!(held[3].belongs_to(ip("192.0.2.2"), Instant::now()), Ok(()));
    assert_eq!(held[3].belongs_to(ip("192.0.2.1"), Instant::now()), Ok(()), "it is somebody's already");
    held.remove(0);
    assert_eq!(held[1].belongs_to(ip("192.0.2.1"), Instant::now()), Ok(()));
    assert_eq!(held[4].belongs_to(ip("10.0.0.1"), Instant::now()), Ok(()), "an address that no proxy has told");
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

#[test]
fn a_silent_stranger_of_a_full_address_or_network_gives_way_to_a_new_one() {
    let (places, now) = (places(100, 2, 3), Instant::now());
    let admit = |from: &str, at: Instant| places.admit(ip(from), at);
    let held: Vec<Place> = ["192.0.2.1", "192.0.2.1", "192.0.2.9"].map(|from| admit(from, now).unwrap()).into();
    let mut ends: Vec<_> = held.iter().map(|place| spawn(place.ended())).collect();
    assert_eq!(admit("192.0.2.1", now).err(), Some(NoRoom::Address), "nobody has been silent for long");
    assert_eq!(admit("192.0.2.7", now).err(), Some(NoRoom::Network));
    let later = now + PATIENCE;
    let _newcomer = admit("192.0.2.9", later).unwrap();
    assert_ready_eq!(ends[0].poll(), Order::MakeRoom);
    let _newcomer = admit("192.0.2.1", later).unwrap();
    assert_ready_eq!(ends[1].poll(), Order::MakeRoom);
    assert_pending!(ends[2].poll());
    let _proxied = admit("10.0.0.1", later).unwrap();
    assert_eq!(_proxied.belongs_to(ip("192.0.2.9"), later), Ok(()));
    assert_ready_eq!(ends[2].poll(), Order::MakeRoom);
}

#[test]
fn a_stranger_that_is_being_closed_is_known_until_its_socket_is_and_can_be_cut() {
    let (places, now, mut leaving) = (places(1, 0, 0), Instant::now(), Vec::new());
    let mut held = places.admit(ip("192.0.2.1"), now).unwrap();
    held.stranger().unwrap().hold(5_000);
    for number in 0..=LEAVING_MAX {
        let later = now + PATIENCE * u32::try_from(number + 1).unwrap();
        let next = places.admit(ip("192.0.2.2"), later).unwrap();
        leaving.push(std::mem::replace(&mut held, next));
        if number == 0 {
            assert_eq!(places.unsent().len(), 1, "what it holds can be found");
        }
    }
    assert_eq!(places.lock().leaving.len(), LEAVING_MAX);
    assert_ready_eq!(spawn(leaving[0].ended()).poll(), Order::Cut);
    assert_ready_eq!(spawn(leaving[1].ended()).poll(), Order::MakeRoom);
    assert_pending!(spawn(leaving[1].cut()).poll());
    drop((leaving, held));
    assert!(is_empty(&places));
}

/// Has so many members sign in; fails at the first one that may not.
fn sign_in(places: &Arc<Places>, from: &str, count: usize, held: &mut Vec<Place>) -> Result<Option<Crowd>, NoRoom> {
    let mut crowd = None;
    for _ in 0..count {
        let place = places.admit(ip(from), Instant::now())?;
        place.may_sign_in()?;
        crowd = place.signed_in();
        held.push(place);
    }
    Ok(crowd)
}

#[test]
fn one_address_with_many_accounts_gives_up_places_to_others_when_hardly_any_is_left() {
    let (places, mut held) = (places(3_200, 0, 0), Vec::new());
    assert_eq!(sign_in(&places, "192.0.2.1", 3_100, &mut held), Ok(None), "as long as there is room, anybody has it");
    assert_eq!(sign_in(&places, "192.0.2.1", 1, &mut held), Err(NoRoom::Address));
    assert_eq!(sign_in(&places, "192.0.2.2", 1, &mut held), Err(NoRoom::Network));
    let crowd = sign_in(&places, "198.51.100.1", 1, &mut held).unwrap().unwrap();
    assert!(crowd.has(ip("192.0.2.1")) && !crowd.has(ip("192.0.2.2")));
    // As many as the largest gives up, others get.
    held.drain(..1);
    assert!(sign_in(&places, "198.51.100.1", 1, &mut held).unwrap().is_some());
    held.drain(..2_600);
    assert_eq!(sign_in(&places, "192.0.2.1", 1, &mut held), Ok(None));
    drop(held);
    assert!(is_empty(&places));
}

#[test]
fn one_network_with_many_accounts_gives_up_places_too() {
    let (places, mut held) = (places(3_200, 0, 0), Vec::new());
    for number in 0..10 {
        sign_in(&places, &format!("192.0.2.{number}"), 310, &mut held).unwrap();
    }
    let crowd = sign_in(&places, "198.51.100.1", 1, &mut held).unwrap().unwrap();
    assert!(crowd.has(ip("192.0.2.77")), "no address has many: {crowd:?}");
}
