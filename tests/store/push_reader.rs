//! The reader of the log that decides whom pushes go to, over each store and without a server: what comes between two of its steps is what a test
//! puts there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::BoxStream};
use members_book::{
    auth::keys::KeyRing,
    cluster::Uplink,
    ids::{Ids, SystemEntropy},
    position::Position,
    push::{Courier, Handed, Parcel},
    service::push::{Intake, Options, Parts, Push, Stored},
    store::{
        entries::StoredEntry,
        push::{Subject, TakenTask},
    },
};
use protocol::{
    MemberId,
    rest::{Language, PushContent, PushService},
};
use tokio_util::sync::CancellationToken;

use super::{
    fixture::Fixture,
    for_every_store,
    push::{finish, register},
};
use crate::harness::eventually;

for_every_store![
    what_is_read_before_the_place_that_is_written_is_written_with_it,
    what_was_stored_before_a_device_was_registered_is_not_for_it_however_late_the_database_answers,
];

/// One to whom nothing is handed: what is due stays in the store.
struct Resting;

#[async_trait::async_trait]
impl Courier for Resting {
    fn service(&self) -> PushService {
        PushService::Expo
    }

    fn rests(&self) -> Duration {
        Duration::from_secs(3_600)
    }

    fn is_silent(&self) -> bool {
        true
    }

    fn batches(&self) -> Option<usize> {
        None
    }

    fn send(&self, _: Vec<Parcel>) -> BoxStream<'_, (usize, Handed)> {
        futures_util::stream::empty().boxed()
    }
}

/// How long devices may take.
const AFTER: Duration = Duration::from_millis(10);

/// A reader of a store that is told what it has published.
fn reader(f: &Fixture, intake: &Arc<Intake>, published: impl Fn() -> Position + Send + Sync + 'static) -> Push {
    let store = &f.store;
    let parts = Parts {
        store: Arc::clone(&store.push),
        members: Arc::clone(&store.members),
        sessions: Arc::clone(&store.sessions),
        conversations: Arc::clone(&store.conversations),
        couriers: vec![Arc::new(Resting)],
        web_key: None,
        topics: KeyRing::new("secret".into(), Vec::new()).derive(b"topics").present,
        intake: Arc::clone(intake),
        published: Box::new(published),
        uplink: Uplink::default(),
        clock: Arc::new(f.clock.clone()),
        ids: Arc::new(Ids::new(Arc::new(f.clock.clone()), Arc::new(SystemEntropy))),
        metrics: Arc::clone(&f.metrics),
    };
    let options = Options {
        ttl: Duration::from_secs(3_600),
        content: PushContent::Full,
        language: Language::En,
        is_shared: false,
        lag: Duration::from_secs(1),
        store_timeout: Duration::from_secs(5),
        finishing: Duration::from_secs(1),
    };
    Push::new(parts, options)
}

/// All that waits.
async fn tasks(f: &Fixture) -> Vec<TakenTask> {
    let now = f.now().after(Duration::from_secs(60));
    f.store.push.take(now, now.after(Duration::from_secs(60)), 100).await.unwrap()
}

/// Found by a reviewer: what was read between two steps was known to nobody after a crash, and the number at the icon stayed.
async fn what_is_read_before_the_place_that_is_written_is_written_with_it(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    register(f, ben, "phone").await;
    let message = f.say(ana, ben, "x").await;
    // The phone shows a number.
    let at = f.now();
    let number = members_book::store::push::NewTask {
        member: ben,
        device: "phone".parse().unwrap(),
        subject: Subject::Badge,
        first: 0,
        last: 0,
        at,
        due: at,
    };
    f.store.push.add(vec![number], None).await.unwrap();
    finish(f, tasks(f).await.remove(0), Some(1)).await;
    let (intake, is_read) = (Arc::new(Intake::new(1, AFTER, true)), Arc::new(AtomicBool::new(false)));
    let (heard, now) = (Arc::clone(&intake), Arc::clone(&is_read));
    let place = f.settle().await;
    let push = reader(f, &intake, move || {
        // At the last moment at which it can be before that.
        if now.swap(false, Ordering::AcqRel) {
            heard.acknowledged(ben, Some(&"laptop".parse().unwrap()), message.conversation, message.seq, true);
        }
        place
    });
    is_read.store(true, Ordering::Release);
    push.finish().await;
    assert!(!is_read.load(Ordering::Acquire), "what is published was asked");
    let written: Vec<Subject> = tasks(f).await.into_iter().map(|taken| taken.task.subject).collect();
    assert_eq!(written, [Subject::Badge]);
}

/// As the lane hands over a message that the database has answered late: it may have any position up to far away.
fn stored<'a>(message: &StoredEntry, members: &'a [MemberId]) -> Stored<'a> {
    let StoredEntry { conversation, seq, sender, at, .. } = *message;
    Stored { lane: 0, floor: Position(0), latest: Position(u64::MAX >> 2), conversation, seq, sender, at, members }
}

async fn what_was_stored_before_a_device_was_registered_is_not_for_it_however_late_the_database_answers(f: &Fixture) {
    let (ana, ben, cleo) = (f.member("Ana").await, f.member("Ben").await, f.member("Cleo").await);
    let before = f.say(ben, ana, "before").await;
    // Positions of MongoDB are of the clock of the database, which has to go on: there is nothing else to wait for.
    tokio::time::sleep(Duration::from_millis(50)).await;
    register(f, ana, "phone").await;
    let after = f.say(cleo, ana, "after").await;
    let intake = Arc::new(Intake::new(1, AFTER, true));
    let push = reader(f, &intake, Position::default);
    for (message, members) in [(&before, [ana, ben]), (&after, [ana, cleo])] {
        intake.stored(&stored(message, &members));
    }
    let stop = CancellationToken::new();
    let waiting = async {
        eventually("a task", async || (f.store.push.waiting().await.unwrap().count > 0).then_some(())).await;
        stop.cancel();
    };
    tokio::join!(push.run(stop.clone()), waiting);
    let told: Vec<Subject> = tasks(f).await.into_iter().map(|taken| taken.task.subject).collect();
    assert_eq!(told, [Subject::Messages(after.conversation)]);
}
