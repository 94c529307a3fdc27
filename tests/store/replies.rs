//! Messages that answer others.

use std::sync::Arc;

use members_book::{
    service::messaging::direct_conversation,
    store::{
        changes::Change,
        conversations::{Appended, Command, Outcome, Range, Refusal},
        entries::StoredEntry,
        lists::ListFilter,
        turns::Caller,
    },
};
use protocol::MemberId;

use super::{
    fixture::{Fixture, answer, append},
    for_every_store,
};
use crate::harness::{client_id, database::Database};

for_every_store![
    what_a_message_answers_is_with_it_wherever_it_is_read,
    what_is_answered_has_to_be_there,
    a_first_message_answers_nothing,
    a_message_of_the_same_batch_is_answered_if_it_is_stored_before,
    a_retry_gets_the_first_message_whatever_it_answers,
];

/// What becomes of commands: the number of each message, what it answers, and whether it was there before.
async fn said(f: &Fixture, commands: Vec<Command>) -> Vec<Result<(u64, Option<u64>, bool), Refusal>> {
    let outcomes = f.apply_all(commands).await.outcomes.into_iter();
    let one = |outcome| match outcome? {
        Outcome::Appended(Appended { message, duplicate, .. }) => Ok((message.seq, message.reply_to, duplicate)),
        other => panic!("{other:?}"),
    };
    outcomes.map(one).collect()
}

/// What each entry of a log answers.
async fn answers(f: &Fixture, one: MemberId, other: MemberId) -> Vec<Option<u64>> {
    let range = Range::After(0);
    let page = f.store.conversations.history(one, direct_conversation(one, other), range, 100).await.unwrap();
    page.map(|page| page.entries.iter().map(|entry| entry.reply_to).collect()).unwrap_or_default()
}

async fn what_a_message_answers_is_with_it_wherever_it_is_read(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let first = f.say(ana, ben, "1").await;
    let since = f.settle().await;
    let said = f.apply(answer(ben, ana, client_id(), "2", Some(1))).await;
    let Ok(Outcome::Appended(Appended { message, .. })) = said else { panic!("{said:?}") };
    assert_eq!((message.seq, message.reply_to, first.reply_to), (2, Some(1), None));
    let conversations = &f.store.conversations;
    let is_it = |entries: &[StoredEntry]| assert_eq!(entries.last(), Some(&message));
    for range in [Range::Newest, Range::After(1), Range::Before(9)] {
        let page = conversations.history(ana, message.conversation, range, 9).await.unwrap().unwrap();
        is_it(&page.entries);
    }
    for changes in [None, Some(since)] {
        is_it(&conversations.delta(ana, changes).await.unwrap().conversations[0].entries);
    }
    is_it(&conversations.list(ana, ListFilter::default(), None, 9).await.unwrap().conversations[0].entries);
    assert_eq!(conversations.message(Caller::System, message.id).await.unwrap(), Some(message));
}

async fn what_is_answered_has_to_be_there(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for text in ["1", "2", "3"] {
        f.say(ana, ben, text).await;
    }
    for bad in [0, 4, 5, u64::MAX >> 11] {
        let refused = said(f, vec![answer(ben, ana, client_id(), "?", Some(bad))]).await;
        assert_eq!(refused, [Err(Refusal::AnsweredNotFound)], "{bad}");
    }
    // Nothing was stored, and no number was taken.
    for (seq, good) in [(4, 1), (5, 3), (6, 5), (7, 1)] {
        let stored = said(f, vec![answer(ben, ana, client_id(), "!", Some(good))]).await;
        assert_eq!(stored, [Ok((seq, Some(good), false))]);
    }
    assert_eq!(answers(f, ana, ben).await, [None, None, None, Some(1), Some(3), Some(5), Some(1)]);
    f.change(ana, Change::Active(false)).await;
    let refused = said(f, vec![answer(ben, ana, client_id(), "?", Some(9))]).await;
    assert_eq!(refused, [Err(Refusal::RecipientDeactivated)]);
}

async fn a_first_message_answers_nothing(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let first = || answer(ana, ben, client_id(), "?", Some(1));
    assert_eq!(said(f, vec![first(), first()]).await, [Err(Refusal::AnsweredNotFound), Err(Refusal::AnsweredNotFound)]);
    let conversation = direct_conversation(ana, ben);
    assert!(f.store.conversations.membership(Caller::System, conversation).await.unwrap().is_none());
    let nobody = answer(ana, f.ids.member(), client_id(), "?", Some(1));
    assert_eq!(said(f, vec![nobody]).await, [Err(Refusal::MemberNotFound)]);
    assert_eq!(said(f, vec![first(), append(ana, ben, client_id(), "!")]).await[1], Ok((1, None, false)));
    assert_eq!(said(f, vec![first()]).await, [Ok((2, Some(1), false))]);
}

async fn a_message_of_the_same_batch_is_answered_if_it_is_stored_before(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let to = |reply_to| answer(ana, ben, client_id(), "x", reply_to);
    let refused = || Err(Refusal::AnsweredNotFound);
    let outcomes =
        said(f, vec![to(None), to(Some(2)), to(Some(1)), to(Some(2)), answer(ana, eva, client_id(), "x", Some(1))]);
    assert_eq!(
        outcomes.await,
        [Ok((1, None, false)), refused(), Ok((2, Some(1), false)), Ok((3, Some(2), false)), refused(),]
    );
    // One that was stored before takes no number: what counts on that answers nothing.
    let (again, twice) = (client_id(), client_id());
    f.apply(append(ben, ana, again, "4")).await.unwrap();
    let outcomes = said(
        f,
        vec![
            append(ben, ana, again, "4"),
            to(Some(5)),
            answer(ana, ben, twice, "x", Some(6)),
            to(Some(4)),
            answer(ana, ben, twice, "x", Some(5)),
            to(Some(6)),
        ],
    );
    assert_eq!(
        outcomes.await,
        [
            Ok((4, None, true)),
            refused(),
            refused(),
            Ok((5, Some(4), false)),
            Ok((6, Some(5), false)),
            Ok((7, Some(6), false)),
        ]
    );
    assert_eq!(answers(f, ana, ben).await, [None, Some(1), Some(2), None, Some(4), Some(5), Some(6)]);
}

async fn a_retry_gets_the_first_message_whatever_it_answers(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ben, ana, "1").await;
    let [plain, reply, new] = [client_id(), client_id(), client_id()];
    f.apply(append(ana, ben, plain, "2")).await.unwrap();
    f.apply(answer(ana, ben, reply, "3", Some(1))).await.unwrap();
    for again in [None, Some(1), Some(0), Some(99)] {
        let outcomes = said(f, vec![answer(ana, ben, plain, "other", again), answer(ana, ben, reply, "other", again)]);
        assert_eq!(outcomes.await, [Ok((2, None, true)), Ok((3, Some(1), true))], "{again:?}");
    }
    let outcomes = said(f, vec![answer(ana, ben, new, "4", Some(2)), answer(ana, ben, new, "4", Some(99))]);
    assert_eq!(outcomes.await, [Ok((4, Some(2), false)), Ok((4, Some(2), true))]);
}

/// A node answers what another one has stored, also where it knows the log as it was before.
#[tokio::test]
async fn what_another_node_has_just_stored_is_answered() {
    let database = Arc::new(Database::new().await);
    let (one, other) = (Fixture::mongodb_in(Arc::clone(&database)), Fixture::mongodb_in(Arc::clone(&database)));
    let (ana, ben) = (one.member("Ana").await, one.member("Ben").await);
    other.say(ben, ana, "1").await;
    for seq in [2, 4, 6] {
        assert_eq!(one.say(ana, ben, "more").await.seq, seq);
        let batch =
            vec![answer(ben, ana, client_id(), "?", Some(seq + 1)), answer(ben, ana, client_id(), "!", Some(seq))];
        assert_eq!(said(&other, batch).await, [Err(Refusal::AnsweredNotFound), Ok((seq + 1, Some(seq), false))]);
    }
    // The other one answers it in turn, and one that is overtaken keeps what it answers.
    let both = tokio::join!(
        said(&one, vec![answer(ana, ben, client_id(), "x", Some(7)), answer(ana, ben, client_id(), "x", Some(8))]),
        said(&other, vec![answer(ben, ana, client_id(), "x", Some(7)), answer(ben, ana, client_id(), "x", Some(8))]),
    );
    let mut stored: Vec<_> = [both.0, both.1].concat().into_iter().map(Result::unwrap).collect();
    stored.sort_unstable();
    assert_eq!(stored.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), [8, 9, 10, 11]);
    let mut answered: Vec<_> = stored.iter().map(|(_, answered, _)| answered.unwrap()).collect();
    answered.sort_unstable();
    assert_eq!(answered, [7, 7, 8, 8]);
}
