//! What is next in a lane.

use mongodb::{
    bson::{Bson, Document, doc},
    options::{FindOneOptions, ReturnDocument},
};
use protocol::Timestamp;

use super::{
    super::{
        db::Db,
        document::{date, time},
        fault::Fault,
    },
    attempts, known, record, still,
};
use crate::store::mail::{Aside, Kind, Lane, MADE, TakenMail};

/// Where a lane has its mails; what is in one place goes by its turn.
pub(super) fn places(lane: Lane) -> Vec<Document> {
    let kinds = |which: fn(Kind) -> bool| doc! { "$in": Kind::names_of(which) };
    match lane {
        Lane::Lookups => vec![doc! { "kind": Kind::ForgotPassword.as_str(), "turn": { "$gte": 0_i64 } }],
        // What many accounts of one person cause keeps nothing else back: it has places of its own.
        Lane::Members => vec![
            doc! { "kind": kinds(|kind| !matches!(kind, Kind::NewDevice | Kind::VerifyEmail)), "turn": Bson::Null },
            doc! { "kind": kinds(|kind| kind != Kind::ForgotPassword), "turn": { "$gte": MADE } },
            doc! { "kind": Kind::NewDevice.as_str(), "turn": Bson::Null },
            doc! { "kind": Kind::VerifyEmail.as_str(), "turn": Bson::Null },
        ],
        Lane::Strangers => {
            vec![doc! { "kind": kinds(|kind| kind != Kind::ForgotPassword), "turn": { "$gte": 0_i64, "$lt": MADE } }]
        }
        Lane::MembersAside | Lane::StrangersAside => {
            let place = |aside: &Aside| {
                let mut place = known();
                place.insert("turn", is_aside(*aside));
                place
            };
            lane.asides().iter().map(place).collect()
        }
    }
}

/// The turns of what was set aside in a certain way.
pub(super) fn is_aside(aside: Aside) -> Document {
    doc! { "$gte": aside.first(), "$lt": aside.end() }
}

pub(super) async fn take(
    db: &Db,
    (lane, first): (Lane, usize),
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<TakenMail>, Fault> {
    let mut places = places(lane);
    let count = places.len().max(1);
    places.rotate_left(first % count);
    for mut due in places {
        due.insert("due", doc! { "$lte": date(now) });
        if let Some(taken) = take_first(db, due, (now, until)).await? {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

pub(super) async fn next(db: &Db, lane: Lane) -> Result<Option<Timestamp>, Fault> {
    let mut next = None;
    for place in places(lane) {
        let first = FindOneOptions::builder().sort(doc! { "due": 1 }).projection(doc! { "due": 1 }).build();
        let first: Option<Document> = db.one("mail", place, first).await?;
        let due = first.and_then(|first| first.get_datetime("due").ok().map(|due| time(*due)));
        next = due.into_iter().chain(next).min();
    }
    Ok(next)
}

/// Takes the first of those that are due. The index has it for each kind, so that no others are looked at.
pub(super) async fn take_first(
    db: &Db,
    due: Document,
    (now, until): (Timestamp, Timestamp),
) -> Result<Option<TakenMail>, Fault> {
    let take = doc! { "$set": { "due": date(until) }, "$inc": { "attempts": 1_i64 } };
    let taken = db
        .collection::<Document>("mail")
        .find_one_and_update(due, take)
        .sort(doc! { "turn": 1, "due": 1 })
        .return_document(ReturnDocument::After)
        .max_time(db.max_time)
        .await?;
    let Some(taken) = taken else { return Ok(None) };
    let lacks = |field: &str| Fault::Data(format!("a document of mail lacks {field}"));
    let kind = taken.get_str("kind").ok().and_then(Kind::of).ok_or_else(|| lacks("its kind"))?;
    let key = taken.get_str("_id").map_err(|_| lacks("its key"))?.to_owned();
    let revision = taken.get_i64("revision").map_err(|_| lacks("its revision"))?;
    // What cannot be read must not stay the first that is due: it is taken like others.
    let row = record(&taken);
    let until = row.as_ref().map_or(now, |row| row.until);
    let mut taken = TakenMail { key, kind, mail: row.map(|row| row.mail), attempts: attempts(&taken), until, revision };
    if let Some(until) = taken.longer_until(now) {
        let prolong = doc! { "$set": { "until": date(until) } };
        db.collection::<Document>("mail").update_one(still(&taken), prolong).await?;
        taken.until = until;
    }
    Ok(Some(taken))
}
