//! Links that change the address of their member.

use protocol::{MemberId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    addresses,
    mail::{end_all, forget_old, has_room, links_of, write, write_link},
    members,
    memory::Tx,
    row::time,
};
use crate::store::{
    changes::{Change, Changed},
    mail::{Asked, AskedChange, CHANGES_TO_MAX, NewChange, Purpose, Room, forgotten_at},
    turns::Caller,
};

/// When the last of the newest links of all members was made that change their address to one, if there are so many.
pub(super) const FULL_SINCE: &str =
    "SELECT made_at FROM links WHERE email_key = ? AND made_at > ? ORDER BY made_at DESC LIMIT 1 OFFSET ?";

/// Writes a link, its mail and the use of its code, or says why not. Nothing if the queue is full.
pub(super) fn issue(tx: &mut Tx<'_>, change: &NewChange) -> rusqlite::Result<Option<Asked>> {
    let (member, at) = (change.link.member, change.link.at);
    forget_old(tx.connection, member, at)?;
    let record = members::by_id(tx.connection, member)?;
    if let Some(refused) = change.refused_by(record.as_ref()) {
        return Ok(Some(refused));
    }
    if let Some(overtaken) = members::overtaken(tx.connection, change.by, false, at)? {
        return Ok(Some(Asked::Overtaken(overtaken)));
    }
    let theirs = links_of(tx.connection, member)?;
    if let Some(until) = change.too_many_until(&theirs, full_since(tx.connection, change)?) {
        return Ok(Some(Asked::TooMany(until)));
    }
    let mail = change.link.mail();
    // Who is signed in does not have to verify the address that they have.
    let room = Room::of_link(Caller::Member(member), false, change.link.asked);
    if !has_room(tx, &mail, room)? {
        return Ok(None);
    }
    if let Some(code) = &change.code {
        match members::change(tx, member, &Change::UseCode(code.clone()), change.by, at)? {
            Changed::Done { .. } => {}
            Changed::Overtaken(why) => return Ok(Some(Asked::Overtaken(why))),
            _ => return Ok(Some(Asked::CodeUsed)),
        }
    }
    end_all(tx.connection, member, Purpose::ChangeEmail)?;
    if addresses::is_barred(tx.connection, change.email())? {
        write_link(tx.connection, &change.row_of_nobody())?;
    } else {
        write(tx.connection, &mail, room, at)?;
        write_link(tx.connection, &change.row())?;
    }
    Ok(Some(Asked::Written))
}

/// When the first of the newest [`CHANGES_TO_MAX`] links to the new address was made, if there are so many that are not forgotten.
fn full_since(connection: &Connection, change: &NewChange) -> rusqlite::Result<Option<Timestamp>> {
    let since = forgotten_at(change.link.at).as_millis();
    let mut query = connection.prepare_cached(FULL_SINCE)?;
    query.query_row(params![change.email_key(), since, CHANGES_TO_MAX - 1], |row| time(row, "made_at")).optional()
}

/// The addresses that a member has asked for and that are known still, the newest first.
pub(super) fn asked(connection: &Connection, member: MemberId) -> rusqlite::Result<Vec<AskedChange>> {
    let mut query = connection.prepare_cached(
        "SELECT email, made_at FROM links WHERE member = ? AND purpose = ? AND email IS NOT NULL ORDER BY made_at DESC",
    )?;
    let values = params![member.as_bytes(), Purpose::ChangeEmail.as_str()];
    let rows =
        query.query_map(values, |row| Ok(AskedChange { email: row.get("email")?, at: time(row, "made_at")? }))?;
    rows.collect()
}
