//! Many connections ask for a large page of the documentation and read nothing: what is not read stays in the memory of the
//! server, if it lets it.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, time::sleep};

use super::super::{
    cast::attacker,
    field::{Field, together},
    http::{self, Http, status_of},
};
use crate::wire::connect;

const CONNECTIONS: usize = 500;
/// Of 127.0.0.0/24.
const ADDRESSES: usize = 10;
/// What the kernel keeps for one of them, in bytes: little, so that the rest is the server's.
const KERNEL_BUFFER: u32 = 4_096;
/// After this the beginning of an answer is there, if one comes.
const BEGUN: Duration = Duration::from_millis(1_500);

pub(super) async fn run(field: Field) -> Result<(), String> {
    let paths = large_pages(&field).await;
    let field = &field;
    together(CONNECTIONS, |number| {
        let (field, path) = (field.clone(), paths.get(number % paths.len().max(1)).cloned());
        async move {
            // All of them within a second or so.
            sleep(Duration::from_millis(2) * u32::try_from(number).unwrap_or(u32::MAX)).await;
            let path = path.unwrap_or_else(|| "/api/openapi.json".to_owned());
            match connect(field.addr, attacker(number % ADDRESSES), Some(KERNEL_BUFFER)).await {
                Ok(mut stream) => {
                    if stream.write_all(&http::request(&format!("GET {path}"), b"")).await.is_err() {
                        field.count("connection broken", 1);
                        return Ok(());
                    }
                    field.count("requests", 1);
                    sleep(BEGUN).await;
                    // A look at the first line, which leaves it where it is.
                    let mut line = [0; 12];
                    match stream.peek(&mut line).await {
                        Ok(12) => field.count(&format!("began with {}", status_of(&line)), 1),
                        _ => field.count("no answer", 1),
                    }
                    field.hold(stream);
                }
                Err(_) => field.count("connection refused", 1),
            }
            Ok(())
        }
    })
    .await
}

/// The scripts that the pages of the documentation load.
async fn large_pages(field: &Field) -> Vec<String> {
    let mut paths = Vec::new();
    for page in ["/api/docs/", "/api/redoc", "/api/asyncapi"] {
        let asked = async { Http::connect(field.addr, attacker(0)).await?.ask(&format!("GET {page}"), b"").await };
        let Ok(answer) = asked.await else { continue };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let assets = text.split(['"', '\'']).filter(|path| path.starts_with("/api/assets/") && path.ends_with(".js"));
        paths.extend(assets.filter(|path| !path.contains("/pages/")).map(ToOwned::to_owned));
    }
    paths
}
