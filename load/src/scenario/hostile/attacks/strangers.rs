//! A fresh account writes to as many members as it can, and sends typing at one of them.

use std::{collections::BTreeMap, time::Duration};

use bytes::BytesMut;
use protocol::{
    ClientFrame,
    client::{MessageSend, Typing},
    rest::{AuthResponse, RegisterRequest},
};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    super::{
        cast::{Kind, home},
        field::{Field, together},
        http,
        socket::{Guest, kind, turned_away},
    },
    check, counted,
    flood::{self, Burst},
};
use crate::{
    report::attacks::Check,
    target::{Account, PASSWORD},
    wire::write_text,
};

/// Where it comes from.
const HOME: usize = 80;
/// A message to somebody new, so often.
const EVERY: Duration = Duration::from_millis(10);
/// Two typing frames in one write, so often.
const TYPING_EVERY: Duration = Duration::from_millis(10);
const AGAIN: Duration = Duration::from_millis(20);
/// Members that a stranger may have reached within one attack.
const REACHED_MAX: f64 = 100.0;
/// Typing frames a second that one member may get from a stranger.
const TYPING_MAX: f64 = 25.0;

const REACHED: &str = "messages accepted";
const TYPING: &str = "typing at one member";

pub(super) async fn run(field: Field) -> Result<(), String> {
    let stranger = register(&field).await?;
    let pestered = field.cast.one(&field.cast.layout.pestered)?;
    let field = &field;
    together(3, |number| {
        let (field, stranger, pestered) = (field.clone(), stranger.clone(), pestered.clone());
        async move {
            match number {
                0 => suffer(field, Guest::new(&pestered, "pestered".to_owned(), home(Kind::Member, HOME + 1))).await,
                1 => write(field, Guest::new(&stranger, "stranger".to_owned(), home(Kind::Member, HOME))).await,
                _ => {
                    let mut bytes = BytesMut::new();
                    for active in [true, false] {
                        let typing = Typing { conversation: None, to: Some(pestered.id), active };
                        write_text(&mut bytes, &[&ClientFrame::Typing(typing).encode(None)]);
                    }
                    let burst = Burst { name: "typing", bytes: bytes.to_vec(), frames: 2, every: TYPING_EVERY };
                    let guest = Guest::new(&stranger, "typist".to_owned(), home(Kind::Member, HOME));
                    flood::frames(field, guest, burst).await
                }
            }
        }
    })
    .await
}

pub(super) fn checks(achieved: &BTreeMap<String, u64>, seconds: f64) -> Vec<Check> {
    vec![
        check("members whom a stranger has written to", counted(achieved, REACHED), REACHED_MAX, ""),
        check("typing at one member, a second", counted(achieved, TYPING) / seconds.max(0.1), TYPING_MAX, ""),
    ]
}

async fn register(field: &Field) -> Result<Account, String> {
    let request = RegisterRequest {
        name: "A Stranger".to_owned(),
        email: format!("{}@load.example.com", uuid::Uuid::now_v7().simple()),
        password: PASSWORD.to_owned(),
        ..RegisterRequest::default()
    };
    field.count("registrations", 1);
    let body = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    let head = "POST /api/auth/register\nContent-Type: application/json";
    let answer =
        http::once(field.addr, home(Kind::Member, HOME), head, &body).await.map_err(|error| error.to_string())?;
    let registered: Result<AuthResponse, _> = serde_json::from_slice(&answer.body);
    registered.map(Account::from).map_err(|_| format!("registering was answered {}", answer.status))
}

/// Writes to one member of the directory after the other.
async fn write(field: Field, guest: Guest) -> Result<(), String> {
    let mut members = field.cast.all(&field.cast.layout.directory).iter();
    loop {
        match guest.enter(&field).await {
            Err(how) => field.count(&how, 1),
            Ok((mut wire, _)) => {
                let mut ticks = interval(EVERY);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let ended = loop {
                    tokio::select! {
                        _ = ticks.tick() => {
                            let Some(member) = members.next() else { return Ok(()) };
                            let (to, client_id) = (Some(member.id), field.client_id());
                            let send = MessageSend { to, conversation: None, client_id, content: "hello you".to_owned(), reply_to: None };
                            let id = "s".parse().map_err(|error| format!("{error}"))?;
                            wire.queue(&[&ClientFrame::MessageSend(send).encode(Some(&id))]);
                            field.count("messages", 1);
                        }
                        turned = wire.turn() => {
                            if let Err(ended) = turned {
                                break ended;
                            }
                            let heard = hear(&field, &mut wire);
                            if let Err(ended) = heard {
                                break ended;
                            }
                        }
                    }
                };
                field.count(&turned_away(&ended), 1);
            }
        }
        sleep(AGAIN).await;
    }
}

fn hear(field: &Field, wire: &mut crate::wire::Wire<tokio::net::TcpStream>) -> Result<(), crate::wire::Ended> {
    while let Some(text) = wire.take()? {
        match kind(&text) {
            "message.accepted" => field.count(REACHED, 1),
            "error" => field.count(super::super::socket::member(&text, "code").unwrap_or("error"), 1),
            _ => {}
        }
    }
    Ok(())
}

/// The one who is pestered.
async fn suffer(field: Field, guest: Guest) -> Result<(), String> {
    let (mut wire, _) = guest.enter(&field).await?;
    loop {
        let text = wire.next().await.map_err(|ended| format!("the one who is pestered: {}", turned_away(&ended)))?;
        if kind(&text) == "typing" {
            field.count(TYPING, 1);
        }
    }
}
