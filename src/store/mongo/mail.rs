//! Mail that is to be sent, and the links in it.

mod lanes;
mod links;
mod room;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Document, doc},
    options::FindOneOptions,
};
use protocol::{MemberId, Timestamp};
use tokio_util::sync::CancellationToken;

use self::room::{turn_aside, turn_of};
pub(super) use self::{
    links::{end_all, is_link, link_document, link_record, links_of, use_up, write_link},
    room::make_room,
};
use super::{
    Mongo, claims,
    db::Db,
    document::{binary, date, member_oid, time},
    email_change,
    fault::Fault,
    members::transaction,
};
use crate::{
    store::{
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
    },
    telemetry::Metrics,
};

fn mail(document: &Document) -> Option<Mail> {
    serde_json::from_str(document.get_str("body").ok()?).ok()
}

fn body(mail: &Mail) -> Result<String, Fault> {
    serde_json::to_string(mail).map_err(|error| Fault::Data(error.to_string()))
}

/// Of a kind that this server knows.
fn known() -> Document {
    doc! { "kind": { "$in": Kind::names_of(|_| true) } }
}

/// A revision: an id that is used once, shortened.
fn drawn() -> i64 {
    let [_, _, _, _, rest @ ..] = mongodb::bson::oid::ObjectId::new().bytes();
    i64::from_be_bytes(rest)
}

fn attempts(document: &Document) -> u32 {
    u32::try_from(document.get_i64("attempts").unwrap_or(0)).unwrap_or(u32::MAX)
}

/// Has the link that a mail was to bring which nobody gets count as not sent: which one, and what becomes of it.
fn not_sent(mail: &Mail) -> Option<(Document, Document)> {
    let (member, TokenId(token)) = mail.link()?;
    let own = doc! { "member_id": member_oid(member), "token": binary(&token) };
    Some((own, doc! { "$set": { "sent": 0_i64, "asked": Vec::<String>::new() } }))
}

/// Writes a mail that is due now, in a transaction if there is one. One that takes the place of one that waits has its turn, so that whoever
/// else asks for it does not have it sent later.
pub(super) async fn write(
    db: &Db,
    mail: &Mail,
    room: Room,
    at: Timestamp,
    session: Option<&mut ClientSession>,
) -> Result<(), Fault> {
    let row = MailRow { mail: mail.clone(), due: at, until: at.after(mail.lifetime()), attempts: 0 };
    let mut document = document(&row, None)?;
    match room.share {
        Some(share) if room.part != Part::Members => {
            let former: Option<Document> =
                db.one("mail", doc! { "_id": mail.key() }, FindOneOptions::default()).await?;
            let former = former
                .and_then(|former| Some((former.get_str("share").ok()?.to_owned(), former.get_i64("turn").ok()?)));
            let turn = turn_of(db, Sequence::of(mail.kind(), room.part), share).await?;
            let (share, turn) = better(former, (share.to_string(), turn));
            document.extend(doc! { "share": share, "turn": turn });
        }
        share => document.extend(share.map(|share| ("share".to_owned(), share.to_string().into()))),
    }
    let collection = db.collection::<Document>("mail");
    let replace = collection.replace_one(doc! { "_id": mail.key() }, document).upsert(true);
    match session {
        Some(session) => replace.session(session).await?,
        None => replace.await?,
    };
    Ok(())
}

async fn add(db: &Db, metrics: &Metrics, mail: &Mail, at: Timestamp) -> Result<bool, Fault> {
    let room = Room::of(mail);
    if !make_room(db, metrics, (mail.kind(), &mail.key()), room).await? {
        return Ok(false);
    }
    write(db, mail, room, at, None).await.map(|()| true)
}

/// Writes what something that happens tells its member, in the transaction of that, whether there is room or not: a queue that a
/// stranger has filled must not hide it. A member has one of each kind, and so many of new devices.
/// Whoever calls this has written the member's document, so that two of one member meet.
pub(super) async fn tell(db: &Db, session: &mut ClientSession, notice: &Mail, at: Timestamp) -> Result<(), Fault> {
    if let Mail::NewDevice { member, .. } = notice {
        let mail = db.collection::<Document>("mail");
        let theirs = doc! { "member_id": member_oid(*member), "kind": notice.kind().as_str() };
        let limit = i64::try_from(NEW_DEVICES_MAX).unwrap_or(i64::MAX);
        let newest = mail.find(theirs).sort(doc! { "until": -1, "_id": -1 }).limit(limit);
        let mut newest = newest.session(&mut *session).await?;
        let (mut waiting, mut last) = (0, None);
        while let Some(found) = newest.next(&mut *session).await.transpose()? {
            waiting += 1;
            last = last.or(Some(found));
        }
        if waiting >= NEW_DEVICES_MAX {
            let last = last.as_ref().and_then(self::mail).and_then(Mail::and_more);
            return match last {
                Some(last) => write(db, &last, Room::MEMBERS, at, Some(session)).await,
                None => Ok(()),
            };
        }
    }
    write(db, notice, Room::MEMBERS, at, Some(session)).await
}

/// What a change of a member does to their links and their mail.
pub(super) async fn follow(
    db: &Db,
    session: &mut ClientSession,
    change: &Change,
    before: &MemberRecord,
    after: &MemberRecord,
    at: Timestamp,
) -> Result<(), Fault> {
    let member = after.profile.id;
    if after.is_erased {
        if outlives(before) {
            pin_notices(db, session, member, &before.profile.email, at).await?;
        }
        forget(db, session, member, &before.profile.email).await?;
        claims::forget(db, session, &before.profile.email).await?;
    } else {
        for purpose in ended_links(change, before, after) {
            end_all(db, session, member, *purpose).await?;
        }
    }
    if !after.is_erased && before.profile.email != after.profile.email {
        pin_notices(db, session, member, &before.profile.email, at).await?;
    }
    match notice_of(change, before, after, at) {
        Some(notice) => tell(db, session, &notice, at).await,
        None => Ok(()),
    }
}

/// Has the notices that wait for a member sent to the address that they were written for, though it is theirs no more. They are due at once: who
/// has one in hand does not finish with it any more.
async fn pin_notices(
    db: &Db,
    session: &mut ClientSession,
    member: MemberId,
    former: &str,
    at: Timestamp,
) -> Result<(), Fault> {
    let mails = db.collection::<Document>("mail");
    let mut found = mails.find(doc! { "member_id": member_oid(member) }).session(&mut *session).await?;
    let mut waiting = Vec::new();
    while let Some(found) = found.next(&mut *session).await.transpose()? {
        waiting.push(found);
    }
    for mut document in waiting {
        let Some(pinned) = mail(&document).and_then(|notice| notice.for_former(former)) else { continue };
        // What a document is found by cannot be changed.
        mails.delete_one(doc! { "_id": document.get("_id") }).session(&mut *session).await?;
        let key = pinned.key();
        document
            .extend(doc! { "_id": &key, "kind": pinned.kind().as_str(), "body": body(&pinned)?, "due": date(at), "revision": drawn() });
        mails.replace_one(doc! { "_id": key }, document).upsert(true).session(&mut *session).await?;
    }
    Ok(())
}

/// Removes the links of a member who is gone, and the mail to them and about their address; not what tells former addresses.
pub(super) async fn forget(db: &Db, session: &mut ClientSession, member: MemberId, email: &str) -> Result<(), Fault> {
    let own = doc! { "member_id": member_oid(member) };
    db.collection::<Document>("links").delete_many(own.clone()).session(&mut *session).await?;
    let mail = db.collection::<Document>("mail");
    let mut to_them = own;
    to_them.insert("kind", doc! { "$nin": TO_FORMER.to_vec() });
    mail.delete_many(to_them).session(&mut *session).await?;
    for key in keys_of_address(email) {
        // The zero is what comes after a slash.
        let about = doc! { "$gte": &key, "$lt": format!("{key}0") };
        mail.delete_many(doc! { "_id": about }).session(&mut *session).await?;
    }
    Ok(())
}

pub(super) fn record(document: &Document) -> Option<MailRow> {
    let at = |field| document.get_datetime(field).ok().map(|date| time(*date));
    Some(MailRow { mail: mail(document)?, due: at("due")?, until: at("until")?, attempts: attempts(document) })
}

/// A mail as it is stored, with its turn, if it is one that strangers have asked for. Without one it is sent before those that have one.
pub(super) fn document(row: &MailRow, turn: Option<i64>) -> Result<Document, Fault> {
    let MailRow { mail, due, until, attempts } = row;
    let mut document = doc! {
        "_id": mail.key(),
        "kind": mail.kind().as_str(),
        "body": body(mail)?,
        "due": date(*due),
        "until": date(*until),
        "attempts": i64::from(*attempts),
        "revision": drawn(),
    };
    document.extend(mail.member().map(|member| ("member_id".to_owned(), member_oid(member).into())));
    if let Some((turn, share)) = turn.zip(mail.asked()) {
        document.extend([("share".to_owned(), share.to_string().into()), ("turn".to_owned(), turn.into())]);
    }
    Ok(document)
}

async fn give_up(db: &Db, taken: TakenMail) -> Result<(), Fault> {
    let (own, never) = (db.clone(), CancellationToken::new());
    let done = transaction(db, &never, move |session| {
        let (db, taken) = (own.clone(), taken.clone());
        async move {
            let gone = db.collection::<Document>("mail").delete_one(still(&taken)).session(&mut *session).await?;
            let mail = taken.mail.as_ref().filter(|_| gone.deleted_count > 0);
            let Some((own, unsent)) = mail.and_then(not_sent) else { return Ok(()) };
            db.collection::<Document>("links").update_one(own, unsent).session(session).await?;
            Ok(())
        }
        .boxed()
    });
    done.await.map(drop)
}

async fn oldest(db: &Db) -> Result<Option<Timestamp>, Fault> {
    let mut firsts = Vec::new();
    for lifetime in [LINK_LIFETIME, NOTICE_LIFETIME] {
        let names = Kind::names_of(|kind| kind.lifetime() == lifetime);
        let first = FindOneOptions::builder().sort(doc! { "until": 1 }).projection(doc! { "until": 1 }).build();
        let first: Option<Document> = db.one("mail", doc! { "kind": { "$in": names } }, first).await?;
        let until = first.and_then(|first| first.get_datetime("until").ok().map(|until| time(*until)));
        firsts.push((lifetime, until));
    }
    Ok(Kind::oldest(firsts))
}

/// The same mail, unless another one has taken its place since it was taken.
fn still(taken: &TakenMail) -> Document {
    doc! { "_id": &taken.key, "revision": taken.revision }
}

#[async_trait]
impl MailStore for Mongo {
    async fn add(&self, by: Caller, mail: Mail, at: Timestamp) -> Result<(), StoreError> {
        let added = self.write(by, async move |core, db| add(&db, &core.metrics, &mail, at).await).await?;
        if added { Ok(()) } else { Err(StoreError::Overloaded) }
    }

    async fn issue(&self, by: Caller, link: NewLink) -> Result<bool, StoreError> {
        let issued = self.write(by, async move |core, db| links::issue(&db, &core.metrics, by, link).await).await?;
        issued.ok_or(StoreError::Overloaded)
    }

    async fn issue_change(&self, change: NewChange) -> Result<Asked, StoreError> {
        let by = Caller::Member(change.link.member);
        let issued =
            self.write(by, async move |core, db| email_change::issue(&db, &core.metrics, change).await).await?;
        issued.ok_or(StoreError::Overloaded)
    }

    async fn asked_changes(&self, member: MemberId) -> Result<Vec<AskedChange>, StoreError> {
        self.read(Turn::light(member), async move |_, db| email_change::asked(&db, member).await).await
    }

    async fn hand_out(&self, link: LinkRow, entry: AuditRecord) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| links::hand_out(&db, link, entry).await).await
    }

    async fn link(
        &self,
        by: Caller,
        hash: LinkHash,
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Option<GoodLink>, StoreError> {
        self.read(Turn::of(by), async move |_, db| links::link(&db, hash, purpose, at).await).await
    }

    async fn take(
        &self,
        lane: Lane,
        first: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<TakenMail>, StoreError> {
        self.write(Caller::System, async move |_, db| lanes::take(&db, (lane, first), now, until).await).await
    }

    async fn next(&self, lane: Lane) -> Result<Option<Timestamp>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| lanes::next(&db, lane).await).await
    }

    async fn finish(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            db.collection::<Document>("mail").delete_one(still(&taken)).await?;
            Ok(())
        })
        .await
    }

    async fn give_up(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| give_up(&db, taken).await).await
    }

    async fn postpone(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            let later = doc! { "$set": { "due": date(due), "attempts": i64::from(taken.attempts) } };
            db.collection::<Document>("mail").update_one(still(&taken), later).await?;
            Ok(())
        })
        .await
    }

    async fn set_aside(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            let Some(turn) = turn_aside(&db, &taken).await? else { return Ok(()) };
            let later = doc! { "$set": { "due": date(due), "attempts": i64::from(taken.attempts), "turn": turn } };
            db.collection::<Document>("mail").update_one(still(&taken), later).await?;
            Ok(())
        })
        .await
    }

    async fn hasten(&self, after: Timestamp, untaken: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        // Of all kinds, so that the index has them; two commands, each along it.
        let names = Kind::names_of(|_| true);
        let late = doc! { "kind": { "$in": &names }, "due": { "$gt": date(after) } };
        let untaken = doc! { "kind": { "$in": names }, "due": { "$gt": date(untaken) }, "attempts": 0_i64 };
        let wanted = [late, untaken];
        let look = wanted.clone();
        let is_late = self.read(Turn::SYSTEM, async move |_, db| {
            for wanted in look {
                let only = FindOneOptions::builder().projection(doc! { "_id": 1 }).build();
                if db.one::<Document>("mail", wanted, only).await?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        if !is_late.await? {
            return Ok(0);
        }
        self.write(Caller::System, async move |_, db| {
            let (due, mut hastened) = (doc! { "$set": { "due": date(now) } }, 0);
            for wanted in wanted {
                hastened += db.collection::<Document>("mail").update_many(wanted, due.clone()).await?.modified_count;
            }
            Ok(hastened)
        })
        .await
    }

    async fn waiting(&self) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| {
            Ok(db.collection::<Document>("mail").estimated_document_count().max_time(db.max_time).await?)
        })
        .await
    }

    async fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| oldest(&db).await).await
    }

    async fn expire(&self, now: Timestamp, which: Expired) -> Result<u64, StoreError> {
        self.write(Caller::System, async move |_, db| {
            let mut over = doc! { "until": { "$lte": date(now) } };
            if which == Expired::Unknown {
                over.insert("$nor", vec![known()]);
            }
            Ok(db.collection::<Document>("mail").delete_many(over).await?.deleted_count)
        })
        .await
    }

    async fn purge_links(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(Caller::System, async move |_, db| {
            let old = doc! {
                "made_at": { "$lte": date(forgotten_at(now)) },
                "expires_at": { "$lte": date(now) },
                "is_claim": { "$ne": true },
            };
            Ok(db.collection::<Document>("links").delete_many(old).await?.deleted_count)
        })
        .await
    }
}
