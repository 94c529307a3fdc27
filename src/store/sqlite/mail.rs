//! Mail that is to be sent, and the links in it.

use async_trait::async_trait;
use protocol::{MemberId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Sqlite,
    row::{inconsistent, optional_time, time},
};
use crate::store::{
    MailStore, StoreError,
    archive::{LinkRow, MailRow},
    changes::Change,
    mail::{
        LinkAllowance, LinkHash, Mail, NewLink, Purpose, TakenMail, WAITING_MAX, WaitingMail, allowance, ends_links,
        forgotten_at, keys_of_address, notice_of,
    },
    members::MemberRecord,
    turns::{Caller, Turn},
};

/// Of a kind that this server knows.
const KNOWN: &str = "kind IN ('forgot_password', 'address_taken', 'verify_email', 'reset_password', \
    'password_changed', 'password_reset', 'new_device', 'second_factor_enabled', 'second_factor_disabled', \
    'second_factor_reset', 'recovery_codes_replaced', 'recovery_code_used')";

const PURPOSES: &[(&str, Purpose)] =
    &[(Purpose::VerifyEmail.as_str(), Purpose::VerifyEmail), (Purpose::ResetPassword.as_str(), Purpose::ResetPassword)];

fn mail(row: &Row<'_>) -> rusqlite::Result<Mail> {
    let body: String = row.get("body")?;
    serde_json::from_str(&body).map_err(|_| inconsistent("a mail"))
}

fn body(mail: &Mail) -> rusqlite::Result<String> {
    serde_json::to_string(mail).map_err(|_| inconsistent("a mail"))
}

/// Whether there is room for a further mail.
pub(super) fn has_room(connection: &Connection) -> rusqlite::Result<bool> {
    let waiting: u64 = connection.prepare_cached("SELECT count(*) FROM mail")?.query_row([], |row| row.get(0))?;
    Ok(waiting < WAITING_MAX)
}

fn is_there(connection: &Connection, key: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM mail WHERE key = ?")?.exists([key])
}

/// Writes a mail that is due now. False, and nothing is written, if there is no room.
pub(super) fn add(connection: &Connection, mail: &Mail, at: Timestamp) -> rusqlite::Result<bool> {
    let key = mail.key();
    if !is_there(connection, &key)? && !has_room(connection)? {
        return Ok(false);
    }
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO mail (key, kind, member, body, due, until, revision) VALUES (?, ?, ?, ?, ?, ?, random())",
    )?;
    let (member, until) = (mail.member(), at.after(mail.lifetime()));
    let member = member.as_ref().map(MemberId::as_bytes);
    insert.execute(params![key, mail.kind(), member, body(mail)?, at.as_millis(), until.as_millis()])?;
    Ok(true)
}

/// Nothing if the queue is full, true if the link was written, false if the member had too many.
fn issue(connection: &Connection, link: &NewLink) -> rusqlite::Result<Option<bool>> {
    let NewLink { member, purpose, at, .. } = link;
    let mut forget = connection.prepare_cached("DELETE FROM links WHERE member = ? AND made_at <= ?")?;
    forget.execute(params![member.as_bytes(), forgotten_at(*at).as_millis()])?;
    let mut must_verify = connection.prepare_cached("SELECT must_verify FROM members WHERE id = ?")?;
    let must_verify = must_verify.query_row([member.as_bytes()], |row| row.get(0)).optional()?.unwrap_or(false);
    let LinkAllowance { most, since } = allowance(must_verify, *at);
    let mut count = connection.prepare_cached("SELECT count(*) FROM links WHERE member = ? AND made_at > ?")?;
    let made: u32 = count.query_row(params![member.as_bytes(), since.as_millis()], |row| row.get(0))?;
    if made >= most {
        return Ok(Some(false));
    }
    if !add(connection, &link.mail(), *at)? {
        return Ok(None);
    }
    let mut end = connection.prepare_cached("UPDATE links SET is_over = 1 WHERE member = ? AND purpose = ?")?;
    end.execute(params![member.as_bytes(), purpose.as_str()])?;
    write_link(connection, link, false)?;
    Ok(Some(true))
}

/// Writes a link alone; one that is over from the beginning is good for nothing but to be known.
pub(super) fn write_link(connection: &Connection, link: &NewLink, is_over: bool) -> rusqlite::Result<()> {
    restore_link(connection, &link.row(is_over))
}

/// Whether a link is known, good or not.
pub(super) fn is_link(connection: &Connection, hash: LinkHash) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM links WHERE hash = ?")?.exists([hash])
}

/// Removes the links of a member, and what waits for them.
pub(super) fn forget(connection: &Connection, member: MemberId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM links WHERE member = ?")?.execute([member.as_bytes()])?;
    connection.prepare_cached("DELETE FROM mail WHERE member = ?")?.execute([member.as_bytes()])?;
    Ok(())
}

fn link(
    connection: &Connection,
    hash: LinkHash,
    purpose: Purpose,
    at: Timestamp,
) -> rusqlite::Result<Option<MemberId>> {
    let mut query = connection
        .prepare_cached("SELECT member FROM links WHERE hash = ? AND purpose = ? AND expires_at > ? AND is_over = 0")?;
    let found = query.query_row(params![hash, purpose.as_str(), at.as_millis()], |row| row.get(0));
    Ok(found.optional()?.map(MemberId::from_bytes))
}

/// Uses up the link that a change takes, if it takes one. False if that is not good, or another member's.
pub(super) fn use_up(
    connection: &Connection,
    change: &Change,
    member: MemberId,
    at: Timestamp,
) -> rusqlite::Result<bool> {
    let Some((hash, purpose)) = change.link() else { return Ok(true) };
    if link(connection, hash, purpose, at)? != Some(member) {
        return Ok(false);
    }
    connection.prepare_cached("UPDATE links SET is_over = 1 WHERE hash = ?")?.execute([hash])?;
    Ok(true)
}

/// What a change of a member does to their links and their mail.
pub(super) fn follow(
    connection: &Connection,
    change: &Change,
    before: &MemberRecord,
    after: &MemberRecord,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let member = after.profile.id;
    if after.is_erased {
        forget(connection, member)?;
        let mut delete = connection.prepare_cached("DELETE FROM mail WHERE key = ?")?;
        for key in keys_of_address(&before.profile.email) {
            delete.execute([key])?;
        }
    } else if ends_links(before, after) {
        let mut end = connection.prepare_cached("UPDATE links SET is_over = 1 WHERE member = ?")?;
        end.execute([member.as_bytes()])?;
    }
    if let Some(notice) = notice_of(change, after, at) {
        // Whether there is room for it or not, the change is made.
        add(connection, &notice, at)?;
    }
    Ok(())
}

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<MailRow> {
    Ok(MailRow { mail: mail(row)?, due: time(row, "due")?, until: time(row, "until")?, attempts: row.get("attempts")? })
}

/// Stores a mail of another store, unless it is there.
pub(super) fn restore(connection: &Connection, row: &MailRow) -> rusqlite::Result<()> {
    let MailRow { mail, due, until, attempts } = row;
    let member = mail.member();
    let mut insert = connection.prepare_cached(
        "INSERT INTO mail (key, kind, member, body, due, until, attempts, revision)
         VALUES (?, ?, ?, ?, ?, ?, ?, random()) ON CONFLICT DO NOTHING",
    )?;
    let member = member.as_ref().map(MemberId::as_bytes);
    let (due, until) = (due.as_millis(), until.as_millis());
    insert.execute(params![mail.key(), mail.kind(), member, body(mail)?, due, until, attempts]).map(drop)
}

pub(super) fn link_record(row: &Row<'_>) -> rusqlite::Result<LinkRow> {
    Ok(LinkRow {
        hash: row.get("hash")?,
        member: MemberId::from_bytes(row.get("member")?),
        purpose: super::row::word(row, "purpose", PURPOSES)?,
        made_at: time(row, "made_at")?,
        expires_at: time(row, "expires_at")?,
        is_over: row.get("is_over")?,
    })
}

/// Stores a link of another store, unless it is there.
pub(super) fn restore_link(connection: &Connection, row: &LinkRow) -> rusqlite::Result<()> {
    let LinkRow { hash, member, purpose, made_at, expires_at, is_over } = row;
    let mut insert = connection.prepare_cached(
        "INSERT INTO links (hash, member, purpose, made_at, expires_at, is_over) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )?;
    let (made_at, expires_at) = (made_at.as_millis(), expires_at.as_millis());
    insert.execute(params![hash, member.as_bytes(), purpose.as_str(), made_at, expires_at, is_over]).map(drop)
}

fn take(connection: &Connection, now: Timestamp, until: Timestamp) -> rusqlite::Result<Option<TakenMail>> {
    let mut take = connection.prepare_cached(&format!(
        "UPDATE mail SET due = ?2, attempts = attempts + 1
         WHERE key = (SELECT key FROM mail WHERE due <= ?1 AND {KNOWN} ORDER BY due LIMIT 1)
         RETURNING body, attempts, until, revision",
    ))?;
    let taken = take.query_row([now.as_millis(), until.as_millis()], |row| {
        let (attempts, revision) = (row.get("attempts")?, row.get("revision")?);
        Ok(TakenMail { mail: mail(row)?, attempts, until: time(row, "until")?, revision })
    });
    taken.optional()
}

#[async_trait]
impl MailStore for Sqlite {
    async fn add(&self, mail: Mail, at: Timestamp) -> Result<(), StoreError> {
        let added = self.write(move |tx| add(tx.connection, &mail, at)).await?;
        if added { Ok(()) } else { Err(StoreError::Overloaded) }
    }

    async fn issue(&self, link: NewLink) -> Result<bool, StoreError> {
        self.write(move |tx| issue(tx.connection, &link)).await?.ok_or(StoreError::Overloaded)
    }

    async fn link(
        &self,
        by: Caller,
        hash: LinkHash,
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Option<MemberId>, StoreError> {
        self.read(Turn::of(by), move |connection| link(connection, hash, purpose, at)).await
    }

    async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, StoreError> {
        self.write(move |tx| take(tx.connection, now, until)).await
    }

    async fn finish(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM mail WHERE key = ? AND revision = ?")?;
            delete.execute(params![taken.mail.key(), taken.revision]).map(drop)
        })
        .await
    }

    async fn postpone(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut update = tx.connection.prepare_cached("UPDATE mail SET due = ? WHERE key = ? AND revision = ?")?;
            update.execute(params![due.as_millis(), taken.mail.key(), taken.revision]).map(drop)
        })
        .await
    }

    async fn waiting(&self) -> Result<WaitingMail, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            let sql = format!("SELECT count(*) AS waiting, min(due) AS due FROM mail WHERE {KNOWN}");
            connection
                .prepare_cached(&sql)?
                .query_row([], |row| Ok(WaitingMail { count: row.get("waiting")?, next: optional_time(row, "due")? }))
        })
        .await
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM mail WHERE until <= ?")?;
            delete.execute([now.as_millis()]).map(|rows| u64::try_from(rows).unwrap_or(0))
        })
        .await
    }

    async fn purge_links(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM links WHERE made_at <= ?")?;
            delete.execute([forgotten_at(now).as_millis()]).map(|rows| u64::try_from(rows).unwrap_or(0))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_purpose_is_known() {
        assert!(Mail::KINDS.iter().all(|kind| KNOWN.contains(&format!("'{kind}'"))));
        assert_eq!(KNOWN.matches('\'').count(), 2 * Mail::KINDS.len());
        assert_eq!(PURPOSES.len(), Purpose::ALL.len());
    }
}
