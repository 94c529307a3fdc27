//! Frames of the WebSocket itself, of which no message comes: pings, pongs that nobody asked for, and messages in many empty
//! fragments (RFC 6455, sections 5.4 and 5.5).

use std::time::Duration;

use super::{
    super::{
        cast::{Kind, home},
        field::{Field, together},
        socket::Guest,
    },
    flood::{self, Burst},
};

/// Frames in one write, and how often: at most 100,000 a second on each connection.
const FRAMES: usize = 1_000;
const EVERY: Duration = Duration::from_millis(10);
const CONNECTIONS: usize = 4;

const LAST: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

pub(super) async fn run(field: Field) -> Result<(), String> {
    let account = field.cast.one(&field.cast.layout.pinger)?;
    let field = &field;
    together(CONNECTIONS, |number| {
        let guest = Guest::new(&account, format!("pings-{number}"), home(Kind::Member, 2));
        flood::frames(field.clone(), guest, burst(number))
    })
    .await
}

/// Two connections ping, one sends pongs, one a message that never ends.
fn burst(number: usize) -> Burst {
    let (name, heads) = match number % 4 {
        0 | 1 => ("pings", [LAST | PING; FRAMES]),
        2 => ("unasked pongs", [LAST | PONG; FRAMES]),
        _ => {
            // A message in a thousand parts, all of them empty. The last one ends it, so that the next one may begin.
            let mut heads = [CONTINUATION; FRAMES];
            heads[0] = TEXT;
            heads[FRAMES - 1] = LAST | CONTINUATION;
            ("empty fragments", heads)
        }
    };
    let bytes = heads.iter().flat_map(|head| empty_frame(*head)).collect();
    Burst { name, bytes, frames: FRAMES as u64, every: EVERY }
}

/// A masked frame without a payload.
const fn empty_frame(head: u8) -> [u8; 6] {
    [head, 0x80, 1, 2, 3, 4]
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message, protocol::Role},
    };

    use super::*;

    /// What is sent is WebSocket, if strange: the library that the server uses reads it.
    #[tokio::test]
    async fn floods_are_valid_frames() {
        for (number, expected) in [(0, FRAMES), (2, FRAMES), (3, 1)] {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            let mut server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
            let writing = tokio::spawn(async move {
                client.write_all(&burst(number).bytes).await.unwrap();
                // Kept open until everything is read, and what is answered is taken.
                tokio::io::copy(&mut client, &mut tokio::io::sink()).await.unwrap();
            });
            for _ in 0..expected {
                let message = server.next().await.unwrap().unwrap();
                assert!(message.is_ping() || message.is_pong() || message == Message::text(""));
            }
            drop(server);
            writing.await.unwrap();
        }
    }
}
