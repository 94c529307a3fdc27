//! Giving memory back when too much is held for clients that do not take it: who holds most is cut first.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    admission::{Order, Places, Stranger},
    budget::Budget,
    hub::{Hub, Outbox},
    telemetry::Quiet,
};

/// How long to leave the cut ones for ending before more are cut.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that holds memory for a client.
enum Holder {
    /// A WebSocket, which syncs when it comes back.
    Outbox(Arc<Outbox>),
    /// An HTTP connection, whose request or answer breaks off.
    Answer(Arc<Stranger>),
}

/// Cuts, whenever more is held than may be, until the server stops.
pub(super) async fn relieve(budget: Arc<Budget>, hub: Arc<Hub>, places: Arc<Places>, stop: CancellationToken) {
    let quiet = Quiet::default();
    while stop.run_until_cancelled(budget.pressed()).await.is_some() {
        cut(&budget, &hub, &places, &quiet);
        tokio::time::sleep(PAUSE).await;
    }
}

fn cut(budget: &Budget, hub: &Hub, places: &Places, quiet: &Quiet) {
    let mut excess = budget.excess();
    if excess == 0 {
        return;
    }
    let outboxes = hub.holding().into_iter().map(|(bytes, outbox)| (bytes, Holder::Outbox(outbox)));
    let answers = places.unsent().into_iter().map(|(bytes, stranger)| (bytes, Holder::Answer(stranger)));
    let mut holders: Vec<(usize, Holder)> = outboxes.chain(answers).collect();
    holders.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
    let (mut cut, mut freed) = (0_u64, 0);
    for (bytes, holder) in holders {
        if excess == 0 {
            break;
        }
        match holder {
            Holder::Outbox(outbox) => {
                outbox.cut();
                budget.metrics().memory_cut("outbox");
            }
            Holder::Answer(stranger) => {
                stranger.end(Order::Cut);
                budget.metrics().memory_cut("answer");
            }
        }
        excess = excess.saturating_sub(bytes);
        cut += 1;
        freed += bytes;
    }
    if cut > 0 && quiet.allows() {
        tracing::warn!(cut, freed, "too much memory is held for slow clients: those that hold most were cut");
    }
}

#[cfg(test)]
mod tests {
    use protocol::{CloseCode, MemberId, ServerFrame};

    use super::*;
    use crate::{
        admission::Limits,
        hub::{Connection, Delivery, Frame, OutboxLimits},
        telemetry::Metrics,
    };

    /// A frame of about so many bytes.
    fn frame(bytes: usize) -> Frame {
        let error = protocol::server::Error {
            code: protocol::ErrorCode::Internal,
            message: "x".repeat(bytes),
            field: None,
            retry_after_ms: None,
        };
        Frame::push(&ServerFrame::Error(error))
    }

    #[tokio::test]
    async fn who_holds_most_is_cut_first_and_no_more_than_is_needed() {
        let metrics = Arc::new(Metrics::new());
        let budget = Arc::new(Budget::new(100_000, Arc::clone(&metrics)));
        let hub = Hub::new(1, Arc::clone(&metrics));
        let limits = Limits { total: 10, per_address: 0, per_network: 0 };
        let places = Places::new(limits, Arc::from([]), Arc::clone(&metrics));
        let limits = OutboxLimits { frames: 100, bytes: 1_000_000 };
        let outboxes: Vec<Arc<Outbox>> = [5_000, 40_000]
            .into_iter()
            .zip(0_u8..)
            .map(|(bytes, number)| {
                let outbox = Arc::new(Outbox::new(limits, Arc::clone(&budget)));
                outbox.push(Delivery::Event(frame(bytes)));
                let id = |kind| [kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number];
                let connection = Connection::new(
                    protocol::ConnectionId::from_bytes(id(1)),
                    MemberId::from_bytes(id(2)),
                    protocol::SessionId::from_bytes(id(3)),
                    "phone".parse().unwrap(),
                    Arc::clone(&outbox),
                );
                hub.register(Arc::new(connection)).unwrap();
                outbox
            })
            .collect();
        let quiet = Quiet::default();
        let place = places.admit([192, 0, 2, 1].into(), tokio::time::Instant::now()).unwrap();
        let stranger = place.stranger().unwrap();
        stranger.hold(20_000);
        budget.charge(20_000);
        cut(&budget, &hub, &places, &quiet);
        assert!(outboxes.iter().all(|outbox| outbox.closing().is_none()), "there is room for all of them");

        budget.charge(20_000);
        budget.pressed().await;
        cut(&budget, &hub, &places, &quiet);
        assert_eq!(outboxes[1].closing().map(|close| close.code), Some(CloseCode::SlowConsumer));
        assert_eq!(outboxes[0].closing(), None);
        assert!(budget.excess() == 0 && outboxes[1].take().is_empty());

        budget.charge(40_000);
        cut(&budget, &hub, &places, &quiet);
        assert_eq!(place.ended().await, Order::Cut);
        assert_eq!(outboxes[0].closing(), None);
    }
}
