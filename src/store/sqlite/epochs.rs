//! The epochs of a file.
//!
//! Each time a server opens the file it begins an epoch, and the one before ends at the position that the file has come
//! to. So a cursor from beyond that position, which the file of before had reached and a backup of it has not, is
//! recognised for ever, and without anybody's doing.

use rusqlite::{Connection, TransactionBehavior, params};

use crate::{
    ids::Ids,
    position::{Epoch, Position},
    store::epochs::{Epochs, FORMER_MAX, Former},
};

/// The epochs that are recorded; without one nothing is accepted.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Epochs> {
    let mut query = connection.prepare("SELECT epoch, until FROM epochs ORDER BY number")?;
    let rows = query.query_map([], |row| Ok((Epoch(row.get(0)?), row.get::<_, Option<u64>>(1)?)))?;
    let (mut current, mut former) = (Epoch::NONE, Vec::new());
    for row in rows {
        match row? {
            (epoch, Some(end)) => former.push(Former { epoch, end: Position(end) }),
            (epoch, None) => current = epoch,
        }
    }
    Ok(Epochs::new(current, former))
}

/// Begins an epoch at the position that the file has come to.
pub(super) fn begin(connection: &mut Connection, ids: &Ids) -> rusqlite::Result<Epochs> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let position: u64 = transaction.query_row("SELECT position FROM meta", [], |row| row.get(0))?;
    let known = read(&transaction)?;
    let epoch = Epoch(ids.secret());
    let epochs = known.with_new(epoch, Position(position));
    transaction.execute("UPDATE epochs SET until = min(ifnull(until, ?1), ?1)", [position])?;
    transaction.execute("INSERT INTO epochs (epoch) VALUES (?)", [epoch.0])?;
    transaction
        .execute("DELETE FROM epochs WHERE number <= (SELECT max(number) FROM epochs) - ?", params![FORMER_MAX + 1])?;
    transaction.commit()?;
    Ok(epochs)
}
