//! Addresses that nobody registers with.

use protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{audit, members::overtaken, row::inconsistent};
use crate::store::{
    addresses::{AddressKey, Allowed, KEY, allowed, hash},
    changes::Actor,
};

/// The key of addresses, if it was drawn.
pub(super) fn key(connection: &Connection) -> rusqlite::Result<Option<AddressKey>> {
    let mut query = connection.prepare_cached("SELECT value FROM secrets WHERE name = ?")?;
    query.query_row([KEY], |row| row.get(0)).optional()
}

/// The key of addresses, drawn if there is none yet.
pub(super) fn drawn_key(connection: &Connection) -> rusqlite::Result<AddressKey> {
    let mut draw = connection
        .prepare_cached("INSERT INTO secrets (name, value) VALUES (?, randomblob(32)) ON CONFLICT DO NOTHING")?;
    draw.execute([KEY])?;
    key(connection)?.ok_or_else(|| inconsistent("the key of addresses"))
}

/// Keeps whoever wants to register with an address out from now on.
pub(super) fn bar(connection: &Connection, email: &str) -> rusqlite::Result<()> {
    let hash = hash(Some(drawn_key(connection)?), email);
    let mut insert =
        connection.prepare_cached("INSERT INTO barred_addresses (hash) VALUES (?) ON CONFLICT DO NOTHING")?;
    insert.execute([hash]).map(drop)
}

/// Whether nobody registers with an address.
pub(super) fn is_barred(connection: &Connection, email: &str) -> rusqlite::Result<bool> {
    let hash = hash(key(connection)?, email);
    connection.prepare_cached("SELECT 1 FROM barred_addresses WHERE hash = ?")?.exists([hash])
}

/// Lets somebody register with an address again.
pub(super) fn allow(connection: &Connection, email: &str, by: Actor, at: Timestamp) -> rusqlite::Result<Allowed> {
    if !is_barred(connection, email)? {
        return Ok(Allowed::NotBarred);
    }
    if let Some(overtaken) = overtaken(connection, by, true, at)? {
        return Ok(Allowed::Overtaken(overtaken));
    }
    let hash = hash(key(connection)?, email);
    let mut delete = connection.prepare_cached("DELETE FROM barred_addresses WHERE hash = ?")?;
    delete.execute([hash])?;
    if let Some(member) = by.member {
        audit::append(connection, &allowed(by, member, at))?;
    }
    Ok(Allowed::Done)
}

/// Stores a secret of another store, unless there is one of that name.
pub(super) fn restore_secret(connection: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING")?;
    insert.execute(params![name, value]).map(drop)
}
