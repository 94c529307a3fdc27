//! The links in mails.

use protocol::{InvitationId, MemberId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    super::{
        memory::Tx,
        row::{time, word},
    },
    add, is_there, write,
};
use crate::store::{
    archive::LinkRow,
    changes::Change,
    mail::{AskedFrom, Claim, GoodLink, Issue, LinkHash, NewLink, Purpose, Room, TokenId, forgotten_at},
    members::{MemberRecord, email_key},
    turns::Caller,
};

pub(super) const PURPOSES: &[(&str, Purpose)] = &[
    (Purpose::VerifyEmail.as_str(), Purpose::VerifyEmail),
    (Purpose::ResetPassword.as_str(), Purpose::ResetPassword),
    (Purpose::ChangeEmail.as_str(), Purpose::ChangeEmail),
];

/// Nothing if the queue is full, true if a mail was written, false if none was.
pub(super) fn issue(tx: &Tx<'_>, by: Caller, link: &NewLink) -> rusqlite::Result<Option<bool>> {
    let NewLink { member, purpose, at, .. } = link;
    let connection = tx.connection;
    forget_old(connection, *member, *at)?;
    let mut must_verify = connection.prepare_cached("SELECT must_verify FROM members WHERE id = ?")?;
    let must_verify = must_verify.query_row([member.as_bytes()], |row| row.get(0)).optional()?.unwrap_or(false);
    let theirs = links_of(connection, *member)?;
    let room = Room::of_link(by, must_verify, link.asked);
    match link.issue(must_verify, &theirs) {
        Issue::Nothing => Ok(Some(false)),
        Issue::New => {
            if !add(tx, &link.mail(), room, *at)? {
                return Ok(None);
            }
            write_link(connection, &link.row()).map(|()| Some(true))
        }
        Issue::Again(hash, token) => {
            if !add(tx, &purpose.mail(*member, token), room, *at)? {
                return Ok(None);
            }
            let mut again =
                connection.prepare_cached("UPDATE links SET sent = sent + 1, asked = asked || ? WHERE hash = ?")?;
            again.execute(params![link.asked.to_string(), hash])?;
            Ok(Some(true))
        }
        Issue::Unsent(hash, token) => {
            if !add(tx, &purpose.mail(*member, token), room, *at)? {
                return Ok(None);
            }
            let mut sent =
                connection.prepare_cached("UPDATE links SET sent = 1, asked = ?, expires_at = ? WHERE hash = ?")?;
            sent.execute(params![link.asked.to_string(), link.good_until().as_millis(), hash])?;
            Ok(Some(true))
        }
        Issue::Longer(hash, token) => {
            let mut longer = connection.prepare_cached("UPDATE links SET expires_at = ? WHERE hash = ?")?;
            longer.execute(params![link.good_until().as_millis(), hash])?;
            let mail = purpose.mail(*member, token);
            if is_there(connection, &mail.key())? {
                write(connection, &mail, room, *at)?;
            }
            Ok(Some(false))
        }
    }
}

/// Forgets links of a member that have ended and count for nobody any more.
pub(in crate::store::sqlite) fn forget_old(
    connection: &Connection,
    member: MemberId,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let mut forget =
        connection.prepare_cached("DELETE FROM links WHERE member = ? AND made_at <= ? AND expires_at <= ?")?;
    forget.execute(params![member.as_bytes(), forgotten_at(at).as_millis(), at.as_millis()]).map(drop)
}

/// The links of a member.
pub(in crate::store::sqlite) fn links_of(connection: &Connection, member: MemberId) -> rusqlite::Result<Vec<LinkRow>> {
    let mut theirs = connection.prepare_cached("SELECT * FROM links WHERE member = ?")?;
    theirs.query_map([member.as_bytes()], link_record)?.collect()
}

/// Whether a link is known, good or not.
pub(in crate::store::sqlite) fn is_link(connection: &Connection, hash: LinkHash) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM links WHERE hash = ?")?.exists([hash])
}

pub(super) fn link(
    connection: &Connection,
    hash: LinkHash,
    purpose: Purpose,
    at: Timestamp,
) -> rusqlite::Result<Option<GoodLink>> {
    let mut query = connection.prepare_cached(
        "SELECT member, expires_at, token IS NOT NULL AS was_mailed, email, credentials FROM links
         WHERE hash = ? AND purpose = ? AND expires_at > ? AND is_over = 0",
    )?;
    let found = query.query_row(params![hash, purpose.as_str(), at.as_millis()], |row| {
        let member = MemberId::from_bytes(row.get("member")?);
        let (until, was_mailed) = (time(row, "expires_at")?, row.get("was_mailed")?);
        Ok(GoodLink { member, until, was_mailed, email: row.get("email")?, credentials: row.get("credentials")? })
    });
    found.optional()
}

/// Uses up the link that a change of a member takes, if it takes one, and all others of its purpose. False if that is not good for them.
pub(in crate::store::sqlite) fn use_up(
    connection: &Connection,
    change: &Change,
    before: &MemberRecord,
    at: Timestamp,
) -> rusqlite::Result<bool> {
    let Some((hash, purpose)) = change.link() else { return Ok(true) };
    let is_good = link(connection, hash, purpose, at)?.is_some_and(|link| link.is_for(before, at));
    if is_good {
        end_all(connection, before.profile.id, purpose)?;
    }
    Ok(is_good)
}

/// Ends the links of a member for a purpose.
pub(in crate::store::sqlite) fn end_all(
    connection: &Connection,
    member: MemberId,
    purpose: Purpose,
) -> rusqlite::Result<()> {
    let mut end = connection.prepare_cached("UPDATE links SET is_over = 1 WHERE member = ? AND purpose = ?")?;
    end.execute(params![member.as_bytes(), purpose.as_str()]).map(drop)
}

pub(super) fn claim(row: &Row<'_>) -> rusqlite::Result<Option<Claim>> {
    if !row.get::<_, bool>("is_claim")? {
        return Ok(None);
    }
    let invitation = row.get::<_, Option<[u8; 12]>>("invitation")?.map(InvitationId::from_bytes);
    Ok(Some(Claim { invitation, address: row.get("address")? }))
}

pub(in crate::store::sqlite) fn link_record(row: &Row<'_>) -> rusqlite::Result<LinkRow> {
    Ok(LinkRow {
        hash: row.get("hash")?,
        member: MemberId::from_bytes(row.get("member")?),
        purpose: word(row, "purpose", PURPOSES)?,
        made_at: time(row, "made_at")?,
        expires_at: time(row, "expires_at")?,
        is_over: row.get("is_over")?,
        token: row.get::<_, Option<[u8; 16]>>("token")?.map(TokenId),
        sent: row.get("sent")?,
        asked: AskedFrom::all_of(row.get_ref("asked")?.as_str()?),
        claim: claim(row)?,
        email: row.get("email")?,
        credentials: row.get("credentials")?,
    })
}

/// Writes a link alone, of this store or another one, unless it is there.
pub(in crate::store::sqlite) fn write_link(connection: &Connection, row: &LinkRow) -> rusqlite::Result<()> {
    let LinkRow { hash, member, purpose, made_at, expires_at, is_over, token, sent, asked, .. } = row;
    let LinkRow { claim, email, credentials, .. } = row;
    let (invitation, address) = claim.map_or((None, None), |claim| (claim.invitation, claim.address));
    let asked: String = asked.iter().map(ToString::to_string).collect();
    let mut insert = connection.prepare_cached(
        "INSERT INTO links (hash, member, purpose, made_at, expires_at, is_over, token, sent, asked, is_claim, invitation, address, email, email_key,
             credentials)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?;
    let (made_at, expires_at, token) = (made_at.as_millis(), expires_at.as_millis(), token.map(|token| token.0));
    let (member, purpose, is_claim) = (member.as_bytes(), purpose.as_str(), claim.is_some());
    let invitation = invitation.as_ref().map(InvitationId::as_bytes);
    insert
        .execute(params![
            hash,
            member,
            purpose,
            made_at,
            expires_at,
            is_over,
            token,
            sent,
            asked,
            is_claim,
            invitation,
            address,
            email,
            email.as_deref().map(email_key),
            credentials
        ])
        .map(drop)
}
