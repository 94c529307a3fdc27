//! Documents to types and back.
//!
//! Field names are those of the club's database: whatever reads it today goes on reading it.

use mongodb::bson::{Binary, DateTime, Document, doc, oid::ObjectId, spec::BinarySubtype};
use protocol::{
    ClientMessageId, ConversationId, InvitationId, MemberId, MessageId, Timestamp,
    model::{ConversationKind, ConversationSettings, Notify, Tier, UserType},
    rest::Language,
};
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::{
    store::{
        conversations::{Membership, StoredSettings},
        entries::{EntryBody, Format, StoredEntry},
        members::{Contact, Invited, MemberRecord, StoredProfile, StoredVisibility, Suspension},
        rules,
        second_factor::StoredFactor,
    },
    text,
};

/// A document of `members`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct MemberDoc {
    #[serde(rename = "_id")]
    pub(super) id: ObjectId,
    pub(super) name: String,
    /// The name without accents and case: the order of the directory.
    #[serde(default)]
    name_key: String,
    /// What a search finds: the folded words of what the member shares; none of a member who is not active.
    #[serde(default)]
    words: Vec<String>,
    /// The words of the company that the member shares, and of the position: whom one could recommend.
    #[serde(default)]
    company_words: Vec<String>,
    #[serde(default)]
    position_words: Vec<String>,
    email: String,
    /// The address in lower case: what makes it unique.
    email_key: String,
    password_hash: String,
    tier: String,
    #[serde(default)]
    contact_info: ContactDoc,
    #[serde(default)]
    visibility: StoredVisibility,
    #[serde(default)]
    profile_image_url: Option<String>,
    user_type: String,
    created_at: DateTime,
    updated_at: DateTime,
    #[serde(default)]
    last_login: Option<DateTime>,
    #[serde(default)]
    pub(super) last_seen: Option<DateTime>,
    pub(super) is_active: bool,
    #[serde(default = "first_version")]
    version: i64,
    #[serde(default)]
    is_erased: bool,
    /// Not active yet, and unknown to everybody but administrators, as with `must_verify`.
    #[serde(default)]
    is_pending: bool,
    #[serde(default)]
    suspended_until: Option<DateTime>,
    #[serde(default)]
    suspension_reason: Option<String>,
    #[serde(default)]
    invited_by: Option<ObjectId>,
    #[serde(default)]
    invitation_id: Option<ObjectId>,
    /// The language of mails; not there: that of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    language: Option<Language>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email_verified_at: Option<DateTime>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    must_verify: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second_factor: Option<FactorDoc>,
    /// How often the password was replaced, and the second factor turned on or reset.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    credentials: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "made for serde")]
const fn is_none_yet(count: &i64) -> bool {
    *count == 0
}

/// The second factor of a member.
#[derive(Clone, Serialize, Deserialize)]
struct FactorDoc {
    /// The secret of the authenticator app, sealed.
    secret: Binary,
    enabled_at: DateTime,
    /// The time step of the code that was used last.
    last_step: i64,
    /// The SHA-256 hashes of the recovery codes that are not used yet.
    recovery_codes: Vec<Binary>,
}

impl FactorDoc {
    fn of(factor: &StoredFactor) -> Self {
        Self {
            secret: binary(&factor.secret),
            enabled_at: date(factor.enabled_at),
            last_step: signed(factor.last_step),
            recovery_codes: factor.recovery_codes.iter().map(|code| binary(code)).collect(),
        }
    }

    fn into_factor(self) -> StoredFactor {
        StoredFactor {
            secret: self.secret.bytes,
            enabled_at: time(self.enabled_at),
            last_step: unsigned(self.last_step),
            recovery_codes: self
                .recovery_codes
                .iter()
                .filter_map(|code| code.bytes.as_slice().try_into().ok())
                .collect(),
        }
    }
}

/// Of a document of `members`, what a watcher needs.
#[derive(Deserialize)]
pub(super) struct SeenDoc {
    #[serde(rename = "_id")]
    pub(super) id: ObjectId,
    #[serde(default)]
    pub(super) last_seen: Option<DateTime>,
    pub(super) is_active: bool,
    #[serde(default)]
    pub(super) visibility: StoredVisibility,
    #[serde(default = "first_version")]
    pub(super) version: i64,
}

const fn first_version() -> i64 {
    1
}

/// The words by which a member is found: all of them, those of the company, those of the position. Only what is shared.
fn words_of(record: &MemberRecord) -> (Vec<String>, Vec<String>, Vec<String>) {
    if !record.profile.is_active {
        return <_>::default();
    }
    let Contact { company, position, .. } = record.profile.shared_contact();
    let words = |shared: Option<String>| shared.map(|shared| text::words(&shared)).unwrap_or_default();
    let (company, position) = (words(company), words(position));
    let mut all = [text::words(&record.profile.name), company.clone(), position.clone()].concat();
    all.sort_unstable();
    all.dedup();
    (all, company, position)
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct ContactDoc {
    #[serde(default)]
    phone: Option<String>,
    #[serde(default)]
    company: Option<String>,
    #[serde(default)]
    position: Option<String>,
}

pub(super) const TIERS: &[Tier] = &[Tier::Disruption, Tier::Infinity, Tier::Socio];
const USER_TYPES: &[UserType] = &[UserType::Member, UserType::Admin];

impl MemberDoc {
    /// The document of a member.
    pub(super) fn of(record: MemberRecord, last_seen: Option<Timestamp>) -> Self {
        let (name_key, (words, company_words, position_words)) = (record.name_key(), words_of(&record));
        let email_key = record.email_key();
        let MemberRecord { profile, password_hash, version, is_erased, second_factor, credentials } = record;
        let Contact { phone, company, position } = profile.contact;
        let (suspended_until, suspension_reason) =
            profile.suspension.map_or((None, None), |Suspension { until, reason }| (Some(until), reason));
        Self {
            id: member_oid(profile.id),
            email_key,
            name: profile.name,
            name_key,
            words,
            company_words,
            position_words,
            email: profile.email,
            password_hash,
            tier: profile.tier.as_str().to_owned(),
            contact_info: ContactDoc { phone, company, position },
            visibility: profile.visibility,
            profile_image_url: profile.profile_image_url,
            user_type: profile.user_type.as_str().to_owned(),
            created_at: date(profile.created_at),
            updated_at: date(profile.updated_at),
            last_login: profile.last_login.map(date),
            last_seen: last_seen.map(date),
            is_active: profile.is_active,
            version: signed(version),
            is_erased,
            is_pending: profile.is_pending,
            suspended_until: suspended_until.map(date),
            suspension_reason,
            invited_by: profile.invited.map(|invited| member_oid(invited.by)),
            invitation_id: profile.invited.map(|invited| invitation_oid(invited.invitation)),
            language: profile.language,
            email_verified_at: profile.email_verified_at.map(date),
            must_verify: profile.must_verify,
            second_factor: second_factor.as_ref().map(FactorDoc::of),
            credentials: signed(credentials),
        }
    }

    /// The member that it is.
    pub(super) fn into_record(self) -> Result<MemberRecord, Fault> {
        let ContactDoc { phone, company, position } = self.contact_info;
        Ok(MemberRecord {
            profile: StoredProfile {
                id: MemberId::from_bytes(self.id.bytes()),
                name: self.name,
                email: self.email,
                tier: word("tier", &self.tier, TIERS, Tier::as_str)?,
                contact: Contact { phone, company, position },
                visibility: self.visibility,
                profile_image_url: self.profile_image_url,
                user_type: user_type(&self.user_type)?,
                created_at: time(self.created_at),
                updated_at: time(self.updated_at),
                last_login: self.last_login.map(time),
                is_active: self.is_active,
                is_pending: self.is_pending,
                must_verify: self.must_verify,
                suspension: self
                    .suspended_until
                    .map(|until| Suspension { until: time(until), reason: self.suspension_reason }),
                invited: self.invited_by.zip(self.invitation_id).map(|(by, invitation)| Invited {
                    by: MemberId::from_bytes(by.bytes()),
                    invitation: InvitationId::from_bytes(invitation.bytes()),
                }),
                language: self.language,
                email_verified_at: self.email_verified_at.map(time),
            },
            password_hash: self.password_hash,
            version: unsigned(self.version),
            is_erased: self.is_erased,
            second_factor: self.second_factor.map(FactorDoc::into_factor),
            credentials: unsigned(self.credentials),
        })
    }
}

/// What a member may do.
pub(super) fn user_type(text: &str) -> Result<UserType, Fault> {
    word("user_type", text, USER_TYPES, UserType::as_str)
}

pub(super) fn word<T: Copy>(field: &str, text: &str, known: &[T], name: fn(T) -> &'static str) -> Result<T, Fault> {
    let found = known.iter().copied().find(|value| name(*value) == text);
    found.ok_or_else(|| Fault::Data(format!("{field} is {text:?}")))
}

const fn first_format() -> i32 {
    Format::TEXT.0 as i32
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "made for serde")]
const fn is_first_format(format: &i32) -> bool {
    *format == first_format()
}

/// A document of `messages`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct MessageDoc {
    #[serde(rename = "_id")]
    pub(super) id: ObjectId,
    pub(super) conversation_id: ObjectId,
    pub(super) seq: i64,
    pub(super) sender_id: ObjectId,
    /// Of a direct conversation.
    pub(super) receiver_id: Option<ObjectId>,
    pub(super) client_id: mongodb::bson::Uuid,
    /// In which form the content is stored; not there for a text as it is.
    #[serde(default = "first_format", skip_serializing_if = "is_first_format")]
    pub(super) format: i32,
    pub(super) content: String,
    /// The number of the message that it answers; not there if it answers none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reply_to: Option<i64>,
    pub(super) created_at: DateTime,
    /// `sent`, `delivered` or `read`, as far as the receiver's watermarks have come.
    pub(super) status: String,
    pub(super) delivered_at: Option<DateTime>,
    pub(super) read_at: Option<DateTime>,
    /// About when it was written, by the clock of the database: which entries a sync brings.
    pub(super) stamp: DateTime,
}

impl MessageDoc {
    /// The entry that it is.
    pub(super) fn into_entry(self) -> Result<StoredEntry, Fault> {
        let body = u8::try_from(self.format).ok().and_then(|format| EntryBody::read(Format(format), self.content));
        let newer = || Fault::Data("an entry has a form of a newer version of the server".to_owned());
        Ok(StoredEntry {
            id: MessageId::from_bytes(self.id.bytes()),
            conversation: ConversationId::from_bytes(self.conversation_id.bytes()),
            seq: unsigned(self.seq),
            sender: MemberId::from_bytes(self.sender_id.bytes()),
            client_id: ClientMessageId::from_bytes(self.client_id.bytes()),
            at: time(self.created_at),
            body: body.ok_or_else(newer)?,
            reply_to: self.reply_to.map(unsigned),
        })
    }
}

/// A document of `conversations`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ConversationDoc {
    #[serde(rename = "_id")]
    pub(super) id: ObjectId,
    pub(super) kind: String,
    /// Only ever appended to: watermarks are addressed by their place.
    pub(super) participants: Vec<ParticipantDoc>,
    pub(super) last_seq: i64,
    pub(super) last_at: DateTime,
    /// When the newest entry was recorded here, by the clock of the database: the order of the list.
    #[serde(default)]
    pub(super) listed: Option<DateTime>,
    /// When anything was last recorded here, by the clock of the database: what a sync brings.
    #[serde(default)]
    pub(super) changed: Option<DateTime>,
    /// When something was recorded last that is for all members, if what was since is only what one of them has set (`configured`).
    #[serde(default)]
    former: Option<DateTime>,
    /// When one of the members has set something: `changed`, if it was nothing else since.
    #[serde(default)]
    configured: Option<DateTime>,
}

impl ConversationDoc {
    /// What it is.
    pub(super) fn kind(&self) -> Result<ConversationKind, Fault> {
        rules::kind_of(&self.kind).ok_or_else(|| Fault::Data(format!("a conversation is of kind {:?}", self.kind)))
    }

    /// What it is, and who is in it.
    pub(super) fn membership(&self) -> Result<Membership, Fault> {
        let members = self.participants.iter().map(|each| MemberId::from_bytes(each.member_id.bytes()));
        Ok(Membership { kind: self.kind()?, members: members.collect() })
    }
}

impl ConversationDoc {
    /// When anything was last recorded here that is for a member. What others have set is not.
    pub(super) fn changed_for(&self, member: MemberId) -> Option<DateTime> {
        let own = self.participants.iter().find(|each| each.member_id == member_oid(member));
        let own = own.and_then(|own| own.settings.as_ref()?.at);
        match self.former {
            // A node of a former version leaves it where it is when it records something.
            Some(former) if self.changed == self.configured => Some(own.map_or(former, |own| own.max(former))),
            _ => self.changed,
        }
    }

    /// What a member has set.
    pub(super) fn settings_of(&self, member: MemberId) -> Result<StoredSettings, Fault> {
        let own = self.participants.iter().find(|each| each.member_id == member_oid(member));
        own.map_or_else(|| Ok(StoredSettings::default()), ParticipantDoc::stored)
    }
}

/// A member of a conversation, with their watermarks.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ParticipantDoc {
    pub(super) member_id: ObjectId,
    pub(super) delivered: i64,
    pub(super) read: i64,
    /// What they have set; not there if they never have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) settings: Option<SettingsDoc>,
}

impl ParticipantDoc {
    /// What they have set.
    pub(super) fn stored(&self) -> Result<StoredSettings, Fault> {
        self.settings.as_ref().map_or_else(|| Ok(StoredSettings::default()), SettingsDoc::stored)
    }
}

/// What a member of a conversation has set, within the document of that.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SettingsDoc {
    notify: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    muted_until: Option<DateTime>,
    /// Not there if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    archived: bool,
    /// Not there if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
    revision: i64,
    /// When, by the clock of the database; not of those that were copied, or set by a node of a former version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<DateTime>,
}

impl SettingsDoc {
    /// That of settings; nothing if they were never set.
    pub(super) fn of(StoredSettings { settings, revision }: StoredSettings) -> Option<Self> {
        let ConversationSettings { notify, muted_until, archived, pinned } = settings;
        let (notify, muted_until) = (notify.as_str().to_owned(), muted_until.map(date));
        (revision > 0).then(|| Self { notify, muted_until, archived, pinned, revision: signed(revision), at: None })
    }

    /// How often they were changed.
    pub(super) fn revision(&self) -> u64 {
        unsigned(self.revision)
    }

    fn stored(&self) -> Result<StoredSettings, Fault> {
        let notify = word("notify", &self.notify, Notify::ALL, Notify::as_str)?;
        let (muted_until, archived, pinned) = (self.muted_until.map(time), self.archived, self.pinned);
        let settings = ConversationSettings { notify, muted_until, archived, pinned };
        Ok(StoredSettings { settings, revision: unsigned(self.revision) })
    }
}

/// A document of `receipts`: a watermark reached a `seq`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ReceiptDoc {
    #[serde(rename = "_id")]
    pub(super) id: ObjectId,
    pub(super) conversation_id: ObjectId,
    pub(super) member_id: ObjectId,
    /// 0: delivered, 1: read.
    pub(super) kind: i32,
    pub(super) seq: i64,
    pub(super) at: DateTime,
}

pub(super) fn invitation_oid(id: InvitationId) -> ObjectId {
    ObjectId::from_bytes(*id.as_bytes())
}

pub(super) fn member_oid(id: MemberId) -> ObjectId {
    ObjectId::from_bytes(*id.as_bytes())
}

pub(super) fn conversation_oid(id: ConversationId) -> ObjectId {
    ObjectId::from_bytes(*id.as_bytes())
}

pub(super) fn client_uuid(id: ClientMessageId) -> mongodb::bson::Uuid {
    mongodb::bson::Uuid::from_bytes(*id.as_bytes())
}

pub(super) fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millis())
}

pub(super) fn time(date: DateTime) -> Timestamp {
    Timestamp::from_millis(date.timestamp_millis())
}

/// Some bytes as they are stored.
pub(super) fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// The bytes of a field; nothing if it has others, or not so many.
pub(super) fn bytes_of<const N: usize>(document: &Document, name: &str) -> Option<[u8; N]> {
    document.get_binary_generic(name).ok()?.as_slice().try_into().ok()
}

/// A count as BSON has it. Nothing here comes near 2^63.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count from BSON; below zero there is nothing.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A time as milliseconds since the epoch, for positions.
pub(super) fn millis(date: DateTime) -> u64 {
    unsigned(date.timestamp_millis())
}

/// Ids, as a filter.
pub(super) fn among(ids: impl IntoIterator<Item = ObjectId>) -> Document {
    doc! { "_id": { "$in": ids.into_iter().collect::<Vec<_>>() } }
}
