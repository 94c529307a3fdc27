//! A member's presence and name change all the time while 300 others watch.

use std::time::Duration;

use bytes::BytesMut;
use protocol::{
    ClientFrame,
    client::{PresenceSet, PresenceWatch},
    model::DeviceStatus,
};

use super::{
    super::{
        cast::{Kind, home},
        field::{Field, together},
        http::signed_json,
        socket::{Guest, kind, turned_away},
    },
    flood::{self, Burst},
};
use crate::wire::write_text;

/// Away and back in one write, so often: the limit of frames.
const EVERY: Duration = Duration::from_millis(20);
/// Changes of the name that are under way at the same time.
const NAMES: usize = 2;

pub(super) async fn run(field: Field) -> Result<(), String> {
    let subject = field.cast.one(&field.cast.layout.subject)?;
    let watchers = field.cast.all(&field.cast.layout.watchers).to_vec();
    let field = &field;
    together(watchers.len() + 1 + NAMES, |number| {
        let (field, subject, watcher) = (field.clone(), subject.clone(), watchers.get(number).cloned());
        let name = number.checked_sub(watchers.len() + 1);
        async move {
            let from = home(Kind::Member, 60);
            match (watcher, name) {
                (Some(watcher), _) => {
                    let guest = Guest::new(&watcher, "watcher".to_owned(), home(Kind::Watcher, number));
                    watch(field, guest, subject.id).await
                }
                (None, None) => {
                    let guest = Guest::new(&subject, "flap".to_owned(), from);
                    flood::frames(field, guest, flap()).await
                }
                (None, Some(name)) => {
                    let head = signed_json("PATCH /api/members/me", &subject.token);
                    let make = |tried| (head.clone(), format!(r#"{{"name":"Load {name} {tried}"}}"#).into_bytes());
                    flood::requests(field, from, make).await
                }
            }
        }
    })
    .await
}

fn flap() -> Burst {
    let mut bytes = BytesMut::new();
    for status in [DeviceStatus::Away, DeviceStatus::Online] {
        write_text(&mut bytes, &[&ClientFrame::PresenceSet(PresenceSet { status }).encode(None)]);
    }
    Burst { name: "changes of presence", bytes: bytes.to_vec(), frames: 2, every: EVERY }
}

/// Watches, and counts what it is told.
async fn watch(field: Field, guest: Guest, subject: protocol::MemberId) -> Result<(), String> {
    let (mut wire, _) = match guest.enter(&field).await {
        Ok(entered) => entered,
        Err(how) => {
            field.count(&how, 1);
            return Ok(());
        }
    };
    field.count("watchers", 1);
    let watch = ClientFrame::PresenceWatch(PresenceWatch { members: vec![subject] }).encode(None);
    wire.queue(&[&watch]);
    loop {
        let (mut presences, mut members) = (0, 0);
        let heard = wire.turn().await.and_then(|()| {
            while let Some(text) = wire.take()? {
                match kind(&text) {
                    "presence" => presences += 1,
                    "member" => members += 1,
                    _ => {}
                }
            }
            Ok(())
        });
        field.count("pushes of presence", presences);
        field.count("pushes of the profile", members);
        if let Err(ended) = heard {
            field.count(&turned_away(&ended), 1);
            return Ok(());
        }
    }
}
