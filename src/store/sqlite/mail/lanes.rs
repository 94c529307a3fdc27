//! What is next in a lane.

use std::sync::LazyLock;

use protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    super::row::{inconsistent, time},
    among, mail,
};
use crate::store::mail::{Kind, Lane, TakenMail};

/// Where a lane has mails: in which turns, and of which kinds.
type Place = (&'static str, fn(Kind) -> bool);

/// How a lane is asked.
pub(super) struct Queries {
    /// Takes the first that is due, of each place where there are some.
    pub(super) take: Vec<String>,
    /// When the first is due.
    pub(super) next: String,
}

static MEMBERS: LazyLock<Queries> = LazyLock::new(|| {
    Queries::of_places(&[
        ("turn IS NULL", |_| true),
        ("turn = 0", |kind| !kind.is_of_strangers()),
        ("turn >= 0", |kind| kind == Kind::ForgotPassword),
    ])
});
static STRANGERS: LazyLock<Queries> = LazyLock::new(|| {
    Queries::of_places(&[
        ("turn > 0", |kind| !kind.is_of_strangers()),
        ("turn >= 0", |kind| kind.is_of_strangers() && kind != Kind::ForgotPassword),
    ])
});
static MEMBERS_ASIDE: LazyLock<Queries> = LazyLock::new(|| Queries::of_aside(Lane::MembersAside));
static STRANGERS_ASIDE: LazyLock<Queries> = LazyLock::new(|| Queries::of_aside(Lane::StrangersAside));

/// How a lane is asked.
pub(super) fn queries(lane: Lane) -> &'static Queries {
    match lane {
        Lane::Members => &MEMBERS,
        Lane::MembersAside => &MEMBERS_ASIDE,
        Lane::Strangers => &STRANGERS,
        Lane::StrangersAside => &STRANGERS_ASIDE,
    }
}

impl Queries {
    /// Of some turns of some kinds; the first place that has one goes first.
    fn of_places(places: &[Place]) -> Self {
        let next = places.iter().map(|(turn, which)| next_in(turn, *which)).collect::<Vec<_>>();
        Self {
            take: places.iter().map(|(turn, which)| take_of(&firsts(turn, which), "turn, due")).collect(),
            next: first_of(&next),
        }
    }

    /// Of what was set aside: what has been due for longest goes first.
    fn of_aside(lane: Lane) -> Self {
        let turns: Vec<String> = lane.turns_aside().iter().map(|turn| format!("turn = {turn}")).collect();
        let all = turns.iter().map(|turn| firsts(turn, |_| true)).collect::<Vec<_>>().join(" UNION ALL ");
        let next = turns.iter().map(|turn| next_in(turn, |_| true)).collect::<Vec<_>>();
        Self { take: vec![take_of(&all, "due")], next: first_of(&next) }
    }
}

fn next_in(turn: &str, which: impl Fn(Kind) -> bool) -> String {
    format!("SELECT min(due) AS due FROM mail WHERE {} AND {turn}", among(&Kind::names_of(which)))
}

fn first_of(nexts: &[String]) -> String {
    format!("SELECT min(due) AS due FROM ({})", nexts.join(" UNION ALL "))
}

/// One look into the index for each kind, however many wait.
fn firsts(turn: &str, which: impl Fn(Kind) -> bool) -> String {
    let firsts = Kind::names_of(which).into_iter().map(|name| {
        format!(
            "SELECT * FROM
                 (SELECT key, turn, due FROM mail WHERE kind = '{name}' AND {turn} AND due <= ?1
                  ORDER BY turn, due LIMIT 1)"
        )
    });
    firsts.collect::<Vec<_>>().join(" UNION ALL ")
}

fn take_of(firsts: &str, order: &str) -> String {
    format!(
        "UPDATE mail SET due = ?2, attempts = attempts + 1
         WHERE key = (SELECT key FROM ({firsts}) ORDER BY {order} LIMIT 1)
         RETURNING key, kind, body, attempts, until, revision"
    )
}

pub(super) fn take(
    connection: &Connection,
    lane: Lane,
    now: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Option<TakenMail>> {
    for sql in &queries(lane).take {
        if let Some(taken) = take_with(connection, sql, now, until)? {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

fn take_with(
    connection: &Connection,
    sql: &str,
    now: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Option<TakenMail>> {
    let mut take = connection.prepare_cached(sql)?;
    let taken: Option<TakenMail> = take
        .query_row([now.as_millis(), until.as_millis()], |row| {
            let kind = Kind::of(row.get_ref("kind")?.as_str()?).ok_or_else(|| inconsistent("the kind of a mail"))?;
            let (key, attempts, revision) = (row.get("key")?, row.get("attempts")?, row.get("revision")?);
            // What cannot be read must not stay the first that is due: it is taken like others.
            Ok(TakenMail { key, kind, mail: mail(row).ok(), attempts, until: time(row, "until")?, revision })
        })
        .optional()?;
    let Some(mut taken) = taken else { return Ok(None) };
    if let Some(until) = taken.longer_until(now) {
        let mut prolong = connection.prepare_cached("UPDATE mail SET until = ? WHERE key = ?")?;
        prolong.execute(params![until.as_millis(), taken.key])?;
        taken.until = until;
    }
    Ok(Some(taken))
}
