//! For which mails there is room, and whose turn it is.

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension as _, ToSql, params};

use super::{super::memory::Tx, KNOWN, among, is_there, lanes::is_aside, mail, not_sent};
use crate::store::mail::{
    Aside, AskedFrom, DISPLACED, Kind, MADE, MEMBERS_MAX, Mail, Part, Room, SHARE_MAX, STRANGERS_MAX, Sequence,
    TakenMail,
};

/// How many of a share wait that strangers have written, or that were made for who has not shown that the address is theirs.
pub(super) static OF_SHARE: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT count(*) FROM mail WHERE share = ? AND turn >= {} AND turn < {MADE}", Aside::MadeUnshown.first())
});

/// How many of a share were set aside from a turn on and before another one.
pub(super) const ASIDE_OF_SHARE: &str = "SELECT count(*) FROM mail WHERE share = ? AND turn >= ? AND turn < ?";

/// The same of a member.
pub(super) const ASIDE_OF_MEMBER: &str = "SELECT count(*) FROM mail WHERE member = ? AND turn >= ? AND turn < ?";

/// The highest turn of a share, in each [`Sequence`].
pub(super) static LAST_TURN: LazyLock<[String; 3]> = LazyLock::new(|| {
    Sequence::ALL.map(|sequence| {
        let ((first, end), kinds) = (sequence.turns(), among(&sequence.kinds()));
        format!("SELECT max(turn) FROM mail WHERE share = ? AND {kinds} AND turn >= {first} AND turn < {end}")
    })
});

/// The lowest turn of all, in each [`Sequence`].
pub(super) static NEXT_TURN: LazyLock<[String; 3]> = LazyLock::new(|| {
    Sequence::ALL.map(|sequence| {
        let (first, end) = sequence.turns();
        let lowest = sequence.kinds().into_iter().map(|name| {
            format!("SELECT min(turn) AS turn FROM mail WHERE kind = '{name}' AND turn >= {first} AND turn < {end}")
        });
        format!("SELECT min(turn) AS turn FROM ({})", lowest.collect::<Vec<_>>().join(" UNION ALL "))
    })
});

/// The highest one, and what has it.
pub(super) static LAST: LazyLock<String> = LazyLock::new(last_of_strangers);

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

/// What strangers have written that is sent last; of one turn rather what costs a mail.
fn last_of_strangers() -> String {
    let lasts = Kind::names_of(Kind::is_of_strangers).into_iter().map(|name| {
        format!(
            "SELECT * FROM
                 (SELECT turn, key, kind FROM mail WHERE kind = '{name}' AND turn >= 0 AND turn < {MADE}
                  ORDER BY turn DESC LIMIT 1)"
        )
    });
    let (lasts, free) = (lasts.collect::<Vec<_>>().join(" UNION ALL "), Kind::ForgotPassword.as_str());
    format!("SELECT turn, key, kind FROM ({lasts}) ORDER BY turn DESC, kind = '{free}' LIMIT 1")
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
        (Part::Made | Part::MadeUnshown, _) => return Ok(true),
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
    let own = turn_of(connection, Sequence::of(kind, part), share)?;
    let last = connection.prepare_cached(&LAST)?.query_row([], |row| {
        Ok((row.get::<_, i64>("turn")?, row.get::<_, String>("key")?, row.get::<_, String>("kind")?))
    });
    let Some((_, key, kind)) = last.optional()?.filter(|(turn, ..)| own < *turn) else { return Ok(false) };
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
pub(super) fn turn_of(connection: &Connection, sequence: Sequence, share: AskedFrom) -> rusqlite::Result<i64> {
    let of = |queries: &'static [String; 3]| {
        let [lookups, strangers, made] = queries;
        match sequence {
            Sequence::Lookups => lookups,
            Sequence::Strangers => strangers,
            Sequence::Made => made,
        }
    };
    let last = connection.prepare_cached(of(&LAST_TURN))?.query_row([share.to_string()], |row| row.get(0))?;
    let next = connection.prepare_cached(of(&NEXT_TURN))?.query_row([], |row| row.get(0))?;
    Ok(sequence.turn(last, next))
}

/// The share and the turn of a mail that waits, if it has both.
pub(super) fn place_of(connection: &Connection, key: &str) -> rusqlite::Result<Option<(String, i64)>> {
    let mut place = connection
        .prepare_cached("SELECT share, turn FROM mail WHERE key = ? AND share IS NOT NULL AND turn IS NOT NULL")?;
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
