//! Links that change the address of their member.

use std::sync::Arc;

use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Document, doc},
    options::{FindOneOptions, FindOptions},
};
use protocol::{MemberId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    addresses,
    db::Db,
    document::{date, member_oid, time},
    fault::Fault,
    mail::{end_all, links_of, make_room, write, write_link},
    members::{self, transaction},
};
use crate::{
    store::{
        changes::Changed,
        mail::{Asked, AskedChange, CHANGES_TO_MAX, NewChange, Purpose, Room, forgotten_at},
        turns::Caller,
    },
    telemetry::Metrics,
};

/// Writes a link, its mail and the use of its code, or says why not. Nothing if the queue is full.
pub(super) async fn issue(db: &Db, metrics: &Arc<Metrics>, change: NewChange) -> Result<Option<Asked>, Fault> {
    let own = (db.clone(), Arc::clone(metrics));
    let never = CancellationToken::new();
    let issued = transaction(db, &never, move |session| {
        let ((db, metrics), change) = (own.clone(), change.clone());
        async move { issue_in(&db, &metrics, session, &change).await }.boxed()
    });
    Ok(issued.await?.flatten())
}

async fn issue_in(
    db: &Db,
    metrics: &Metrics,
    session: &mut ClientSession,
    change: &NewChange,
) -> Result<Option<Asked>, Fault> {
    let (member, at) = (change.link.member, change.link.at);
    // Two at the same moment must meet, and so must whatever ends links or sessions.
    members::meet(db, session, member).await?;
    let record = members::by_id_in(db, session, member).await?;
    if let Some(refused) = change.refused_by(record.as_ref()) {
        return Ok(Some(refused));
    }
    if let Some(overtaken) = members::overtaken(db, session, change.by, false, at).await? {
        return Ok(Some(Asked::Overtaken(overtaken)));
    }
    let theirs = links_of(db, session, member, at).await?;
    if let Some(until) = change.too_many_until(&theirs, full_since(db, change).await?) {
        return Ok(Some(Asked::TooMany(until)));
    }
    let mail = change.link.mail();
    // Who is signed in does not have to verify the address that they have.
    let room = Room::of_link(Caller::Member(member), false, change.link.asked);
    if !make_room(db, metrics, (mail.kind(), &mail.key()), room).await? {
        return Ok(None);
    }
    if let Some(code) = &change.code {
        match members::use_code(db, session, member, code, (change.by, at)).await? {
            Changed::Done { .. } => {}
            Changed::Overtaken(why) => return Ok(Some(Asked::Overtaken(why))),
            _ => return Ok(Some(Asked::CodeUsed)),
        }
    }
    end_all(db, session, member, Purpose::ChangeEmail).await?;
    if addresses::is_barred(db, session, change.email()).await? {
        write_link(db, session, &change.row_of_nobody()).await?;
    } else {
        write_link(db, session, &change.row()).await?;
        write(db, &mail, room, at, Some(session)).await?;
    }
    Ok(Some(Asked::Written))
}

/// When the first of the newest [`CHANGES_TO_MAX`] links to the new address was made, if there are so many that are not forgotten. Several that
/// are written at the same moment may go a little beyond that.
async fn full_since(db: &Db, change: &NewChange) -> Result<Option<Timestamp>, Fault> {
    let to_it = doc! { "email_key": change.email_key(), "made_at": { "$gt": date(forgotten_at(change.link.at)) } };
    let last = FindOneOptions::builder()
        .sort(doc! { "made_at": -1 })
        .skip(u64::from(CHANGES_TO_MAX - 1))
        .projection(doc! { "made_at": 1 })
        .build();
    let last: Option<Document> = db.one("links", to_it, last).await?;
    Ok(last.and_then(|last| last.get_datetime("made_at").ok().map(|made_at| time(*made_at))))
}

/// The addresses that a member has asked for and that are known still, the newest first.
pub(super) async fn asked(db: &Db, member: MemberId) -> Result<Vec<AskedChange>, Fault> {
    let theirs = doc! { "member_id": member_oid(member), "purpose": Purpose::ChangeEmail.as_str() };
    let fields = doc! { "email": 1, "made_at": 1 };
    let newest_first = FindOptions::builder().sort(doc! { "made_at": -1 }).projection(fields).build();
    let found: Vec<Document> = db.all("links", theirs, newest_first).await?;
    let asked = |link: Document| {
        let at = link.get_datetime("made_at").ok().map(|made_at| time(*made_at))?;
        Some(AskedChange { email: link.get_str("email").ok()?.to_owned(), at })
    };
    Ok(found.into_iter().filter_map(asked).collect())
}
