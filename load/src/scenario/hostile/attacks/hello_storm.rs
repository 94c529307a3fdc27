//! One member reconnects, says hello and takes a full sync, as fast as possible.

use std::time::Duration;

use tokio::time::sleep;

use super::super::{
    cast::{Kind, home},
    field::{Field, together},
    socket::Guest,
};

/// Devices that do it at the same time: fewer than a member may have.
const DEVICES: usize = 8;
const AGAIN: Duration = Duration::from_millis(2);

pub(super) async fn run(field: Field) -> Result<(), String> {
    let account = field.cast.one(&field.cast.layout.stormer)?;
    let field = &field;
    together(DEVICES, |number| {
        let guest = Guest::new(&account, format!("storm-{number}"), home(Kind::Member, 1));
        let field = field.clone();
        async move {
            loop {
                match guest.enter(&field).await {
                    Ok((_, sync)) => {
                        field.count("full syncs", 1);
                        field.count("KiB of syncs", sync.bytes / 1024);
                    }
                    Err(how) => field.count(&how, 1),
                }
                sleep(AGAIN).await;
            }
        }
    })
    .await
}
