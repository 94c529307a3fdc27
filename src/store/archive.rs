//! A store as rows, to move everything from one store to another.
//!
//! Rows come in the order of their keys, the same in every store, so that a copy that was interrupted goes on after the
//! last key that arrived, and two stores can be compared row by row.

use std::net::IpAddr;

use async_trait::async_trait;
use protocol::{ConversationId, MemberId, SessionId, Timestamp, model::ConversationKind};
use serde_json::{Value, json};

use super::{
    StoreError,
    addresses::AddressHash,
    audit::{AuditPlace, AuditRecord},
    conversations::{StoreId, StoredSettings},
    entries::StoredEntry,
    invitations::InvitationRecord,
    jobs::Job,
    mail::{AskedFrom, Claim, LinkHash, Mail, Purpose, TokenId},
    members::{Contact, Invited, MemberRecord, StoredProfile, Suspension},
    push::{DeviceKey, DeviceMark, DeviceRecord, NewTask, PushChoice, StoredTask},
    recommendations::RecommendationRecord,
    second_factor::StoredFactor,
    sessions::{AttemptHash, KnownDevice, SessionDevice, TokenHash},
};

/// A kind of rows. In the order in which they are copied: what refers to others comes after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Members, by id.
    Members,
    /// Invitations, by id.
    Invitations,
    /// Sessions, by id.
    Sessions,
    /// Refresh tokens, by hash.
    RefreshTokens,
    /// Conversations with their watermarks, by id.
    Conversations,
    /// Messages, by conversation and `seq`.
    Messages,
    /// Receipts, by conversation, member, kind and `seq`.
    Receipts,
    /// The audit log, by place.
    Audit,
    /// Recommendations, by id.
    Recommendations,
    /// What members have cost the AI service, by member.
    Budgets,
    /// Jobs, by key.
    Jobs,
    /// Links in mails, by hash.
    Links,
    /// Mail that waits, by key.
    Mail,
    /// Secrets, by name.
    Secrets,
    /// Addresses that nobody registers with, by hash.
    BarredAddresses,
    /// Devices that are told of messages, by [`DeviceKey`].
    PushDevices,
    /// What devices have acknowledged, by device and conversation.
    PushMarks,
    /// What devices are to be told, by device and subject.
    PushTasks,
    /// What members have chosen to be told, by member.
    PushChoices,
}

impl Part {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Members,
        Self::Invitations,
        Self::Sessions,
        Self::RefreshTokens,
        Self::Conversations,
        Self::Messages,
        Self::Receipts,
        Self::Audit,
        Self::Recommendations,
        Self::Budgets,
        Self::Jobs,
        Self::Links,
        Self::Mail,
        Self::Secrets,
        Self::BarredAddresses,
        Self::PushDevices,
        Self::PushMarks,
        Self::PushTasks,
        Self::PushChoices,
    ];

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Invitations => "invitations",
            Self::Sessions => "sessions",
            Self::RefreshTokens => "refresh tokens",
            Self::Conversations => "conversations",
            Self::Messages => "messages",
            Self::Receipts => "receipts",
            Self::Audit => "audit entries",
            Self::Recommendations => "recommendations",
            Self::Budgets => "AI budgets",
            Self::Jobs => "jobs",
            Self::Links => "links in mails",
            Self::Mail => "mails that wait",
            Self::Secrets => "secrets",
            Self::BarredAddresses => "barred addresses",
            Self::PushDevices => "devices for pushes",
            Self::PushMarks => "marks of devices",
            Self::PushTasks => "pushes that wait",
            Self::PushChoices => "choices of pushes",
        }
    }
}

/// The place of a row among those of its part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Of a member and what there is one of for each, an invitation, a session or a conversation.
    Id([u8; 12]),
    /// Of a refresh token, a link or a barred address.
    Hash(TokenHash),
    /// Of a message.
    Message(ConversationId, u64),
    /// Of a receipt.
    Receipt(ConversationId, MemberId, u8, u64),
    /// Of an entry of the audit log.
    Place(u64),
    /// Of a job, a mail or a secret.
    Job(String),
    /// Of a device.
    Device(DeviceKey),
    /// Of something of a device: about a conversation, or about none.
    OfDevice(DeviceKey, [u8; 12]),
}

/// A row.
#[derive(Clone)]
pub enum Row {
    /// A member.
    Member(Box<MemberRow>),
    /// An invitation.
    Invitation(InvitationRecord),
    /// A session.
    Session(SessionRow),
    /// A refresh token.
    RefreshToken(TokenRow),
    /// A conversation.
    Conversation(ConversationRow),
    /// A message.
    Message(StoredEntry),
    /// A move of a watermark.
    Receipt(ReceiptRow),
    /// An entry of the audit log.
    Audit(AuditPlace, AuditRecord),
    /// A recommendation.
    Recommendation(Box<RecommendationRecord>),
    /// What a member has cost: whom, on which day, how many questions.
    Budget(MemberId, i64, u32),
    /// A job.
    Job(JobRow),
    /// A link.
    Link(LinkRow),
    /// A mail that waits.
    Mail(MailRow),
    /// A secret: its name, and what it is.
    Secret(String, Vec<u8>),
    /// An address that nobody registers with.
    BarredAddress(AddressHash),
    /// A device that is told of messages.
    PushDevice(Box<DeviceRecord>),
    /// What a device has acknowledged.
    PushMark(DeviceMark),
    /// What a device is to be told.
    PushTask(Box<StoredTask>),
    /// What a member has chosen to be told.
    PushChoice(MemberId, PushChoice),
}

/// A member.
#[derive(Clone)]
pub struct MemberRow {
    /// What is stored of them.
    pub record: MemberRecord,
    /// When they were last connected.
    pub last_seen: Option<Timestamp>,
}

/// A session.
#[derive(Clone)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub member: MemberId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Its device.
    pub device: SessionDevice,
    /// Where it was started from.
    pub address: Option<IpAddr>,
    /// Where its token was replaced from last.
    pub last_address: Option<IpAddr>,
    /// When it was used last; nothing of one of before that was known.
    pub last_used_at: Option<Timestamp>,
    /// When it ends; nothing of one of before that was stored.
    pub ends_at: Option<Timestamp>,
    /// How often its token was replaced.
    pub generation: u64,
    /// The generation from which on access tokens are good.
    pub good_from: u64,
    /// Its newest token.
    pub newest: Option<TokenHash>,
    /// When that was confirmed.
    pub confirmed_at: Option<Timestamp>,
    /// The attempt that made it.
    pub attempt: Option<AttemptHash>,
    /// When who is at the device proved again that they are the member; nothing if they have not since the login.
    pub proved_at: Option<Timestamp>,
    /// The device, if it had proved at the login that the member had logged in on it before.
    pub known_device: Option<KnownDevice>,
}

/// A refresh token.
#[derive(Clone)]
pub struct TokenRow {
    /// Its hash.
    pub hash: TokenHash,
    /// Its session.
    pub session: SessionId,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
    /// By which attempt.
    pub attempt: Option<AttemptHash>,
}

/// A conversation.
#[derive(Clone)]
pub struct ConversationRow {
    /// Its id.
    pub id: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// Its members, ascending.
    pub participants: Vec<ParticipantRow>,
    /// The newest entry.
    pub last_seq: u64,
    /// When that was.
    pub last_at: Timestamp,
}

/// A member of a conversation.
#[derive(Clone)]
pub struct ParticipantRow {
    /// Who.
    pub member: MemberId,
    /// The watermark `delivered`.
    pub delivered: u64,
    /// The watermark `read`.
    pub read: u64,
    /// What they have set.
    pub stored: StoredSettings,
}

impl ParticipantRow {
    fn content(&self) -> Value {
        let Self { member, delivered, read, stored: StoredSettings { settings, revision } } = self;
        json!([member, delivered, read, settings, revision])
    }
}

/// A move of a watermark.
#[derive(Clone)]
pub struct ReceiptRow {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose watermark.
    pub member: MemberId,
    /// 0: delivered, 1: read.
    pub kind: u8,
    /// Where to.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
}

/// A job.
#[derive(Clone)]
pub struct JobRow {
    /// What is to be done.
    pub job: Job,
    /// When.
    pub due: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
}

/// A link in a mail.
#[derive(Clone)]
pub struct LinkRow {
    /// How its token is recognised.
    pub hash: LinkHash,
    /// Whose it is.
    pub member: MemberId,
    /// What it does.
    pub purpose: Purpose,
    /// When it was made.
    pub made_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Whether it is good no more.
    pub is_over: bool,
    /// What its token is derived from, so that it can be sent again; nothing of one of before that was stored.
    pub token: Option<TokenId>,
    /// How often it was sent.
    pub sent: u32,
    /// From where it was asked for, each time that this is known.
    pub asked: Vec<AskedFrom>,
    /// What is kept of it if it was of a registration with an address that is another's.
    pub claim: Option<Claim>,
    /// The new address, of one that changes it.
    pub email: Option<String>,
    /// The [`MemberRecord::credentials`] that its member had when they asked for it, of one that changes the address.
    pub credentials: Option<u64>,
}

/// A mail that waits.
#[derive(Clone)]
pub struct MailRow {
    /// The mail.
    pub mail: Mail,
    /// When it is tried next.
    pub due: Timestamp,
    /// When it is given up.
    pub until: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
}

impl Row {
    /// Its place.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Member(row) => Key::Id(*row.record.profile.id.as_bytes()),
            Self::Invitation(record) => Key::Id(*record.id.as_bytes()),
            Self::Session(row) => Key::Id(*row.id.as_bytes()),
            Self::RefreshToken(row) => Key::Hash(row.hash),
            Self::Conversation(row) => Key::Id(*row.id.as_bytes()),
            Self::Message(message) => Key::Message(message.conversation, message.seq),
            Self::Receipt(row) => Key::Receipt(row.conversation, row.member, row.kind, row.seq),
            Self::Audit(AuditPlace(place), _) => Key::Place(*place),
            Self::Recommendation(record) => Key::Id(*record.recommendation.id.as_bytes()),
            Self::Budget(member, ..) => Key::Id(*member.as_bytes()),
            Self::Job(row) => Key::Job(row.job.key()),
            Self::Link(row) => Key::Hash(row.hash),
            Self::Mail(row) => Key::Job(row.mail.key()),
            Self::Secret(name, _) => Key::Job(name.clone()),
            Self::BarredAddress(hash) => Key::Hash(*hash),
            Self::PushDevice(record) => Key::Device(DeviceKey::of(record.member, &record.device)),
            Self::PushMark(DeviceMark { member, device, conversation, .. }) => {
                Key::OfDevice(DeviceKey::of(*member, device), *conversation.as_bytes())
            }
            Self::PushTask(stored) => Key::OfDevice(stored.task.device_key(), stored.task.subject.key()),
            Self::PushChoice(member, _) => Key::Id(*member.as_bytes()),
        }
    }

    /// Everything that is in it, for a checksum.
    #[must_use]
    pub fn content(&self) -> Value {
        match self {
            Self::Member(row) => {
                let MemberRecord { profile, password_hash, version, is_erased, second_factor, credentials } =
                    &row.record;
                let StoredProfile { id, name, email, tier, contact, visibility, profile_image_url, user_type, .. } =
                    profile;
                let Contact { phone, company, position } = contact;
                let StoredProfile { created_at, updated_at, last_login, is_active, language, .. } = profile;
                let suspension = profile.suspension.as_ref().map(|Suspension { until, reason }| (until, reason));
                let invited = profile.invited.map(|Invited { by, invitation }| (by, invitation));
                json!([
                    [id, name, email, tier, user_type, created_at, updated_at, last_login, is_active],
                    [phone, company, position, visibility, profile_image_url],
                    [password_hash, version, is_erased, row.last_seen, credentials],
                    [profile.is_pending, suspension, invited],
                    [language, profile.email_verified_at, profile.must_verify],
                    second_factor.as_ref().map(|StoredFactor { secret, enabled_at, last_step, recovery_codes }| {
                        (secret, enabled_at, last_step, recovery_codes)
                    }),
                ])
            }
            Self::Invitation(record) => {
                let InvitationRecord { id, code, tier, uses, used, created_by, .. } = record;
                let InvitationRecord { created_at, expires_at, revoked_at, note, .. } = record;
                json!([id, code, tier, uses, used, created_by, created_at, expires_at, revoked_at, note])
            }
            Self::Session(row) => json!([
                [row.id, row.member, row.created_at, row.revoked_at],
                [row.device.name, row.device.platform, row.address, row.last_used_at, row.ends_at],
                [row.generation, row.good_from, row.newest, row.confirmed_at, row.proved_at, row.known_device],
            ]),
            Self::RefreshToken(row) => json!([row.hash, row.session, row.expires_at, row.used_at, row.attempt]),
            Self::Conversation(row) => {
                let participants: Vec<Value> = row.participants.iter().map(ParticipantRow::content).collect();
                json!([row.id, row.kind, participants, row.last_seq, row.last_at])
            }
            Self::Message(entry) => {
                let StoredEntry { id, conversation, seq, sender, client_id, at, body, reply_to } = entry;
                json!([id, conversation, seq, sender, client_id, at, body.format().0, body.content(), reply_to])
            }
            Self::Receipt(row) => json!([row.conversation, row.member, row.kind, row.seq, row.at]),
            Self::Audit(AuditPlace(place), entry) => {
                let AuditRecord { at, actor, action, target, details, address } = entry;
                json!([place, at, actor, action.as_str(), target, details, address])
            }
            Self::Recommendation(record) => json!([record.recommendation, record.basis, record.refreshed_at]),
            Self::Budget(member, day, spent) => json!([member, day, spent]),
            Self::Job(row) => json!([row.job, row.due, row.attempts]),
            Self::Link(row) => {
                let LinkRow { hash, member, purpose, made_at, expires_at, is_over, token, sent, asked, .. } = row;
                let LinkRow { claim, email, credentials, .. } = row;
                let claim = claim.map(|Claim { invitation, address }| (invitation, address));
                json!([
                    hash,
                    member,
                    purpose,
                    made_at,
                    expires_at,
                    is_over,
                    token,
                    sent,
                    asked,
                    claim,
                    email,
                    credentials
                ])
            }
            Self::Mail(row) => json!([row.mail, row.due, row.until, row.attempts]),
            Self::Secret(name, value) => json!([name, value]),
            Self::BarredAddress(hash) => json!([hash]),
            Self::PushDevice(record) => {
                // Positions of one store say nothing in another one.
                let DeviceRecord {
                    member,
                    device,
                    session,
                    address,
                    platform,
                    registered_at,
                    since: _,
                    badge,
                    revision: _,
                } = &**record;
                json!([member, device, session, address, platform, registered_at, badge])
            }
            Self::PushMark(DeviceMark { member, device, conversation, seq }) => {
                json!([member, device, conversation, seq])
            }
            Self::PushTask(stored) => {
                let NewTask { member, device, subject, first, last, at, due } = &stored.task;
                let StoredTask { attempts, next_due, unsettled, .. } = &**stored;
                json!([member, device, subject.key(), first, last, at, due, attempts, next_due, unsettled])
            }
            Self::PushChoice(member, PushChoice { content, quiet_hours }) => json!([member, content, quiet_hours]),
        }
    }
}

/// A store as rows.
#[async_trait]
pub trait Archive: Send + Sync {
    /// How many rows a part has.
    ///
    /// # Errors
    /// The store.
    async fn count(&self, part: Part) -> Result<u64, StoreError>;

    /// Up to `limit` rows of a part after a key, in the order of their keys.
    ///
    /// # Errors
    /// The store.
    async fn rows(&self, part: Part, after: Option<Key>, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// The largest key of a part.
    ///
    /// # Errors
    /// The store.
    async fn last_key(&self, part: Part) -> Result<Option<Key>, StoreError>;

    /// Begins to take the rows of another store, or goes on with that. `None`, and nothing changes, if this store has
    /// data of its own; else whether it goes on.
    ///
    /// # Errors
    /// The store.
    async fn begin_copy(&self, source: StoreId) -> Result<Option<bool>, StoreError>;

    /// Stores rows of one part. Those that are there already stay as they are.
    ///
    /// # Errors
    /// The store.
    async fn insert_rows(&self, rows: Vec<Row>) -> Result<(), StoreError>;

    /// Everything is there: derives what is not in the rows, and makes the store ready for a server.
    ///
    /// # Errors
    /// The store.
    async fn finish_copy(&self) -> Result<(), StoreError>;
}
