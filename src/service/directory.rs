//! Finding members and reading what they share.

use std::{net::IpAddr, sync::Arc};

use protocol::{
    ErrorCode, MemberId,
    limits::SEARCH_RESULTS_MAX,
    model::{Tier, UserType},
    rest::{Directory as Page, PageQuery, Profile, page_size},
};

use serde_json::json;

use super::{accounts::Authorized, audit::AuditTrail, pages, views};
use crate::{
    failure::Failure,
    store::{
        MemberStore,
        members::{Contact, DirectoryPosition, Filter, MemberRecord},
        turns::Caller,
    },
    text,
};

/// The directory.
pub struct Directory {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Writes to the audit log what only administrators see.
    pub audit: Arc<AuditTrail>,
}

/// What `who` sees of a member: everything of themselves, and everything of everybody as an administrator.
#[must_use]
pub fn seen_by(who: &Authorized, record: &MemberRecord) -> Profile {
    let everything = who.user_type == UserType::Admin || who.member == record.profile.id;
    if everything { views::whole(&record.profile) } else { views::shared(&record.profile) }
}

impl Directory {
    /// What a member shares, with its version. Those who were deactivated or have left are found too: there may be
    /// messages of theirs.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn profile(&self, who: &Authorized, from: IpAddr, id: MemberId) -> Result<(Profile, u64), Failure> {
        let is_admin = who.user_type == UserType::Admin;
        let record = self.members.by_id(Caller::Member(who.member), id).await?;
        // Who waits is for administrators; whose address is not verified is nobody's business yet.
        let is_seen = |record: &MemberRecord| !record.profile.must_verify && (!record.profile.is_pending || is_admin);
        let record = record.filter(is_seen);
        let record = record.ok_or(ErrorCode::MemberNotFound)?;
        let profile = seen_by(who, &record);
        self.audited(who, from, "profile", std::slice::from_ref(&record)).await?;
        Ok((profile, record.version))
    }

    /// A page of the active members, by name.
    ///
    /// # Errors
    /// A bad cursor, or the store.
    pub async fn list(
        &self,
        who: &Authorized,
        from: IpAddr,
        tier: Option<Tier>,
        page: &PageQuery,
    ) -> Result<Page, Failure> {
        let filter = Filter { tier, is_active: Some(true), ..Filter::default() };
        let (found, next) = page_of(&*self.members, Caller::Member(who.member), filter, page).await?;
        self.audited(who, from, "directory", &found).await?;
        Ok(Page { members: found.iter().map(|record| seen_by(who, record)).collect(), next })
    }

    /// A page of the active members who are found by a text, the best first.
    ///
    /// # Errors
    /// A bad cursor, or the store.
    pub async fn search(&self, who: &Authorized, from: IpAddr, q: &str, page: &PageQuery) -> Result<Page, Failure> {
        let limit = page_size(page.limit);
        let skip: usize = pages::decode(page.cursor.as_deref())?.unwrap_or(0);
        let mut words = text::words(q);
        words.dedup();
        let mut found = self.members.search(who.member, words.clone(), SEARCH_RESULTS_MAX).await?;
        found.sort_by_cached_key(|record| (rank(record, &words), record.name_key(), record.profile.id));
        let mut found: Vec<_> = found.into_iter().skip(skip).take(limit.saturating_add(1)).collect();
        let next = pages::cut(&mut found, limit, |_| skip.saturating_add(limit));
        self.audited(who, from, "search", &found).await?;
        Ok(Page { members: found.iter().map(|record| seen_by(who, record)).collect(), next })
    }

    /// Writes to the audit log that an administrator sees more of members than others would, if they do.
    ///
    /// # Errors
    /// The store: what is not in the audit log is not given.
    async fn audited(
        &self,
        who: &Authorized,
        from: IpAddr,
        what: &'static str,
        found: &[MemberRecord],
    ) -> Result<(), Failure> {
        let others = found.iter().filter(|record| record.profile.id != who.member);
        let mut more =
            others.filter(|record| record.profile.is_pending || seen_by(who, record) != views::shared(&record.profile));
        let Some(first) = more.next() else { return Ok(()) };
        // An entry about one member is found by them.
        let of = (found.len() == 1).then_some(first.profile.id);
        let by = who.asks_from(from);
        self.audit.read(by, of, json!({ "read": what, "count": 1 + more.count() })).await?;
        Ok(())
    }
}

/// A page of members with the place of the next one.
pub(super) async fn page_of(
    members: &dyn MemberStore,
    by: Caller,
    filter: Filter,
    page: &PageQuery,
) -> Result<(Vec<MemberRecord>, Option<String>), Failure> {
    let limit = page_size(page.limit);
    let after: Option<(String, MemberId)> = pages::decode(page.cursor.as_deref())?;
    let after = after.map(|(name_key, id)| DirectoryPosition { name_key, id });
    let mut found = members.list(by, filter, after, limit + 1).await?;
    let next = pages::cut(&mut found, limit, |last| (last.name_key(), last.profile.id));
    Ok((found, next))
}

/// How well a member matches, the smaller the better: the sum over the words of where each is found.
fn rank(record: &MemberRecord, words: &[String]) -> u32 {
    let Contact { company, position, .. } = record.profile.shared_contact();
    let fields = [
        (0, text::words(&record.profile.name)),
        (2, text::words(&company.unwrap_or_default())),
        (4, text::words(&position.unwrap_or_default())),
    ];
    let of_word = |word: &String| {
        let places = fields.iter().flat_map(|(weight, found)| found.iter().map(move |found| (*weight, found)));
        let matches = places.filter(|(_, found)| found.starts_with(word.as_str()));
        // The whole word is better than its beginning.
        matches.map(|(weight, found)| weight + u32::from(found.len() > word.len())).min().unwrap_or(9)
    };
    words.iter().map(of_word).sum()
}
