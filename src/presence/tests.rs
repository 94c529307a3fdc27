//! The members, the queue and those who are told, together.

use std::time::Duration;

use protocol::{SessionId, model::PresenceStatus};

use super::*;
use crate::{
    budget::Budget,
    hub::{Outbox, OutboxLimits},
    telemetry::Metrics,
};

const PACE: Pace = Pace { grace: Duration::from_secs(10), interval: Duration::from_secs(1) };

fn id(byte: u8) -> MemberId {
    MemberId::from_bytes([byte; 12])
}

fn connection(number: u8, member: MemberId) -> Arc<Connection> {
    let limits = OutboxLimits { frames: 16, bytes: 65_536 };
    let outbox = Arc::new(Outbox::new(limits, Arc::new(Budget::new(usize::MAX, Arc::new(Metrics::new())))));
    let (id, session) = (ConnectionId::from_bytes([number; 12]), SessionId::from_bytes([number; 12]));
    Arc::new(Connection::new(id, member, session, "device".parse().unwrap(), outbox))
}

fn stored(member: MemberId, audience: Audience) -> LastSeen {
    LastSeen { member, at: None, audience, version: 1 }
}

type Told = Arc<Mutex<Vec<(ConnectionId, PresenceStatus)>>>;

fn presence_with(told: &Told) -> Presence {
    let told = Arc::clone(told);
    let tell = move |watchers: &[Arc<Connection>], presence: MemberPresence| {
        told.lock().unwrap().extend(watchers.iter().map(|watcher| (watcher.id, presence.status)));
    };
    Presence::new(PACE, Box::new(tell))
}

/// Lets a minute of paused time pass, with a store that records at once.
async fn quiet(presence: &Presence) {
    let record = async {
        loop {
            for (member, at) in presence.next_gone().await {
                presence.recorded(member, at);
            }
        }
    };
    tokio::select! {
        () = presence.run() => {}
        () = record => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_connection_that_ends_late_leaves_no_ghost() {
    let told = Told::default();
    let presence = presence_with(&told);
    let (ana, watcher) = (id(1), connection(9, id(2)));
    let at = Timestamp::from_millis(1_000);
    presence.watch(&watcher, &[ana]);
    presence.reveal(watcher.id, &[(stored(ana, Audience::Members), false)]);
    let (older, newer) = (connection(1, ana), connection(2, ana));
    presence.arrived(ana, older.id, None);
    presence.arrived(ana, newer.id, Some(older.id));
    presence.left(ana, newer.id, at);
    quiet(&presence).await;
    // The replaced connection was stuck in a write, and ends only now.
    presence.left(ana, older.id, at);
    quiet(&presence).await;
    let expected = [(watcher.id, PresenceStatus::Online), (watcher.id, PresenceStatus::Offline)];
    assert_eq!(told.lock().unwrap().as_slice(), expected);
    assert_eq!(presence.take_all_departed(), []);
    presence.unwatch(watcher.id, [ana]);
    assert!(presence.members.is_empty() && presence.lock_due().is_empty(), "nothing is kept of who is gone");
}

#[tokio::test(start_paused = true)]
async fn presence_that_flaps_is_told_once_per_interval() {
    let told = Told::default();
    let presence = presence_with(&told);
    let (ana, watcher) = (id(1), connection(9, id(2)));
    presence.watch(&watcher, &[ana]);
    presence.reveal(watcher.id, &[(stored(ana, Audience::Members), false)]);
    let phone = connection(1, ana);
    presence.arrived(ana, phone.id, None);
    for _ in 0..500 {
        presence.set_status(ana, phone.id, DeviceStatus::Away);
        presence.set_status(ana, phone.id, DeviceStatus::Online);
    }
    presence.set_status(ana, phone.id, DeviceStatus::Away);
    quiet(&presence).await;
    let expected = [(watcher.id, PresenceStatus::Online), (watcher.id, PresenceStatus::Away)];
    assert_eq!(told.lock().unwrap().as_slice(), expected, "the first at once, the newest in the end");
}

#[test]
fn a_watch_misses_nothing_while_the_store_is_asked() {
    let told = Told::default();
    let presence = presence_with(&told);
    let (ana, watcher) = (id(1), connection(9, id(2)));
    presence.watch(&watcher, &[ana]);
    // What was read says partners; meanwhile the first message was stored, and the member went online.
    presence.met(&[ana, watcher.member]);
    presence.arrived(ana, connection(1, ana).id, None);
    let snapshot = presence.reveal(watcher.id, &[(stored(ana, Audience::Partners), false)]);
    assert_eq!(snapshot[0].status, PresenceStatus::Online);
    presence.catch_up(&watcher, &snapshot);
    assert_eq!(told.lock().unwrap().as_slice(), [], "nothing has changed since");
    // A choice that is newer than what is read later stands.
    presence.set_audience(ana, 5, Audience::Nobody);
    assert_eq!(told.lock().unwrap().as_slice(), [(watcher.id, PresenceStatus::Offline)]);
    presence.catch_up(&watcher, &snapshot);
    assert_eq!(told.lock().unwrap().as_slice(), [(watcher.id, PresenceStatus::Offline); 2]);
    let again = presence.reveal(watcher.id, &[(stored(ana, Audience::Members), true)]);
    assert_eq!(again[0].status, PresenceStatus::Offline);
}

#[test]
fn what_changes_while_a_watcher_catches_up_is_told_after_it() {
    let told = Told::default();
    let (reached, is_reached) = std::sync::mpsc::sync_channel(1);
    let tell = {
        let told = Arc::clone(&told);
        move |watchers: &[Arc<Connection>], presence: MemberPresence| {
            if presence.status == PresenceStatus::Online {
                // The other thread may overtake now, if it can.
                reached.send(()).unwrap();
                (0..10_000).for_each(|_| std::thread::yield_now());
            }
            told.lock().unwrap().extend(watchers.iter().map(|watcher| (watcher.id, presence.status)));
        }
    };
    let presence = Presence::new(PACE, Box::new(tell));
    let (ana, watcher) = (id(1), connection(9, id(2)));
    presence.arrived(ana, connection(1, ana).id, None);
    presence.watch(&watcher, &[ana]);
    presence.reveal(watcher.id, &[(stored(ana, Audience::Members), false)]);
    let snapshot = [MemberPresence { member: ana, status: PresenceStatus::Offline, last_seen: None }];
    std::thread::scope(|scope| {
        scope.spawn(|| presence.catch_up(&watcher, &snapshot));
        is_reached.recv().unwrap();
        presence.set_audience(ana, 2, Audience::Nobody);
    });
    let expected = [(watcher.id, PresenceStatus::Online), (watcher.id, PresenceStatus::Offline)];
    assert_eq!(told.lock().unwrap().as_slice(), expected);
}
