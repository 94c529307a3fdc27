//! What the connections of this node stand for among others, said again after a time in which nobody may have heard it: the same
//! device at two nodes, and a member with too many connections, are found then.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::Fleet;
use crate::{
    cluster::{Channel, event::Note},
    hub::Connection,
};

/// Connections that are told of at once.
const TOLD_AT_ONCE: usize = 64;
/// The pause after those: 20,000 connections take three seconds.
const PAUSE: Duration = Duration::from_millis(10);

impl Fleet {
    /// Says again which devices are connected here, whenever that is wanted, until it is closed. For one task only.
    pub async fn stand_again(self: Arc<Self>) {
        let again = async {
            loop {
                self.standing.notified().await;
                let connections = self.parts.hub.signed_in(|connection| {
                    let Connection { id, member, device, .. } = connection;
                    (*member, device.clone(), *id, connection.opened_at())
                });
                for some in connections.chunks(TOLD_AT_ONCE) {
                    for (member, device, connection, at) in some {
                        let note = Note::DeviceIsThere { device: device.clone(), connection: *connection, at: *at };
                        self.parts.uplink.publish(Channel::Member(*member), || note.into());
                    }
                    sleep(PAUSE).await;
                }
            }
        };
        let _: Option<()> = self.stop.run_until_cancelled(again).await;
    }
}
