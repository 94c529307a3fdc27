//! Logins and registrations from several networks whose bodies never come: each waits, and must hold nothing that those
//! who log in meanwhile need.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::sleep,
};

use super::super::{
    cast::{NETWORKS, elsewhere},
    field::{Field, together},
    http::status_of,
};
use crate::wire::connect;

const CONNECTIONS: usize = 1_200;
/// What they ask for.
const PATHS: [&str; 2] = ["/api/auth/login", "/api/auth/register"];
/// How long to wait before one that was answered is made again.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn run(field: Field) -> Result<(), String> {
    let field = &field;
    together(CONNECTIONS, |number| {
        let field = field.clone();
        async move {
            // All of them within a second or so.
            sleep(Duration::from_millis(1) * u32::try_from(number).unwrap_or(u32::MAX)).await;
            loop {
                let said = withhold(&field, number).await.unwrap_or_else(|_| "closed by the server".to_owned());
                field.count(&said, 1);
                sleep(AGAIN).await;
            }
        }
    })
    .await
}

/// Sends the head of a request, and waits for what the server says about that.
async fn withhold(field: &Field, number: usize) -> std::io::Result<String> {
    let mut stream = connect(field.addr, elsewhere(number % NETWORKS), None).await?;
    let path = PATHS.get(number % PATHS.len()).copied().unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await?;
    field.count("requests", 1);
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    Ok(format!("told {}", status_of(&line)))
}
