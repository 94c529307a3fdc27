//! A member with much that is unread has it counted: by watermarks within the frame limit, by requests, and by full syncs.

use std::time::Duration;

use protocol::{ClientFrame, client::MessageRead};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    super::{
        cast::{Kind, home},
        field::{Field, together},
        http::signed,
        socket::{Guest, turned_away},
    },
    flood,
};

/// Requests at the same time.
const REQUESTS: usize = 40;
/// Devices that sync again and again.
const SYNCS: usize = 4;
/// Watermarks a second: just within the limit of frames.
const MARKS: u32 = 95;
/// The one who sends watermarks gets in before the requests begin.
const FIRST: Duration = Duration::from_millis(300);
const AGAIN: Duration = Duration::from_millis(10);

pub(super) async fn run(field: Field) -> Result<(), String> {
    let account = field.cast.one(&field.cast.layout.unread)?;
    let from = home(Kind::Member, 0);
    let field = &field;
    together(1 + REQUESTS + SYNCS, |number| {
        let (field, account) = (field.clone(), account.clone());
        async move {
            match number {
                0 => mark(field, Guest::new(&account, "marks".to_owned(), from)).await,
                1..=REQUESTS => {
                    sleep(FIRST).await;
                    let head = signed("GET /api/messages/unread", &account.token);
                    flood::requests(field, from, |_| (head.clone(), Vec::new())).await
                }
                _ => sync(field, Guest::new(&account, format!("sync-{number}"), from)).await,
            }
        }
    })
    .await
}

/// Says again and again that the first message was read.
async fn mark(field: Field, guest: Guest) -> Result<(), String> {
    loop {
        match guest.enter(&field).await {
            Err(how) => field.count(&how, 1),
            Ok((mut wire, sync)) => {
                let conversation = sync.conversation.as_deref().and_then(|id| id.parse().ok());
                let conversation = conversation.ok_or("there is nothing unread")?;
                let read = ClientFrame::MessageRead(MessageRead { conversation, seq: 1 }).encode(Some(&id()?));
                let mut ticks = interval(Duration::from_secs(1) / MARKS);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let ended = loop {
                    tokio::select! {
                        _ = ticks.tick() => {
                            wire.queue(&[&read]);
                            field.count("watermarks", 1);
                        }
                        turned = wire.turn() => {
                            if let Err(ended) = turned.and_then(|()| flood::hear(&field, &mut wire)) {
                                break ended;
                            }
                        }
                    }
                };
                field.count(&turned_away(&ended), 1);
            }
        }
        sleep(AGAIN).await;
    }
}

/// The id with which a reply is asked for.
fn id() -> Result<protocol::RequestId, String> {
    "r".parse().map_err(|error| format!("{error}"))
}

async fn sync(field: Field, guest: Guest) -> Result<(), String> {
    loop {
        match guest.enter(&field).await {
            Ok(_) => field.count("full syncs", 1),
            Err(how) => field.count(&how, 1),
        }
        sleep(AGAIN).await;
    }
}
