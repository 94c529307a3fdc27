//! One address takes as many connections as it can and says nothing.

use std::time::Duration;

use tokio::{io::AsyncReadExt as _, time::sleep};

use super::super::{
    cast::{MAX_CONNECTIONS, attacker},
    field::{Field, together},
    http::status_of,
};
use crate::wire::connect;

/// More than there is room for.
const CONNECTIONS: usize = MAX_CONNECTIONS + MAX_CONNECTIONS / 8;
/// An address that does nothing else.
const ADDRESS: usize = 100;
/// How long to wait before a lost place is taken again.
const AGAIN: Duration = Duration::from_secs(2);

pub(super) async fn run(field: Field) -> Result<(), String> {
    let field = &field;
    together(CONNECTIONS, |number| {
        let field = field.clone();
        async move {
            sleep(Duration::from_micros(400) * u32::try_from(number).unwrap_or(u32::MAX)).await;
            loop {
                match connect(field.addr, attacker(ADDRESS), None).await {
                    Ok(mut stream) => {
                        field.count("connections", 1);
                        let mut bytes = [0; 12];
                        match stream.read(&mut bytes).await {
                            Ok(12) => field.count(&format!("told {}", status_of(&bytes)), 1),
                            _ => field.count("closed by the server", 1),
                        }
                    }
                    Err(_) => field.count("connection refused", 1),
                }
                sleep(AGAIN).await;
            }
        }
    })
    .await
}
