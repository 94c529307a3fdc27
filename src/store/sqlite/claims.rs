//! Registrations with an address that is another's, and the uses of invitations that come back.

use protocol::{InvitationId, MemberId, Timestamp};
use rusqlite::{Connection, params};

use super::{addresses, audit, invitations, mail::link_record};
use crate::store::{
    archive::LinkRow,
    invitations::return_of,
    mail::{Claim, claimed},
    members::Invited,
};

/// How many are kept.
pub(super) const COUNT: &str = "SELECT count(*) FROM links WHERE is_claim = 1";
/// How many of them hold a use of an invitation.
pub(super) const COUNT_OF: &str = "SELECT count(*) FROM links WHERE invitation = ?";
/// One that holds a use of an invitation with an address.
pub(super) const HOLDS: &str = "SELECT 1 FROM links WHERE address = ? AND invitation = ?";
/// Those of before a time.
pub(super) const OLD: &str = "SELECT * FROM links WHERE is_claim = 1 AND made_at < ? ORDER BY made_at LIMIT ?";
/// Forgets an address.
pub(super) const FORGET: &str = "UPDATE links SET address = NULL WHERE address = ?";

pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached(COUNT)?.query_row([], |row| row.get(0))
}

/// How many hold a use of an invitation.
pub(super) fn count_of(connection: &Connection, invitation: InvitationId) -> rusqlite::Result<u64> {
    connection.prepare_cached(COUNT_OF)?.query_row([invitation.as_bytes()], |row| row.get(0))
}

/// Whether there is one that holds a use of an invitation with an address.
pub(super) fn holds(connection: &Connection, invitation: InvitationId, email: &str) -> rusqlite::Result<bool> {
    let address = claimed(addresses::key(connection)?, email);
    connection.prepare_cached(HOLDS)?.exists(params![address, invitation.as_bytes()])
}

/// Forgets the address of a member who leaves. The uses come back all the same.
pub(super) fn forget(connection: &Connection, email: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(FORGET)?.execute([claimed(addresses::key(connection)?, email)]).map(drop)
}

/// Removes those of before a time, the oldest first, and gives their uses back. Returns how many.
pub(super) fn purge(connection: &Connection, before: Timestamp, most: usize, at: Timestamp) -> rusqlite::Result<usize> {
    let mut old = connection.prepare_cached(OLD)?;
    let old = old.query_map(params![before.as_millis(), most], link_record)?;
    let old = old.collect::<rusqlite::Result<Vec<LinkRow>>>()?;
    for LinkRow { hash, member, claim, .. } in &old {
        connection.prepare_cached("DELETE FROM links WHERE hash = ?")?.execute([hash])?;
        let held = match claim {
            Some(Claim { invitation: Some(invitation), .. }) => invitations::by_id(connection, *invitation)?,
            _ => None,
        };
        if let Some(held) = held {
            give_back(connection, &Invited { by: held.created_by, invitation: held.id }, *member, at)?;
        }
    }
    Ok(old.len())
}

/// Gives a use of an invitation back, with what the audit log keeps of that.
pub(super) fn give_back(
    connection: &Connection,
    invited: &Invited,
    member: MemberId,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let mut give_back =
        connection.prepare_cached("UPDATE invitations SET used = used - 1 WHERE id = ? AND used > 0")?;
    if give_back.execute([invited.invitation.as_bytes()])? > 0 {
        audit::append(connection, &return_of(invited, member, at))?;
    }
    Ok(())
}
