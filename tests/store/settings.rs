//! A member's own settings of conversations.

use members_book::{
    position::Position,
    store::{
        changes::Change,
        conversations::{Command, Configure, Configured, Outcome, Refusal, StoredSettings},
        turns::Caller,
    },
};
use protocol::{
    ConversationId, MemberId, Timestamp,
    model::{ConversationSettings, Notify},
};

use super::{fixture::Fixture, for_every_store};
use crate::harness::eventually;

for_every_store![
    what_a_member_sets_is_theirs_alone,
    the_same_again_changes_nothing,
    a_sync_from_before_brings_them,
    nobody_else_is_told_that_something_was_set,
    of_several_in_a_batch_the_last_one_holds,
    only_members_of_a_conversation_set_something,
    settings_of_many_conversations_are_read_at_once,
    nothing_of_them_is_left_of_who_has_left,
];

/// Muted until a while after the epoch.
pub(super) fn muted(millis: i64) -> ConversationSettings {
    ConversationSettings { muted_until: Some(Timestamp::from_millis(millis)), ..<_>::default() }
}

/// Muted, archived and at the top of the list: nothing as it is by default.
const NOTHING: ConversationSettings =
    ConversationSettings { notify: Notify::Nothing, muted_until: None, archived: true, pinned: true };

pub(super) fn configure(conversation: ConversationId, member: MemberId, settings: ConversationSettings) -> Command {
    Command::Configure(Configure { conversation, member, settings })
}

/// Sets what a member wants. Returns what is stored then, and whether it was changed.
pub(super) async fn set(
    f: &Fixture,
    conversation: ConversationId,
    member: MemberId,
    settings: ConversationSettings,
) -> (StoredSettings, bool) {
    match f.apply(configure(conversation, member, settings)).await {
        Ok(Outcome::Configured(Configured { stored, changed, .. })) => (stored, changed),
        other => panic!("{other:?}"),
    }
}

/// What a member sees of their conversations.
async fn seen(f: &Fixture, member: MemberId, since: Option<Position>) -> Vec<(ConversationId, StoredSettings)> {
    let changes = f.store.conversations.delta(member, since).await.unwrap();
    changes.conversations.into_iter().map(|state| (state.id, state.settings)).collect()
}

async fn what_a_member_sets_is_theirs_alone(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let id = f.say(ana, ben, "hi").await.conversation;
    assert_eq!(seen(f, ana, None).await, [(id, StoredSettings::default())]);
    let (stored, changed) = set(f, id, ana, muted(1_795_370_633_120)).await;
    assert_eq!((stored, changed), (StoredSettings { settings: muted(1_795_370_633_120), revision: 1 }, true));
    assert_eq!(seen(f, ana, None).await, [(id, stored)]);
    let listed = f.store.conversations.list(ana, <_>::default(), None, 10).await.unwrap().conversations;
    assert_eq!(listed[0].settings, stored);
    assert_eq!(seen(f, ben, None).await, [(id, StoredSettings::default())]);
    // Each of them by itself.
    for (revision, archived, pinned) in [(2, true, false), (3, false, true)] {
        let settings = ConversationSettings { archived, pinned, ..<_>::default() };
        let (stored, _) = set(f, id, ana, settings).await;
        assert_eq!(stored, StoredSettings { settings, revision });
        assert_eq!(seen(f, ana, None).await, [(id, stored)]);
    }
    // Back to the default: it is another change, and newer than the one before.
    let (stored, _) = set(f, id, ana, ConversationSettings::default()).await;
    assert_eq!(stored, StoredSettings { settings: ConversationSettings::default(), revision: 4 });
    assert_eq!(seen(f, ana, None).await, [(id, stored)]);
}

async fn the_same_again_changes_nothing(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let id = f.say(ana, ben, "hi").await.conversation;
    assert_eq!(set(f, id, ana, ConversationSettings::default()).await, (StoredSettings::default(), false));
    let (first, _) = set(f, id, ana, NOTHING).await;
    assert_eq!(set(f, id, ana, NOTHING).await, (first, false));
    let (other, changed) = set(f, id, ana, ConversationSettings { muted_until: muted(5).muted_until, ..NOTHING }).await;
    assert!(changed && other.revision > first.revision);
}

async fn a_sync_from_before_brings_them(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let with_ben = f.say(ana, ben, "hi").await.conversation;
    f.say(ana, eva, "hi").await;
    let before = f.store.log.position().await.unwrap();
    let (stored, _) = set(f, with_ben, ana, NOTHING).await;
    assert!(seen(f, ana, Some(before)).await.contains(&(with_ben, stored)));
    // Nothing but that has changed: the watermarks are where they were.
    let changes = f.store.conversations.delta(ana, None).await.unwrap();
    let state = changes.conversations.iter().find(|state| state.id == with_ben).unwrap();
    assert!(state.members.iter().all(|each| (each.delivered, each.read) == (0, 0)), "{:?}", state.members);
    assert_eq!(f.receipt_times(with_ben, ana, 1, 1).await, [<_>::default()]);
}

/// Who has muted whom is nobody else's business.
async fn nobody_else_is_told_that_something_was_set(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let id = f.say(ana, ben, "hi").await.conversation;
    // Some time after that, where positions are times.
    let since = eventually("the message to be long ago", async || {
        let since = f.store.log.position().await.unwrap();
        seen(f, ben, Some(since)).await.is_empty().then_some(since)
    })
    .await;
    set(f, id, ana, NOTHING).await;
    let (stored, _) = set(f, id, ana, muted(7)).await;
    assert_eq!((seen(f, ana, Some(since)).await, seen(f, ben, Some(since)).await), (vec![(id, stored)], vec![]));
    let (of_ben, _) = set(f, id, ben, NOTHING).await;
    assert_eq!(seen(f, ben, Some(since)).await, [(id, of_ben)]);
    // What is for both is told to both, whatever is set after it.
    f.say(ana, ben, "and?").await;
    set(f, id, ana, NOTHING).await;
    assert_eq!(seen(f, ben, Some(since)).await, [(id, of_ben)]);
    f.say(ana, ben, "and?").await;
    assert_eq!(seen(f, ben, Some(since)).await, [(id, of_ben)]);
}

async fn of_several_in_a_batch_the_last_one_holds(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let id = f.say(ana, ben, "hi").await.conversation;
    let commands = [(ana, muted(1)), (ben, NOTHING), (ana, muted(2)), (ana, muted(3))];
    let batch = commands.map(|(member, settings)| configure(id, member, settings)).to_vec();
    let outcomes = f.apply_all(batch).await.outcomes;
    let outcomes: Vec<Configured> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Ok(Outcome::Configured(configured)) => configured,
            other => panic!("{other:?}"),
        })
        .collect();
    let last = outcomes.last().unwrap();
    assert_eq!((last.member, last.stored.settings, last.changed), (ana, muted(3), true));
    assert_eq!(seen(f, ana, None).await, [(id, last.stored)]);
    assert_eq!(seen(f, ben, None).await, [(id, outcomes[1].stored)]);
    // Who is told of several of them ends with the last one.
    let told = outcomes.iter().filter(|outcome| outcome.member == ana && outcome.changed);
    assert_eq!(told.max_by_key(|outcome| outcome.stored.revision).unwrap().stored, last.stored);
}

async fn only_members_of_a_conversation_set_something(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let id = f.say(ana, ben, "hi").await.conversation;
    for (conversation, member) in [(id, eva), (ConversationId::from_bytes([9; 12]), ana)] {
        let refused = f.apply(configure(conversation, member, NOTHING)).await;
        assert_eq!(refused.unwrap_err(), Refusal::ConversationNotFound);
    }
}

async fn settings_of_many_conversations_are_read_at_once(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let (with_ben, with_eva) = (f.say(ana, ben, "hi").await.conversation, f.say(eva, ana, "hi").await.conversation);
    let foreign = f.say(ben, eva, "hi").await.conversation;
    set(f, with_eva, ana, NOTHING).await;
    set(f, with_ben, ben, muted(7)).await;
    set(f, foreign, ben, NOTHING).await;
    let asked = vec![foreign, with_eva, ConversationId::from_bytes([9; 12]), with_ben];
    let of = async |member| f.store.conversations.settings(Caller::System, member, asked.clone()).await.unwrap();
    let none = ConversationSettings::default();
    assert_eq!(of(ana).await, [none, NOTHING, none, none]);
    assert_eq!(of(ben).await, [NOTHING, none, none, muted(7)]);
    assert!(f.store.conversations.settings(Caller::System, ana, Vec::new()).await.unwrap().is_empty());
}

async fn nothing_of_them_is_left_of_who_has_left(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let (with_ben, with_eva) = (f.say(ana, ben, "hi").await.conversation, f.say(eva, ana, "hi").await.conversation);
    for (conversation, member) in [(with_ben, ana), (with_eva, ana), (with_ben, ben)] {
        set(f, conversation, member, NOTHING).await;
    }
    f.change(ana, Change::Erase).await;
    let of =
        async |member| f.store.conversations.settings(Caller::System, member, vec![with_ben, with_eva]).await.unwrap();
    assert_eq!(of(ana).await, [ConversationSettings::default(); 2]);
    assert_eq!(of(ben).await, [NOTHING, ConversationSettings::default()]);
}
