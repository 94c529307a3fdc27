//! Whom one could recommend to a member. Every step looks at a bounded number of documents, through an index.

use std::collections::{BTreeSet, HashMap, HashSet};

use mongodb::{
    bson::{Document, doc, oid::ObjectId},
    options::FindOptions,
};
use protocol::MemberId;

use super::{
    db::Db,
    document::{MemberDoc, member_oid},
    fault::Fault,
};
use crate::store::recommendations::{Candidate, PARTNERS, PARTNERS_OF_PARTNERS, Wanted};

/// For each candidate that is wanted, so many documents are looked at, excluded ones among them.
const DOCUMENTS_FOR_EACH: usize = 2;

/// Those who were found, in the order in which they were found.
struct Found {
    excluded: HashSet<ObjectId>,
    contacts: HashMap<ObjectId, u32>,
    candidates: Vec<Candidate>,
    limit: usize,
}

pub(super) async fn candidates(
    db: &Db,
    member: MemberId,
    wanted: &Wanted,
    limit: usize,
) -> Result<Vec<Candidate>, Fault> {
    let own = member_oid(member);
    if super::members::by_id(db, member).await?.is_none() {
        return Ok(Vec::new());
    }
    let partners = partners(db, own, None).await?;
    let contacts = contacts(db, own, partners.iter().take(PARTNERS)).await?;
    let mut excluded: HashSet<ObjectId> = decided(db, own).await?.into_iter().collect();
    excluded.extend(partners);
    excluded.insert(own);
    let mut found = Found { excluded, contacts, candidates: Vec::new(), limit };
    let (half, size) = (limit.div_ceil(2), limit.saturating_mul(DOCUMENTS_FOR_EACH));
    for (field, words) in [("company_words", &wanted.company), ("position_words", &wanted.position)] {
        let mut room = half;
        for filter in by_words(field, words) {
            room -= found.add(newest(db, filter, size).await?, room)?;
        }
    }
    let mut acquainted: Vec<(u32, ObjectId)> = found.contacts.iter().map(|(id, count)| (*count, *id)).collect();
    acquainted.sort_unstable_by(|a, b| b.cmp(a));
    acquainted.truncate(size);
    let of_contacts = super::document::among(acquainted.iter().map(|(_, id)| *id));
    let of_contacts: Vec<MemberDoc> = db.all("members", of_contacts, FindOptions::default()).await?;
    let mut of_contacts: HashMap<ObjectId, MemberDoc> =
        of_contacts.into_iter().filter(|each| each.is_active).map(|each| (each.id, each)).collect();
    let in_order = acquainted.iter().filter_map(|(_, id)| of_contacts.remove(id)).collect();
    found.add(in_order, half)?;
    if let Some(tier) = wanted.tier {
        found.add(newest(db, doc! { "tier": tier.as_str(), "is_active": true }, size).await?, half)?;
    }
    found.add(newest(db, doc! { "is_active": true }, size).await?, limit)?;
    Ok(found.candidates)
}

/// What is looked for in words: all of them, then any of them.
fn by_words(field: &str, words: &[String]) -> Vec<Document> {
    match words {
        [] => Vec::new(),
        [word] => vec![doc! { field: word }],
        words => vec![doc! { field: { "$all": words } }, doc! { field: { "$in": words } }],
    }
}

async fn newest(db: &Db, filter: Document, size: usize) -> Result<Vec<MemberDoc>, Fault> {
    if size == 0 {
        return Ok(Vec::new());
    }
    let limit = i64::try_from(size).unwrap_or(i64::MAX);
    db.all("members", filter, FindOptions::builder().sort(doc! { "_id": -1 }).limit(limit).build()).await
}

impl Found {
    /// Adds those that are new, up to `room`; returns how many.
    fn add(&mut self, members: Vec<MemberDoc>, room: usize) -> Result<usize, Fault> {
        let room = room.min(self.limit - self.candidates.len());
        let mut added = 0;
        for member in members {
            if added < room && self.excluded.insert(member.id) {
                let contacts_in_common = self.contacts.get(&member.id).copied().unwrap_or_default();
                self.candidates.push(Candidate { record: member.into_record()?, contacts_in_common });
                added += 1;
            }
        }
        Ok(added)
    }
}

/// Who a member talks to, the newest conversation first.
async fn partners(db: &Db, member: ObjectId, limit: Option<usize>) -> Result<Vec<ObjectId>, Fault> {
    let options = FindOptions::builder().projection(doc! { "participants.member_id": 1 }).sort(doc! { "changed": -1 });
    let options = options.limit(limit.and_then(|limit| i64::try_from(limit).ok())).build();
    let found: Vec<Document> = db.all("conversations", doc! { "participants.member_id": member }, options).await?;
    let others = found.iter().flat_map(|conversation| {
        let participants = conversation.get_array("participants").map(Vec::as_slice).unwrap_or_default();
        participants.iter().filter_map(|each| each.as_document()?.get_object_id("member_id").ok())
    });
    Ok(others.filter(|other| *other != member).collect())
}

/// Those whose recommendation to a member was decided.
async fn decided(db: &Db, member: ObjectId) -> Result<Vec<ObjectId>, Fault> {
    let fields = FindOptions::builder().projection(doc! { "subject_id": 1 }).build();
    let filter = doc! { "user_id": member, "is_decided": true };
    let found: Vec<Document> = db.all("ai_recommendations", filter, fields).await?;
    Ok(found.iter().filter_map(|found| found.get_object_id("subject_id").ok()).collect())
}

/// Who talks to the partners of a member, and to how many of them.
async fn contacts(
    db: &Db,
    own: ObjectId,
    of: impl Iterator<Item = &ObjectId>,
) -> Result<HashMap<ObjectId, u32>, Fault> {
    let mut counts = HashMap::new();
    for partner in of {
        let theirs: BTreeSet<ObjectId> =
            partners(db, *partner, Some(PARTNERS_OF_PARTNERS)).await?.into_iter().collect();
        for other in theirs {
            if other != own {
                *counts.entry(other).or_default() += 1;
            }
        }
    }
    Ok(counts)
}
