//! Conversations: logs, watermarks, receipts, lists, history, changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use members_book::{
    position::{Position, StreamPosition},
    service::messaging::direct_conversation,
    store::{
        changes::Change,
        conversations::{
            Admission, Append, Appended, Command, ConversationState, Mark, MarkKind, NewConversation, NotYet, Outcome,
            Range, ReceiptRange, ReceiptTimes, Refusal, UnreadCount,
        },
        entries::StoredEntry,
        sync::{SYNC_PART_BYTES, SyncPart},
        turns::Caller,
    },
};
use protocol::{
    ConversationId, MemberId, limits,
    model::{UserType, Watermarks},
};

use super::{
    fixture::{Fixture, append},
    for_every_store,
};
use crate::harness::client_id;

for_every_store![
    a_log_counts_from_one,
    a_retry_returns_the_first_message,
    a_retry_within_one_batch_too,
    a_client_id_counts_per_conversation_and_sender,
    times_never_go_back,
    a_conversation_needs_two_active_members,
    a_retry_to_somebody_deactivated_returns_the_first_message,
    only_its_members_know_a_conversation,
    watermarks_only_grow_and_are_clamped,
    unread_counts_the_messages_of_others,
    unread_is_exact_up_to_a_thousand_whoever_wrote_them,
    receipts_of_many_conversations_are_read_at_once,
    logs_of_many_conversations_are_read_at_once,
    receipts_tell_when_each_message_was_delivered_and_read,
    history_is_paged_in_both_directions,
    every_page_of_a_long_log_is_right,
    pages_of_large_messages_are_shorter,
    conversations_are_listed_newest_first,
    changes_are_complete,
    missed_entries_are_bounded,
    changes_come_in_parts,
    a_page_of_conversations_is_bounded_in_bytes,
    a_position_from_the_future_gives_the_full_state,
    partners_are_those_with_a_conversation,
    conversations_that_exist_are_told_from_others,
    a_new_conversation_needs_an_admission_and_a_known_one_the_order_of_its_messages,
    many_writers_leave_no_hole,
];

fn seqs(entries: &[StoredEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.seq).collect()
}

async fn conversations_that_exist_are_told_from_others(f: &Fixture) {
    let [ana, ben, eva] = [f.member("Ana").await, f.member("Ben").await, f.member("Eva").await];
    let (begun, other) = (f.say(ana, ben, "hi").await.conversation, direct_conversation(ana, eva));
    assert_eq!(f.store.conversations.begun(Caller::System, vec![other, begun]).await.unwrap(), [begun]);
    assert!(f.store.conversations.begun(Caller::System, vec![other]).await.unwrap().is_empty());
    assert!(f.store.conversations.begun(Caller::System, Vec::new()).await.unwrap().is_empty());
}

async fn a_new_conversation_needs_an_admission_and_a_known_one_the_order_of_its_messages(f: &Fixture) {
    let [ana, ben, root] = [f.member("Ana").await, f.member("Ben").await, f.member("Root").await];
    f.change(root, Change::Role(UserType::Admin)).await;
    let wait = Duration::from_secs(7);
    let asked = Arc::new(AtomicUsize::new(0));
    let guarded = |from, to| {
        let asked = Arc::clone(&asked);
        let admission = Admission::new(move |beginning| {
            let user_type = beginning.user_type;
            asked.fetch_add(1, Ordering::SeqCst);
            if user_type == UserType::Admin || beginning.begun { Ok(()) } else { Err(NotYet::TooMany(wait)) }
        });
        let Command::Append(append) = append(from, to, client_id(), "hi") else { unreachable!() };
        let create = Some(NewConversation { admission: Some(admission), ..NewConversation::direct(from, to) });
        Command::Append(Append { create, ..append })
    };
    for _ in 0..2 {
        assert_eq!(f.apply(guarded(ana, ben)).await.err(), Some(Refusal::NotYet(NotYet::TooMany(wait))));
    }
    assert!(f.store.conversations.membership(Caller::System, direct_conversation(ana, ben)).await.unwrap().is_none());
    assert!(f.apply(guarded(root, ana)).await.is_ok());
    assert_eq!(asked.swap(0, Ordering::SeqCst), 3);
    f.say(ben, ana, "hello").await;
    assert!(f.apply(guarded(ana, ben)).await.is_ok());
    assert_eq!(
        asked.load(Ordering::SeqCst),
        1,
        "an earlier message may have been refused while there was no conversation"
    );
}

async fn a_log_counts_from_one(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for seq in 1..=3 {
        let message = f.say(ana, ben, "hello").await;
        assert_eq!(message.seq, seq);
        assert_eq!(message.conversation, direct_conversation(ana, ben));
    }
    assert_eq!(f.say(ben, ana, "hi").await.seq, 4, "both sides write into the same log");
}

async fn a_retry_returns_the_first_message(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let id = client_id();
    let Ok(Outcome::Appended(Appended { message: first, duplicate: false, .. })) =
        f.apply(append(ana, ben, id, "once")).await
    else {
        panic!()
    };
    f.say(ben, ana, "between").await;
    f.wait(1_000_000);
    let Ok(Outcome::Appended(Appended { message, duplicate: true, .. })) = f.apply(append(ana, ben, id, "twice")).await
    else {
        panic!()
    };
    assert_eq!(message, first);
    assert_eq!(f.say(ana, ben, "next").await.seq, 3, "the retry took no seq");
}

async fn a_retry_within_one_batch_too(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let id = client_id();
    let batch = vec![append(ana, ben, id, "one"), append(ana, ben, id, "one"), append(ana, ben, client_id(), "two")];
    let seqs: Vec<(u64, bool)> = f
        .apply_all(batch)
        .await
        .outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Ok(Outcome::Appended(Appended { message, duplicate, .. })) => (message.seq, duplicate),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seqs, [(1, false), (1, true), (2, false)]);
}

async fn a_client_id_counts_per_conversation_and_sender(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let id = client_id();
    for (from, to) in [(ana, ben), (ana, eva), (ben, ana)] {
        let outcome = f.apply(append(from, to, id, "mine")).await;
        assert!(matches!(outcome, Ok(Outcome::Appended(Appended { duplicate: false, .. }))), "{outcome:?}");
    }
}

async fn times_never_go_back(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let first = f.say(ana, ben, "one").await;
    f.clock.set(protocol::Timestamp::from_millis(1_000));
    assert_eq!(f.say(ana, ben, "two").await.at, first.at);
}

async fn a_conversation_needs_two_active_members(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let nobody = f.ids.member();
    assert_eq!(f.apply(append(ana, nobody, client_id(), "x")).await.unwrap_err(), Refusal::MemberNotFound);
    f.change(ben, Change::Active(false)).await;
    assert_eq!(f.apply(append(ana, ben, client_id(), "x")).await.unwrap_err(), Refusal::RecipientDeactivated);
    assert_eq!(f.apply(append(ben, ana, client_id(), "x")).await.unwrap_err(), Refusal::SenderDeactivated);
    let page = f.store.conversations.list(ana, <_>::default(), None, 10).await.unwrap();
    assert!(page.conversations.is_empty(), "a refused message makes no conversation");
    f.change(ben, Change::Active(true)).await;
    assert_eq!(f.say(ana, ben, "x").await.seq, 1);
}

async fn a_retry_to_somebody_deactivated_returns_the_first_message(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let id = client_id();
    f.apply(append(ana, ben, id, "once")).await.unwrap();
    f.change(ben, Change::Active(false)).await;
    assert!(matches!(
        f.apply(append(ana, ben, id, "once")).await,
        Ok(Outcome::Appended(Appended { duplicate: true, .. }))
    ));
    assert_eq!(f.apply(append(ana, ben, client_id(), "new")).await.unwrap_err(), Refusal::RecipientDeactivated);
}

async fn only_its_members_know_a_conversation(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let conversation = f.say(ana, ben, "secret").await.conversation;
    let intruder =
        Append { conversation, create: None, sender: eva, client_id: client_id(), content: "x".into(), reply_to: None };
    assert_eq!(f.apply(Command::Append(intruder)).await.unwrap_err(), Refusal::ConversationNotFound);
    let mark = Mark { conversation, member: eva, kind: MarkKind::Read, seq: 1 };
    assert_eq!(f.apply(Command::Mark(mark)).await.unwrap_err(), Refusal::ConversationNotFound);
    assert!(f.store.conversations.history(eva, conversation, Range::Newest, 10).await.unwrap().is_none());
    assert!(f.store.conversations.delta(eva, None).await.unwrap().conversations.is_empty());
    let unknown = ConversationId::from_bytes([9; 12]);
    let append = Append {
        conversation: unknown,
        create: None,
        sender: ana,
        client_id: client_id(),
        content: "x".into(),
        reply_to: None,
    };
    assert_eq!(f.apply(Command::Append(append)).await.unwrap_err(), Refusal::ConversationNotFound);
    assert!(f.store.conversations.membership(Caller::System, unknown).await.unwrap().is_none());
    let membership = f.store.conversations.membership(Caller::System, conversation).await.unwrap().unwrap();
    assert!(membership.members.len() == 2 && membership.members.contains(&ana) && membership.members.contains(&ben));
}

async fn watermarks_only_grow_and_are_clamped(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let conversation = f.say(ana, ben, "1").await.conversation;
    for _ in 0..4 {
        f.say(ana, ben, "more").await;
    }
    use MarkKind::{Delivered, Read};
    let mark = async |kind, seq| {
        let (delivered, read, _, moved) = f.mark(conversation, ben, kind, seq).await;
        (delivered, read, moved)
    };
    assert_eq!(mark(Delivered, 2).await, (2, 0, true));
    assert_eq!(mark(Delivered, 2).await, (2, 0, false), "repeated");
    assert_eq!(mark(Delivered, 1).await, (2, 0, false), "late");
    assert_eq!(mark(Delivered, 0).await, (2, 0, false), "nothing");
    assert_eq!(mark(Read, 1).await, (2, 1, true));
    assert_eq!(mark(Read, 3).await, (3, 3, true), "reading implies delivery");
    assert_eq!(mark(Delivered, limits::INTEGER_MAX).await, (5, 3, true), "clamped to the newest entry");
    assert_eq!(mark(Read, 99).await, (5, 5, true));
}

async fn unread_counts_the_messages_of_others(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let conversation = direct_conversation(ana, ben);
    for (from, to) in [(ana, ben), (ben, ana), (ana, ben), (ana, ben)] {
        f.say(from, to, "x").await;
    }
    let unread =
        async |member: MemberId| f.store.conversations.delta(member, None).await.unwrap().conversations[0].unread.count;
    assert_eq!((unread(ana).await, unread(ben).await), (1, 3));
    assert_eq!(f.mark(conversation, ben, MarkKind::Delivered, 4).await.2, None);
    assert_eq!(unread(ben).await, 3, "delivered is not read");
    assert_eq!(f.mark(conversation, ben, MarkKind::Read, 1).await.2, Some(2));
    assert_eq!(f.mark(conversation, ben, MarkKind::Read, 4).await.2, Some(0));
    assert_eq!((unread(ana).await, unread(ben).await), (1, 0));
    f.say(ben, ana, "my own").await;
    assert_eq!((unread(ana).await, unread(ben).await), (2, 0), "a message of one's own is never unread");
}

/// A member has written a lot after what they have read, and the other one too.
async fn unread_is_exact_up_to_a_thousand_whoever_wrote_them(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let conversation = direct_conversation(ana, ben);
    let of_ana = |seq: u64| !seq.is_multiple_of(8);
    let last = 1_150;
    let message =
        |seq| if of_ana(seq) { append(ana, ben, client_id(), "x") } else { append(ben, ana, client_id(), "x") };
    for batch in (1..=last).collect::<Vec<u64>>().chunks(400) {
        f.apply_all(batch.iter().copied().map(message).collect()).await;
    }
    for (read, to) in
        [(0, last), (1, last), (149, last), (150, last), (151, last), (0, 40), (31, 33), (1_149, last), (7, 7)]
    {
        let (by_ana, by_ben) =
            ((read + 1..=to).filter(|seq| of_ana(*seq)).count(), (read + 1..=to).filter(|seq| !of_ana(*seq)).count());
        let expected = [by_ben, by_ana].map(|number| UnreadCount::of(number as u64));
        let counted =
            [f.unread_between(conversation, ana, read, to).await, f.unread_between(conversation, ben, read, to).await];
        assert_eq!(counted, expected, "{read} to {to}");
    }
    let more = UnreadCount { count: limits::UNREAD_MAX, more: true };
    assert_eq!(f.store.conversations.unread(ben).await.unwrap(), [(conversation, more)]);
    let listed = f.store.conversations.list(ben, <_>::default(), None, 10).await.unwrap().conversations.remove(0);
    assert_eq!((listed.unread.count, listed.unread.more), (limits::UNREAD_MAX, true));
    // Ana has 143 of Ben's left, and 1,007 of her own.
    let listed = f.store.conversations.delta(ana, None).await.unwrap().conversations.remove(0);
    assert_eq!((listed.unread.count, listed.unread.more), (143, false));
    f.mark(conversation, ben, MarkKind::Read, 8).await;
    assert_eq!(
        f.store.conversations.unread(ben).await.unwrap(),
        [(conversation, UnreadCount { count: 1_000, more: false })]
    );
    let stranger = f.member("Eva").await;
    assert_eq!(f.unread_between(conversation, stranger, 0, last).await, UnreadCount::default());
}

async fn receipts_of_many_conversations_are_read_at_once(f: &Fixture) {
    let ana = f.member("Ana").await;
    let mut ranges = Vec::new();
    let mut expected = Vec::new();
    for name in ["Ben", "Eva", "Leo"] {
        let other = f.member(name).await;
        let conversation = f.say(ana, other, "1").await.conversation;
        f.say(ana, other, "2").await;
        f.wait(1);
        f.mark(conversation, other, MarkKind::Read, 1).await;
        ranges.push(ReceiptRange { conversation, member: other, first: 1, last: 2 });
        let read = ReceiptTimes { delivered_at: Some(f.now()), read_at: Some(f.now()) };
        expected.push(vec![read, ReceiptTimes::default()]);
    }
    assert_eq!(f.store.conversations.receipt_times(ana, ranges).await.unwrap(), expected);
}

async fn logs_of_many_conversations_are_read_at_once(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    for _ in 0..3 {
        f.say(ana, ben, "x").await;
    }
    f.say(eva, ana, "x").await;
    f.say(eva, ben, "not Ana's").await;
    let after = vec![
        (direct_conversation(ana, ben), 1),
        (direct_conversation(eva, ben), 0),
        (direct_conversation(ana, eva), 0),
    ];
    let pages = f.store.conversations.logs(ana, after, 1).await.unwrap();
    let pages: Vec<_> = pages.iter().map(|page| (seqs(&page.entries), page.more)).collect();
    assert_eq!(pages, [(vec![2], true), (vec![], false), (vec![1], false)]);
}

async fn receipts_tell_when_each_message_was_delivered_and_read(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let conversation = direct_conversation(ana, ben);
    for _ in 0..5 {
        f.say(ana, ben, "x").await;
    }
    let at = async |seconds: u64, kind, seq| {
        f.wait(seconds);
        f.mark(conversation, ben, kind, seq).await;
        Some(f.now())
    };
    let delivered_2 = at(1, MarkKind::Delivered, 2).await;
    let delivered_4 = at(1, MarkKind::Delivered, 4).await;
    let read_3 = at(1, MarkKind::Read, 3).await;
    let read_5 = at(1, MarkKind::Read, 5).await;
    let times = f.receipt_times(conversation, ben, 1, 5).await;
    let expected =
        [(delivered_2, read_3), (delivered_2, read_3), (delivered_4, read_3), (delivered_4, read_5), (read_5, read_5)];
    let expected = expected.map(|(delivered_at, read_at)| ReceiptTimes { delivered_at, read_at });
    assert_eq!(times, expected);
    f.say(ana, ben, "not yet").await;
    let times = f.receipt_times(conversation, ben, 5, 6).await;
    assert_eq!(times, [expected[4], ReceiptTimes::default()]);
}

/// Two conversations grow side by side, far beyond whatever a store keeps for finding its way in a log.
async fn every_page_of_a_long_log_is_right(f: &Fixture) {
    const LAST: u64 = 131;
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let conversation = direct_conversation(ana, ben);
    let said = |number: u64| [append(ana, ben, client_id(), &number.to_string()), append(eva, ben, client_id(), "x")];
    f.apply_all((1..=LAST).flat_map(said).collect()).await;
    f.apply_all((1..=10).map(|_| append(ben, ana, client_id(), "mine")).collect()).await;
    let all: Vec<u64> = (1..=LAST + 10).collect();
    for bound in (0..=LAST + 12).step_by(3) {
        let page = async |range| {
            let page = f.store.conversations.history(ben, conversation, range, 5).await.unwrap().unwrap();
            (seqs(&page.entries), page.more)
        };
        let before: Vec<u64> = all.iter().copied().filter(|seq| *seq < bound).collect();
        let after: Vec<u64> = all.iter().copied().filter(|seq| *seq > bound).collect();
        let newest = before.len().saturating_sub(5);
        assert_eq!(page(Range::Before(bound)).await, (before[newest..].to_vec(), newest > 0), "before {bound}");
        let oldest = after.len().min(5);
        assert_eq!(page(Range::After(bound)).await, (after[..oldest].to_vec(), after.len() > 5), "after {bound}");
    }
    let page = f.store.conversations.history(ben, conversation, Range::After(0), 100).await.unwrap().unwrap();
    for message in &page.entries {
        assert_eq!(message.body.content(), message.seq.to_string(), "each in its own conversation");
    }
    for read in [0, 1, 31, 32, 33, 64, 100, LAST, LAST + 5] {
        let (.., unread, _) = f.mark(conversation, ben, MarkKind::Read, read).await;
        assert_eq!(unread, Some(LAST.saturating_sub(read)), "read up to {read}");
    }
}

async fn history_is_paged_in_both_directions(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let conversation = direct_conversation(ana, ben);
    for _ in 0..7 {
        f.say(ana, ben, "x").await;
    }
    let page = async |range, limit| {
        let page = f.store.conversations.history(ben, conversation, range, limit).await.unwrap().unwrap();
        (seqs(&page.entries), page.more)
    };
    assert_eq!(page(Range::Newest, 3).await, (vec![5, 6, 7], true));
    assert_eq!(page(Range::Before(5), 3).await, (vec![2, 3, 4], true));
    assert_eq!(page(Range::Before(2), 3).await, (vec![1], false));
    assert_eq!(page(Range::Before(4), 3).await, (vec![1, 2, 3], false), "exactly to the end");
    assert_eq!(page(Range::Before(1), 3).await, (vec![], false));
    assert_eq!(page(Range::After(0), 3).await, (vec![1, 2, 3], true));
    assert_eq!(page(Range::After(4), 3).await, (vec![5, 6, 7], false));
    assert_eq!(page(Range::After(7), 3).await, (vec![], false));
    assert_eq!(page(Range::After(limits::INTEGER_MAX), 3).await, (vec![], false));
}

async fn pages_of_large_messages_are_shorter(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let conversation = direct_conversation(ana, ben);
    let large = "x".repeat(limits::PAGE_CONTENT_BYTES / 2);
    for content in [large.as_str(), &large, &large, "small", &large.repeat(4), "small"] {
        f.say(ana, ben, content).await;
    }
    let page = async |range| {
        let page = f.store.conversations.history(ben, conversation, range, 100).await.unwrap().unwrap();
        (seqs(&page.entries), page.more)
    };
    assert_eq!(page(Range::After(0)).await, (vec![1, 2], true));
    assert_eq!(page(Range::After(2)).await, (vec![3, 4], true));
    assert_eq!(page(Range::After(4)).await, (vec![5], true), "one at least");
    assert_eq!(page(Range::After(5)).await, (vec![6], false));
    assert_eq!(page(Range::Newest).await, (vec![6], true));
    assert_eq!(page(Range::Before(5)).await, (vec![3, 4], true));
    let state = f.store.conversations.delta(ben, None).await.unwrap().conversations.remove(0);
    assert_eq!((seqs(&state.entries), state.last_seq, state.unread.count), (vec![6], 6, 6));
}

async fn conversations_are_listed_newest_first(f: &Fixture) {
    let ana = f.member("Ana").await;
    let mut others = Vec::new();
    for name in ["B", "C", "D", "E", "F"] {
        let other = f.member(name).await;
        f.say(other, ana, name).await;
        others.push(other);
    }
    f.say(ana, others[1], "again").await;
    let newest_first = [1, 4, 3, 2, 0].map(|place: usize| direct_conversation(ana, others[place]));
    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let page = f.store.conversations.list(ana, <_>::default(), before, 2).await.unwrap();
        for conversation in page.conversations {
            assert_eq!(seqs(&conversation.entries), [conversation.last_seq], "each with its newest entry");
            listed.push(conversation.id);
        }
        // A mark changes a conversation but does not move it to the front.
        f.mark(newest_first[4], ana, MarkKind::Read, 1).await;
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(listed, newest_first);
}

async fn changes_are_complete(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let with_ben = f.say(ben, ana, "1").await.conversation;
    let with_eva = f.say(eva, ana, "1").await.conversation;
    f.settle().await;
    let start = f.store.conversations.delta(ana, None).await.unwrap();
    assert!(start.full && !start.more);
    assert_eq!(start.conversations.iter().map(|c| c.id).collect::<Vec<_>>(), [with_eva, with_ben]);
    let since = async |position| f.store.conversations.delta(ana, Some(position)).await.unwrap();

    let nothing = since(start.position).await;
    assert!(!nothing.full && nothing.conversations.is_empty());
    f.mark(with_ben, ben, MarkKind::Delivered, 1).await;
    let marked = since(start.position).await;
    assert_eq!(marked.conversations.len(), 1, "a watermark is a change");
    assert!(marked.conversations[0].entries.is_empty(), "without a new entry");
    let expected = Watermarks { member: ben, delivered: 1, read: 0 };
    assert!(marked.conversations[0].members.contains(&expected));
}

async fn missed_entries_are_bounded(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ben, ana, "1").await;
    f.settle().await;
    let start = f.store.conversations.delta(ana, None).await.unwrap();
    let since = async |position| f.store.conversations.delta(ana, Some(position)).await.unwrap();
    let missed = limits::SYNC_MISSED_ENTRIES + 10;
    for _ in 0..missed {
        f.say(ben, ana, "x").await;
    }
    f.settle().await;
    let changes = since(start.position).await;
    let last = u64::try_from(missed + 1).unwrap();
    assert_eq!(changes.conversations.len(), 1);
    assert_eq!((changes.conversations[0].last_seq, changes.conversations[0].unread.count), (last, last));
    assert_eq!(seqs(&changes.conversations[0].entries), (12..=last).collect::<Vec<_>>(), "the latest, bounded");
    assert_eq!(since(start.position).await.conversations, changes.conversations, "state: asking twice changes nothing");
    assert!(since(changes.position).await.conversations.is_empty());
}

async fn changes_come_in_parts(f: &Fixture) {
    let ana = f.member("Ana").await;
    let mut newest_first = Vec::new();
    for number in 0..7 {
        let other = f.member(&format!("M{number}")).await;
        f.say(other, ana, &"x".repeat(30_000)).await;
        newest_first.insert(0, f.say(other, ana, &"x".repeat(30_000)).await.conversation);
    }
    f.settle().await;
    let first = f.store.conversations.delta(ana, None).await.unwrap();
    assert!(first.full && first.partial && !first.more);
    let begun = StreamPosition { epoch: first.epoch, position: first.position };
    let (mut listed, mut place) = (Vec::new(), None);
    let mut part = first.clone();
    loop {
        assert_eq!(part.conversations.len(), part.places.len());
        assert!(part.places.is_sorted_by(|higher, lower| higher > lower));
        assert!(part.conversations.iter().all(|conversation| seqs(&conversation.entries) == [1, 2]));
        let bytes: usize = part.conversations.iter().map(ConversationState::bytes).sum();
        assert!(bytes < SYNC_PART_BYTES + 65_536, "{bytes}");
        listed.extend(part.conversations.iter().map(|conversation| conversation.id));
        place = part.places.last().copied().or(place);
        if !part.partial {
            break;
        }
        let below = SyncPart { below: place, ..SyncPart::first(begun, None) };
        part = f.store.conversations.delta_below(ana, below).await.unwrap().unwrap();
    }
    assert_eq!(listed, newest_first);

    let room = SyncPart { conversations: 2, entries: 3, ..SyncPart::first(begun, None) };
    let bounded = f.store.conversations.delta_below(ana, room).await.unwrap().unwrap();
    assert!(bounded.more && !bounded.partial);
    let entries: Vec<_> = bounded.conversations.iter().map(|conversation| conversation.entries.len()).collect();
    assert_eq!(entries, [2, 1]);
    let changed = SyncPart { changed: Some(first.position), ..SyncPart::first(begun, None) };
    assert!(f.store.conversations.delta_below(ana, changed).await.unwrap().unwrap().conversations.is_empty());
    let future = SyncPart::first(StreamPosition { position: Position(first.position.0 + 3_600_000), ..begun }, None);
    assert_eq!(f.store.conversations.delta_below(ana, future).await.unwrap(), None, "another state of the store");
}

async fn a_page_of_conversations_is_bounded_in_bytes(f: &Fixture) {
    let ana = f.member("Ana").await;
    let mut newest_first = Vec::new();
    for number in 0..5 {
        let other = f.member(&format!("M{number}")).await;
        newest_first.insert(0, f.say(other, ana, &"x".repeat(limits::LIST_BYTES / 2 - 1_000)).await.conversation);
    }
    let (mut listed, mut before) = (Vec::new(), None);
    for expected in [2, 2, 1] {
        let page = f.store.conversations.list(ana, <_>::default(), before, 100).await.unwrap();
        assert_eq!(page.conversations.len(), expected);
        listed.extend(page.conversations.iter().map(|conversation| conversation.id));
        before = page.next;
    }
    assert_eq!((listed, before), (newest_first, None));
}

async fn a_position_from_the_future_gives_the_full_state(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ben, ana, "1").await;
    let position = f.settle().await;
    let changes = f.store.conversations.delta(ana, Some(Position(position.0 + 3_600_000))).await.unwrap();
    assert!(changes.full);
    assert_eq!(changes.conversations.len(), 1);
    assert!(changes.position >= position && changes.position.0 < position.0 + 3_600_000);
}

async fn partners_are_those_with_a_conversation(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    f.say(ana, ben, "x").await;
    assert_eq!(f.store.conversations.partners(ana).await.unwrap(), [ben]);
    assert_eq!(f.store.conversations.partners(ben).await.unwrap(), [ana]);
    assert!(f.store.conversations.partners(eva).await.unwrap().is_empty());
}

async fn many_writers_leave_no_hole(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let writers = (0..8).map(|writer| {
        let store = f.store.log.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                let (from, to) = [(ana, ben), (ben, ana), (eva, ana)][writer % 3];
                // One conversation never in two batches at a time, as the lanes see to it.
                store.apply(vec![append(from, to, client_id(), "x")]).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for (other, count) in [(ben, 300), (eva, 100)] {
        let conversation = direct_conversation(ana, other);
        let mut all = Vec::new();
        while let page = f
            .store
            .conversations
            .history(ana, conversation, Range::After(all.last().copied().unwrap_or(0)), 100)
            .await
            .unwrap()
            .unwrap()
            && !page.entries.is_empty()
        {
            all.extend(seqs(&page.entries));
        }
        assert_eq!(all, (1..=count).collect::<Vec<u64>>());
    }
}
