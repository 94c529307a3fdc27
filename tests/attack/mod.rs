//! Attacks, from outside and over real sockets: by strangers, and by who has got somebody's token.
//!
//! | module | what is tried |
//! | --- | --- |
//! | [`guesses`] | passwords, from a thousand addresses |
//! | [`enumeration`] | who is a member, by what the server answers |
//! | [`effort`] | the same, by how long it takes: what it does for each answer |
//! | [`inbox`] | to have the club fill somebody's inbox |
//! | [`resets`] | to keep out who has forgotten their password, and what links give |
//! | [`offices`] | to stay an administrator |
//! | [`tokens`] | a stolen refresh token, beside what only looks like one |
//!
//! Here nothing is asserted of milliseconds, in which other programs on the machine take part, but that each member's own login takes less
//! than 2 s. `timing.py` measures them, against a server that it starts: for a minute as a part of `tests/run.sh`, and for as long as one
//! likes by hand (docs/performance.md has the figures).

mod club;
mod effort;
mod enumeration;
mod guesses;
mod inbox;
mod offices;
mod resets;
mod tokens;

use reqwest::Response;
use serde_json::Value;

use crate::harness::{Server, within};

/// Sends a request that needs no account.
async fn post(server: &Server, path: &str, body: Value) -> Response {
    within(path, server.http().post(server.url(path)).json(&body).send()).await.unwrap()
}
