//! Ending what a restored backup has brought back.

use rusqlite::{Connection, Params};

use super::{audit, invitations::CAN_OPEN};
use crate::store::restore::{Ended, Ending};

/// Ends it, with what the audit log keeps of that, in the transaction of the caller.
pub(super) fn end(connection: &Connection, ending: Ending) -> rusqlite::Result<Ended> {
    let Ending { at, invitations } = ending;
    let now = [at.as_millis()];
    let ended = Ended {
        sessions: change(connection, "UPDATE sessions SET revoked_at = ? WHERE revoked_at IS NULL", now)?,
        links: change(connection, "UPDATE links SET is_over = 1 WHERE is_over = 0 AND expires_at > ?", now)?,
        mails: change(connection, "DELETE FROM mail", [])?,
        invitations: if invitations {
            let sql = format!("UPDATE invitations SET revoked_at = ?1 WHERE {CAN_OPEN}");
            Some(change(connection, &sql, now)?)
        } else {
            None
        },
    };
    // What is registered for pushes goes with its session, and what hangs on it. This is for those of which there is none.
    change(connection, "DELETE FROM push_devices", [])?;
    audit::append(connection, &ended.audit(at))?;
    Ok(ended)
}

fn change(connection: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<u64> {
    connection.execute(sql, values).map(|rows| u64::try_from(rows).unwrap_or(u64::MAX))
}
