//! The rules of a conversation: who may be written to, which number a message gets, what a retry gets, how watermarks move.
//!
//! They are decided here, from what is known, for every store. Nothing is read or written here: a store looks facts up, asks, and
//! writes what was decided. What makes two messages the same is in the unique index of each store: (conversation, sender,
//! `client_id`).

use protocol::{
    MemberId, MessageId, Timestamp,
    model::{ConversationKind, ConversationSettings, UserType},
};

use super::{
    conversations::{
        Append, Beginning, Mark, MarkKind, Marked, Membership, NewConversation, Refusal, StoredSettings, UnreadCount,
    },
    entries::{EntryBody, StoredEntry},
    members::Standing,
};

/// A member, as the rules see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberFacts {
    /// Whether they are active: whether they can be written to.
    pub(super) is_active: bool,
    /// Until when they may not sign in all the same, and so not write. They can be written to: they come back.
    pub(super) suspended_until: Option<Timestamp>,
    /// What they may do.
    pub(super) user_type: UserType,
}

impl MemberFacts {
    fn may_write(self, now: Timestamp) -> bool {
        Standing::at(now, self.is_active, (false, false), self.suspended_until) == Standing::Active
    }
}

/// What to do with a message.
#[derive(Debug, Clone)]
pub(super) enum Verdict<'a> {
    /// Append it to its conversation. A retry gets the first message again.
    Append {
        /// The sender's place among the members.
        sender: usize,
    },
    /// Make its conversation, and append it to that.
    Begin(&'a NewConversation),
    /// A retry gets the first message again, whatever happened to the recipients since and whatever it answers now; another message is
    /// refused.
    OnlyRetry {
        /// The sender's place among the members.
        sender: usize,
        /// Why another message is refused.
        refusal: Refusal,
    },
    /// Refuse it, without a look at what is stored.
    Refuse(Refusal),
}

/// What is known of the conversation of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// Its kind and members.
    pub(super) membership: &'a Membership,
    /// The number of the newest entry before the message.
    pub(super) newest: u64,
}

/// Whether a message answers nothing, or one that is in the log: the number of its newest entry is `newest`. Numbers have no hole, every
/// entry of a direct conversation is a message, and all its members see all of them. So what was there once is there for ever.
pub(super) fn is_answerable(reply_to: Option<u64>, newest: u64) -> bool {
    reply_to.is_none_or(|seq| (1..=newest).contains(&seq))
}

/// Decides about a message. `known` is its conversation, if there is one. `member` looks a member up, in this order: the sender; then the
/// others of the conversation, until one is found who can receive, or all that a new one is to have.
///
/// # Errors
/// Those of `member`.
pub(super) fn admit<'a, E>(
    append: &'a Append,
    known: Option<Known<'_>>,
    now: Timestamp,
    mut member: impl FnMut(MemberId) -> Result<Option<MemberFacts>, E>,
) -> Result<Verdict<'a>, E> {
    let Some(sender) = member(append.sender)?.filter(|sender| sender.may_write(now)) else {
        return Ok(Verdict::Refuse(Refusal::SenderDeactivated));
    };
    let beginning = Beginning {
        member: append.sender,
        user_type: sender.user_type,
        conversation: append.conversation,
        client_id: append.client_id,
        begun: known.is_some(),
    };
    let admission = append.create.as_ref().and_then(|new| new.admission.as_ref());
    let admitted = || admission.map_or(Ok(()), |admission| admission.admit(&beginning));
    let Some(known) = known else {
        let Some(new) = &append.create else { return Ok(Verdict::Refuse(Refusal::ConversationNotFound)) };
        for each in &new.members {
            match member(*each)? {
                None => return Ok(Verdict::Refuse(Refusal::MemberNotFound)),
                Some(facts) if !facts.is_active => return Ok(Verdict::Refuse(Refusal::RecipientDeactivated)),
                Some(_) => {}
            }
        }
        if !is_answerable(append.reply_to, 0) {
            return Ok(Verdict::Refuse(Refusal::AnsweredNotFound));
        }
        return Ok(admitted().map_or_else(Verdict::Refuse, |()| Verdict::Begin(new)));
    };
    if let Err(refusal) = admitted() {
        return Ok(Verdict::Refuse(refusal));
    }
    let Known { membership, newest } = known;
    let Some(sender) = membership.place_of(append.sender) else {
        return Ok(Verdict::Refuse(Refusal::ConversationNotFound));
    };
    for other in membership.members.iter().filter(|other| **other != append.sender) {
        if member(*other)?.is_some_and(|other| other.is_active) {
            let refusal = Refusal::AnsweredNotFound;
            let is_answerable = is_answerable(append.reply_to, newest);
            return Ok(if is_answerable { Verdict::Append { sender } } else { Verdict::OnlyRetry { sender, refusal } });
        }
    }
    Ok(Verdict::OnlyRetry { sender, refusal: Refusal::RecipientDeactivated })
}

/// The end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// The number of the newest entry; 0 without one.
    pub(super) seq: u64,
    /// When it was stored.
    pub(super) at: Timestamp,
}

impl End {
    /// The message that comes next: its number is the next one, without a hole, and its time is not before that of the last one.
    pub(super) fn next(self, id: MessageId, append: &Append, body: EntryBody, now: Timestamp) -> StoredEntry {
        StoredEntry {
            id,
            conversation: append.conversation,
            seq: self.seq + 1,
            sender: append.sender,
            client_id: append.client_id,
            at: self.not_before(now),
            body,
            reply_to: append.reply_to,
        }
    }

    /// When something happens in the conversation: not before its newest entry, whatever the clock says.
    pub(super) fn not_before(self, now: Timestamp) -> Timestamp {
        now.max(self.at)
    }

    /// Takes a message of the log in. Returns whether it is beyond what was known.
    pub(super) fn reach(&mut self, seq: u64, at: Timestamp) -> bool {
        let is_new = seq > self.seq;
        if is_new {
            *self = Self { seq, at };
        }
        is_new
    }
}

/// How far a member has got: `read <= delivered <= ` the newest entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reached {
    /// Up to where entries have reached a device.
    pub(super) delivered: u64,
    /// Up to where they were read.
    pub(super) read: u64,
}

impl Reached {
    /// Moves to an entry: forwards only, and not beyond the newest one. What is read was delivered.
    #[must_use]
    pub(super) fn moved(self, kind: MarkKind, seq: u64, newest: u64) -> Self {
        let seq = seq.min(newest);
        let read = if kind == MarkKind::Read { self.read.max(seq) } else { self.read };
        Self { delivered: self.delivered.max(seq), read }
    }
}

/// What moving a watermark did. `before` and `after`: the watermarks of the member; `newest` was the newest entry then.
pub(super) fn marked(
    mark: &Mark,
    (before, after): (Reached, Reached),
    newest: u64,
    at: Timestamp,
    unread: Option<UnreadCount>,
    membership: &Membership,
) -> Marked {
    Marked {
        conversation: mark.conversation,
        member: mark.member,
        delivered: after.delivered,
        read: after.read,
        moved: before != after,
        // Without anything after it nothing is unread, and nobody has to count.
        unread: unread.or_else(|| (after.read >= newest).then(UnreadCount::default)),
        last_seq: newest,
        at,
        membership: membership.clone(),
    }
}

/// What setting a member's settings does: their new state, if they are others than before. `before`: what is stored.
pub(super) fn configured(settings: ConversationSettings, before: StoredSettings) -> Option<StoredSettings> {
    (settings != before.settings).then(|| StoredSettings { settings, revision: before.revision + 1 })
}

/// The word for a kind of conversation in every store.
pub(super) const fn kind_word(kind: ConversationKind) -> &'static str {
    match kind {
        ConversationKind::Direct => "direct",
    }
}

/// The kind of conversation that a word stands for.
pub(super) fn kind_of(word: &str) -> Option<ConversationKind> {
    [ConversationKind::Direct].into_iter().find(|kind| kind_word(*kind) == word)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, convert::Infallible, time::Duration};

    use proptest::prelude::*;
    use protocol::{ClientMessageId, ConversationId};

    use super::*;
    use crate::store::conversations::{Admission, NotYet};

    const ANA: MemberId = MemberId::from_bytes([1; 12]);
    const BEN: MemberId = MemberId::from_bytes([2; 12]);
    const EVA: MemberId = MemberId::from_bytes([3; 12]);
    /// Active, not active, and not there.
    const ACTIVE: Option<bool> = Some(true);
    const INACTIVE: Option<bool> = Some(false);
    const NOBODY: Option<bool> = None;

    fn append(admission: Option<Admission>) -> Append {
        Append {
            conversation: ConversationId::from_bytes([7; 12]),
            create: Some(NewConversation { admission, ..NewConversation::direct(ANA, BEN) }),
            sender: ANA,
            client_id: ClientMessageId::from_bytes([9; 16]),
            content: "Hello".to_owned(),
            reply_to: None,
        }
    }

    fn among(members: &[MemberId]) -> Membership {
        Membership { kind: ConversationKind::Direct, members: members.into() }
    }

    /// What becomes of a message, with members who are like this, and who was looked up. A conversation has 5 entries.
    fn decide(
        append: &Append,
        known: Option<&Membership>,
        states: &[(MemberId, Option<bool>)],
    ) -> (String, Vec<MemberId>) {
        let asked = RefCell::new(Vec::new());
        let member = |id| {
            asked.borrow_mut().push(id);
            let state = states.iter().find(|(known, _)| *known == id).and_then(|(_, state)| *state);
            Ok::<_, Infallible>(state.map(|is_active| MemberFacts {
                is_active,
                suspended_until: None,
                user_type: UserType::Member,
            }))
        };
        let known = known.map(|membership| Known { membership, newest: 5 });
        let Ok(verdict) = admit(append, known, Timestamp::from_millis(0), member);
        let verdict = match verdict {
            Verdict::Append { sender } => format!("append {sender}"),
            Verdict::Begin(_) => "begin".to_owned(),
            Verdict::OnlyRetry { sender, refusal } => format!("retry {sender} {refusal:?}"),
            Verdict::Refuse(refusal) => format!("{refusal:?}"),
        };
        (verdict, asked.into_inner())
    }

    #[test]
    fn who_may_be_written_to() {
        let (new, both) = (append(None), among(&[ANA, BEN]));
        let verdict = |known: Option<&Membership>, ana, ben| decide(&new, known, &[(ANA, ana), (BEN, ben)]).0;
        for known in [None, Some(&both)] {
            assert_eq!(verdict(known, INACTIVE, ACTIVE), "SenderDeactivated");
            assert_eq!(verdict(known, NOBODY, ACTIVE), "SenderDeactivated");
        }
        assert_eq!(verdict(None, ACTIVE, ACTIVE), "begin");
        assert_eq!(verdict(None, ACTIVE, INACTIVE), "RecipientDeactivated");
        assert_eq!(verdict(None, ACTIVE, NOBODY), "MemberNotFound");
        assert_eq!(verdict(Some(&both), ACTIVE, ACTIVE), "append 0");
        assert_eq!(verdict(Some(&both), ACTIVE, INACTIVE), "retry 0 RecipientDeactivated");
        assert_eq!(verdict(Some(&among(&[BEN, EVA])), ACTIVE, ACTIVE), "ConversationNotFound");
        let into = Append { create: None, ..append(None) };
        assert_eq!(decide(&into, None, &[(ANA, ACTIVE)]).0, "ConversationNotFound");
    }

    #[test]
    fn of_many_members_one_who_can_receive_is_enough_and_the_others_are_not_looked_up() {
        let three = among(&[ANA, BEN, EVA]);
        let decide = |ben, eva| decide(&append(None), Some(&three), &[(ANA, ACTIVE), (BEN, ben), (EVA, eva)]);
        assert_eq!(decide(ACTIVE, ACTIVE), ("append 0".to_owned(), vec![ANA, BEN]));
        assert_eq!(decide(INACTIVE, ACTIVE), ("append 0".to_owned(), vec![ANA, BEN, EVA]));
        assert_eq!(decide(INACTIVE, INACTIVE).0, "retry 0 RecipientDeactivated");
    }

    #[test]
    fn what_is_answered_is_there_and_whoever_answers_nothing_begins_nothing() {
        let both = among(&[ANA, BEN]);
        let verdict = |reply_to, known: Option<&Membership>, ben| {
            let message = Append { reply_to, ..append(None) };
            decide(&message, known, &[(ANA, ACTIVE), (BEN, ben)]).0
        };
        for good in [None, Some(1), Some(5)] {
            assert_eq!(verdict(good, Some(&both), ACTIVE), "append 0", "{good:?}");
        }
        for bad in [0, 6, u64::MAX] {
            assert_eq!(verdict(Some(bad), Some(&both), ACTIVE), "retry 0 AnsweredNotFound", "{bad}");
            assert_eq!(verdict(Some(bad), Some(&both), INACTIVE), "retry 0 RecipientDeactivated", "{bad}");
            assert_eq!(verdict(Some(bad), None, NOBODY), "MemberNotFound", "{bad}");
        }
        assert_eq!(verdict(Some(1), None, ACTIVE), "AnsweredNotFound");
        // It is not charged for a conversation that is not begun.
        let never = Admission::new(|_| panic!("asked"));
        let first = Append { reply_to: Some(1), ..append(Some(never)) };
        assert_eq!(decide(&first, None, &[(ANA, ACTIVE), (BEN, ACTIVE)]).0, "AnsweredNotFound");
    }

    #[test]
    fn whoever_begins_too_many_conversations_is_put_off_but_only_when_nothing_else_is_wrong() {
        let wait = Duration::from_secs(7);
        let admission =
            Admission::new(move |beginning| if beginning.begun { Ok(()) } else { Err(NotYet::TooMany(wait)) });
        let new = append(Some(admission));
        let verdict = |known: Option<&Membership>, ben| decide(&new, known, &[(ANA, ACTIVE), (BEN, ben)]).0;
        assert_eq!(verdict(None, ACTIVE), format!("{:?}", Refusal::NotYet(NotYet::TooMany(wait))));
        assert_eq!(verdict(None, NOBODY), "MemberNotFound");
        assert_eq!(verdict(Some(&among(&[ANA, BEN])), ACTIVE), "append 0");
    }

    #[test]
    fn numbers_have_no_hole_and_times_do_not_go_back() {
        let mut end = End { seq: 0, at: Timestamp::from_millis(500) };
        for (now, at) in [(400, 500), (600, 600), (550, 600)] {
            let (before, append) = (end, append(None));
            let message = end.next(
                MessageId::from_bytes([1; 12]),
                &append,
                EntryBody::Text(String::new()),
                Timestamp::from_millis(now),
            );
            assert_eq!((message.seq, message.at), (before.seq + 1, Timestamp::from_millis(at)));
            assert!(end.reach(message.seq, message.at) && !end.reach(message.seq, message.at));
        }
        assert_eq!(end.seq, 3);
    }

    proptest! {
        #[test]
        fn watermarks_only_move_forward_and_not_beyond_the_end(moves in prop::collection::vec((any::<bool>(), 0..40_u64, 0..3_u64), 0..60)) {
            let (mut reached, mut newest) = (Reached::default(), 0);
            for (is_read, seq, appended) in moves {
                newest += appended;
                let kind = if is_read { MarkKind::Read } else { MarkKind::Delivered };
                let after = reached.moved(kind, seq, newest);
                prop_assert!(reached.read <= after.read && reached.delivered <= after.delivered);
                prop_assert!(after.read <= after.delivered && after.delivered <= newest);
                prop_assert_eq!(after.delivered, reached.delivered.max(seq.min(newest)));
                prop_assert_eq!(after.read, if is_read { reached.read.max(seq.min(newest)) } else { reached.read });
                reached = after;
            }
        }
    }
}
