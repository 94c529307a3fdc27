//! For which mails there is room, and whose turn it is.

use mongodb::{
    bson::{Bson, Document, doc},
    options::FindOneOptions,
};

use super::{
    super::{db::Db, fault::Fault},
    known,
    lanes::is_aside,
    not_sent, still,
};
use crate::{
    store::mail::{
        Aside, AskedFrom, DISPLACED, Kind, MADE, MEMBERS_MAX, Part, Room, SHARE_MAX, STRANGERS_MAX, Sequence, TakenMail,
    },
    telemetry::Metrics,
};

/// What strangers have written, with a turn from this one on.
pub(super) fn of_strangers(turn: i64) -> Document {
    doc! { "kind": { "$in": Kind::names_of(Kind::is_of_strangers) }, "turn": { "$gte": turn } }
}

/// Whether there is room for a further mail of a kind, after another one has given way where that is what the room is for. Several nodes that
/// ask at the same moment may go a little beyond it.
pub(in crate::store::mongo) async fn make_room(
    db: &Db,
    metrics: &Metrics,
    (kind, key): (Kind, &str),
    Room { part, share }: Room,
) -> Result<bool, Fault> {
    let mail = db.collection::<Document>("mail");
    let never_full = matches!(part, Part::Made | Part::MadeUnshown);
    // All together are counted without looking at them.
    let share = share.filter(|_| part != Part::Members);
    let most = if share.is_some() { STRANGERS_MAX } else { MEMBERS_MAX };
    let has_place = never_full || {
        let all = mail.estimated_document_count().max_time(db.max_time).await?;
        all < most || {
            let mut own = of_strangers(Aside::Strangers.first());
            if share.is_none() {
                own = known();
                own.insert("$or", vec![doc! { "turn": Bson::Null }, doc! { "turn": is_aside(Aside::Members) }]);
            }
            mail.count_documents(own).limit(most).max_time(db.max_time).await? < most
        }
    };
    let Some(share) = share.filter(|_| !never_full) else {
        return Ok(has_place || is_there(db, key).await?);
    };
    let own = doc! { "share": share.to_string(), "turn": { "$gte": Aside::MadeUnshown.first(), "$lt": MADE } };
    let has_share = mail.count_documents(own).limit(SHARE_MAX).max_time(db.max_time).await? < SHARE_MAX;
    if (has_place && has_share) || is_there(db, key).await? {
        return Ok(true);
    }
    if !has_share {
        return Ok(false);
    }
    let mut set_aside = of_strangers(0);
    set_aside.insert("turn", is_aside(Aside::Strangers));
    let last_due =
        FindOneOptions::builder().sort(doc! { "turn": -1, "due": -1 }).projection(doc! { "kind": 1 }).build();
    let set_aside: Option<Document> = db.one("mail", set_aside, last_due).await?;
    let last = match set_aside {
        Some(set_aside) => set_aside,
        None => {
            let Some(last) = last_of_strangers(db).await? else { return Ok(true) };
            if turn_of(db, Sequence::of(kind, part), share).await? >= last.get_i64("turn").unwrap_or(0) {
                return Ok(false);
            }
            last
        }
    };
    if let Some(gone) = mail.find_one_and_delete(doc! { "_id": last.get("_id") }).max_time(db.max_time).await? {
        if let Some((own, unsent)) = super::mail(&gone).as_ref().and_then(not_sent) {
            db.collection::<Document>("links").update_one(own, unsent).await?;
        }
        let kind = last.get_str("kind").ok().and_then(Kind::of);
        metrics.mail(kind.map_or("unknown", Kind::as_str), DISPLACED);
    }
    Ok(true)
}

/// What strangers have written that is sent last; of one turn rather what costs a mail.
async fn last_of_strangers(db: &Db) -> Result<Option<Document>, Fault> {
    let turn = |found: &Option<Document>| found.as_ref().and_then(|found| found.get_i64("turn").ok());
    let costs = |kind: Kind| kind.is_of_strangers() && kind != Kind::ForgotPassword;
    let mut of = doc! { "kind": { "$in": Kind::names_of(costs) }, "turn": { "$gte": 0_i64, "$lt": MADE } };
    let costly: Option<Document> = db.one("mail", of.clone(), by_turn(-1)).await?;
    of.insert("kind", Kind::ForgotPassword.as_str());
    let free: Option<Document> = db.one("mail", of, by_turn(-1)).await?;
    Ok(if turn(&free) > turn(&costly) { free } else { costly })
}

pub(super) async fn is_there(db: &Db, key: &str) -> Result<bool, Fault> {
    let found: Option<Document> = db.one("mail", doc! { "_id": key }, FindOneOptions::default()).await?;
    Ok(found.is_some())
}

pub(super) fn by_turn(order: i32) -> FindOneOptions {
    FindOneOptions::builder().sort(doc! { "turn": order }).projection(doc! { "turn": 1, "kind": 1 }).build()
}

/// The turn of a mail that is of a share. Several that are written at the same moment may have the same.
pub(super) async fn turn_of(db: &Db, sequence: Sequence, share: AskedFrom) -> Result<i64, Fault> {
    let turn_in = |found: Option<Document>| found.and_then(|found| found.get_i64("turn").ok());
    let (first, end) = sequence.turns();
    let all = doc! { "kind": { "$in": sequence.kinds() }, "turn": { "$gte": first, "$lt": end } };
    let mut own = all.clone();
    own.insert("share", share.to_string());
    let last = turn_in(db.one("mail", own, by_turn(-1)).await?);
    let next = turn_in(db.one("mail", all, by_turn(1)).await?);
    Ok(sequence.turn(last, next))
}

/// The turn of a mail that is set aside; nothing if it is not there any more.
pub(super) async fn turn_aside(db: &Db, taken: &TakenMail) -> Result<Option<i64>, Fault> {
    let found: Option<Document> = db.one("mail", still(taken), FindOneOptions::default()).await?;
    let Some(found) = found else { return Ok(None) };
    let turn = found.get_i64("turn").ok();
    let Some(aside) = Aside::of(taken.kind, turn) else { return Ok(turn) };
    let whose = ["share", "member_id"].into_iter().find_map(|field| Some((field, found.get(field)?.clone())));
    let Some((field, whose)) = whose else { return Ok(Some(aside.turn(0))) };
    let others = doc! { field: whose, "turn": is_aside(aside) };
    let others = db.collection::<Document>("mail").count_documents(others).max_time(db.max_time).await?;
    Ok(Some(aside.turn(others)))
}
