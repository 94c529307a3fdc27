//! Sending the connections of this node away, because it stops.
//!
//! Where another node is there to go to, they are closed one after the other over the whole of the drain, in random order: the
//! others get them as a stream and not as a herd. Where there is none, all are told at once, each with its own time to come
//! back.

use std::{sync::Arc, time::Duration};

use protocol::CloseCode;
use tokio::time::{Instant, sleep_until};

use crate::{
    hub::{Close, Hub, Outbox},
    ids::Ids,
};

/// How often some of them are closed: hundreds a second are no task of their own each.
const STEP: Duration = Duration::from_millis(10);
/// Within how many milliseconds a connection that was closed in its turn comes back: they are spread already.
const SPREAD_MS: u64 = 1_000;

/// Closes every connection, one after the other, evenly over so long. Takes the whole time, so that whoever spreads requests
/// over the nodes has noticed by its end that this one takes none. Those that are opened meanwhile are not its concern.
pub async fn one_after_the_other(hub: &Hub, ids: &Ids, over: Duration) {
    let mut waiting: Vec<Arc<Outbox>> = hub.signed_in(|connection| Arc::clone(&connection.outbox));
    shuffle(&mut waiting, ids);
    let (all, started) = (waiting.len(), Instant::now());
    let end = started + over;
    while Instant::now() < end {
        sleep_until(end.min(Instant::now() + STEP)).await;
        let passed = started.elapsed().as_secs_f64() / over.as_secs_f64();
        for outbox in waiting.drain(left_at(passed, all).min(waiting.len())..) {
            outbox.close(Close { code: CloseCode::GoingAway, retry_after_ms: Some(ids.below(SPREAD_MS)) });
        }
    }
}

/// How many of all are still there when this part of the time has passed.
fn left_at(passed: f64, all: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and the number of connections, which is far below 2^52"
    )]
    let left = ((1.0 - passed).max(0.0) * all as f64).ceil() as usize;
    left
}

/// Puts them into random order (Fisher and Yates).
fn shuffle<T>(all: &mut [T], ids: &Ids) {
    for last in (1..all.len()).rev() {
        let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
        all.swap(last, usize::try_from(ids.below(bound)).unwrap_or(last));
    }
}

/// Closes every connection at once, each with its own time to come back, spread over so long that they do not all come at
/// once.
pub fn all_at_once(hub: &Hub, ids: &Ids) {
    // 500 connections a second come back at most, and nobody waits longer than half a minute.
    let members = u64::try_from(hub.members()).unwrap_or(u64::MAX);
    let spread = (members * 2).clamp(1_000, 30_000);
    hub.close_all(|_| Close { code: CloseCode::GoingAway, retry_after_ms: Some(ids.below(spread)) });
}

#[cfg(test)]
mod tests {
    use protocol::{ConnectionId, MemberId, SessionId};

    use super::*;
    use crate::{
        budget::Budget,
        clock::SystemClock,
        hub::{Connection, OutboxLimits},
        ids::SystemEntropy,
        telemetry::Metrics,
    };

    const ALL: u32 = 5_000;

    /// A hub with one connection for each of so many members, in the order of their ids.
    fn crowd(members: u32) -> (Hub, Vec<Arc<Connection>>) {
        let metrics = Arc::new(Metrics::new());
        let budget = Arc::new(Budget::new(usize::MAX, Arc::clone(&metrics)));
        let hub = Hub::new(1, metrics);
        let connections = (0..members).map(|number| {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            let outbox = Arc::new(Outbox::new(OutboxLimits { frames: 10, bytes: 10_000 }, Arc::clone(&budget)));
            let (id, session) = (ConnectionId::from_bytes(bytes), SessionId::from_bytes(bytes));
            let connection =
                Connection::new(id, MemberId::from_bytes(bytes), session, "phone".parse().unwrap(), outbox);
            let connection = Arc::new(connection);
            hub.register(Arc::clone(&connection)).unwrap();
            connection
        });
        let connections = connections.collect();
        (hub, connections)
    }

    fn ids() -> Ids {
        Ids::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_is_a_stream_in_random_order_and_takes_its_time() {
        let (hub, connections) = crowd(ALL);
        let (over, started) = (Duration::from_secs(10), Instant::now());
        let drain = tokio::spawn(async move { one_after_the_other(&hub, &ids(), over).await });
        // When each comes back, in milliseconds from the start.
        let mut back = vec![None; connections.len()];
        while !drain.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            for (back, connection) in back.iter_mut().zip(&connections).filter(|(back, _)| back.is_none()) {
                *back = connection.outbox.closing().map(|close| {
                    assert_eq!(close.code, CloseCode::GoingAway);
                    started.elapsed().as_millis() + u128::from(close.retry_after_ms.unwrap())
                });
            }
        }
        assert!(started.elapsed() >= over && started.elapsed() < over + Duration::from_millis(50));
        let back: Vec<u128> = back.into_iter().map(|back| back.expect("everybody was sent away")).collect();
        let mut seconds = [0; 12];
        back.iter().for_each(|back| seconds[usize::try_from(back / 1_000).unwrap()] += 1);
        let most = seconds.iter().max().unwrap();
        assert!(*most <= ALL / 10 * 5 / 4, "a second has hardly more than its share: {seconds:?}");
        // Of those with the lower half of the ids, about half were in the first half of the time.
        let early = back[..back.len() / 2].iter().filter(|back| **back < 5_500).count();
        assert!((1_000..1_500).contains(&early), "{early} of 2,500");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_without_connections_takes_its_time_too() {
        let ((hub, _), started) = (crowd(0), Instant::now());
        one_after_the_other(&hub, &ids(), Duration::from_secs(10)).await;
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[test]
    fn where_nobody_can_go_all_are_told_at_once() {
        let (hub, connections) = crowd(ALL);
        all_at_once(&hub, &ids());
        let waits: Vec<u64> =
            connections.iter().map(|known| known.outbox.closing().unwrap().retry_after_ms.unwrap()).collect();
        assert!(waits.iter().any(|wait| *wait < 1_000) && waits.iter().any(|wait| *wait > 9_000));
        assert!(waits.iter().all(|wait| *wait < 10_000), "500 a second");
    }
}
