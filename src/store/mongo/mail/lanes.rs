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
use crate::store::mail::{FIRST_TURN, Kind, Lane, TakenMail};

/// Where a lane has its mails, and in which order; the first place that has one goes first.
pub(super) fn places(lane: Lane) -> Vec<(Document, Document)> {
    let (of_strangers, of_others) = (
        Kind::names_of(|kind| kind.is_of_strangers() && kind != Kind::ForgotPassword),
        Kind::names_of(|kind| !kind.is_of_strangers()),
    );
    let in_turn = || doc! { "turn": 1, "due": 1 };
    match lane {
        Lane::Members => {
            let mut told = known();
            told.insert("turn", Bson::Null);
            vec![
                (told, in_turn()),
                (doc! { "kind": { "$in": of_others }, "turn": FIRST_TURN }, in_turn()),
                (doc! { "kind": Kind::ForgotPassword.as_str(), "turn": { "$gte": 0_i64 } }, in_turn()),
            ]
        }
        Lane::Strangers => vec![
            (doc! { "kind": { "$in": of_others }, "turn": { "$gt": FIRST_TURN } }, in_turn()),
            (doc! { "kind": { "$in": of_strangers }, "turn": { "$gte": 0_i64 } }, in_turn()),
        ],
        Lane::MembersAside | Lane::StrangersAside => {
            let mut aside = known();
            aside.insert("turn", doc! { "$in": lane.turns_aside().to_vec() });
            vec![(aside, doc! { "due": 1 })]
        }
    }
}

pub(super) async fn take(db: &Db, lane: Lane, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, Fault> {
    for (mut due, order) in places(lane) {
        due.insert("due", doc! { "$lte": date(now) });
        if let Some(taken) = take_first(db, due, order, (now, until)).await? {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

pub(super) async fn next(db: &Db, lane: Lane) -> Result<Option<Timestamp>, Fault> {
    let mut next = None;
    for (place, _) in places(lane) {
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
    order: Document,
    (now, until): (Timestamp, Timestamp),
) -> Result<Option<TakenMail>, Fault> {
    let take = doc! { "$set": { "due": date(until) }, "$inc": { "attempts": 1_i64 } };
    let taken = db
        .collection::<Document>("mail")
        .find_one_and_update(due, take)
        .sort(order)
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
