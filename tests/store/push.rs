//! Push: devices, what they have acknowledged, what they are to be told, and what nobody has looked through.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use members_book::{
    position::Position,
    service::messaging::direct_conversation,
    store::{
        changes::Change,
        conversations::{Command, MarkKind},
        push::{
            AddressHash, BADGE_UNKNOWN, DEVICES_MAX, DeviceKey, DeviceMark, DeviceRecord, Ended, NewTask, Progress,
            PushChoice, RegistrationId, Settled, StoredPlace, Stretch, Subject, TASKS_MAX, TakenTask, ToldBadge,
            UNREAD_MAX, WaitingTasks,
        },
        sessions::{KeptSession, NewSession, NewToken, SessionDevice},
        turns::Caller,
    },
};
use mongodb::bson::{Document, doc, oid::ObjectId};
use protocol::{
    ConversationId, DeviceId, MemberId, SessionId, Timestamp,
    model::Platform,
    rest::{PushAddress, PushContent, PushKeys, QuietHours},
};

use super::{
    fixture::{Fixture, append},
    for_every_store,
};
use crate::harness::{client_id, database::Database, eventually};

for_every_store![
    a_device_is_registered_again_in_its_own_place,
    an_address_belongs_to_who_registered_it_last,
    of_too_many_devices_the_one_that_was_registered_first_goes,
    an_address_at_which_nobody_is_ends_what_was_registered_before,
    marks_only_grow_and_are_kept_of_registered_devices_only,
    progress_is_told_in_the_order_of_the_questions,
    what_is_not_acknowledged_becomes_one_task_for_a_device_and_conversation,
    what_is_added_while_a_task_is_in_hand_is_told_after_it,
    a_task_that_was_put_off_stays_so_whatever_is_added,
    what_was_in_hand_of_who_is_gone_is_in_doubt_until_a_push_is_known,
    what_quiet_hours_have_put_off_is_due_when_they_are_over_early,
    a_number_that_was_told_is_kept,
    a_number_that_was_told_beside_another_one_is_unknown_until_the_next,
    of_too_many_tasks_the_one_with_the_oldest_message_goes,
    two_workers_do_not_take_the_same_task,
    what_is_too_old_is_removed,
    what_a_clock_has_put_off_is_due_when_somebody_says_so,
    devices_that_show_a_number_are_found,
    what_was_stored_before_a_device_was_registered_is_told_apart_without_clocks,
    everything_unread_is_counted_together,
    what_was_stored_is_told_in_order_and_in_full,
    who_leaves_leaves_nothing,
    a_session_that_ends_takes_its_devices_with_it,
    a_session_that_ends_at_the_same_moment_takes_its_device_with_it,
    a_choice_is_kept,
];

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn expo(token: &str) -> PushAddress {
    PushAddress::Expo { token: format!("ExponentPushToken[{token}]") }
}

fn web(path: &str) -> PushAddress {
    let keys = PushKeys { p256dh: "p".repeat(87), auth: "a".repeat(22) };
    PushAddress::Web { endpoint: format!("https://push.example.com/{path}"), keys }
}

pub(super) fn record(f: &Fixture, member: MemberId, name: &str, address: PushAddress) -> DeviceRecord {
    let (session, registered_at) = (f.ids.session(), f.now());
    let (device, platform, since) = (device(name), Platform::Ios, Position::default());
    DeviceRecord {
        member,
        device,
        session,
        address,
        platform,
        registered_at,
        since,
        badge: None,
        revision: RegistrationId::default(),
    }
}

pub(super) async fn register(f: &Fixture, member: MemberId, name: &str) -> DeviceRecord {
    let record = record(f, member, name, expo(&format!("{member}-{}", name.len())));
    f.store.push.register(record.clone(), 0).await.unwrap();
    record
}

pub(super) async fn devices(f: &Fixture, members: &[MemberId]) -> Vec<DeviceRecord> {
    let found = f.store.push.devices(Caller::System, members.to_vec()).await.unwrap();
    // Those are the store's own.
    let own = (Position::default(), RegistrationId::default());
    found.into_iter().map(|found| DeviceRecord { since: own.0, revision: own.1, ..found }).collect()
}

fn conversation(byte: u8) -> ConversationId {
    ConversationId::from_bytes([byte; 12])
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + seconds * 1000)
}

/// Messages of a conversation, the last of which was stored at a time, and which are due three seconds later.
fn messages(member: MemberId, name: &str, byte: u8, (first, last): (u64, u64), stored: i64) -> NewTask {
    let subject = Subject::Messages(conversation(byte));
    NewTask { member, device: device(name), subject, first, last, at: at(stored), due: at(stored + 3) }
}

fn badge(member: MemberId, name: &str, stored: i64) -> NewTask {
    NewTask { subject: Subject::Badge, ..messages(member, name, 1, (0, 0), stored) }
}

async fn add(f: &Fixture, tasks: Vec<NewTask>) {
    f.store.push.add(tasks, None).await.unwrap();
}

/// Takes for a minute.
async fn take(f: &Fixture, now: i64) -> Vec<TakenTask> {
    f.store.push.take(at(now), at(now + 60), 100).await.unwrap()
}

async fn take_one(f: &Fixture, now: i64) -> TakenTask {
    let mut taken = take(f, now).await;
    assert_eq!(taken.len(), 1, "{taken:?}");
    taken.remove(0)
}

pub(super) async fn finish(f: &Fixture, taken: TakenTask, badge: Option<u32>) {
    let before = devices(f, &[taken.task.member]).await.into_iter().find(|device| device.device == taken.task.device);
    let before = before.and_then(|device| device.badge);
    finish_after(f, taken, before, badge).await;
}

/// It is told a number that was found out when the device showed another one.
async fn finish_after(f: &Fixture, taken: TakenTask, before: Option<u32>, badge: Option<u32>) {
    let badge = badge.map(|badge| ToldBadge { badge, before });
    f.store.push.settle(vec![(taken, Settled::Finished { badge })]).await.unwrap();
}

async fn acknowledge(f: &Fixture, member: MemberId, name: &str, conversation: ConversationId, seq: u64) {
    let mark = DeviceMark { member, device: device(name), conversation, seq };
    f.store.push.acknowledge(vec![mark]).await.unwrap();
}

async fn progress(f: &Fixture, of: Vec<(MemberId, ConversationId)>) -> Vec<(u64, Vec<(String, u64)>)> {
    let told = f.store.push.progress(of).await.unwrap();
    let sorted = |Progress { read, devices }: Progress| {
        let mut devices: Vec<_> = devices.into_iter().map(|(device, seq)| (device.to_string(), seq)).collect();
        devices.sort_unstable();
        (read, devices)
    };
    told.into_iter().map(sorted).collect()
}

async fn marks(f: &Fixture, member: MemberId, conversation: ConversationId) -> Vec<(String, u64)> {
    progress(f, vec![(member, conversation)]).await.remove(0).1
}

async fn waiting(f: &Fixture) -> (u64, Option<Timestamp>) {
    let WaitingTasks { count, next } = f.store.push.waiting().await.unwrap();
    assert_eq!(f.store.push.next_due().await.unwrap(), next);
    (count, next)
}

#[expect(clippy::cognitive_complexity, reason = "one thing after the other")]
async fn a_device_is_registered_again_in_its_own_place(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    assert_eq!(devices(f, &[ana, ben]).await, []);
    let phone = register(f, ana, "phone").await;
    f.wait(1);
    let tablet = record(f, ana, "tablet/é", web("1"));
    f.store.push.register(tablet.clone(), 0).await.unwrap();
    f.wait(1);
    let other = register(f, ben, "phone").await;
    assert_eq!(devices(f, &[ana]).await, [tablet.clone(), phone.clone()], "the newest first");
    acknowledge(f, ana, "phone", conversation(1), 4).await;
    add(f, vec![messages(ana, "phone", 1, (5, 5), 0), messages(ben, "phone", 1, (5, 5), 0)]).await;
    let taken = take(f, 3).await.into_iter().find(|taken| taken.task.member == ana).unwrap();
    finish(f, taken, Some(7)).await;
    add(f, vec![messages(ana, "phone", 2, (1, 1), 0)]).await;
    f.wait(1);
    let again = DeviceRecord { platform: Platform::Other, ..record(f, ana, "phone", expo("new")) };
    f.store.push.register(again.clone(), 0).await.unwrap();
    // It shows the number still, and what came before goes on to the new address.
    let again = DeviceRecord { badge: Some(7), ..again };
    assert_eq!(devices(f, &[ana, ben]).await, [again, other, tablet]);
    let mut tasks: Vec<_> =
        take(f, 100).await.into_iter().map(|taken| (taken.task.member, taken.task.subject)).collect();
    tasks.sort_unstable_by_key(|(member, _)| *member != ana);
    assert_eq!(tasks, [(ana, Subject::Messages(conversation(2))), (ben, Subject::Messages(conversation(1)))]);
    assert_eq!(marks(f, ana, conversation(1)).await, [("phone".to_owned(), 4)]);
    assert!(f.store.push.unregister(ana, &device("phone")).await.unwrap());
    assert!(!f.store.push.unregister(ana, &device("phone")).await.unwrap());
    assert_eq!(marks(f, ana, conversation(1)).await, []);
    assert_eq!(devices(f, &[ana]).await.len(), 1);
}

async fn an_address_belongs_to_who_registered_it_last(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for (name, token) in [("phone", "one"), ("tablet", "two")] {
        f.store.push.register(record(f, ana, name, expo(token)), 0).await.unwrap();
        acknowledge(f, ana, name, conversation(1), 4).await;
    }
    add(f, ["phone", "tablet"].map(|name| messages(ana, name, 1, (5, 5), 0)).into()).await;
    let of_ben = record(f, ben, "phone", expo("one"));
    f.store.push.register(of_ben.clone(), 0).await.unwrap();
    assert_eq!(devices(f, &[ben]).await, [of_ben]);
    assert_eq!(devices(f, &[ana]).await.len(), 1);
    assert_eq!(marks(f, ana, conversation(1)).await, [("tablet".to_owned(), 4)]);
    assert_eq!(take_one(f, 100).await.task.device, device("tablet"));
    // The same on another device of the same member.
    f.store.push.register(record(f, ana, "watch", expo("two")), 0).await.unwrap();
    let names: Vec<_> = devices(f, &[ana]).await.into_iter().map(|device| device.device).collect();
    assert_eq!(names, [device("watch")]);
    assert_eq!(waiting(f).await, (0, None));
}

async fn of_too_many_devices_the_one_that_was_registered_first_goes(f: &Fixture) {
    let ana = f.member("Ana").await;
    for number in 0..DEVICES_MAX + 2 {
        f.wait(1);
        f.store.push.register(record(f, ana, &number.to_string(), expo(&number.to_string())), 0).await.unwrap();
    }
    let names: Vec<_> = devices(f, &[ana]).await.into_iter().map(|device| device.device.to_string()).collect();
    assert_eq!(names, (2..DEVICES_MAX + 2).rev().map(|number| number.to_string()).collect::<Vec<_>>());
    // The newest stays, and be it that the clock of its node is behind.
    let late = DeviceRecord { registered_at: at(0), ..record(f, ana, "late", expo("late")) };
    f.store.push.register(late, 0).await.unwrap();
    let names = async || {
        let found = devices(f, &[ana]).await;
        found.into_iter().map(|device| device.device.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((names().await.len(), names().await.contains(&"late".to_owned())), (DEVICES_MAX, true));
    // And does not go as the oldest when there is one more: that would be by the clock.
    f.store.push.register(record(f, ana, "last", expo("last")), 0).await.unwrap();
    assert_eq!((names().await.len(), names().await[..2].concat()), (DEVICES_MAX, "lastlate".to_owned()));
}

async fn an_address_at_which_nobody_is_ends_what_was_registered_before(f: &Fixture) {
    let ana = f.member("Ana").await;
    let revision = async || f.store.push.devices(Caller::System, vec![ana]).await.unwrap()[0].revision;
    let phone = register(f, ana, "phone").await;
    let hash = AddressHash::of(&phone.address);
    let first = revision().await;
    // By a node whose clock is behind.
    let again = DeviceRecord { registered_at: at(0), ..phone };
    f.store.push.register(again, 0).await.unwrap();
    f.store.push.address_gone(hash, first).await.unwrap();
    assert_eq!(devices(f, &[ana]).await.len(), 1, "it was registered since");
    f.store.push.address_gone(AddressHash::of(&expo("another")), revision().await).await.unwrap();
    assert_eq!(devices(f, &[ana]).await.len(), 1);
    add(f, vec![messages(ana, "phone", 1, (5, 5), 0)]).await;
    f.store.push.address_gone(hash, revision().await).await.unwrap();
    assert_eq!(devices(f, &[ana]).await, []);
    assert_eq!(take(f, 100).await, []);
}

async fn marks_only_grow_and_are_kept_of_registered_devices_only(f: &Fixture) {
    let ana = f.member("Ana").await;
    let ones = [("phone", 3), ("tablet", 9), ("phone", 5), ("phone", 4)];
    let all =
        || ones.map(|(name, seq)| DeviceMark { member: ana, device: device(name), conversation: conversation(1), seq });
    f.store.push.acknowledge(all().into()).await.unwrap();
    assert_eq!(marks(f, ana, conversation(1)).await, []);
    register(f, ana, "phone").await;
    assert_eq!(marks(f, ana, conversation(1)).await, [], "nothing was kept");
    f.store.push.acknowledge(all().into()).await.unwrap();
    f.store.push.acknowledge(all().into()).await.unwrap();
    assert_eq!(marks(f, ana, conversation(1)).await, [("phone".to_owned(), 5)]);
    acknowledge(f, ana, "phone", conversation(1), 6).await;
    acknowledge(f, ana, "phone", conversation(1), 2).await;
    assert_eq!(marks(f, ana, conversation(1)).await, [("phone".to_owned(), 6)]);
}

async fn progress_is_told_in_the_order_of_the_questions(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let (with_ben, with_eva) = (direct_conversation(ana, ben), direct_conversation(ana, eva));
    for _ in 0..4 {
        f.say(ben, ana, "one").await;
        f.say(eva, ana, "two").await;
    }
    f.mark(with_ben, ana, MarkKind::Read, 3).await;
    f.mark(with_eva, ana, MarkKind::Delivered, 4).await;
    for name in ["phone", "tablet"] {
        register(f, ana, name).await;
    }
    register(f, ben, "phone").await;
    acknowledge(f, ana, "tablet", with_ben, 4).await;
    acknowledge(f, ana, "phone", with_eva, 2).await;
    acknowledge(f, ana, "tablet", with_eva, 3).await;
    let of = |name: &str, seq| (name.to_owned(), seq);
    let asked = vec![(ana, with_eva), (ben, with_ben), (ana, with_ben), (ana, with_eva), (eva, with_ben)];
    let of_eva = (0, vec![of("phone", 2), of("tablet", 3)]);
    let expected = [of_eva.clone(), (4, vec![]), (3, vec![of("tablet", 4)]), of_eva, (0, vec![])];
    let told = progress(f, asked).await;
    // Whoever writes has read what is before it, as far as the store says so.
    assert_eq!(told[0], expected[0]);
    assert_eq!(told[1].1, expected[1].1);
    assert_eq!(told[2..], expected[2..]);
    assert_eq!(progress(f, vec![]).await, []);
}

async fn what_is_not_acknowledged_becomes_one_task_for_a_device_and_conversation(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for name in ["phone", "tablet"] {
        register(f, ana, name).await;
    }
    add(f, vec![messages(ana, "phone", 1, (4, 4), 10), messages(ben, "phone", 1, (4, 4), 10)]).await;
    assert_eq!(waiting(f).await, (1, Some(at(13))), "the other one is not registered");
    let tasks = [
        messages(ana, "phone", 1, (6, 7), 12),
        messages(ana, "phone", 1, (5, 5), 11),
        messages(ana, "phone", 2, (1, 1), 8),
        messages(ana, "tablet", 1, (6, 6), 9),
        badge(ana, "phone", 20),
    ];
    add(f, tasks.into()).await;
    assert_eq!(waiting(f).await, (4, Some(at(11))));
    assert_eq!(take(f, 10).await, []);
    let some = f.store.push.take(at(13), at(73), 2).await.unwrap();
    let due: Vec<_> = some.iter().map(|taken| (taken.task.subject, taken.task.device.as_str())).collect();
    let of = |byte| Subject::Messages(conversation(byte));
    assert_eq!(due, [(of(2), "phone"), (of(1), "tablet")], "those first that have been due for longest");
    let merged = take_one(f, 13).await;
    let expected = NewTask { first: 4, due: at(73), ..messages(ana, "phone", 1, (4, 7), 12) };
    assert_eq!((merged.task.clone(), merged.attempts), (expected, 1));
    assert_eq!(take_one(f, 23).await.task.subject, Subject::Badge);
    // Nothing became of it within its time.
    let again = take(f, 73).await;
    assert!(again.iter().any(|taken| taken.task.last == 7 && taken.attempts == 2), "{again:?}");
    for taken in again {
        finish(f, taken, None).await;
    }
    let left = take_one(f, 1000).await;
    assert_eq!((left.task.subject, left.attempts), (Subject::Badge, 2));
}

async fn what_is_added_while_a_task_is_in_hand_is_told_after_it(f: &Fixture) {
    let ana = f.member("Ana").await;
    register(f, ana, "phone").await;
    add(f, vec![messages(ana, "phone", 1, (4, 5), 10), badge(ana, "phone", 10)]).await;
    let taken = take(f, 13).await;
    assert_eq!(taken.len(), 2);
    add(f, vec![messages(ana, "phone", 1, (6, 6), 13), badge(ana, "phone", 14)]).await;
    add(f, vec![messages(ana, "phone", 1, (7, 7), 15)]).await;
    assert_eq!(take(f, 40).await, [], "both are in hand");
    let both = taken.into_iter().map(|taken| (taken, Settled::Finished { badge: None })).collect();
    f.store.push.settle(both).await.unwrap();
    let rest = take_one(f, 16).await;
    assert_eq!((rest.task.first, rest.task.last, rest.task.at, rest.attempts), (6, 7, at(15), 1));
    assert_eq!(take_one(f, 17).await.task.subject, Subject::Badge);
    // What is added once more and was told already is not told again.
    add(f, vec![messages(ana, "phone", 1, (7, 7), 15)]).await;
    finish(f, rest, None).await;
    assert_eq!(waiting(f).await.0, 1);
}

async fn a_task_that_was_put_off_stays_so_whatever_is_added(f: &Fixture) {
    let ana = f.member("Ana").await;
    register(f, ana, "phone").await;
    add(f, vec![messages(ana, "phone", 1, (4, 5), 10)]).await;
    let taken = take_one(f, 13).await;
    f.store.push.settle(vec![(taken.clone(), Settled::Postponed { due: at(50), failures: 1 })]).await.unwrap();
    add(f, vec![messages(ana, "phone", 1, (6, 6), 20)]).await;
    assert_eq!(waiting(f).await, (1, Some(at(50))));
    assert_eq!(take(f, 49).await, []);
    let again = take_one(f, 50).await;
    assert_eq!((again.task.first, again.task.last, again.attempts, again.failures), (4, 6, 2, 1));
    // Who took it first was too slow.
    f.store.push.settle(vec![(taken, Settled::Postponed { due: at(51), failures: 2 })]).await.unwrap();
    assert_eq!(take(f, 100).await, []);
    finish(f, again, None).await;
    assert_eq!(waiting(f).await, (0, None));
}

/// Found by thinking of a crash between a push and the line that it was sent: the number that it had set was nobody's business any more.
async fn what_was_in_hand_of_who_is_gone_is_in_doubt_until_a_push_is_known(f: &Fixture) {
    let ana = f.member("Ana").await;
    register(f, ana, "phone").await;
    add(f, vec![messages(ana, "phone", 1, (4, 5), 10)]).await;
    let first = take_one(f, 13).await;
    assert!(!first.is_in_doubt);
    let kept = Settled::Kept { until: at(80) };
    f.store.push.settle(vec![(first.clone(), kept)]).await.unwrap();
    assert_eq!(take(f, 79).await, []);
    let put_off = |taken: &TakenTask, due| (taken.clone(), Settled::Postponed { due: at(due), failures: 1 });
    f.store.push.settle(vec![put_off(&first, 90)]).await.unwrap();
    let second = take_one(f, 90).await;
    assert!(!second.is_in_doubt, "it is known that it was put off");
    // Its lease ends, and nobody has said anything.
    let third = take_one(f, 150).await;
    assert!(third.is_in_doubt);
    // That is so however often it is put off, and however often that is said.
    f.store.push.settle(vec![put_off(&third, 160)]).await.unwrap();
    f.store.push.settle(vec![put_off(&third, 160)]).await.unwrap();
    let fourth = take_one(f, 160).await;
    assert!(fourth.is_in_doubt);
    add(f, vec![messages(ana, "phone", 1, (6, 6), 161)]).await;
    finish(f, fourth, Some(2)).await;
    let rest = take_one(f, 164).await;
    assert_eq!((rest.task.first, rest.is_in_doubt), (6, false));
}

/// A version before `unsettled` was written had it in hand, or has put it off: nobody knows which. With SQLite its migration says so.
#[tokio::test]
async fn what_a_former_version_had_in_hand_is_in_doubt() {
    let f = Fixture::mongodb().await;
    let ana = f.member("Ana").await;
    register(&f, ana, "phone").await;
    add(&f, vec![messages(ana, "phone", 1, (4, 5), 10), messages(ana, "phone", 2, (7, 7), 11)]).await;
    let database = f.database.as_ref().unwrap().open().await;
    let tasks = database.collection::<Document>("push_tasks");
    tasks.update_many(doc! {}, doc! { "$unset": { "unsettled": "" } }).await.unwrap();
    let first = doc! { "$set": { "attempts": 1_i64, "due": mongodb::bson::DateTime::from_millis(at(20).as_millis()) } };
    tasks.update_one(doc! { "last": 5_i64 }, first).await.unwrap();
    let doubts =
        |taken: Vec<TakenTask>| taken.iter().map(|taken| (taken.attempts, taken.is_in_doubt)).collect::<Vec<_>>();
    // A node of that version may come between: it counts only how often it has taken it.
    assert_eq!(doubts(take(&f, 14).await), [(1, false)], "nobody had it");
    assert_eq!(doubts(take(&f, 20).await), [(2, true)]);
    f.store.backend.close().await;
}

async fn what_quiet_hours_have_put_off_is_due_when_they_are_over_early(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for (member, name) in [(ana, "phone"), (ana, "tablet"), (ben, "phone")] {
        register(f, member, name).await;
    }
    let tasks = [(ana, "phone", 1), (ana, "phone", 2), (ana, "tablet", 1), (ben, "phone", 1)];
    add(f, tasks.map(|(member, name, byte)| messages(member, name, byte, (1, 1), 0)).into()).await;
    // All but the second, which is tried again then.
    let put_off = |taken: TakenTask| {
        let due = at(if taken.task.subject == Subject::Messages(conversation(2)) { 51 } else { 50 });
        (taken, Settled::Postponed { due, failures: 0 })
    };
    f.store.push.settle(take(f, 3).await.into_iter().map(put_off).collect()).await.unwrap();
    f.store.push.choose(ana, PushChoice::default(), None).await.unwrap();
    assert_eq!(take(f, 20).await, []);
    f.store.push.choose(ana, PushChoice::default(), Some(Ended { until: at(50), now: at(20) })).await.unwrap();
    let mut due: Vec<_> = take(f, 20).await.into_iter().map(|taken| taken.task).collect();
    due.sort_unstable_by_key(|task| task.device.to_string());
    let expected = |name| NewTask { at: at(20), due: at(80), ..messages(ana, name, 1, (1, 1), 0) };
    assert_eq!(due, [expected("phone"), expected("tablet")]);
    assert_eq!(take_one(f, 50).await.task.member, ben);
    assert_eq!(take_one(f, 51).await.task.at, at(0));
}

async fn a_number_that_was_told_is_kept(f: &Fixture) {
    let ana = f.member("Ana").await;
    register(f, ana, "phone").await;
    for (told, kept) in [(Some(3), Some(3)), (None, Some(3)), (Some(0), None)] {
        add(f, vec![badge(ana, "phone", 10)]).await;
        let taken = take_one(f, 13).await;
        finish(f, taken, told).await;
        assert_eq!(devices(f, &[ana]).await[0].badge, kept);
    }
}

/// Found by a look from outside: of two pushes of one device that overlap, the number of the one whose ticket came last was kept.
async fn a_number_that_was_told_beside_another_one_is_unknown_until_the_next(f: &Fixture) {
    let ana = f.member("Ana").await;
    register(f, ana, "phone").await;
    let kept = async || devices(f, &[ana]).await[0].badge;
    add(f, vec![messages(ana, "phone", 1, (1, 1), 0), messages(ana, "phone", 2, (1, 1), 1)]).await;
    let [slow, quick] = <[TakenTask; 2]>::try_from(take(f, 10).await).unwrap();
    finish_after(f, quick, None, Some(2)).await;
    assert_eq!(kept().await, Some(2));
    // Twice, as after an answer of the database that did not come.
    for _ in 0..2 {
        finish_after(f, slow.clone(), None, Some(1)).await;
        assert_eq!(kept().await, Some(BADGE_UNKNOWN));
    }
    assert_eq!(f.store.push.with_badge(None).await.unwrap(), [(ana, device("phone"))]);
    add(f, vec![badge(ana, "phone", 20)]).await;
    let taken = take_one(f, 30).await;
    finish_after(f, taken, Some(BADGE_UNKNOWN), Some(2)).await;
    assert_eq!(kept().await, Some(2));
    // At once.
    add(f, vec![messages(ana, "phone", 1, (2, 2), 40), messages(ana, "phone", 2, (2, 2), 40)]).await;
    let told = take(f, 50).await.into_iter().zip([3, 4]);
    let told =
        told.map(|(taken, badge)| (taken, Settled::Finished { badge: Some(ToldBadge { badge, before: Some(2) }) }));
    f.store.push.settle(told.collect()).await.unwrap();
    assert_eq!(kept().await, Some(BADGE_UNKNOWN));
}

async fn of_too_many_tasks_the_one_with_the_oldest_message_goes(f: &Fixture) {
    let ana = f.member("Ana").await;
    register(f, ana, "phone").await;
    let many = u8::try_from(TASKS_MAX).unwrap();
    add(f, vec![badge(ana, "phone", 0)]).await;
    // The second is the one with the oldest message.
    let tasks =
        (1..=many).map(|byte| messages(ana, "phone", byte, (1, 1), if byte == 2 { 1 } else { i64::from(byte) + 10 }));
    add(f, tasks.collect()).await;
    assert_eq!(waiting(f).await.0, u64::from(many) + 1);
    add(f, vec![messages(ana, "phone", many + 1, (1, 1), 500), messages(ana, "phone", 1, (2, 2), 501)]).await;
    assert_eq!(waiting(f).await.0, u64::from(many) + 1);
    let mut all = f.store.push.take(at(1000), at(1060), 1000).await.unwrap();
    let mut subjects: Vec<_> = all.drain(..).map(|taken| taken.task.subject).collect();
    subjects.sort_unstable();
    let kept = (1..=many + 1).filter(|byte| *byte != 2).map(|byte| Subject::Messages(conversation(byte)));
    assert_eq!(subjects, std::iter::once(Subject::Badge).chain(kept).collect::<Vec<_>>());
}

async fn two_workers_do_not_take_the_same_task(f: &Fixture) {
    let ana = f.member("Ana").await;
    register(f, ana, "phone").await;
    add(f, (1..=60).map(|byte| messages(ana, "phone", byte, (1, 1), i64::from(byte))).collect()).await;
    let worker = async || {
        let mut all = Vec::new();
        loop {
            let some = f.store.push.take(at(100), at(160), 7).await.unwrap();
            if some.is_empty() {
                return all;
            }
            all.extend(some.into_iter().map(|taken| taken.task.subject));
        }
    };
    let (mut one, mut two, three) = tokio::join!(worker(), worker(), worker());
    one.append(&mut two);
    one.extend(three);
    // One that meets another may have found nothing that was left to it.
    one.extend(worker().await);
    one.sort_unstable();
    assert_eq!(one, (1..=60).map(|byte| Subject::Messages(conversation(byte))).collect::<Vec<_>>());
}

async fn what_is_too_old_is_removed(f: &Fixture) {
    let ana = f.member("Ana").await;
    register(f, ana, "phone").await;
    add(f, (1..=5).map(|byte| messages(ana, "phone", byte, (1, 1), i64::from(byte))).collect()).await;
    assert_eq!(f.store.push.expire(at(1)).await.unwrap(), 0);
    assert_eq!(f.store.push.expire(at(4)).await.unwrap(), 3);
    assert_eq!(waiting(f).await, (2, Some(at(7))));
}

/// Says something many times at once.
async fn say_often(f: &Fixture, from: MemberId, to: MemberId, count: usize) {
    let commands: Vec<Command> = (0..count).map(|_| append(from, to, client_id(), "x")).collect();
    assert!(f.apply_all(commands).await.outcomes.iter().all(Result::is_ok));
}

async fn everything_unread_is_counted_together(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let unread = async |member| f.store.push.unread(member).await.unwrap();
    assert_eq!(unread(ana).await, 0);
    f.say(ben, ana, "1").await;
    f.say(ben, ana, "2").await;
    f.say(ana, ben, "3").await;
    f.say(eva, ana, "1").await;
    assert_eq!((unread(ana).await, unread(ben).await, unread(eva).await), (3, 1, 0));
    f.mark(direct_conversation(ana, ben), ana, MarkKind::Read, 1).await;
    assert_eq!(unread(ana).await, 2);
    // More than a list tells of one conversation.
    for _ in 0..3 {
        say_often(f, eva, ana, 350).await;
    }
    assert_eq!(unread(ana).await, 1_052);
}

#[tokio::test]
async fn no_more_unread_messages_are_told_than_have_room() {
    let f = Fixture::sqlite();
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    for (from, count) in [(ben, 9_990), (eva, 9)] {
        say_often(&f, from, ana, count).await;
    }
    assert_eq!(f.store.push.unread(ana).await.unwrap(), UNREAD_MAX);
    f.say(eva, ana, "one more").await;
    assert_eq!(f.store.push.unread(ana).await.unwrap(), UNREAD_MAX);
    f.mark(direct_conversation(ana, eva), ana, MarkKind::Read, 2).await;
    assert_eq!(f.store.push.unread(ana).await.unwrap(), UNREAD_MAX - 1);
}

/// Everything that was stored between two positions, a part at a time. An entry may be told twice, but not in one part. On MongoDB one may
/// be among them that is a little older; those of before `since` are left out.
async fn stored(
    f: &Fixture,
    mut after: Position,
    until: Position,
    since: Timestamp,
) -> BTreeMap<(ConversationId, u64), MemberId> {
    let mut all = BTreeMap::new();
    while after < until {
        let (stretches, reached) = f.store.push.stored(after, until, 3).await.unwrap();
        assert!(after < reached && reached <= until, "{after:?} {reached:?} {until:?}");
        for Stretch { conversation, members, entries } in stretches {
            assert!(entries.is_sorted_by_key(|entry| entry.seq) && !entries.is_empty(), "{entries:?}");
            for StoredPlace { seq, sender, at, .. } in entries {
                assert!(members.contains(&sender) && members.len() == 2);
                assert!(f.database.is_some() || at >= since, "{at:?}");
                if at >= since {
                    all.insert((conversation, seq), sender);
                }
            }
        }
        after = reached;
    }
    all
}

async fn what_was_stored_is_told_in_order_and_in_full(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    f.wait(1);
    for _ in 0..5 {
        f.say(ana, ben, "before").await;
    }
    let after = f.settle().await;
    f.wait(1);
    let mut expected = BTreeMap::new();
    for round in 0..8 {
        let (from, to) = [(ana, ben), (ben, ana), (eva, ana)][round % 3];
        let message = f.say(from, to, "x").await;
        expected.insert((message.conversation, message.seq), from);
    }
    f.mark(direct_conversation(ana, ben), ana, MarkKind::Read, 3).await;
    let until = f.settle().await;
    assert_eq!(stored(f, after, until, f.now()).await, expected);
    f.wait(1);
    assert_eq!(stored(f, until, f.settle().await, f.now()).await, BTreeMap::new());
    // Not further than is certain to be complete, whatever was asked.
    let beyond = Position(u64::MAX >> 2);
    let (_, reached) = f.store.push.stored(until, beyond, 3).await.unwrap();
    assert!(until <= reached && reached <= f.store.log.position().await.unwrap());
    let (nothing, reached) = f.store.push.stored(beyond, beyond, 3).await.unwrap();
    assert_eq!((nothing, reached), (vec![], beyond));
}

#[tokio::test]
async fn what_a_process_has_left_is_looked_through_by_one() {
    left_is_looked_through_by_one(Fixture::sqlite()).await;
}

#[tokio::test]
async fn what_a_node_has_left_is_looked_through_by_one() {
    left_is_looked_through_by_one(Fixture::mongodb().await).await;
}

#[expect(clippy::cognitive_complexity, reason = "one thing after the other")]
async fn left_is_looked_through_by_one(f: Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let unlooked =
        async |f: &Fixture| f.store.push.unlooked(f.now(), f.now().after(Duration::from_secs(60))).await.unwrap();
    assert_eq!(unlooked(&f).await, None, "nothing was before");
    f.say(ana, ben, "looked through").await;
    let place = f.settle().await;
    f.store.push.add(vec![], Some(place)).await.unwrap();
    f.store.push.add(vec![], Some(Position(1))).await.unwrap();
    f.wait(1);
    let left = f.say(ana, ben, "left").await;
    f.settle().await;
    assert_eq!(unlooked(&f).await, None, "this process does so itself");

    let f = f.reopened().await;
    f.clock.set(left.at);
    let until = f.settle().await;
    let first = unlooked(&f).await.unwrap();
    assert_eq!(first.after, place);
    assert_eq!(unlooked(&f).await, None, "somebody has it in hand");
    f.store.push.add(vec![], Some(until)).await.unwrap();
    assert_eq!(stored(&f, first.after, until, left.at).await.into_keys().collect::<Vec<_>>(), [(left.conversation, 2)]);
    // Who had it in hand is gone.
    f.wait(61);
    let again = unlooked(&f).await.unwrap();
    assert_eq!(again.after, place);
    f.store.push.looked(again).await.unwrap();
    f.wait(61);
    assert_eq!(unlooked(&f).await, None);
    f.store.push.add(vec![], Some(until)).await.unwrap();

    let f = f.reopened().await;
    f.clock.set(left.at);
    let until = f.settle().await;
    if let Some(nothing) = unlooked(&f).await {
        let later = left.at.after(Duration::from_secs(1));
        assert_eq!(stored(&f, nothing.after, until, later).await, BTreeMap::new());
        f.store.push.looked(nothing).await.unwrap();
    }
    f.wait(61);
    assert_eq!(unlooked(&f).await, None);
    f.store.backend.close().await;
}

async fn who_leaves_leaves_nothing(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for member in [ana, ben] {
        register(f, member, "phone").await;
        acknowledge(f, member, "phone", conversation(1), 4).await;
        let choice = PushChoice { content: PushContent::Nothing, quiet_hours: None };
        f.store.push.choose(member, choice, None).await.unwrap();
    }
    add(f, [ana, ben].map(|member| messages(member, "phone", 1, (5, 5), 0)).into()).await;
    f.change(ana, Change::Erase).await;
    let left: Vec<_> = devices(f, &[ana, ben]).await.into_iter().map(|device| device.member).collect();
    assert_eq!(left, [ben]);
    assert_eq!(marks(f, ana, conversation(1)).await, []);
    assert_eq!(f.store.push.choice(Caller::System, ana).await.unwrap(), PushChoice::default());
    assert_eq!(take_one(f, 100).await.task.member, ben);
    // What comes too late.
    register(f, ana, "phone").await;
    f.store.push.choose(ana, PushChoice { content: PushContent::Nothing, quiet_hours: None }, None).await.unwrap();
    assert_eq!(devices(f, &[ana]).await, []);
    assert_eq!(f.store.push.choice(Caller::System, ana).await.unwrap(), PushChoice::default());
}

async fn sign_in(f: &Fixture, member: MemberId, byte: u8) -> SessionId {
    let token = NewToken { hash: [byte; 32], expires_at: f.now().after(Duration::from_secs(3600)) };
    let (id, at, ends_at) = (f.ids.session(), f.now(), f.now().after(Duration::from_secs(7200)));
    let credentials = f.credentials(member).await;
    let device = SessionDevice::default();
    let (address, known_device, tell_of) = (None, None, None);
    let new = NewSession { id, member, token, device, known_device, address, at, ends_at, credentials, tell_of };
    assert!(f.store.sessions.start(new).await.unwrap().is_some());
    id
}

#[expect(clippy::cognitive_complexity, reason = "the ends of a session, one after the other")]
async fn a_session_that_ends_takes_its_devices_with_it(f: &Fixture) {
    let ana = f.member("Ana").await;
    let sessions = [sign_in(f, ana, 1).await, sign_in(f, ana, 2).await, sign_in(f, ana, 3).await];
    for (name, session) in ["one", "two", "three"].into_iter().zip(sessions) {
        f.store.push.register(DeviceRecord { session, ..record(f, ana, name, expo(name)) }, 0).await.unwrap();
    }
    add(f, ["one", "two", "three"].map(|name| messages(ana, name, 1, (5, 5), 0)).into()).await;
    f.store.sessions.revoke_many(ana, vec![sessions[0]], f.now()).await.unwrap();
    let names = async || {
        let mut names: Vec<_> = devices(f, &[ana]).await.into_iter().map(|device| device.device.to_string()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names().await, ["three", "two"]);
    let token = NewToken { hash: [9; 32], expires_at: f.now().after(Duration::from_secs(3600)) };
    let keep = Some(KeptSession { id: sessions[1], token });
    let credentials = f.credentials(ana).await;
    f.change(ana, Change::Password { credentials, hash: "another".to_owned(), keep }).await;
    // Of the session that stays whoever has copied its former tokens may have registered something.
    assert_eq!((names().await, take(f, 100).await), (vec![], vec![]));
    let register = async |name: &str, session, good_from| {
        let record = DeviceRecord { session, ..record(f, ana, name, expo(name)) };
        f.store.push.register(record, good_from).await.unwrap()
    };
    // What was on its way with them comes too late, and so does what a session has asked for that is over.
    assert!(!register("four", sessions[1], 0).await && !register("five", sessions[2], 0).await);
    assert_eq!(names().await, Vec::<String>::new());
    let good_from = f.store.sessions.view(sessions[1]).await.unwrap().unwrap().good_from;
    assert!(register("two", sessions[1], good_from).await);
    assert_eq!(names().await, ["two"]);
}

/// Found by an attacker: at two nodes, a registration that was on its way outlived its session.
async fn a_session_that_ends_at_the_same_moment_takes_its_device_with_it(f: &Fixture) {
    let ana = f.member("Ana").await;
    for round in 0..48_u8 {
        let session = sign_in(f, ana, round).await;
        let name = format!("device{round}");
        let registering = f.store.push.register(DeviceRecord { session, ..record(f, ana, &name, expo(&name)) }, 0);
        // Now before it, now in its midst, now after it.
        let ending = async {
            for _ in 0..round % 12 {
                f.store.sessions.view(session).await.unwrap();
            }
            f.store.sessions.revoke_many(ana, vec![session], f.now()).await.unwrap();
        };
        let (registered, ()) = tokio::join!(registering, ending);
        registered.unwrap();
        assert_eq!(devices(f, &[ana]).await.len(), 0, "round {round}");
    }
}

async fn a_choice_is_kept(f: &Fixture) {
    let ana = f.member("Ana").await;
    let choice = async || f.store.push.choice(Caller::System, ana).await.unwrap();
    assert_eq!(choice().await, PushChoice::default());
    let quiet_hours =
        QuietHours { from: "22:00".to_owned(), until: "07:30".to_owned(), time_zone: "Europe/Lisbon".to_owned() };
    for quiet_hours in [Some(quiet_hours), None] {
        for content in [PushContent::Nothing, PushContent::Sender, PushContent::Full] {
            let chosen = PushChoice { content, quiet_hours: quiet_hours.clone() };
            f.store.push.choose(ana, chosen.clone(), None).await.unwrap();
            assert_eq!(choice().await, chosen);
        }
    }
}

/// A node looks through what it stores itself, for as long as it lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_that_lives_has_stored_is_its_own() {
    let database = Arc::new(Database::new().await);
    let (one, two) = (Fixture::mongodb_in(Arc::clone(&database)), Fixture::mongodb_in(Arc::clone(&database)));
    let unlooked =
        async |f: &Fixture| f.store.push.unlooked(f.now(), f.now().after(Duration::from_secs(60))).await.unwrap();
    assert_eq!((unlooked(&one).await, unlooked(&two).await), (None, None));
    one.store.push.add(vec![], Some(Position(1_000))).await.unwrap();
    assert_eq!((unlooked(&one).await, unlooked(&two).await), (None, None));
    one.store.backend.close().await;
    let left = unlooked(&two).await.unwrap();
    assert!(left.after >= Position(1_000));
    two.store.push.looked(left).await.unwrap();
    two.wait(61);
    assert_eq!(unlooked(&two).await, None);
    two.store.backend.close().await;
}

/// What it has left is not late for that, and if it was only slow it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_silent_node_has_left_is_looked_through_before_it_is_dead() {
    let database = Arc::new(Database::new().await);
    let f = Fixture::mongodb_in(Arc::clone(&database));
    f.store.backend.opened().await.unwrap();
    let listings = f.store.fleet.as_ref().unwrap().listing();
    // On another machine: nobody knows whether its process exists.
    let database = database.open().await;
    let (nodes, places) = (database.collection::<Document>("nodes"), database.collection::<Document>("push_places"));
    let mut silent = nodes.find_one(doc! {}).await.unwrap().unwrap();
    let id = ObjectId::new();
    silent.extend(doc! { "_id": id, "machine": "another", "timeout": 30_000_i64 });
    nodes.insert_one(silent).await.unwrap();
    places.insert_one(doc! { "_id": id, "position": 1_000_i64 }).await.unwrap();
    let unlooked = async || f.store.push.unlooked(f.now(), f.now().after(Duration::from_secs(60))).await.unwrap();
    let left = eventually("what the silent node has left", unlooked).await;
    assert_eq!(left.after, Position(1_000));
    let is_dead = listings.borrow().as_ref().is_some_and(|listing| listing.others.iter().any(|other| other.dead));
    assert!(!is_dead, "it may be only slow, for as long as its commands may take");
    assert_eq!(unlooked().await, None, "somebody has it in hand");
    f.store.push.looked(left).await.unwrap();
    assert_eq!(unlooked().await, Some(left), "until it is dead it may leave more");
    f.store.backend.close().await;
}

async fn what_a_clock_has_put_off_is_due_when_somebody_says_so(f: &Fixture) {
    let ana = f.member("Ana").await;
    register(f, ana, "phone").await;
    add(f, vec![messages(ana, "phone", 1, (1, 1), 4_000), messages(ana, "phone", 2, (1, 1), 100)]).await;
    let taken = take(f, 4_003).await;
    assert_eq!(taken.len(), 2);
    let put_off = taken.into_iter().map(|taken| (taken, Settled::Postponed { due: at(4_100), failures: 0 })).collect();
    f.store.push.settle(put_off).await.unwrap();
    let rouse = async |now: i64, after| f.store.push.rouse(at(now), at(now + 9), at(after)).await.unwrap();
    assert_eq!(rouse(4_095, 0).await, 0, "they are due soon");
    assert_eq!(rouse(500, 505).await, 1, "that whose message is of the future");
    assert_eq!(take_one(f, 500).await.task.subject, Subject::Messages(conversation(1)));
    assert_eq!(rouse(600, 0).await, 1);
    assert_eq!(take(f, 600).await.len(), 2, "one was in hand until then");
}

async fn devices_that_show_a_number_are_found(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for (member, name, number) in [(ana, "phone", 3), (ana, "tablet", 0), (ben, "phone", 7)] {
        register(f, member, name).await;
        add(f, vec![messages(member, name, 1, (1, 1), 0)]).await;
        finish(f, take_one(f, 3).await, Some(number)).await;
    }
    let mut expected = [(ana, device("phone")), (ben, device("phone"))];
    expected.sort_by_key(|(member, device)| DeviceKey::of(*member, device));
    let after = |place: usize| DeviceKey::of(expected[place].0, &expected[place].1);
    let found = async |after| f.store.push.with_badge(after).await.unwrap();
    assert_eq!(found(None).await, expected);
    assert_eq!(found(Some(after(0))).await, expected[1..]);
    assert_eq!(found(Some(after(1))).await, []);
}

/// Found by setting clocks back: a device was registered by the clock of its node, and messages were older than that for as long.
async fn what_was_stored_before_a_device_was_registered_is_told_apart_without_clocks(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let say = async || {
        let applied = f.store.log.apply(vec![append(ben, ana, client_id(), "x")]).await.unwrap();
        assert!(applied.outcomes[0].is_ok());
        applied.latest
    };
    let since = async || {
        f.store.push.devices(Caller::System, vec![ana]).await.unwrap().into_iter().map(|found| found.since).collect()
    };
    say().await;
    let before = say().await;
    // Whatever a clock shows.
    let registered_at = Timestamp::from_millis(f.now().as_millis() + 3_600_000);
    // Positions of MongoDB are of the clock of the database, which has to go on: there is nothing else to wait for.
    tokio::time::sleep(Duration::from_millis(50)).await;
    f.store.push.register(DeviceRecord { registered_at, ..record(f, ana, "phone", expo("phone")) }, 0).await.unwrap();
    let [since_then] = Vec::<Position>::try_into(since().await).unwrap();
    assert!(before < since_then && since_then <= say().await, "{before:?} {since_then:?}");
    f.store.push.register(record(f, ana, "phone", expo("another")), 0).await.unwrap();
    assert_eq!(since().await, [since_then], "it is the same device");
}
