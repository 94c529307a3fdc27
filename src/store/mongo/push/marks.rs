//! What devices have acknowledged, and members read.

use std::collections::{BTreeMap, HashMap, HashSet};

use mongodb::{
    bson::{Document, doc, oid::ObjectId},
    options::FindOptions,
};
use protocol::{ConversationId, DeviceId, MemberId};

use super::{
    super::{
        db::Db,
        document::{ConversationDoc, among, bytes_of, conversation_oid, member_oid, signed, unsigned},
        fault::Fault,
    },
    Command, LOOKED_UP, id_of, owner, parts_of, registered, run,
};
use crate::store::push::{BULK_MAX, DeviceKey, DeviceMark, Progress};

/// A mark as a document.
pub(in crate::store::mongo) fn document(mark: &DeviceMark) -> Document {
    let id = id_of(DeviceKey::of(mark.member, &mark.device), *mark.conversation.as_bytes());
    doc! { "_id": id, "seq": signed(mark.seq) }
}

pub(super) fn seq(document: &Document) -> u64 {
    document.get_i64("seq").map_or(0, unsigned)
}

pub(super) async fn acknowledge(db: &Db, marks: Vec<DeviceMark>) -> Result<(), Fault> {
    let mut newest = BTreeMap::new();
    for DeviceMark { member, device, conversation, seq } in marks {
        let known = newest.entry((DeviceKey::of(member, &device), conversation)).or_insert(seq);
        *known = seq.max(*known);
    }
    let there = registered(db, newest.keys().map(|(device, _)| *device)).await?;
    let of_there = newest.into_iter().filter(|((device, _), _)| there.contains(device));
    let mut statements: Vec<Document> = of_there
        .map(|((device, conversation), seq)| {
            let own = doc! { "_id": id_of(device, *conversation.as_bytes()) };
            doc! { "q": own, "u": { "$max": { "seq": signed(seq) } }, "upsert": true }
        })
        .collect();
    while !statements.is_empty() {
        let rest = statements.split_off(statements.len().min(BULK_MAX));
        run(db, Command::Update, "push_marks", std::mem::replace(&mut statements, rest)).await?;
    }
    Ok(())
}

/// The devices of members.
async fn devices_of(db: &Db, members: Vec<ObjectId>) -> Result<HashMap<MemberId, Vec<(DeviceKey, DeviceId)>>, Fault> {
    let fields = FindOptions::builder().projection(doc! { "member_id": 1, "device": 1 }).build();
    let found: Vec<Document> = db.all("push_devices", doc! { "member_id": { "$in": members } }, fields).await?;
    let mut devices: HashMap<MemberId, Vec<_>> = HashMap::new();
    for device in &found {
        if let Some(((member, name), key)) = owner(device).zip(bytes_of(device, "_id")) {
            devices.entry(member).or_default().push((DeviceKey(key), name));
        }
    }
    Ok(devices)
}

pub(super) async fn progress(db: &Db, of: Vec<(MemberId, ConversationId)>) -> Result<Vec<Progress>, Fault> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let members: HashSet<MemberId> = of.iter().map(|(member, _)| *member).collect();
    let devices = devices_of(db, members.into_iter().map(member_oid).collect()).await?;
    let ids: HashSet<ConversationId> = of.iter().map(|(_, conversation)| *conversation).collect();
    let ids = among(ids.into_iter().map(conversation_oid));
    let conversations: Vec<ConversationDoc> = db.all("conversations", ids, FindOptions::default()).await?;
    let conversations: HashMap<ObjectId, ConversationDoc> =
        conversations.into_iter().map(|conversation| (conversation.id, conversation)).collect();
    let of_member = |member: &MemberId| devices.get(member).map(Vec::as_slice).unwrap_or_default();
    let wanted: Vec<_> = of
        .iter()
        .flat_map(|(member, conversation)| {
            of_member(member).iter().map(|(device, _)| id_of(*device, *conversation.as_bytes()))
        })
        .collect();
    let mut marks = HashMap::new();
    for some in wanted.chunks(LOOKED_UP) {
        let found: Vec<Document> =
            db.all("push_marks", doc! { "_id": { "$in": some } }, FindOptions::default()).await?;
        marks.extend(found.iter().filter_map(|mark| Some((parts_of(mark)?, seq(mark)))));
    }
    let told = of.iter().map(|(member, conversation)| {
        let participants = conversations.get(&conversation_oid(*conversation)).map(|found| found.participants.iter());
        let own = participants.into_iter().flatten().find(|each| each.member_id == member_oid(*member));
        let come = |(device, name): &(DeviceKey, DeviceId)| {
            marks.get(&(*device, *conversation.as_bytes())).map(|seq| (name.clone(), *seq))
        };
        Progress {
            read: own.map_or(0, |own| unsigned(own.read)),
            devices: of_member(member).iter().filter_map(come).collect(),
        }
    });
    Ok(told.collect())
}
