//! Logout and deactivation by a caller who is gone a moment after asking. Once the decision is taken, the member's socket
//! has to close, whoever still waits for the answer.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    super::{
        cast::{Kind, home},
        field::{Field, together},
        http::{self, Http, signed, signed_json},
        socket::Guest,
    },
    check, counted,
};
use crate::{report::attacks::Check, target::Account};

/// The shortest time in which there is something to see.
pub(super) const TIME_MIN: Duration = Duration::from_secs(6);
/// How long the caller stays, at most.
const PATIENCE_MICROS: u64 = 2_000;
/// How long a socket may take to close.
const CLOSES_WITHIN: Duration = Duration::from_secs(3);
/// How long the server may take for a decision whose caller is gone.
const DECIDED: Duration = Duration::from_millis(500);

const DECISIONS: &str = "decisions taken";
const OPEN: &str = "sockets left open";

pub(super) async fn run(field: Field) -> Result<(), String> {
    let members = field.cast.all(&field.cast.layout.leavers).to_vec();
    let admin = field.cast.one(&field.cast.layout.admin)?;
    // All of them begin within the first part, so that there is time to see what becomes of them.
    let first = field.left().saturating_sub(CLOSES_WITHIN + DECIDED * 2);
    let count = members.len().max(1);
    let field = &field;
    together(members.len(), |number| {
        let (field, member, admin) = (field.clone(), members.get(number).cloned(), admin.clone());
        let wait = first.mul_f64(f64::from(u32::try_from(number).unwrap_or_default()) / count as f64);
        async move {
            sleep(wait).await;
            attempt(&field, number, &member.ok_or("a member is missing")?, &admin).await
        }
    })
    .await
}

pub(super) fn checks(achieved: &BTreeMap<String, u64>) -> Vec<Check> {
    let none = if counted(achieved, DECISIONS) > 0.0 { 0.0 } else { 1.0 };
    vec![
        check("sockets left open after a decision", counted(achieved, OPEN), 0.0, ""),
        check("no decision was taken, so that nothing was seen", none, 0.0, ""),
    ]
}

/// One member is there; somebody asks that they be logged out or deactivated, and hangs up.
async fn attempt(field: &Field, number: usize, member: &Account, admin: &Account) -> Result<(), String> {
    let from = home(Kind::Member, 90 + number % 100);
    let mut wire = match Guest::new(member, "leaver".to_owned(), from).enter(field).await {
        Ok((wire, _)) => wire,
        Err(how) => {
            field.count(&how, 1);
            return Ok(());
        }
    };
    let mut http = Http::connect(field.addr, from).await.map_err(|error| error.to_string())?;
    let (head, body): (String, &[u8]) = if number.is_multiple_of(2) {
        (signed("POST /api/auth/logout", &member.token), b"")
    } else {
        let first = format!("PUT /api/admin/members/{}/active", member.id);
        (signed_json(&first, &admin.token), br#"{"is_active":false}"#)
    };
    let stay = StdRng::seed_from_u64(field.seed.wrapping_add(number as u64)).random_range(0..=PATIENCE_MICROS);
    http.send(&head, body).await.map_err(|error| error.to_string())?;
    sleep(Duration::from_micros(stay)).await;
    drop(http);
    field.count("hung up", 1);
    let closes_by = Instant::now() + CLOSES_WITHIN;
    sleep(DECIDED).await;
    // Whether it was decided shows in the next request of the member.
    let asked = http::once(field.addr, from, &signed("GET /api/members/me", &member.token), b"").await;
    match asked {
        Ok(answer) if matches!(answer.status, 401 | 403) => field.count(DECISIONS, 1),
        Ok(answer) if answer.status == 200 => return Ok(()),
        _ => {
            field.count("cannot tell", 1);
            return Ok(());
        }
    }
    let closed = timeout_at(closes_by, async { while wire.next().await.is_ok() {} }).await;
    field.count(if closed.is_ok() { "sockets closed" } else { OPEN }, 1);
    Ok(())
}
