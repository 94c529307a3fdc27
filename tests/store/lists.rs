//! The lists of a member's conversations, by what the member has set and by what is unread.

use futures_util::future::join_all;
use members_book::{
    service::messaging::direct_conversation,
    store::{
        conversations::{Command, ConversationState, Mark, MarkKind},
        lists::ListFilter,
    },
};
use protocol::{
    ConversationId, MemberId,
    model::{ConversationSettings, Notify},
};

use super::{
    fixture::{Fixture, append},
    for_every_store,
    settings::{configure, set},
};
use crate::harness::client_id;

for_every_store![
    a_list_has_what_its_filter_says,
    what_is_unread_is_what_others_wrote,
    a_list_of_another_member_is_not_changed,
    pages_of_a_filter_are_full_and_have_each_conversation_once,
];

const ARCHIVED: ConversationSettings =
    ConversationSettings { notify: Notify::All, muted_until: None, archived: true, pinned: false };
const PINNED: ConversationSettings = ConversationSettings { archived: false, pinned: true, ..ARCHIVED };
const BOTH: ConversationSettings = ConversationSettings { pinned: true, ..ARCHIVED };

const fn archived(archived: bool) -> ListFilter {
    ListFilter { archived: Some(archived), pinned: None, unread: None }
}

const fn pinned(pinned: bool) -> ListFilter {
    ListFilter { archived: None, pinned: Some(pinned), unread: None }
}

const fn unread(unread: bool) -> ListFilter {
    ListFilter { archived: None, pinned: None, unread: Some(unread) }
}

/// All pages of a list. Every one is full but the last.
async fn all(f: &Fixture, member: MemberId, filter: ListFilter, limit: usize) -> Vec<ConversationState> {
    let (mut listed, mut before) = (Vec::new(), None);
    loop {
        let page = f.store.conversations.list(member, filter, before, limit).await.unwrap();
        let (count, is_last) = (page.conversations.len(), page.next.is_none());
        assert!(count == limit || is_last && count < limit, "{count} of {limit}, {filter:?}");
        listed.extend(page.conversations);
        before = page.next;
        if is_last {
            return listed;
        }
    }
}

async fn ids(f: &Fixture, member: MemberId, filter: ListFilter) -> Vec<ConversationId> {
    all(f, member, filter, 2).await.into_iter().map(|conversation| conversation.id).collect()
}

async fn a_list_has_what_its_filter_says(f: &Fixture) {
    let ana = f.member("Ana").await;
    let (mut others, mut by_age) = (Vec::new(), Vec::new());
    for name in ["B", "C", "D", "E", "F", "G"] {
        let other = f.member(name).await;
        others.push(other);
        by_age.push(f.say(other, ana, name).await.conversation);
    }
    let newest_first = |places: &[usize]| places.iter().map(|place| by_age[*place]).collect::<Vec<_>>();
    for filter in [archived(true), pinned(true), unread(false)] {
        assert!(ids(f, ana, filter).await.is_empty());
    }
    for (place, settings) in [(0, ARCHIVED), (1, PINNED), (3, BOTH), (4, ARCHIVED)] {
        set(f, by_age[place], ana, settings).await;
    }
    for place in [1, 4, 5] {
        f.mark(by_age[place], ana, MarkKind::Read, 1).await;
    }
    let both = |archived, pinned| ListFilter { archived: Some(archived), pinned: Some(pinned), unread: None };
    for (filter, places) in [
        (ListFilter::default(), &[5, 4, 3, 2, 1, 0][..]),
        (archived(true), &[4, 3, 0]),
        (archived(false), &[5, 2, 1]),
        (pinned(true), &[3, 1]),
        (pinned(false), &[5, 4, 2, 0]),
        (unread(true), &[3, 2, 0]),
        (unread(false), &[5, 4, 1]),
        (both(true, true), &[3]),
        (both(false, false), &[5, 2]),
        (ListFilter { unread: Some(true), ..archived(true) }, &[3, 0]),
        (ListFilter { unread: Some(false), ..both(true, false) }, &[4]),
        (ListFilter { unread: Some(true), ..both(false, true) }, &[]),
    ] {
        assert_eq!(ids(f, ana, filter).await, newest_first(places), "{filter:?}");
    }
    // A further message changes neither, and moves it to the front.
    f.say(others[0], ana, "again").await;
    assert_eq!(ids(f, ana, archived(true)).await, newest_first(&[0, 4, 3]));
    // Back to the default.
    set(f, by_age[3], ana, ConversationSettings::default()).await;
    assert_eq!(ids(f, ana, pinned(true)).await, newest_first(&[1]));
    assert_eq!(ids(f, ana, archived(true)).await, newest_first(&[0, 4]));
}

/// The only conversation of two members is unread for those for whom it should be, and among the others for the others.
async fn expect_unread(f: &Fixture, id: ConversationId, members: [(MemberId, bool); 2]) {
    for (member, is_unread) in members {
        let lists = [ids(f, member, unread(is_unread)).await, ids(f, member, unread(!is_unread)).await];
        assert_eq!(lists, [vec![id], vec![]]);
    }
}

async fn what_is_unread_is_what_others_wrote(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let id = f.say(ana, ben, "1").await.conversation;
    // One's own is beyond what one has read, and not unread.
    expect_unread(f, id, [(ana, false), (ben, true)]).await;
    for _ in 0..70 {
        f.say(ana, ben, "more").await;
    }
    f.mark(id, ben, MarkKind::Read, 70).await;
    expect_unread(f, id, [(ana, false), (ben, true)]).await;
    f.mark(id, ben, MarkKind::Read, 71).await;
    expect_unread(f, id, [(ana, false), (ben, false)]).await;
    f.say(ben, ana, "72").await;
    expect_unread(f, id, [(ana, true), (ben, false)]).await;
    // What came between is read, what the member wrote since is not.
    f.mark(id, ana, MarkKind::Read, 72).await;
    f.say(ana, ben, "73").await;
    expect_unread(f, id, [(ana, false), (ben, true)]).await;
}

async fn a_list_of_another_member_is_not_changed(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let id = f.say(ana, ben, "hi").await.conversation;
    set(f, id, ana, BOTH).await;
    assert_eq!((ids(f, ana, archived(true)).await, ids(f, ana, pinned(true)).await), (vec![id], vec![id]));
    for filter in [archived(false), pinned(false), ListFilter::default()] {
        assert_eq!(ids(f, ben, filter).await, [id]);
    }
    assert_eq!((ids(f, ben, archived(true)).await, ids(f, ben, pinned(true)).await), (vec![], vec![]));
}

/// A member writes to so many others, who are returned.
async fn write_to_others(f: &Fixture, member: MemberId, count: usize) -> Vec<MemberId> {
    let names: Vec<String> = (0..count).map(|number| format!("M{number}")).collect();
    let mut others = Vec::new();
    for names in names.chunks(8) {
        others.extend(join_all(names.iter().map(|name| f.member(name))).await);
    }
    for others in others.chunks(50) {
        f.apply_all(others.iter().map(|other| append(member, *other, client_id(), "hi")).collect()).await;
    }
    others
}

async fn pages_of_a_filter_are_full_and_have_each_conversation_once(f: &Fixture) {
    // The test database takes minutes for a thousand.
    pages_of(f, if f.database.is_some() { 60 } else { 1_000 }).await;
}

async fn pages_of(f: &Fixture, count: usize) {
    let ana = f.member("Ana").await;
    let others = write_to_others(f, ana, count).await;
    let id = |other: &MemberId| direct_conversation(ana, *other);
    let mut commands = Vec::new();
    for (number, other) in others.iter().enumerate() {
        let settings = ConversationSettings { archived: number % 3 == 0, pinned: number % 50 == 0, ..<_>::default() };
        if !settings.is_default() {
            commands.push(configure(id(other), ana, settings));
        }
        // Of every seven one is unread, and one is read up to its end.
        if number % 7 < 2 {
            commands.push(append(*other, ana, client_id(), "hello"));
        }
        if number % 7 == 1 {
            let mark = Mark { conversation: id(other), member: ana, kind: MarkKind::Read, seq: 2 };
            commands.push(Command::Mark(mark));
        }
    }
    for batch in commands.chunks(100) {
        f.apply_all(batch.to_vec()).await;
    }
    let everything = all(f, ana, ListFilter::default(), 100).await;
    let mut there: Vec<_> = everything.iter().map(|conversation| conversation.id).collect();
    let mut expected: Vec<_> = others.iter().map(id).collect();
    there.sort_unstable();
    expected.sort_unstable();
    assert_eq!(there, expected);
    for filter in [
        archived(true),
        pinned(true),
        unread(true),
        unread(false),
        ListFilter { archived: Some(false), pinned: Some(false), unread: Some(true) },
    ] {
        let fits = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        let wanted = everything.iter().filter(|conversation| {
            let settings = conversation.settings.settings;
            let unread = conversation.unread.count > 0;
            fits(filter.archived, settings.archived)
                && fits(filter.pinned, settings.pinned)
                && fits(filter.unread, unread)
        });
        assert_eq!(all(f, ana, filter, count / 14).await, wanted.cloned().collect::<Vec<_>>(), "{filter:?}");
    }
}

/// With the embedded store: the rule is one for both, and has its tests.
#[tokio::test]
async fn a_page_that_has_looked_at_a_thousand_ends_and_the_next_one_goes_on() {
    let f = &Fixture::sqlite();
    let ana = f.member("Ana").await;
    let (ben, eva) = (f.member("Ben").await, f.member("Eva").await);
    let oldest = f.say(ben, ana, "hi").await.conversation;
    // What the member wrote has to be counted, and is not unread.
    write_to_others(f, ana, 1_002).await;
    let newest = f.say(eva, ana, "hi").await.conversation;
    let page = async |before| {
        let page = f.store.conversations.list(ana, unread(true), before, 10).await.unwrap();
        (page.conversations.into_iter().map(|conversation| conversation.id).collect::<Vec<_>>(), page.next)
    };
    let (first, next) = page(None).await;
    assert!(first == [newest] && next.is_some(), "{first:?}, {next:?}");
    assert_eq!(page(next).await, (vec![oldest], None));
}
