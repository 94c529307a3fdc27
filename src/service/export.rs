//! Everything that is stored about a member, as one JSON document that is written while it is read.

use std::{sync::Arc, time::Duration};

use protocol::{
    ConversationId, ErrorCode, MemberId,
    limits::PAGE_MAX,
    rest::{ConversationSummary, ExportedSession},
};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

use super::{documents::Documents, slots::Slots};
use crate::{
    clock::Clock,
    failure::Failure,
    store::{MemberStore, RecommendationStore, SessionStore, sessions::SessionRecord},
};

/// Exports that are written at the same time; more are refused.
const AT_ONCE: usize = 8;
/// Of these, exports of one member.
const AT_ONCE_PER_MEMBER: usize = 1;
/// Parts that wait for the client.
const QUEUE: usize = 4;
/// How long a client may take for one part.
const PATIENCE: Duration = Duration::from_secs(30);

/// A part of the document, or why it ends here.
pub type Part = Result<Vec<u8>, Failure>;

/// Exports.
pub struct Exports {
    members: Arc<dyn MemberStore>,
    sessions: Arc<dyn SessionStore>,
    recommendations: Arc<dyn RecommendationStore>,
    documents: Arc<Documents>,
    clock: Arc<dyn Clock>,
    slots: Slots<MemberId>,
}

fn exported(SessionRecord { id, created_at, revoked_at }: SessionRecord) -> ExportedSession {
    ExportedSession { id, created_at, revoked_at }
}

/// Writes JSON to whoever reads the export.
struct Writer(mpsc::Sender<Part>);

impl Writer {
    async fn text(&self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes().to_vec()).await
    }

    /// A client that has gone, or takes nothing, ends the export.
    async fn bytes(&self, bytes: Vec<u8>) -> Result<(), Failure> {
        match timeout(PATIENCE, self.0.send(Ok(bytes))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ErrorCode::Timeout.into()),
        }
    }
}

impl Exports {
    /// Exports from this store.
    #[must_use]
    pub fn new(
        members: Arc<dyn MemberStore>,
        sessions: Arc<dyn SessionStore>,
        recommendations: Arc<dyn RecommendationStore>,
        documents: Arc<Documents>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { members, sessions, recommendations, documents, clock, slots: Slots::new(AT_ONCE, AT_ONCE_PER_MEMBER) }
    }

    /// Starts an export; its parts come as they are read. A part that is an error is the last one.
    ///
    /// # Errors
    /// `overloaded` while the member exports already, or too many others do.
    pub fn start(self: &Arc<Self>, member: MemberId) -> Result<mpsc::Receiver<Part>, Failure> {
        let slot = self.slots.take(member)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let exports = Arc::clone(self);
        tokio::spawn(async move {
            let writer = Writer(sender);
            if let Err(failure) = exports.write(member, &writer).await {
                // Whoever has gone needs no reason.
                let _ = timeout(PATIENCE, writer.0.send(Err(failure))).await;
            }
            drop(slot);
        });
        Ok(receiver)
    }

    async fn write(&self, member: MemberId, to: &Writer) -> Result<(), Failure> {
        let record = self.members.by_id(member).await?.ok_or(ErrorCode::MemberNotFound)?;
        let sessions = self.sessions.of_member(member).await?;
        let sessions: Vec<ExportedSession> = sessions.into_iter().map(exported).collect();
        let recommendations = self.recommendations.all_of(member).await?;
        let recommendations: Vec<_> = recommendations.into_iter().map(|record| record.recommendation).collect();
        let head = json!({
            "exported_at": self.clock.now(),
            "member": record.profile,
            "sessions": sessions,
            "recommendations": recommendations,
        });
        let head = head.to_string();
        // The conversations follow within the same object.
        to.text(head.strip_suffix('}').unwrap_or(&head)).await?;
        to.text(",\"conversations\":[").await?;
        let mut page = protocol::rest::PageQuery { limit: Some(PAGE_MAX), cursor: None };
        let mut first = true;
        loop {
            let list = self.documents.list(member, &page).await?;
            for conversation in list.conversations {
                if !std::mem::take(&mut first) {
                    to.text(",").await?;
                }
                self.conversation(member, &conversation, to).await?;
            }
            match list.next {
                Some(next) => page.cursor = Some(next),
                None => break,
            }
        }
        to.text("]}").await
    }

    async fn conversation(
        &self,
        member: MemberId,
        conversation: &ConversationSummary,
        to: &Writer,
    ) -> Result<(), Failure> {
        let ConversationSummary { id, kind, members, .. } = conversation;
        let head = json!({ "_id": id, "kind": kind, "members": members }).to_string();
        to.text(head.strip_suffix('}').unwrap_or(&head)).await?;
        to.text(",\"messages\":[").await?;
        self.messages(member, *id, to).await?;
        to.text("]}").await
    }

    async fn messages(&self, member: MemberId, conversation: ConversationId, to: &Writer) -> Result<(), Failure> {
        let (mut after, mut first) = (0, true);
        loop {
            let (messages, more) = self.documents.page(member, conversation, after).await?;
            // One part for a whole page: a part for every message would be a wake-up for every message.
            let mut part = Vec::new();
            for message in &messages {
                if !std::mem::take(&mut first) {
                    part.push(b',');
                }
                serde_json::to_writer(&mut part, message).map_err(|_| Failure::of(ErrorCode::Internal))?;
                after = message.seq;
            }
            to.bytes(part).await?;
            if !more || messages.is_empty() {
                return Ok(());
            }
        }
    }
}
