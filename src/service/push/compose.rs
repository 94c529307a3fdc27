//! Whether a task is still wanted, and what its push says: found out when it is sent, not when it was asked for.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use hmac::Mac as _;
use protocol::{
    ConversationId, DeviceId, MemberId, SessionId, Timestamp,
    model::Notify,
    rest::{Language, PushContent},
};

use tokio::time::Instant;

use super::{Push, quiet, words};
use crate::{
    auth::keys::first_bytes,
    push::{Notice, Parcel, What},
    store::{
        StoreError,
        conversations::Range,
        entries::StoredEntry,
        members::Standing,
        push::{AddressHash, DeviceKey, DeviceRecord, NewTask, Progress, PushChoice, Subject, TakenTask},
        sessions::SessionView,
        turns::Caller,
    },
};

/// Tasks of which it is found out at a time what they say.
const AT_ONCE: usize = 16;
/// How long a change of the number at an icon is worth being brought.
const BADGE_TTL: Duration = Duration::from_secs(3_600);
/// How much of a text is shown, in characters.
const SHOWN_CHARS: usize = 500;

/// What there is to be done about a task.
#[derive(Debug, Clone)]
pub(super) enum Composed {
    /// A push is to be sent.
    Ready(Box<Ready>),
    /// Nothing, and why.
    Nothing(&'static str),
    /// Nothing before the end of the quiet hours.
    Quiet(Timestamp),
    /// It is not known yet.
    Later(&'static str),
}

/// A push that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) parcel: Parcel,
    pub(super) hash: AddressHash,
    /// The number that the device shows at its icon, as far as is known.
    pub(super) badge_before: Option<u32>,
}

/// What is known of all tasks that were taken together.
struct Known {
    devices: HashMap<(MemberId, DeviceId), DeviceRecord>,
    sessions: HashMap<SessionId, Option<SessionView>>,
    progress: HashMap<(MemberId, ConversationId), Progress>,
    now: Timestamp,
}

impl Push {
    /// What there is to be done about tasks, in their order.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn compose(&self, taken: &[TakenTask]) -> Result<Vec<Composed>, StoreError> {
        let known = self.known(taken).await?;
        let mut each = Vec::with_capacity(taken.len());
        for taken in taken {
            each.push(self.compose_one(&known, taken).boxed());
        }
        stream::iter(each).buffered(AT_ONCE).try_collect().await
    }

    async fn known(&self, taken: &[TakenTask]) -> Result<Known, StoreError> {
        let members: HashSet<MemberId> = taken.iter().map(|taken| taken.task.member).collect();
        let devices = self.parts.store.devices(Caller::System, members.into_iter().collect()).await?;
        let sessions: HashSet<SessionId> = devices.iter().map(|device| device.session).collect();
        let sessions: Vec<SessionId> = sessions.into_iter().collect();
        let mut views = HashMap::with_capacity(sessions.len());
        for some in sessions.chunks(crate::store::sessions::VIEWS_MAX) {
            views.extend(some.iter().copied().zip(self.parts.sessions.views(some.to_vec()).await?));
        }
        let place = |taken: &TakenTask| match taken.task.subject {
            Subject::Messages(conversation) => Some((taken.task.member, conversation)),
            Subject::Badge => None,
        };
        let places: HashSet<(MemberId, ConversationId)> = taken.iter().filter_map(place).collect();
        let places: Vec<(MemberId, ConversationId)> = places.into_iter().collect();
        let progress = match places.is_empty() {
            true => HashMap::new(),
            false => places.iter().copied().zip(self.parts.store.progress(places.clone()).await?).collect(),
        };
        let devices = devices.into_iter().map(|device| ((device.member, device.device.clone()), device)).collect();
        Ok(Known { devices, sessions: views, progress, now: self.parts.clock.now() })
    }

    async fn compose_one(&self, known: &Known, taken: &TakenTask) -> Result<Composed, StoreError> {
        let task = &taken.task;
        let Some(record) = known.devices.get(&(task.member, task.device.clone())) else {
            return Ok(Composed::Nothing("unregistered"));
        };
        let hash = AddressHash::of(&record.address);
        match known.sessions.get(&record.session) {
            Some(Some(view)) if !view.is_over(known.now) => {
                if view.standing(known.now) != Standing::Active {
                    return Ok(Composed::Nothing("signed_out"));
                }
            }
            _ => {
                // Unless it was registered again meanwhile.
                self.parts.store.address_gone(hash, record.revision).await?;
                self.devices.forget(task.member);
                return Ok(Composed::Nothing("signed_out"));
            }
        }
        let choice = self.parts.store.choice(Caller::System, task.member).await?;
        if let Some(end) = choice.quiet_hours.as_ref().and_then(|quiet| quiet::until(quiet, known.now)) {
            return Ok(Composed::Quiet(end));
        }
        let (what, ttl) = match task.subject {
            Subject::Badge => (What::Badge, BADGE_TTL),
            Subject::Messages(conversation) => {
                let progress = known.progress.get(&(task.member, conversation));
                match self.notice(task, conversation, progress, (&choice, known.now)).await? {
                    Ok((notice, ttl)) => (What::Messages(Box::new(notice)), ttl),
                    // It may show messages that nobody has stored that it was told of, with a number that nobody takes away.
                    Err(_) if taken.is_in_doubt && self.is_silent(record) => (What::Badge, BADGE_TTL),
                    Err(outcome) => return Ok(Composed::Nothing(outcome)),
                }
            }
        };
        let badge = self.parts.store.unread(task.member).await?;
        let is_shown = record.badge.unwrap_or(0) == badge && !taken.is_in_doubt;
        if what == What::Badge && (is_shown || !self.is_silent(record)) {
            return Ok(Composed::Nothing("nothing"));
        }
        let (member, address, registration) = (task.member, record.address.clone(), record.revision);
        let parcel = Parcel { member, composed: Instant::now(), address, registration, what, badge, ttl };
        Ok(Composed::Ready(Box::new(Ready { parcel, hash, badge_before: record.badge })))
    }

    /// Whether the number at its icon can be changed without showing anything.
    pub(super) fn is_silent(&self, record: &DeviceRecord) -> bool {
        self.courier(record.address.service()).is_some_and(|courier| courier.is_silent())
    }

    /// What stands for a conversation on a device, for who must not know which it is.
    fn topic(&self, task: &NewTask, conversation: ConversationId) -> [u8; 16] {
        let DeviceKey(device) = DeviceKey::of(task.member, &task.device);
        first_bytes(self.parts.topics.clone().chain_update(conversation.as_bytes()).chain_update(device))
    }

    /// What is shown of messages, and for how long it is worth being brought; or why nothing is.
    async fn notice(
        &self,
        task: &NewTask,
        conversation: ConversationId,
        progress: Option<&Progress>,
        (choice, now): (&PushChoice, Timestamp),
    ) -> Result<Result<(Notice, Duration), &'static str>, StoreError> {
        let read = progress.map_or(0, |progress| progress.read);
        if read >= task.last {
            return Ok(Err("read"));
        }
        let has = |progress: &Progress| {
            progress.devices.iter().any(|(device, seq)| *device == task.device && *seq >= task.last)
        };
        if progress.is_some_and(has) {
            return Ok(Err("acknowledged"));
        }
        let settings = self.parts.conversations.settings(Caller::System, task.member, vec![conversation]).await?;
        // No message mentions anybody yet.
        if settings.first().is_some_and(|settings| settings.is_muted(now) || settings.notify != Notify::All) {
            return Ok(Err("muted"));
        }
        // What came in quiet hours is as young as their end.
        let came = choice.quiet_hours.as_ref().and_then(|quiet| quiet::until(quiet, task.at)).unwrap_or(task.at);
        let expires = came.after(self.options.ttl);
        if expires <= now {
            return Ok(Err("expired"));
        }
        let conversations = &self.parts.conversations;
        let newest = conversations.history(task.member, conversation, Range::Before(task.last + 1), 1).await?;
        let Some(newest) = newest.and_then(|page| page.entries.into_iter().last()) else { return Ok(Err("nothing")) };
        let unread = conversations.count_unread(conversation, task.member, read, task.last).await?.count.max(1);
        let language = self.parts.members.by_id(Caller::System, task.member).await?;
        let language = language.and_then(|member| member.profile.language).unwrap_or(self.options.language);
        let sender = self.parts.members.by_id(Caller::System, newest.sender).await?;
        let sender = sender.map(|sender| sender.profile.name);
        let content = choice.content.min(self.options.content);
        let topic = self.topic(task, conversation);
        Ok(Ok((notice(&newest, sender, unread, (content, language), topic), expires.since(now))))
    }
}

/// What is shown of messages of which this is the newest.
fn notice(
    newest: &StoredEntry,
    sender: Option<String>,
    unread: u64,
    (content, language): (PushContent, Language),
    topic: [u8; 16],
) -> Notice {
    let without_text = words::messages(language, unread);
    let body = match content {
        PushContent::Full => words::with_more(&first(newest.body.content(), SHOWN_CHARS), unread.saturating_sub(1)),
        PushContent::Sender | PushContent::Nothing => without_text.clone(),
    };
    let is_known = content != PushContent::Nothing;
    Notice {
        conversation: newest.conversation,
        topic,
        seq: newest.seq,
        message: is_known.then_some((newest.id, newest.sender)),
        title: sender.filter(|_| is_known),
        body,
        without_text,
    }
}

/// The beginning of a text.
fn first(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use protocol::{ClientMessageId, MessageId};

    use super::*;
    use crate::store::entries::EntryBody;

    fn shown(text: &str, unread: u64, content: PushContent, language: Language) -> Notice {
        let newest = StoredEntry {
            id: MessageId::from_bytes([1; 12]),
            conversation: ConversationId::from_bytes([2; 12]),
            seq: 9,
            sender: MemberId::from_bytes([3; 12]),
            client_id: ClientMessageId::from_uuid(uuid::Uuid::nil()),
            at: Timestamp::from_millis(0),
            body: EntryBody::Text(text.to_owned()),
            reply_to: None,
        };
        notice(&newest, Some("Ana".to_owned()), unread, (content, language), [9; 16])
    }

    #[test]
    fn as_much_is_shown_as_may_be() {
        let full = shown("Hello", 3, PushContent::Full, Language::En);
        assert_eq!((full.title.as_deref(), full.body.as_str()), (Some("Ana"), "Hello (+2)"));
        let sender = shown("Hello", 1, PushContent::Sender, Language::Pt);
        assert_eq!((sender.title.as_deref(), sender.body.as_str()), (Some("Ana"), "Nova mensagem"));
        assert!(sender.message.is_some());
        let nothing = shown("Hello", 2, PushContent::Nothing, Language::En);
        assert_eq!((nothing.title, nothing.message, nothing.body.as_str()), (None, None, "2 new messages"));
    }

    #[test]
    fn a_long_text_is_cut_before_it_is_said_how_many_more_there_are() {
        let long = shown(&"é".repeat(600), 2, PushContent::Full, Language::En);
        assert_eq!(long.body, format!("{}… (+1)", "é".repeat(SHOWN_CHARS)));
    }
}
