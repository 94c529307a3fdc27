//! Mail that is to be sent, and the links in it.

use std::sync::LazyLock;

use async_trait::async_trait;
use protocol::{InvitationId, MemberId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Sqlite, addresses, audit, claims,
    row::{inconsistent, optional_time, time},
};
use crate::store::{
    MailStore, StoreError,
    archive::{LinkRow, MailRow},
    audit::AuditRecord,
    changes::Change,
    mail::{
        AskedFrom, Claim, Expired, GoodLink, Issue, Kind, LINK_LIFETIME, LinkHash, Mail, NEW_DEVICES_MAX,
        NOTICE_LIFETIME, NewLink, Purpose, Room, TakenMail, TokenId, WaitingMail, ends_links, forgotten_at,
        keys_of_address, notice_of, turn,
    },
    members::MemberRecord,
    turns::{Caller, Turn},
};

/// Of a kind that this server knows.
static KNOWN: LazyLock<String> = LazyLock::new(|| among(&Kind::names_of(|_| true)));

/// Takes the first that is due, of those for members and of those of strangers.
static TAKE: LazyLock<[String; 2]> = LazyLock::new(|| [false, true].map(take_first));

/// How many of a share wait.
const OF_SHARE: &str = "SELECT count(*) FROM mail WHERE share = ?";

/// The highest turn of a share and kind.
const LAST_TURN: &str = "SELECT max(turn) FROM mail WHERE share = ? AND kind = ?";

/// The lowest turn of what strangers have written.
static NEXT_TURN: LazyLock<String> = LazyLock::new(|| {
    let firsts = Kind::names_of(Kind::is_of_strangers).into_iter().map(|name| {
        format!("SELECT * FROM (SELECT turn FROM mail WHERE kind = '{name}' AND turn >= 0 ORDER BY turn LIMIT 1)")
    });
    format!("SELECT min(turn) FROM ({})", firsts.collect::<Vec<_>>().join(" UNION ALL "))
});

/// Of a kind with one of these names. Names are words: nothing in them has to be quoted.
fn among(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("kind IN ({})", names.join(", "))
}

/// One look into the index for each kind, however many wait.
fn take_first(of_strangers: bool) -> String {
    let firsts = Kind::names_of(|kind| kind.is_of_strangers() == of_strangers).into_iter().map(|name| {
        format!(
            "SELECT * FROM
                 (SELECT key, turn, due FROM mail WHERE kind = '{name}' AND due <= ?1 ORDER BY turn, due LIMIT 1)"
        )
    });
    format!(
        "UPDATE mail SET due = ?2, attempts = attempts + 1
         WHERE key = (SELECT key FROM ({}) ORDER BY turn, due LIMIT 1)
         RETURNING key, kind, body, attempts, until, revision",
        firsts.collect::<Vec<_>>().join(" UNION ALL ")
    )
}

const PURPOSES: &[(&str, Purpose)] = &[
    (Purpose::VerifyEmail.as_str(), Purpose::VerifyEmail),
    (Purpose::ResetPassword.as_str(), Purpose::ResetPassword),
    (Purpose::ChangeEmail.as_str(), Purpose::ChangeEmail),
];

fn mail(row: &Row<'_>) -> rusqlite::Result<Mail> {
    let body: String = row.get("body")?;
    serde_json::from_str(&body).map_err(|_| inconsistent("a mail"))
}

fn body(mail: &Mail) -> rusqlite::Result<String> {
    serde_json::to_string(mail).map_err(|_| inconsistent("a mail"))
}

/// Whether there is room for a further mail.
pub(super) fn has_room(connection: &Connection, room: Room) -> rusqlite::Result<bool> {
    let waiting: u64 = connection.prepare_cached("SELECT count(*) FROM mail")?.query_row([], |row| row.get(0))?;
    let of_share: u64 = match room.share {
        Some(share) => connection.prepare_cached(OF_SHARE)?.query_row([share.to_string()], |row| row.get(0))?,
        None => 0,
    };
    Ok(room.is_free(waiting, of_share))
}

fn is_there(connection: &Connection, key: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM mail WHERE key = ?")?.exists([key])
}

/// Writes a mail that is due now. False, and nothing is written, if there is no room.
pub(super) fn add(connection: &Connection, mail: &Mail, room: Room, at: Timestamp) -> rusqlite::Result<bool> {
    let key = mail.key();
    if !is_there(connection, &key)? && !has_room(connection, room)? {
        return Ok(false);
    }
    write(connection, mail, room.share, at)?;
    Ok(true)
}

/// The turn of a mail that is of a share.
fn turn_of(connection: &Connection, mail: &Mail, share: AskedFrom) -> rusqlite::Result<i64> {
    let mut last = connection.prepare_cached(LAST_TURN)?;
    let last = last.query_row(params![share.to_string(), mail.kind().as_str()], |row| row.get(0))?;
    let next = connection.prepare_cached(&NEXT_TURN)?.query_row([], |row| row.get(0))?;
    Ok(turn(mail.kind(), last, next))
}

/// Writes a mail that is due now, whether there is room or not.
fn write(connection: &Connection, mail: &Mail, share: Option<AskedFrom>, at: Timestamp) -> rusqlite::Result<()> {
    let key = mail.key();
    let turn = share.map(|share| turn_of(connection, mail, share)).transpose()?;
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO mail (key, kind, member, body, due, until, share, turn, revision)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, random())",
    )?;
    let (member, until) = (mail.member(), at.after(mail.lifetime()));
    let member = member.as_ref().map(MemberId::as_bytes);
    let (kind, at, until, share) =
        (mail.kind().as_str(), at.as_millis(), until.as_millis(), share.as_ref().map(ToString::to_string));
    insert.execute(params![key, kind, member, body(mail)?, at, until, share, turn]).map(drop)
}

/// Writes what something that happens tells its member, in the transaction of that, whether there is room or not: a queue that a
/// stranger has filled must not hide it. A member has one of each kind, and so many of new devices.
pub(super) fn tell(connection: &Connection, notice: &Mail, at: Timestamp) -> rusqlite::Result<()> {
    if let Mail::NewDevice { member, .. } = notice {
        let mut waiting = connection.prepare_cached("SELECT count(*) FROM mail WHERE member = ? AND kind = ?")?;
        let name = notice.kind().as_str();
        let waiting: u64 = waiting.query_row(params![member.as_bytes(), name], |row| row.get(0))?;
        if waiting >= NEW_DEVICES_MAX {
            let mut last = connection.prepare_cached(
                "SELECT body FROM mail WHERE member = ? AND kind = ? ORDER BY until DESC, key DESC LIMIT 1",
            )?;
            let last = last.query_row(params![member.as_bytes(), name], |row| Ok(mail(row).ok()))?;
            return last.and_then(Mail::and_more).map_or(Ok(()), |last| write(connection, &last, None, at));
        }
    }
    write(connection, notice, None, at)
}

/// Nothing if the queue is full, true if a mail was written, false if there were too many.
fn issue(connection: &Connection, by: Caller, link: &NewLink) -> rusqlite::Result<Option<bool>> {
    let NewLink { member, purpose, at, .. } = link;
    let mut forget = connection.prepare_cached("DELETE FROM links WHERE member = ? AND made_at <= ?")?;
    forget.execute(params![member.as_bytes(), forgotten_at(*at).as_millis()])?;
    let mut must_verify = connection.prepare_cached("SELECT must_verify FROM members WHERE id = ?")?;
    let must_verify = must_verify.query_row([member.as_bytes()], |row| row.get(0)).optional()?.unwrap_or(false);
    let mut theirs = connection.prepare_cached("SELECT * FROM links WHERE member = ?")?;
    let theirs = theirs.query_map([member.as_bytes()], link_record)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let (mail, again) = match link.issue(must_verify, &theirs) {
        Issue::Nothing => return Ok(Some(false)),
        Issue::New => (link.mail(), None),
        Issue::Again(hash, token) => (purpose.mail(*member, token), Some(hash)),
    };
    let barred = link.email.as_deref().map(|email| addresses::is_barred(connection, email)).transpose()?;
    if barred == Some(true) {
        end_all(connection, *member, *purpose)?;
        return write_link(connection, &link.row_of_nobody(None)).map(|()| Some(true));
    }
    if !add(connection, &mail, Room::of_link(by, must_verify, link.asked), *at)? {
        return Ok(None);
    }
    if link.ends_former() {
        end_all(connection, *member, *purpose)?;
    }
    let Some(hash) = again else { return write_link(connection, &link.row()).map(|()| Some(true)) };
    let mut again = connection.prepare_cached("UPDATE links SET sent = sent + 1, asked = asked || ? WHERE hash = ?")?;
    again.execute(params![link.asked.to_string(), hash])?;
    Ok(Some(true))
}

/// Whether a link is known, good or not.
pub(super) fn is_link(connection: &Connection, hash: LinkHash) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM links WHERE hash = ?")?.exists([hash])
}

fn link(
    connection: &Connection,
    hash: LinkHash,
    purpose: Purpose,
    at: Timestamp,
) -> rusqlite::Result<Option<GoodLink>> {
    let mut query = connection.prepare_cached(
        "SELECT member, expires_at, token IS NOT NULL AS was_mailed, email FROM links WHERE hash = ? AND purpose = ? AND expires_at > ? AND is_over = 0",
    )?;
    let found = query.query_row(params![hash, purpose.as_str(), at.as_millis()], |row| {
        let member = MemberId::from_bytes(row.get("member")?);
        let (until, was_mailed) = (time(row, "expires_at")?, row.get("was_mailed")?);
        Ok(GoodLink { member, until, was_mailed, email: row.get("email")? })
    });
    found.optional()
}

/// Uses up the link that a change takes, if it takes one, and all others of its purpose. False if that is not good, or another member's.
pub(super) fn use_up(
    connection: &Connection,
    change: &Change,
    member: MemberId,
    at: Timestamp,
) -> rusqlite::Result<bool> {
    let Some((hash, purpose)) = change.link() else { return Ok(true) };
    if link(connection, hash, purpose, at)?.map(|link| link.member) != Some(member) {
        return Ok(false);
    }
    end_all(connection, member, purpose)?;
    Ok(true)
}

/// Ends the links of a member for a purpose.
fn end_all(connection: &Connection, member: MemberId, purpose: Purpose) -> rusqlite::Result<()> {
    let mut end = connection.prepare_cached("UPDATE links SET is_over = 1 WHERE member = ? AND purpose = ?")?;
    end.execute(params![member.as_bytes(), purpose.as_str()]).map(drop)
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
        forget(connection, member, &before.profile.email)?;
        claims::forget(connection, &before.profile.email)?;
    } else if ends_links(before, after) {
        let mut end = connection.prepare_cached("UPDATE links SET is_over = 1 WHERE member = ?")?;
        end.execute([member.as_bytes()])?;
    }
    notice_of(change, before, after, at).map_or(Ok(()), |notice| tell(connection, &notice, at))
}

/// Removes the links of a member who is gone, and the mail to them and about their address.
pub(super) fn forget(connection: &Connection, member: MemberId, email: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM links WHERE member = ?")?.execute([member.as_bytes()])?;
    connection.prepare_cached("DELETE FROM mail WHERE member = ?")?.execute([member.as_bytes()])?;
    // The zero is what comes after a slash.
    let mut delete = connection.prepare_cached("DELETE FROM mail WHERE key >= ?1 AND key < ?1 || '0'")?;
    for key in keys_of_address(email) {
        delete.execute([key])?;
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
        "INSERT INTO mail (key, kind, member, body, due, until, attempts, share, revision)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, random()) ON CONFLICT DO NOTHING",
    )?;
    let member = member.as_ref().map(MemberId::as_bytes);
    let (due, until, share) = (due.as_millis(), until.as_millis(), mail.asked().as_ref().map(ToString::to_string));
    insert
        .execute(params![mail.key(), mail.kind().as_str(), member, body(mail)?, due, until, attempts, share])
        .map(drop)
}

fn claim(row: &Row<'_>) -> rusqlite::Result<Option<Claim>> {
    if !row.get::<_, bool>("is_claim")? {
        return Ok(None);
    }
    let invitation = row.get::<_, Option<[u8; 12]>>("invitation")?.map(InvitationId::from_bytes);
    Ok(Some(Claim { invitation, address: row.get("address")? }))
}

pub(super) fn link_record(row: &Row<'_>) -> rusqlite::Result<LinkRow> {
    Ok(LinkRow {
        hash: row.get("hash")?,
        member: MemberId::from_bytes(row.get("member")?),
        purpose: super::row::word(row, "purpose", PURPOSES)?,
        made_at: time(row, "made_at")?,
        expires_at: time(row, "expires_at")?,
        is_over: row.get("is_over")?,
        token: row.get::<_, Option<[u8; 16]>>("token")?.map(TokenId),
        sent: row.get("sent")?,
        asked: AskedFrom::all_of(row.get_ref("asked")?.as_str()?),
        claim: claim(row)?,
        email: row.get("email")?,
    })
}

/// Writes a link alone, of this store or another one, unless it is there.
pub(super) fn write_link(connection: &Connection, row: &LinkRow) -> rusqlite::Result<()> {
    let LinkRow { hash, member, purpose, made_at, expires_at, is_over, token, sent, asked, claim, email } = row;
    let (invitation, address) = claim.map_or((None, None), |claim| (claim.invitation, claim.address));
    let asked: String = asked.iter().map(ToString::to_string).collect();
    let mut insert = connection.prepare_cached(
        "INSERT INTO links (hash, member, purpose, made_at, expires_at, is_over, token, sent, asked, is_claim, invitation, address, email)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?;
    let (made_at, expires_at, token) = (made_at.as_millis(), expires_at.as_millis(), token.map(|token| token.0));
    let (member, purpose, is_claim) = (member.as_bytes(), purpose.as_str(), claim.is_some());
    let invitation = invitation.as_ref().map(InvitationId::as_bytes);
    insert
        .execute(params![
            hash, member, purpose, made_at, expires_at, is_over, token, sent, asked, is_claim, invitation, address,
            email
        ])
        .map(drop)
}

/// What is due at a time that nobody waits for: later than `?2`, or later than now (`?1`) though nobody has taken it yet.
const LATE: &str = "(due > ?2 OR (due > ?1 AND attempts = 0))";

fn take(connection: &Connection, now: Timestamp, until: Timestamp) -> rusqlite::Result<Option<TakenMail>> {
    for sql in &*TAKE {
        if let Some(taken) = take_with(connection, sql, now, until)? {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

fn take_with(
    connection: &Connection,
    sql: &str,
    now: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Option<TakenMail>> {
    let mut take = connection.prepare_cached(sql)?;
    let taken: Option<TakenMail> = take
        .query_row([now.as_millis(), until.as_millis()], |row| {
            let kind = Kind::of(row.get_ref("kind")?.as_str()?).ok_or_else(|| inconsistent("the kind of a mail"))?;
            let (key, attempts, revision) = (row.get("key")?, row.get("attempts")?, row.get("revision")?);
            // What cannot be read must not stay the first that is due: it is taken like others.
            Ok(TakenMail { key, kind, mail: mail(row).ok(), attempts, until: time(row, "until")?, revision })
        })
        .optional()?;
    let Some(mut taken) = taken else { return Ok(None) };
    if let Some(until) = taken.longer_until(now) {
        let mut prolong = connection.prepare_cached("UPDATE mail SET until = ? WHERE key = ?")?;
        prolong.execute(params![until.as_millis(), taken.key])?;
        taken.until = until;
    }
    Ok(Some(taken))
}

#[async_trait]
impl MailStore for Sqlite {
    async fn add(&self, _: Caller, mail: Mail, at: Timestamp) -> Result<(), StoreError> {
        let added = self.write(move |tx| add(tx.connection, &mail, Room::of(&mail), at)).await?;
        if added { Ok(()) } else { Err(StoreError::Overloaded) }
    }

    async fn issue(&self, by: Caller, link: NewLink) -> Result<bool, StoreError> {
        self.write(move |tx| issue(tx.connection, by, &link)).await?.ok_or(StoreError::Overloaded)
    }

    async fn hand_out(&self, link: LinkRow, entry: AuditRecord) -> Result<(), StoreError> {
        self.write(move |tx| {
            write_link(tx.connection, &link)?;
            audit::append(tx.connection, &entry)
        })
        .await
    }

    async fn link(
        &self,
        by: Caller,
        hash: LinkHash,
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Option<GoodLink>, StoreError> {
        self.read(Turn::of(by), move |connection| link(connection, hash, purpose, at)).await
    }

    async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, StoreError> {
        self.write(move |tx| take(tx.connection, now, until)).await
    }

    async fn finish(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM mail WHERE key = ? AND revision = ?")?;
            delete.execute(params![taken.key, taken.revision]).map(drop)
        })
        .await
    }

    async fn postpone(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut update = tx.connection.prepare_cached("UPDATE mail SET due = ? WHERE key = ? AND revision = ?")?;
            update.execute(params![due.as_millis(), taken.key, taken.revision]).map(drop)
        })
        .await
    }

    async fn hasten(&self, after: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let times = [now.as_millis(), after.as_millis()];
        let is_late = move |connection: &Connection| {
            connection.prepare_cached(&format!("SELECT 1 FROM mail WHERE {LATE}"))?.exists(times)
        };
        if !self.read(Turn::SYSTEM, is_late).await? {
            return Ok(0);
        }
        self.write(move |tx| {
            let mut update = tx.connection.prepare_cached(&format!("UPDATE mail SET due = ?1 WHERE {LATE}"))?;
            let rows = update.execute(times)?;
            Ok(u64::try_from(rows).unwrap_or(0))
        })
        .await
    }

    async fn waiting(&self) -> Result<WaitingMail, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            let sql = format!("SELECT count(*) AS waiting, min(due) AS due FROM mail WHERE {}", *KNOWN);
            connection
                .prepare_cached(&sql)?
                .query_row([], |row| Ok(WaitingMail { count: row.get("waiting")?, next: optional_time(row, "due")? }))
        })
        .await
    }

    async fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            let mut firsts = Vec::new();
            for lifetime in [LINK_LIFETIME, NOTICE_LIFETIME] {
                let of_kind = among(&Kind::names_of(|kind| kind.lifetime() == lifetime));
                let mut first =
                    connection.prepare_cached(&format!("SELECT min(until) AS until FROM mail WHERE {of_kind}"))?;
                firsts.push((lifetime, first.query_row([], |row| optional_time(row, "until"))?));
            }
            Ok(Kind::oldest(firsts))
        })
        .await
    }

    async fn expire(&self, now: Timestamp, which: Expired) -> Result<u64, StoreError> {
        self.write(move |tx| {
            let of_kind = match which {
                Expired::All => "TRUE".to_owned(),
                Expired::Unknown => format!("NOT {}", *KNOWN),
            };
            let mut delete =
                tx.connection.prepare_cached(&format!("DELETE FROM mail WHERE until <= ? AND {of_kind}"))?;
            delete.execute([now.as_millis()]).map(|rows| u64::try_from(rows).unwrap_or(0))
        })
        .await
    }

    async fn purge_links(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM links WHERE made_at <= ? AND is_claim = 0")?;
            delete.execute([forgotten_at(now).as_millis()]).map(|rows| u64::try_from(rows).unwrap_or(0))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_is_known() {
        assert_eq!(PURPOSES.len(), Purpose::ALL.len());
    }

    /// However many mails wait.
    #[test]
    fn what_is_next_and_whose_share_is_used_up_is_found_in_an_index() {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::migrations::run(&mut connection).unwrap();
        let [members, strangers] = &*TAKE;
        for sql in [members, strangers, &*NEXT_TURN, OF_SHARE, LAST_TURN] {
            let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = rusqlite::params_from_iter(1..=query.parameter_count());
            let steps = query.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
            let steps = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap();
            let plan = steps.join("; ");
            assert!(!plan.contains("SCAN mail") && plan.contains("mail_by_"), "{sql}: {plan}");
            // One to put the firsts of the kinds into order.
            assert!(steps.iter().filter(|step| step.contains("TEMP B-TREE")).count() <= 1, "{sql}: {plan}");
        }
    }
}
