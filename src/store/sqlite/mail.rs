//! Mail that is to be sent, and the links in it.

mod lanes;
mod links;
mod room;

use std::sync::LazyLock;

use async_trait::async_trait;
use protocol::{MemberId, Timestamp};
use rusqlite::{Connection, Row, params};

use self::{
    lanes::queries,
    room::{place_of, turn_aside, turn_of},
};
pub(super) use self::{
    links::{end_all, forget_old, is_link, link_record, links_of, use_up, write_link},
    room::{has_room, make_room},
};
use super::{
    Sqlite, audit, claims, email_change,
    memory::Tx,
    row::{inconsistent, optional_time, time},
};
use crate::store::{
    MailStore, StoreError,
    archive::{LinkRow, MailRow},
    audit::AuditRecord,
    changes::Change,
    mail::{
        Asked, AskedChange, Expired, GoodLink, Kind, LINK_LIFETIME, Lane, LinkHash, Mail, NEW_DEVICES_MAX,
        NOTICE_LIFETIME, NewChange, NewLink, Part, Purpose, Room, Sequence, TO_FORMER, TakenMail, TokenId, better,
        ended_links, forgotten_at, keys_of_address, notice_of, outlives,
    },
    members::MemberRecord,
    turns::{Caller, Turn},
};

/// Of a kind that this server knows.
static KNOWN: LazyLock<String> = LazyLock::new(|| among(&Kind::names_of(|_| true)));

/// Of a kind with one of these names. Names are words: nothing in them has to be quoted.
fn among(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("kind IN ({})", names.join(", "))
}

fn mail(row: &Row<'_>) -> rusqlite::Result<Mail> {
    let body: String = row.get("body")?;
    serde_json::from_str(&body).map_err(|_| inconsistent("a mail"))
}

fn body(mail: &Mail) -> rusqlite::Result<String> {
    serde_json::to_string(mail).map_err(|_| inconsistent("a mail"))
}

/// Has the link that a mail was to bring which nobody gets count as not sent.
fn not_sent(connection: &Connection, mail: &Mail) -> rusqlite::Result<()> {
    let Some((member, TokenId(token))) = mail.link() else { return Ok(()) };
    let mut unsent =
        connection.prepare_cached("UPDATE links SET sent = 0, asked = '' WHERE member = ? AND token = ?")?;
    unsent.execute(params![member.as_bytes(), token]).map(drop)
}

fn is_there(connection: &Connection, key: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM mail WHERE key = ?")?.exists([key])
}

/// Writes a mail that is due now. False, and nothing is written, if there is no room.
pub(super) fn add(tx: &Tx<'_>, mail: &Mail, room: Room, at: Timestamp) -> rusqlite::Result<bool> {
    if !has_room(tx, mail, room)? {
        return Ok(false);
    }
    write(tx.connection, mail, room, at)?;
    Ok(true)
}

/// Writes a mail that is due now, whether there is room or not.
pub(super) fn write(connection: &Connection, mail: &Mail, room: Room, at: Timestamp) -> rusqlite::Result<()> {
    let key = mail.key();
    let (share, turn) = match room.share {
        Some(share) if room.part != Part::Members => {
            let turn = turn_of(connection, Sequence::of(mail.kind(), room.part), share)?;
            let (share, turn) = better(place_of(connection, &key)?, (share.to_string(), turn));
            (Some(share), Some(turn))
        }
        share => (share.map(|share| share.to_string()), None),
    };
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO mail (key, kind, member, body, due, until, share, turn, revision)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, random())",
    )?;
    let (member, until) = (mail.member(), at.after(mail.lifetime()));
    let member = member.as_ref().map(MemberId::as_bytes);
    let (kind, at, until) = (mail.kind().as_str(), at.as_millis(), until.as_millis());
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
            return last.and_then(Mail::and_more).map_or(Ok(()), |last| write(connection, &last, Room::MEMBERS, at));
        }
    }
    write(connection, notice, Room::MEMBERS, at)
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
        if outlives(before) {
            pin_notices(connection, member, &before.profile.email, at)?;
        }
        forget(connection, member, &before.profile.email)?;
        claims::forget(connection, &before.profile.email)?;
    } else {
        for purpose in ended_links(change, before, after) {
            end_all(connection, member, *purpose)?;
        }
    }
    if !after.is_erased && before.profile.email != after.profile.email {
        pin_notices(connection, member, &before.profile.email, at)?;
    }
    notice_of(change, before, after, at).map_or(Ok(()), |notice| tell(connection, &notice, at))
}

/// Has the notices that wait for a member sent to the address that they were written for, though it is theirs no more. They are due at once: who
/// has one in hand does not finish with it any more.
fn pin_notices(connection: &Connection, member: MemberId, former: &str, at: Timestamp) -> rusqlite::Result<()> {
    let mut waiting = connection.prepare_cached("SELECT key, body FROM mail WHERE member = ?")?;
    let waiting = waiting.query_map([member.as_bytes()], |row| Ok((row.get::<_, String>("key")?, mail(row).ok())))?;
    for (key, notice) in waiting.collect::<rusqlite::Result<Vec<_>>>()? {
        let Some(pinned) = notice.and_then(|notice| notice.for_former(former)) else { continue };
        let mut pin = connection.prepare_cached(
            "UPDATE OR REPLACE mail SET key = ?, kind = ?, body = ?, due = ?, revision = random() WHERE key = ?",
        )?;
        pin.execute(params![pinned.key(), pinned.kind().as_str(), body(&pinned)?, at.as_millis(), key])?;
    }
    Ok(())
}

/// Removes the links of a member who is gone, and the mail to them and about their address; not what tells former addresses.
pub(super) fn forget(connection: &Connection, member: MemberId, email: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM links WHERE member = ?")?.execute([member.as_bytes()])?;
    let mut delete = connection.prepare_cached("DELETE FROM mail WHERE member = ? AND kind NOT IN (?, ?)")?;
    let [changed, notice] = TO_FORMER;
    delete.execute(params![member.as_bytes(), changed, notice])?;
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
    let (member, share) = (mail.member(), mail.asked());
    let sequence = Sequence::of(mail.kind(), Part::Strangers);
    let turn = share.map(|share| turn_of(connection, sequence, share)).transpose()?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO mail (key, kind, member, body, due, until, attempts, share, turn, revision)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, random()) ON CONFLICT DO NOTHING",
    )?;
    let member = member.as_ref().map(MemberId::as_bytes);
    let (due, until, share) = (due.as_millis(), until.as_millis(), share.as_ref().map(ToString::to_string));
    insert
        .execute(params![mail.key(), mail.kind().as_str(), member, body(mail)?, due, until, attempts, share, turn])
        .map(drop)
}

/// What is due at a time that nobody waits for: later than `?2`, or later than `?3` though nobody has taken it yet.
const LATE: &str = "(due > ?2 OR (due > ?3 AND attempts = 0))";

#[async_trait]
impl MailStore for Sqlite {
    async fn add(&self, _: Caller, mail: Mail, at: Timestamp) -> Result<(), StoreError> {
        let added = self.write(move |tx| add(tx, &mail, Room::of(&mail), at)).await?;
        if added { Ok(()) } else { Err(StoreError::Overloaded) }
    }

    async fn issue(&self, by: Caller, link: NewLink) -> Result<bool, StoreError> {
        self.write(move |tx| links::issue(tx, by, &link)).await?.ok_or(StoreError::Overloaded)
    }

    async fn issue_change(&self, change: NewChange) -> Result<Asked, StoreError> {
        self.write(move |tx| email_change::issue(tx, &change)).await?.ok_or(StoreError::Overloaded)
    }

    async fn asked_changes(&self, member: MemberId) -> Result<Vec<AskedChange>, StoreError> {
        self.read(Turn::light(member), move |connection| email_change::asked(connection, member)).await
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
        self.read(Turn::of(by), move |connection| links::link(connection, hash, purpose, at)).await
    }

    async fn take(
        &self,
        lane: Lane,
        first: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<TakenMail>, StoreError> {
        self.write(move |tx| lanes::take(tx.connection, (lane, first), now, until)).await
    }

    async fn next(&self, lane: Lane) -> Result<Option<Timestamp>, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            connection.prepare_cached(&queries(lane).next)?.query_row([], |row| optional_time(row, "due"))
        })
        .await
    }

    async fn finish(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM mail WHERE key = ? AND revision = ?")?;
            let is_gone = delete.execute(params![taken.key, taken.revision])? > 0;
            tx.memory.erased |= is_gone && taken.kind.is_to_former();
            Ok(())
        })
        .await
    }

    async fn give_up(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM mail WHERE key = ? AND revision = ?")?;
            let is_gone = delete.execute(params![taken.key, taken.revision])? > 0;
            tx.memory.erased |= is_gone && taken.kind.is_to_former();
            taken.mail.filter(|_| is_gone).map_or(Ok(()), |mail| not_sent(tx.connection, &mail))
        })
        .await
    }

    async fn postpone(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut update =
                tx.connection.prepare_cached("UPDATE mail SET due = ?, attempts = ? WHERE key = ? AND revision = ?")?;
            update.execute(params![due.as_millis(), taken.attempts, taken.key, taken.revision]).map(drop)
        })
        .await
    }

    async fn set_aside(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            let Some(turn) = turn_aside(tx.connection, &taken)? else { return Ok(()) };
            let mut update =
                tx.connection.prepare_cached("UPDATE mail SET due = ?, attempts = ?, turn = ? WHERE key = ?")?;
            update.execute(params![due.as_millis(), taken.attempts, turn, taken.key]).map(drop)
        })
        .await
    }

    async fn hasten(&self, after: Timestamp, untaken: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let times = [now, after, untaken].map(Timestamp::as_millis);
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

    async fn waiting(&self) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            let sql = format!("SELECT count(*) FROM mail WHERE {}", *KNOWN);
            connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))
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
            let removed = delete.execute([now.as_millis()])?;
            // An address of somebody who has left may be among them.
            tx.memory.erased |= removed > 0;
            Ok(u64::try_from(removed).unwrap_or(0))
        })
        .await
    }

    async fn purge_links(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(move |tx| {
            let mut delete = tx
                .connection
                .prepare_cached("DELETE FROM links WHERE made_at <= ? AND expires_at <= ? AND is_claim = 0")?;
            delete
                .execute([forgotten_at(now).as_millis(), now.as_millis()])
                .map(|rows| u64::try_from(rows).unwrap_or(0))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::{
        links::PURPOSES,
        room::{LAST, LAST_ASIDE, LAST_TURN, NEXT_TURN, OF_PART, OF_SHARE},
        *,
    };

    #[test]
    fn every_purpose_is_known() {
        assert_eq!(PURPOSES.len(), Purpose::ALL.len());
    }

    /// However many mails wait.
    #[test]
    fn what_is_next_and_whose_share_is_used_up_is_found_in_an_index() {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::migrations::run(&mut connection).unwrap();
        let of_lanes = Lane::ALL.into_iter().flat_map(|lane| queries(lane).take.iter().chain([&queries(lane).next]));
        let looked_at = OF_PART.iter().chain(&*LAST_TURN).chain(&*NEXT_TURN).chain(of_lanes);
        for sql in looked_at.map(String::as_str).chain([&**LAST, &**LAST_ASIDE, &**OF_SHARE]) {
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
