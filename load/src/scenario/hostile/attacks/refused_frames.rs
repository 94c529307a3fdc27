//! A member far over the limit of frames, with frames that take long to decode, who reconnects at once when cut off.

use std::time::Duration;

use bytes::BytesMut;
use protocol::{ClientFrame, client::PresenceWatch};

use super::{
    super::{
        cast::{Kind, home},
        field::{Field, together},
        socket::Guest,
    },
    flood::{self, Burst},
};
use crate::wire::write_text;

/// Frames in one write, and how often: at most 1,000 a second and connection, ten times the limit of a member.
const FRAMES: usize = 10;
const EVERY: Duration = Duration::from_millis(10);
const CONNECTIONS: usize = 4;
/// Members that each frame names: as many as it may, 14 KB.
const NAMED: usize = 500;

pub(super) async fn run(field: Field) -> Result<(), String> {
    let account = field.cast.one(&field.cast.layout.refused)?;
    let members = field.cast.all(&field.cast.layout.directory).iter().take(NAMED).map(|member| member.id).collect();
    let id = "w".parse().map_err(|error| format!("{error}"))?;
    let frame = ClientFrame::PresenceWatch(PresenceWatch { members }).encode(Some(&id));
    let mut bytes = BytesMut::new();
    (0..FRAMES).for_each(|_| write_text(&mut bytes, &[&frame]));
    let field = &field;
    together(CONNECTIONS, |number| {
        let guest = Guest::new(&account, format!("refused-{number}"), home(Kind::Member, 3));
        let burst = Burst { name: "frames", bytes: bytes.to_vec(), frames: FRAMES as u64, every: EVERY };
        flood::frames(field.clone(), guest, burst)
    })
    .await
}
