//! Everything that is stored about a member, as one JSON document that is written while it is read.

use std::{
    collections::HashSet,
    net::IpAddr,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use protocol::{
    ConversationId, ErrorCode, MemberId,
    limits::PAGE_MAX,
    rest::{
        AuditAction, ConversationSummary, ExportedEmailChange, ExportedSecondFactor, ExportedSession, MessageDocument,
    },
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    accounts::Authorized,
    administration::entry,
    audit::AuditTrail,
    documents::{Documents, pair_of},
    invitations::Invitations,
    limiter::{Limiter, Rate},
    push,
    sessions::device_info,
    slots::Slots,
    views,
};
use crate::{
    clock::Clock,
    failure::Failure,
    sources::subscriber,
    store::{
        AuditStore, MailStore, MemberStore, PushStore, RecommendationStore, SessionStore, Store, audit::REASON,
        members::Standing, sessions::SessionRecord, turns::Caller,
    },
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// Exports of one member, on each node: each is in the audit log for good, and the next one has all of them.
const EXPORTS: Rate = Rate { per_period: 10, period: Duration::from_secs(3_600), burst: 10 };
/// Exports that are written at the same time; more are refused.
const AT_ONCE: usize = 8;
/// Of these, exports of one member.
const AT_ONCE_PER_MEMBER: usize = 1;
/// Of these, exports to one address (one /64 of IPv6): accounts are free, places are not.
const AT_ONCE_PER_ADDRESS: usize = AT_ONCE / 4;
/// Parts that wait for the client.
const QUEUE: usize = 4;
/// Audit entries that are read at a time.
const AUDIT_PAGE: usize = 200;
/// Conversations whose messages are read together: at most 640 KiB of content.
const AT_A_TIME: usize = 10;
/// How often the list of conversations is gone through, if further ones are found every time.
const ROUNDS: usize = 10;
/// How long a client may be waited for at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bytes a second it has to take, whenever it is waited for.
const SLOWEST: u64 = 16 * 1024;

/// A part of the document, or why it ends here.
pub type Part = Result<Vec<u8>, Failure>;

/// Exports.
pub struct Exports {
    members: Arc<dyn MemberStore>,
    sessions: Arc<dyn SessionStore>,
    recommendations: Arc<dyn RecommendationStore>,
    push: Arc<dyn PushStore>,
    mail: Arc<dyn MailStore>,
    audit: Arc<dyn AuditStore>,
    trail: Arc<AuditTrail>,
    invitations: Arc<Invitations>,
    documents: Arc<Documents>,
    session_lifetime: Duration,
    clock: Arc<dyn Clock>,
    slots: Slots<MemberId>,
    addresses: Slots<IpAddr>,
    limit: Limiter<MemberId>,
}

fn exported(session: SessionRecord, lifetime: Duration) -> ExportedSession {
    let expires_at = session.ends(lifetime);
    let SessionRecord { id, created_at, revoked_at, device, address, last_address, last_used_at, .. } = session;
    let [address, last_address] = [address, last_address].map(|address| address.map(|address| address.to_string()));
    let device = device_info(device);
    ExportedSession { id, created_at, revoked_at, device, address, last_address, last_used_at, expires_at }
}

/// Writes JSON to whoever reads the export.
struct Writer {
    parts: mpsc::Sender<Part>,
    /// How long the client is waited for yet: less with every wait, more with every byte that it takes.
    patience: Mutex<Duration>,
}

impl Writer {
    fn new(parts: mpsc::Sender<Part>) -> Self {
        Self { parts, patience: Mutex::new(PATIENCE) }
    }

    /// Has the export written. One that fails, or panics, ends with an error: without one it would look whole.
    async fn conclude(&self, written: impl Future<Output = Result<(), Failure>>) {
        let written = AssertUnwindSafe(written).catch_unwind().await;
        let failure = match &written {
            Ok(written) => written.clone().err(),
            Err(_) => Some(ErrorCode::Internal.into()),
        };
        if let Some(failure) = failure {
            // Whoever has gone needs no reason.
            let _ = timeout(PATIENCE, self.parts.send(Err(failure))).await;
        }
        if let Err(panic) = written {
            resume_unwind(panic);
        }
    }

    async fn text(&self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes().to_vec()).await
    }

    /// A client that has gone, takes nothing, or is too slow ends the export.
    async fn bytes(&self, bytes: Vec<u8>) -> Result<(), Failure> {
        let earned =
            Duration::from_millis(u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_mul(1000) / SLOWEST);
        let (started, patience) = (Instant::now(), *self.patience());
        match timeout(patience, self.parts.send(Ok(bytes))).await {
            Ok(Ok(())) => {
                let left = patience.saturating_sub(started.elapsed());
                *self.patience() = (left + earned).min(PATIENCE);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(ErrorCode::Timeout.into()),
        }
    }

    /// Held for a few instructions and never across a call that could panic.
    fn patience(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exports {
    /// Exports from this store.
    #[must_use]
    pub fn new(
        store: &Store,
        trail: Arc<AuditTrail>,
        invitations: Arc<Invitations>,
        documents: Arc<Documents>,
        session_lifetime: Duration,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Store { members, sessions, recommendations, push, mail, audit, .. } = store.clone();
        let (slots, addresses) = (Slots::new(AT_ONCE, AT_ONCE_PER_MEMBER), Slots::new(AT_ONCE, AT_ONCE_PER_ADDRESS));
        Self {
            members,
            sessions,
            recommendations,
            push,
            mail,
            audit,
            trail,
            invitations,
            documents,
            session_lifetime,
            clock,
            slots,
            addresses,
            limit: Limiter::new("exports", EXPORTS, metrics),
        }
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub fn tidy(&self) {
        self.limit.tidy();
    }

    /// Starts an export, which is in the audit log then; its parts come as they are read. A part that is an error is the last one.
    ///
    /// # Errors
    /// `rate_limited` for who had many lately, `overloaded` while the member exports already, or too many others do, of all or from that address; or the store: what is not in
    /// the audit log is not given.
    pub async fn start(
        self: &Arc<Self>,
        who: Authorized,
        to: IpAddr,
        supervisor: &Supervisor,
    ) -> Result<mpsc::Receiver<Part>, Failure> {
        let slots = (self.slots.take(who.member)?, self.addresses.take(subscriber(to))?);
        self.limit.check(&who.member)?;
        let by = who.asks_from(to);
        self.trail.write(by, AuditAction::Exported, by.member, json!({})).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let exports = Arc::clone(self);
        drop(supervisor.once("export", async move {
            let writer = Writer::new(sender);
            writer.conclude(exports.write(who, &writer)).await;
            drop(slots);
        }));
        Ok(receiver)
    }

    /// Whether whoever asked may still read: an export lasts longer than a request, and ends with its session.
    async fn check(&self, who: Authorized) -> Result<(), Failure> {
        let session = self.sessions.view(who.session).await?;
        let good =
            session.is_some_and(|session| session.standing(self.clock.now()) == Standing::Active && !session.revoked);
        if good { Ok(()) } else { Err(ErrorCode::SessionRevoked.into()) }
    }

    async fn write(&self, who: Authorized, to: &Writer) -> Result<(), Failure> {
        let member = who.member;
        let record = self.members.by_id(Caller::Member(member), member).await?.ok_or(ErrorCode::MemberNotFound)?;
        let sessions = self.sessions.of_member(member).await?;
        let sessions: Vec<ExportedSession> =
            sessions.into_iter().map(|session| exported(session, self.session_lifetime)).collect();
        let push = push::settings_of(&*self.push, member).await?;
        let asked = self.mail.asked_changes(member).await?;
        let email_changes: Vec<_> =
            asked.into_iter().map(|asked| ExportedEmailChange { email: asked.email, asked_at: asked.at }).collect();
        let recommendations = self.recommendations.all_of(member).await?;
        let recommendations: Vec<_> = recommendations.into_iter().map(|record| record.recommendation).collect();
        let last_seen =
            self.members.last_seen(Caller::Member(member), vec![member]).await?.first().and_then(|seen| seen.at);
        let invited = record.profile.invited;
        let factor = record.second_factor.as_ref().map(|factor| ExportedSecondFactor {
            enabled_at: factor.enabled_at,
            recovery_codes_left: factor.codes_left(),
        });
        let now = self.clock.now();
        let head = json!({
            "exported_at": now,
            "member": views::member(record.profile, now),
            "invited_by": invited.map(|invited| invited.by),
            "invitation_id": invited.map(|invited| invited.invitation),
            "last_seen": last_seen,
            "second_factor": factor,
            "email_changes": email_changes,
            "sessions": sessions,
            "push": push,
            "recommendations": recommendations,
        });
        let head = head.to_string();
        // The rest follows within the same object.
        to.text(head.strip_suffix('}').unwrap_or(&head)).await?;
        to.text(",\"audit\":[").await?;
        self.audit(member, to).await?;
        to.text("],\"invitations\":[").await?;
        self.invitations(member, to).await?;
        to.text("],\"conversations\":[").await?;
        let mut written = HashSet::new();
        for _ in 0..ROUNDS {
            let before = written.len();
            self.all_conversations(who, &mut written, to).await?;
            // One with a new message moves to the top of the list: it may have passed a round that was further down.
            if written.len() == before {
                break;
            }
        }
        to.text("]}").await
    }

    /// The conversations that are not written yet, through all pages of the list.
    async fn all_conversations(
        &self,
        who: Authorized,
        written: &mut HashSet<ConversationId>,
        to: &Writer,
    ) -> Result<(), Failure> {
        let mut page = protocol::rest::PageQuery { limit: Some(PAGE_MAX), cursor: None };
        loop {
            let mut list = self.documents.list(who.member, <_>::default(), &page).await?;
            list.conversations.retain(|conversation| !written.contains(&conversation.id));
            for conversations in list.conversations.chunks(AT_A_TIME) {
                if !written.is_empty() {
                    to.text(",").await?;
                }
                written.extend(conversations.iter().map(|conversation| conversation.id));
                self.conversations(who, conversations, to).await?;
            }
            match list.next {
                Some(next) => page.cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// What the audit log has of the member. Where somebody else acted is not the member's to know.
    async fn audit(&self, member: MemberId, to: &Writer) -> Result<(), Failure> {
        let (mut before, mut comma) = (None, "");
        loop {
            let entries = self.audit.of_member(member, before, AUDIT_PAGE).await?;
            let Some(&(last, _)) = entries.last() else { return Ok(()) };
            before = Some(last);
            let mut part = String::new();
            for (_, mut record) in entries {
                record.address = record.address.filter(|_| record.actor == Some(member));
                // For administrators, whoever it is about.
                record.details.as_object_mut().and_then(|details| details.remove(REASON));
                part.push_str(comma);
                part.push_str(&json!(entry(record)).to_string());
                comma = ",";
            }
            to.text(&part).await?;
        }
    }

    /// The invitations that the member has made.
    async fn invitations(&self, member: MemberId, to: &Writer) -> Result<(), Failure> {
        let (mut before, mut comma) = (None, "");
        loop {
            let page = self.invitations.of_member(member, before, AUDIT_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            before = Some(last.id);
            let mut part = String::new();
            for invitation in page {
                part.push_str(comma);
                part.push_str(&json!(invitation).to_string());
                comma = ",";
            }
            to.text(&part).await?;
        }
    }

    /// Conversations with their messages, the first page of all of them read at once.
    async fn conversations(
        &self,
        who: Authorized,
        conversations: &[ConversationSummary],
        to: &Writer,
    ) -> Result<(), Failure> {
        self.check(who).await?;
        let member = who.member;
        let wanted: Vec<_> = conversations
            .iter()
            .filter_map(|conversation| Some((conversation.id, pair_of(&conversation.members)?, 0)))
            .collect();
        let mut pages = wanted.iter().zip(self.documents.pages(member, &wanted).await?).peekable();
        for (number, conversation) in conversations.iter().enumerate() {
            let ConversationSummary { id, kind, members, settings, .. } = conversation;
            let head = json!({ "_id": id, "kind": kind, "members": members, "settings": settings }).to_string();
            let head = head.strip_suffix('}').unwrap_or(&head);
            let comma = if number == 0 { "" } else { "," };
            to.text(&format!("{comma}{head},\"messages\":[")).await?;
            if let Some((&wanted, page)) = pages.next_if(|(wanted, _)| wanted.0 == *id) {
                self.messages(who, wanted, page, to).await?;
            }
            to.text("]}").await?;
        }
        Ok(())
    }

    /// The messages of a conversation, the first page of which is at hand.
    async fn messages(
        &self,
        who: Authorized,
        (conversation, pair, _): (ConversationId, [MemberId; 2], u64),
        mut page: (Vec<MessageDocument>, bool),
        to: &Writer,
    ) -> Result<(), Failure> {
        let mut first = true;
        loop {
            let (messages, more) = page;
            let Some(last) = messages.last().map(|message| message.seq) else { return Ok(()) };
            // One part for a whole page: a part for every message would be a wake-up for every message.
            let mut part = Vec::new();
            for message in &messages {
                if !std::mem::take(&mut first) {
                    part.push(b',');
                }
                serde_json::to_writer(&mut part, message).map_err(|_| Failure::of(ErrorCode::Internal))?;
            }
            to.bytes(part).await?;
            if !more {
                return Ok(());
            }
            self.check(who).await?;
            let next = self.documents.pages(who.member, &[(conversation, pair, last)]).await?;
            page = next.into_iter().next().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes parts of so many bytes to a client that takes one every so often; how long that goes well.
    async fn lasts(bytes: usize, every: Duration) -> Option<u64> {
        let (sender, mut parts) = mpsc::channel(1);
        let writer = Writer::new(sender);
        tokio::spawn(async move {
            while parts.recv().await.is_some() {
                tokio::time::sleep(every).await;
            }
        });
        let started = Instant::now();
        for _ in 0..1_000 {
            if writer.bytes(vec![0; bytes]).await.is_err() {
                return Some(started.elapsed().as_secs());
            }
        }
        None
    }

    #[tokio::test]
    async fn an_export_whose_task_panics_does_not_look_whole() {
        let (sender, mut parts) = mpsc::channel(1);
        let task = tokio::spawn(async move { Writer::new(sender).conclude(async { panic!("on purpose") }).await });
        assert_eq!(parts.recv().await.unwrap().unwrap_err().code, ErrorCode::Internal);
        assert!(parts.recv().await.is_none() && task.await.is_err(), "and whoever watches hears of it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_hardly_anything_ends_its_export() {
        assert_eq!(lasts(64 * 1024, Duration::from_secs(4)).await, None, "16 KiB a second");
        assert_eq!(lasts(64 * 1024, Duration::from_secs(3600)).await, Some(30));
        assert!(lasts(100, Duration::from_secs(10)).await.is_some_and(|seconds| seconds < 60));
        assert!(lasts(64 * 1024, Duration::from_secs(20)).await.is_some_and(|seconds| seconds < 120));
    }
}
