//! What is next in a lane.

use std::sync::LazyLock;

use protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    super::row::{inconsistent, time},
    among, mail,
};
use crate::store::mail::{Aside, Kind, Lane, MADE, TakenMail};

/// Where a lane has mails: in which turns, and of which kinds.
type Place = (String, fn(Kind) -> bool);

/// How a lane is asked.
pub(super) struct Queries {
    /// Takes the first that is due, of each place where there are some.
    pub(super) take: Vec<String>,
    /// When the first is due.
    pub(super) next: String,
}

static QUERIES: LazyLock<[Queries; 5]> = LazyLock::new(|| Lane::ALL.map(|lane| Queries::of(&places(lane))));

/// How a lane is asked.
pub(super) fn queries(lane: Lane) -> &'static Queries {
    let [members, lookups, members_aside, strangers, strangers_aside] = &*QUERIES;
    match lane {
        Lane::Lookups => lookups,
        Lane::Members => members,
        Lane::MembersAside => members_aside,
        Lane::Strangers => strangers,
        Lane::StrangersAside => strangers_aside,
    }
}

/// Where a lane has its mails; what is in one place goes by its turn.
fn places(lane: Lane) -> Vec<Place> {
    match lane {
        Lane::Lookups => vec![("turn >= 0".to_owned(), |kind| kind == Kind::ForgotPassword)],
        // What many accounts of one person cause keeps nothing else back: it has places of its own.
        Lane::Members => vec![
            ("turn IS NULL".to_owned(), |kind| !matches!(kind, Kind::NewDevice | Kind::VerifyEmail)),
            (format!("turn >= {MADE}"), |kind| kind != Kind::ForgotPassword),
            ("turn IS NULL".to_owned(), |kind| kind == Kind::NewDevice),
            ("turn IS NULL".to_owned(), |kind| kind == Kind::VerifyEmail),
        ],
        Lane::Strangers => vec![(format!("turn >= 0 AND turn < {MADE}"), |kind| kind != Kind::ForgotPassword)],
        Lane::MembersAside | Lane::StrangersAside => {
            lane.asides().iter().map(|aside| -> Place { (is_aside(*aside), |_| true) }).collect()
        }
    }
}

/// Whether a mail was set aside in a certain way.
pub(super) fn is_aside(aside: Aside) -> String {
    format!("turn >= {} AND turn < {}", aside.first(), aside.end())
}

impl Queries {
    fn of(places: &[Place]) -> Self {
        let next = places.iter().map(|(turn, which)| next_in(turn, *which)).collect::<Vec<_>>();
        Self {
            take: places.iter().map(|(turn, which)| take_of(&firsts(turn, which))).collect(),
            next: format!("SELECT min(due) AS due FROM ({})", next.join(" UNION ALL ")),
        }
    }
}

fn next_in(turn: &str, which: impl Fn(Kind) -> bool) -> String {
    format!("SELECT min(due) AS due FROM mail WHERE {} AND {turn}", among(&Kind::names_of(which)))
}

/// One look into the index for each kind: at what is due and first in turn, and at what is in an earlier turn and not due yet.
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

fn take_of(firsts: &str) -> String {
    format!(
        "UPDATE mail SET due = ?2, attempts = attempts + 1
         WHERE key = (SELECT key FROM ({firsts}) ORDER BY turn, due LIMIT 1)
         RETURNING key, kind, body, attempts, until, revision"
    )
}

pub(super) fn take(
    connection: &Connection,
    (lane, first): (Lane, usize),
    now: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Option<TakenMail>> {
    let places = &queries(lane).take;
    for sql in places.iter().cycle().skip(first % places.len().max(1)).take(places.len()) {
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
