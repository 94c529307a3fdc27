//! Devices that say hello and then read nothing more, while large messages are sent to them.

use std::time::Duration;

use protocol::{ClientFrame, client::MessageSend};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    super::{
        cast::{Kind, SLOW, home},
        field::{Field, together},
        socket::{Guest, turned_away},
    },
    flood,
};

/// Devices of each member: as many as a member may have.
const DEVICES: usize = 10;
/// What the kernel keeps for one of them, in bytes.
const KERNEL_BUFFER: u32 = 4_096;
/// A message to each of the members so often: as fast as the limits allow for long.
const EVERY: Duration = Duration::from_millis(50);
/// Characters of a message, 16 KB of them.
const CHARACTERS: usize = 4_000;
const AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn run(field: Field) -> Result<(), String> {
    let (readers, writers) = (field.cast.all(&field.cast.layout.slow), field.cast.all(&field.cast.layout.writers));
    let pairs: Vec<_> = readers.iter().cloned().zip(writers.iter().cloned()).collect();
    {
        let field = &field;
        together(SLOW * DEVICES, |number| {
            let (field, reader) = (field.clone(), pairs.get(number % SLOW).map(|(reader, _)| reader.clone()));
            async move {
                let from = home(Kind::Member, 20 + number % SLOW);
                let mut guest = Guest::new(&reader.ok_or("a member is missing")?, format!("slow-{number}"), from);
                guest.kernel_buffer = Some(KERNEL_BUFFER);
                match guest.enter(&field).await {
                    Ok((wire, _)) => {
                        field.count("devices that do not read", 1);
                        field.hold(wire.into_stream());
                    }
                    Err(how) => field.count(&how, 1),
                }
                Ok(())
            }
        })
        .await?;
    }
    let field = &field;
    together(SLOW, |number| {
        let (field, pair) = (field.clone(), pairs.get(number).cloned());
        async move {
            let (reader, writer) = pair.ok_or("a member is missing")?;
            let guest = Guest::new(&writer, "writer".to_owned(), home(Kind::Member, 30 + number));
            write(field, guest, reader.id).await
        }
    })
    .await
}

async fn write(field: Field, guest: Guest, to: protocol::MemberId) -> Result<(), String> {
    let content = "🦀".repeat(CHARACTERS);
    loop {
        match guest.enter(&field).await {
            Err(how) => field.count(&how, 1),
            Ok((mut wire, _)) => {
                let mut ticks = interval(EVERY);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let ended = loop {
                    tokio::select! {
                        _ = ticks.tick() => {
                            let client_id = field.client_id();
                            let send = MessageSend { to: Some(to), conversation: None, client_id, content: content.clone(), reply_to: None };
                            wire.queue(&[&ClientFrame::MessageSend(send).encode(None)]);
                            field.count("messages to them", 1);
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
