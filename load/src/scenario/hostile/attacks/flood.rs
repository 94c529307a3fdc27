//! Sending as much as one is allowed to, over and over: on a socket, and over HTTP.

use std::{net::IpAddr, time::Duration};

use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::super::{
    field::Field,
    http::Http,
    socket::{Guest, kind, member, turned_away},
};
use crate::wire::{Ended, Wire};

/// How long to wait after having been refused: so little that it counts as "at once", and enough to stay bounded.
const AGAIN: Duration = Duration::from_millis(10);
/// Bytes that may wait to be sent before nothing more is added.
const QUEUED: usize = 128 * 1024;
/// How long an answer over HTTP may take before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Frames that are sent again and again.
pub(super) struct Burst {
    /// What they are called when they are counted.
    pub(super) name: &'static str,
    /// All of them, as they go over the wire.
    pub(super) bytes: Vec<u8>,
    pub(super) frames: u64,
    pub(super) every: Duration,
}

/// Enters as a member and sends a burst at every tick; reconnects at once when it is turned away.
pub(super) async fn frames(field: Field, guest: Guest, burst: Burst) -> Result<(), String> {
    loop {
        match guest.enter(&field).await {
            Ok((wire, _)) => {
                field.count("connections", 1);
                let ended = send(&field, wire, &burst).await;
                field.count(&turned_away(&ended), 1);
            }
            Err(how) => field.count(&how, 1),
        }
        sleep(AGAIN).await;
    }
}

async fn send(field: &Field, mut wire: Wire<TcpStream>, burst: &Burst) -> Ended {
    let mut ticks = interval(burst.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if wire.queued() < QUEUED {
                    wire.queue_raw(&burst.bytes);
                    field.count(burst.name, burst.frames);
                }
                // What is queued goes out with the next turn.
            }
            turned = wire.turn() => {
                if let Err(ended) = turned.and_then(|()| hear(field, &mut wire)) {
                    return ended;
                }
            }
        }
    }
}

/// Takes what has come and counts the errors in it.
pub(super) fn hear(field: &Field, wire: &mut Wire<TcpStream>) -> Result<(), Ended> {
    let mut refused = 0;
    let heard = loop {
        match wire.take() {
            Ok(Some(text)) if kind(&text) == "error" => match member(&text, "code") {
                Some("rate_limited") => refused += 1,
                code => field.count(code.unwrap_or("error"), 1),
            },
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(ended) => break Err(ended),
        }
    };
    if refused > 0 {
        field.count("rate_limited", refused);
    }
    heard
}

/// Sends one request after the other from an address, each as soon as the one before is answered. `head` and `body` are
/// made for each anew, from its number.
pub(super) async fn requests(
    field: Field,
    from: Option<IpAddr>,
    make: impl Fn(u64) -> (String, Vec<u8>),
) -> Result<(), String> {
    let mut number = 0;
    loop {
        let Ok(mut http) = Http::connect(field.addr, from).await else {
            field.count("connection refused", 1);
            sleep(AGAIN).await;
            continue;
        };
        loop {
            let (head, body) = make(number);
            number += 1;
            field.count("requests", 1);
            let asked = timeout(PATIENCE, http.ask(&head, &body)).await;
            let Ok(Ok(answer)) = asked else {
                field.count("no answer", 1);
                break;
            };
            field.count(&format!("status {}", answer.status), 1);
            if matches!(answer.status, 429 | 503) {
                sleep(AGAIN).await;
            }
            if !answer.stays {
                break;
            }
        }
        sleep(AGAIN).await;
    }
}
