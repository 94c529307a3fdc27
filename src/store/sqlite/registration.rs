//! Who comes in, and who is removed because they have not shown that the address is theirs.

use protocol::{MemberId, Timestamp};
use rusqlite::{Connection, params};

use super::{
    addresses, audit, claims, invitations, mail,
    members::{by_email, count_waiting, insert_record, record},
    memory::Tx,
};
use crate::store::{
    changes::Actor,
    invitations::use_of,
    mail::{Claim, Mail, NewLink, Room, holds_use},
    members::{EmailTaken, MemberRecord, NotRegistered, PURGED_AT_ONCE, Registration, Way, email_key},
};

/// Nothing, and nothing is written, if a link is to be sent and there is no room for its mail, or for who has to follow it.
pub(super) fn register(
    tx: &mut Tx<'_>,
    new: Registration,
) -> rusqlite::Result<Option<Result<MemberRecord, NotRegistered>>> {
    let Registration { member, way, from, link, most_unverified } = new;
    let (id, at, email) = (member.id, member.created_at, member.email.clone());
    let is_invited = matches!(way, Way::Invitation(_));
    let room = |link: &NewLink| Room::of_registration(is_invited, link.asked);
    // Both by an attempt whose answer was late.
    if let Some(done) = super::members::by_id(tx.connection, id)? {
        return Ok(Some(Ok(done)));
    }
    if let Some(link) = &link {
        if mail::is_link(tx.connection, link.hash)? {
            return Ok(Some(Err(NotRegistered::EmailTaken)));
        }
        // Strangers take nobody's place who was invited: invitations have bounds of their own.
        if !mail::make_room(tx, link.mail().kind(), room(link))?
            || (!is_invited && count_unverified(tx.connection)? >= most_unverified)
        {
            return Ok(None);
        }
    }
    // Both are looked at in any case: nobody can tell one from the other.
    let is_barred = addresses::is_barred(tx.connection, &email)?;
    let owner = by_email(tx.connection, &email_key(&email))?;
    let displaced = match &owner {
        Some(owner) if !is_barred && way.displaces(owner) && is_unverified(tx.connection, owner)? => Some(owner),
        _ => None,
    };
    let is_taken = (owner.is_some() && displaced.is_none()) || is_barred;
    if is_taken && link.is_none() {
        return Ok(Some(Err(NotRegistered::EmailTaken)));
    }
    let record = member.into_record();
    let mut claim = Some(Claim::default());
    let record = match way {
        Way::Free => record,
        Way::Application { most } if count_waiting(tx.connection)? >= most => {
            return Ok(Some(Err(NotRegistered::TooManyWaiting)));
        }
        Way::Application { .. } => record.waiting(),
        Way::Invitation(invitation) => {
            let holds_use = is_taken
                && (holds_use(owner.as_ref(), invitation) || claims::holds(tx.connection, invitation, &email)?);
            let taken = if holds_use {
                invitations::open(tx.connection, invitation, at)?
            } else {
                invitations::take(tx.connection, invitation, at)?
            };
            let Some(invitation) = taken else { return Ok(Some(Err(NotRegistered::InvitationInvalid))) };
            if !holds_use {
                let by = Actor { member: (!is_taken).then_some(id), session: None, address: Some(from) };
                audit::append(tx.connection, &use_of(&invitation, id, by, at))?;
            }
            let key = addresses::drawn_key(tx.connection)?;
            claim = (!holds_use).then(|| Claim::by_invitation(invitation.id, key, &email));
            record.invited(&invitation)
        }
    };
    if is_taken {
        if let Some(link) = &link {
            let taken = Mail::AddressTaken { email, asked: link.asked };
            mail::add(tx, &taken, room(link), at)?;
            // Nobody's: what is known of this attempt.
            mail::write_link(tx.connection, &link.row_of_nobody(claim))?;
        }
        return Ok(Some(Err(NotRegistered::EmailTaken)));
    }
    if let Some(displaced) = displaced {
        remove(tx, displaced, at)?;
    }
    if insert_record(tx, &record)? == Err(EmailTaken) {
        return Ok(Some(Err(NotRegistered::EmailTaken)));
    }
    if let Some(link) = &link {
        mail::add(tx, &link.mail(), room(link), at)?;
        mail::write_link(tx.connection, &link.row())?;
    }
    Ok(Some(Ok(record)))
}

/// With those whose address is another's: nobody can tell by the bound which those are.
fn count_unverified(connection: &Connection) -> rusqlite::Result<u64> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM members WHERE must_verify = 1")?;
    let records: u64 = count.query_row([], |row| row.get(0))?;
    Ok(records + claims::count(connection)?)
}

/// Those of before a time whom nobody has written to.
const OLD: &str = "SELECT * FROM members INDEXED BY members_unverified_by_age
    WHERE must_verify = 1 AND created_at < ?1
        AND NOT EXISTS (SELECT 1 FROM participants WHERE participants.member = members.key)
    ORDER BY created_at LIMIT ?2";

pub(super) fn purge_unverified(tx: &mut Tx<'_>, before: Timestamp, at: Timestamp) -> rusqlite::Result<usize> {
    let mut old = tx.connection.prepare_cached(OLD)?;
    let old: Vec<MemberRecord> =
        old.query_map(params![before.as_millis(), PURGED_AT_ONCE], record)?.collect::<rusqlite::Result<_>>()?;
    for record in &old {
        remove(tx, record, at)?;
    }
    let claims = claims::purge(tx.connection, before, PURGED_AT_ONCE - old.len(), at)?;
    Ok(old.len() + claims)
}

/// Whether somebody has registered and has not verified the address, and nobody has written to them.
pub(super) fn is_unverified(connection: &Connection, record: &MemberRecord) -> rusqlite::Result<bool> {
    let mut unwritten = connection.prepare_cached(
        "SELECT 1 FROM members WHERE id = ? AND must_verify = 1
             AND NOT EXISTS (SELECT 1 FROM participants WHERE participants.member = members.key)",
    )?;
    unwritten.exists([record.profile.id.as_bytes()])
}

/// Removes the record of such a one, with what there is of them; the use of an invitation comes back.
pub(super) fn remove(tx: &mut Tx<'_>, record: &MemberRecord, at: Timestamp) -> rusqlite::Result<()> {
    let (id, connection): (MemberId, _) = (record.profile.id, tx.connection);
    tx.memory.members.remove(&id);
    tx.memory.erased = true;
    mail::forget(connection, id, &record.profile.email)?;
    connection.prepare_cached("DELETE FROM members WHERE id = ?")?.execute([id.as_bytes()])?;
    if let Some(invited) = record.profile.invited {
        claims::give_back(connection, &invited, id, at)?;
    }
    Ok(())
}
