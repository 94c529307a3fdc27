//! Jobs: what follows from a change and must happen although the process may end before it has.
//!
//! A job is written in the transaction of the change that it follows from ([`of_change`]), so there is one exactly when that is
//! durable. A worker takes what is due, and whatever it takes is due again after a while unless it was finished: a job is done at
//! least once, and doing it twice must do no harm.

use async_trait::async_trait;
use protocol::{MemberId, PhotoName, Timestamp};
use serde::{Deserialize, Serialize};

use super::{StoreError, audit::AuditPlace, members::MemberRecord};

/// Something to be done. The form in which it is stored: a kind is never changed, only added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Job {
    /// Delete the file of a photo that its member has no more.
    DeletePhoto {
        /// The member.
        member: MemberId,
        /// The file.
        photo: PhotoName,
    },
    /// Delete the file of an upload, unless it has become the member's photo. Written before the file is.
    CheckUpload {
        /// The member.
        member: MemberId,
        /// The file.
        photo: PhotoName,
    },
    /// Remove the addresses of a member who has left from the audit log, a part at a time: the rest is another job.
    ForgetAddresses {
        /// The member.
        member: MemberId,
        /// Where the part before this one ended.
        after: AuditPlace,
    },
}

impl Job {
    /// Its kind, for logs and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::DeletePhoto { .. } => "delete_photo",
            Self::CheckUpload { .. } => "check_upload",
            Self::ForgetAddresses { .. } => "forget_addresses",
        }
    }

    /// Whether writing it again puts it off.
    #[must_use]
    pub(super) const fn is_put_off(&self) -> bool {
        matches!(self, Self::CheckUpload { .. })
    }

    /// All kinds.
    pub(super) const KINDS: [&str; 3] = ["delete_photo", "check_upload", "forget_addresses"];

    /// What it is stored under: writing the same job again is writing it once.
    #[must_use]
    pub fn key(&self) -> String {
        let kind = self.kind();
        match self {
            Self::DeletePhoto { member, photo } | Self::CheckUpload { member, photo } => {
                format!("{kind}/{member}/{photo}")
            }
            Self::ForgetAddresses { member, after: AuditPlace(after) } => format!("{kind}/{member}/{after}"),
        }
    }

    /// Whose photo it is about, and which one; nothing for a job about something else.
    #[must_use]
    pub const fn photo(&self) -> Option<(MemberId, PhotoName)> {
        match self {
            Self::DeletePhoto { member, photo } | Self::CheckUpload { member, photo } => Some((*member, *photo)),
            Self::ForgetAddresses { .. } => None,
        }
    }
}

/// What a change of a member does to the jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobChanges {
    /// To be done at once.
    pub added: Vec<Job>,
    /// No longer to be done.
    pub cancelled: Vec<Job>,
}

/// What has to be done after a change of a member, and what not any more. The same for every store.
#[must_use]
pub fn of_change(before: &MemberRecord, after: &MemberRecord) -> JobChanges {
    let member = after.profile.id;
    let (former, now) = (before.photo(), after.photo());
    let mut changes = JobChanges::default();
    if former != now {
        changes.added.extend(former.map(|photo| Job::DeletePhoto { member, photo }));
        let cancelled = now.map(|photo| [Job::DeletePhoto { member, photo }, Job::CheckUpload { member, photo }]);
        changes.cancelled.extend(cancelled.into_iter().flatten());
    }
    if after.is_erased && !before.is_erased {
        changes.added.push(Job::ForgetAddresses { member, after: AuditPlace(0) });
    }
    changes
}

/// A job that a worker has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenJob {
    /// What is to be done.
    pub job: Job,
    /// How often it was taken, this time included.
    pub attempts: u32,
    /// Another number each time that it is written, drawn by chance.
    pub revision: i64,
}

/// Jobs. What changes a member writes them together with the change ([`super::MemberStore::change`]).
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Writes a job that belongs to no change. One that waits already is due at the earlier of both times; a check of an upload at
    /// the later one, as a new upload begins.
    ///
    /// # Errors
    /// The store.
    async fn add(&self, job: Job, due: Timestamp) -> Result<(), StoreError>;

    /// Takes the job that has been due for longest at `now`. It is due again at `until`. One of a kind that this server does
    /// not know is left for one that does.
    ///
    /// # Errors
    /// The store.
    async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenJob>, StoreError>;

    /// A job is done. It stays if it was written again since it was taken.
    ///
    /// # Errors
    /// The store.
    async fn finish(&self, taken: TakenJob) -> Result<(), StoreError>;

    /// A job could not be done, and is due again at `due`, unless it was written again since it was taken.
    ///
    /// # Errors
    /// The store.
    async fn postpone(&self, taken: TakenJob, due: Timestamp) -> Result<(), StoreError>;

    /// Jobs that wait or are taken, and when each is due; at most `limit`, those that are due first.
    ///
    /// # Errors
    /// The store.
    async fn waiting(&self, limit: usize) -> Result<Vec<(Job, Timestamp)>, StoreError>;
}

#[cfg(test)]
mod tests {
    use protocol::{Timestamp, model::UserType};

    use super::*;
    use crate::store::members::NewMember;

    fn ana(photo: Option<PhotoName>) -> MemberRecord {
        let mut record = NewMember {
            id: MemberId::from_bytes([1; 12]),
            name: "Ana".to_owned(),
            email: "ana@example.com".to_owned(),
            password_hash: String::new(),
            user_type: UserType::Member,
            created_at: Timestamp::from_millis(0),
            language: None,
            must_verify: false,
        }
        .into_record();
        record.profile.profile_image_url = photo.map(|photo| format!("https://api.example.com{}", photo.path()));
        record
    }

    #[test]
    fn a_photo_that_is_replaced_is_deleted_and_the_new_one_is_not() {
        let (member, old, new) = (MemberId::from_bytes([1; 12]), [7; 32], [8; 32]);
        let (old, new) = (PhotoName::from_bytes(old), PhotoName::from_bytes(new));
        let delete = |photo| Job::DeletePhoto { member, photo };
        let check = |photo| Job::CheckUpload { member, photo };
        let of = |before, after| of_change(&ana(before), &ana(after));
        assert_eq!(of(Some(old), Some(old)), JobChanges::default());
        assert_eq!(of(None, None), JobChanges::default());
        assert_eq!(of(Some(old), None), JobChanges { added: vec![delete(old)], cancelled: vec![] });
        assert_eq!(of(None, Some(new)), JobChanges { added: vec![], cancelled: vec![delete(new), check(new)] });
        let replaced = JobChanges { added: vec![delete(old)], cancelled: vec![delete(new), check(new)] };
        assert_eq!(of(Some(old), Some(new)), replaced);
    }

    #[test]
    fn a_job_is_stored_as_it_ever_was() {
        let job = Job::DeletePhoto { member: MemberId::from_bytes([1; 12]), photo: PhotoName::from_bytes([0xab; 32]) };
        let (member, photo) = ("01".repeat(12), "ab".repeat(32));
        assert_eq!(job.key(), format!("delete_photo/{member}/{photo}.jpg"));
        let stored = format!(r#"{{"kind":"delete_photo","member":"{member}","photo":"{photo}.jpg"}}"#);
        assert_eq!(serde_json::to_string(&job).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Job>(&stored).unwrap(), job);
        let check: Job = serde_json::from_str(&stored.replace("delete_photo", "check_upload")).unwrap();
        assert_eq!((check.kind(), check.key() == job.key()), ("check_upload", false));
        let forget = Job::ForgetAddresses { member: MemberId::from_bytes([1; 12]), after: AuditPlace(7) };
        assert_eq!(forget.key(), format!("forget_addresses/{member}/7"));
        let stored = format!(r#"{{"kind":"forget_addresses","member":"{member}","after":7}}"#);
        assert_eq!(serde_json::to_string(&forget).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Job>(&stored).unwrap(), forget);
    }
}
