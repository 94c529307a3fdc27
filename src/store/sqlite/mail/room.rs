//! For which mails there is room, and whose turn it is.

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension as _, ToSql, params};

use super::{super::memory::Tx, KNOWN, among, is_there, lanes::is_aside, mail, not_sent};
use crate::store::mail::{
    Aside, AskedFrom, DISPLACED, Kind, MEMBERS_MAX, Mail, Part, Room, SHARE_MAX, STRANGERS_MAX, TakenMail, turn,
};

/// How many of a share wait that strangers have written, or that were made for who has not shown that the address is theirs.
pub(super) static OF_SHARE: LazyLock<String> =
    LazyLock::new(|| format!("SELECT count(*) FROM mail WHERE share = ? AND turn >= {}", Aside::MadeUnshown.first()));

/// How many of a share were set aside from a turn on and before another one.
pub(super) const ASIDE_OF_SHARE: &str = "SELECT count(*) FROM mail WHERE share = ? AND turn >= ? AND turn < ?";

/// The same of a member.
pub(super) const ASIDE_OF_MEMBER: &str = "SELECT count(*) FROM mail WHERE member = ? AND turn >= ? AND turn < ?";

/// The highest turn of a share: of what costs no mail, and of what does.
pub(super) static LAST_TURN: LazyLock<[String; 2]> = LazyLock::new(|| {
    [Kind::ForgotPassword, Kind::VerifyEmail]
        .map(|kind| format!("SELECT max(turn) FROM mail WHERE share = ? AND {}", among(&kind.in_turn_with())))
});

/// The lowest turn of what strangers have written.
pub(super) static NEXT_TURN: LazyLock<String> = LazyLock::new(|| of_strangers("ASC"));

/// The highest one, and what has it.
pub(super) static LAST: LazyLock<String> = LazyLock::new(|| of_strangers("DESC"));

/// How many strangers have written, and how many no stranger has.
pub(super) static OF_PART: LazyLock<[String; 2]> = LazyLock::new(|| {
    let (strangers, known) = (among(&Kind::names_of(Kind::is_of_strangers)), &*KNOWN);
    [
        format!("SELECT count(*) FROM mail WHERE turn >= {} AND {strangers}", Aside::Strangers.first()),
        format!(
            "SELECT (SELECT count(*) FROM mail WHERE turn IS NULL AND {known})
                 + (SELECT count(*) FROM mail WHERE {} AND {known})",
            is_aside(Aside::Members)
        ),
    ]
});

/// What would be sent last of what strangers have written and was set aside.
pub(super) static LAST_ASIDE: LazyLock<String> = LazyLock::new(|| {
    let lasts = Kind::names_of(Kind::is_of_strangers).into_iter().map(|name| {
        format!(
            "SELECT * FROM
                 (SELECT key, kind, turn, due FROM mail WHERE kind = '{name}' AND {}
                  ORDER BY turn DESC, due DESC LIMIT 1)",
            is_aside(Aside::Strangers)
        )
    });
    format!(
        "SELECT key, kind FROM ({}) ORDER BY turn DESC, due DESC LIMIT 1",
        lasts.collect::<Vec<_>>().join(" UNION ALL ")
    )
});

/// The first of what strangers have written, in an order of its turns.
pub(super) fn of_strangers(order: &str) -> String {
    let firsts = Kind::names_of(Kind::is_of_strangers).into_iter().map(|name| {
        format!(
            "SELECT * FROM
                 (SELECT turn, key, kind FROM mail WHERE kind = '{name}' AND turn >= 0 ORDER BY turn {order} LIMIT 1)"
        )
    });
    let firsts = firsts.collect::<Vec<_>>().join(" UNION ALL ");
    let first = if order == "ASC" { "min" } else { "max" };
    // The other columns are of the row that has it.
    format!("SELECT {first}(turn) AS turn, key, kind FROM ({firsts})")
}

/// Whether there is room for a further mail of a kind, after another one has given way where that is what the room is for.
pub(in crate::store::sqlite) fn make_room(
    tx: &Tx<'_>,
    kind: Kind,
    Room { part, share }: Room,
) -> rusqlite::Result<bool> {
    let connection = tx.connection;
    let count = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, u64>(0));
    let [strangers, members] = &*OF_PART;
    let share = match (part, share) {
        (Part::Made, _) => return Ok(true),
        (Part::Members, _) | (Part::Strangers, None) => return Ok(count(members)? < MEMBERS_MAX),
        (Part::Strangers, Some(share)) => share,
    };
    let of_share: u64 = connection.prepare_cached(&OF_SHARE)?.query_row([share.to_string()], |row| row.get(0))?;
    if of_share >= SHARE_MAX {
        return Ok(false);
    }
    if count(strangers)? < STRANGERS_MAX {
        return Ok(true);
    }
    let set_aside = connection
        .prepare_cached(&LAST_ASIDE)?
        .query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
    if let Some((key, kind)) = set_aside.optional()? {
        return displace(tx, &key, &kind).map(|()| true);
    }
    let own = turn_of(connection, kind, share)?;
    let last = connection.prepare_cached(&LAST)?.query_row([], |row| {
        let Some(turn) = row.get::<_, Option<i64>>("turn")? else { return Ok(None) };
        Ok(Some((turn, row.get::<_, String>("key")?, row.get::<_, String>("kind")?)))
    })?;
    let Some((_, key, kind)) = last.filter(|(turn, ..)| own < *turn) else { return Ok(false) };
    displace(tx, &key, &kind).map(|()| true)
}

/// Removes a mail that gives way to one that is sent sooner.
pub(super) fn displace(tx: &Tx<'_>, key: &str, kind: &str) -> rusqlite::Result<()> {
    let connection = tx.connection;
    let mut delete = connection.prepare_cached("DELETE FROM mail WHERE key = ? RETURNING body")?;
    let gone = delete.query_row([key], |row| Ok(mail(row).ok()))?;
    gone.map_or(Ok(()), |gone| not_sent(connection, &gone))?;
    tx.metrics.mail(Kind::of(kind).map_or("unknown", Kind::as_str), DISPLACED);
    Ok(())
}

/// Whether a mail can be written: in place of one that waits, or because there is room, which is made where that is what the room is for.
pub(in crate::store::sqlite) fn has_room(tx: &Tx<'_>, mail: &Mail, room: Room) -> rusqlite::Result<bool> {
    Ok(is_there(tx.connection, &mail.key())? || make_room(tx, mail.kind(), room)?)
}

/// The turn of a mail that is of a share.
pub(super) fn turn_of(connection: &Connection, kind: Kind, share: AskedFrom) -> rusqlite::Result<i64> {
    let [free, costly] = &*LAST_TURN;
    let last = if kind == Kind::ForgotPassword { free } else { costly };
    let last = connection.prepare_cached(last)?.query_row([share.to_string()], |row| row.get(0))?;
    let next = connection.prepare_cached(&NEXT_TURN)?.query_row([], |row| row.get("turn"))?;
    Ok(turn(kind, last, next))
}

/// The share and the turn of a mail that takes the place of one that waits: its own, so that whoever else asks for it does not have it sent
/// later.
pub(super) fn place_of(connection: &Connection, key: &str) -> rusqlite::Result<Option<(Option<String>, Option<i64>)>> {
    // What was set aside has a place like others again.
    let mut place = connection.prepare_cached("SELECT share, turn FROM mail WHERE key = ? AND ifnull(turn, 0) >= 0")?;
    place.query_row([key], |row| Ok((row.get("share")?, row.get("turn")?))).optional()
}

/// The turn of a mail that is set aside; nothing if it was already, or is not there any more.
pub(super) fn turn_aside(connection: &Connection, taken: &TakenMail) -> rusqlite::Result<Option<i64>> {
    let mut place = connection.prepare_cached("SELECT turn, share, member FROM mail WHERE key = ? AND revision = ?")?;
    let place = place.query_row(params![taken.key, taken.revision], |row| {
        Ok((row.get("turn")?, row.get::<_, Option<String>>("share")?, row.get::<_, Option<Vec<u8>>>("member")?))
    });
    let Some((turn, share, member)) = place.optional()? else { return Ok(None) };
    let Some(aside) = Aside::of(taken.kind, turn) else { return Ok(turn) };
    let count = |sql: &str, whose: &dyn ToSql| {
        let mut count = connection.prepare_cached(sql)?;
        count.query_row(params![whose, aside.first(), aside.end()], |row| row.get::<_, u64>(0))
    };
    let others = match (share, member) {
        (Some(share), _) => count(ASIDE_OF_SHARE, &share)?,
        (None, Some(member)) => count(ASIDE_OF_MEMBER, &member)?,
        (None, None) => 0,
    };
    Ok(Some(aside.turn(others)))
}
