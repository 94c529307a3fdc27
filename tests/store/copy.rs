//! Moving everything from one store to another, and back.

use members_book::{
    position::Position,
    service::transfer::{self, TransferError},
    store::{
        archive::Part,
        changes::{Actor, Change},
        conversations::{ConversationState, MarkKind},
        invitations::{Created, InvitationRecord, NewInvitation},
        jobs::Job,
        mail::{Asked, AskedFrom, Mail, NewLink, Purpose, TokenId},
        members::{NewMember, NotRegistered, Registration, Suspension, UNVERIFIED_MAX, Way},
        push::{DeviceMark, DeviceRecord, NewTask, PushChoice, RegistrationId, Settled, Subject, ToldBadge},
        recommendations::{Decision, Draft},
        second_factor::{Code, CodeUse, StoredFactor},
        sessions::{Exchange, KeptSession, NewSession, NewToken, Rotation, SessionDevice},
        turns::Caller,
    },
};
use mongodb::bson::{Document, doc};
use protocol::{
    DeviceId, MemberId, PhotoName, RecommendationId,
    model::{ConversationSettings, Platform, Tier},
    rest::ai::{Advice, AdviceSource, Introduction},
    rest::{Language, PushAddress, PushContent, PushKeys, QuietHours},
};

use super::fixture::{Fixture, answer};

/// The address of the one who has left.
const LEFT: &str = "uma@example.com";

fn deletion(member: MemberId, byte: u8) -> Job {
    Job::DeletePhoto { member, photo: PhotoName::from_bytes([byte; 32]) }
}

/// The token of a session is exchanged.
fn exchange(f: &Fixture, used: u8) -> Exchange {
    let lifetime = std::time::Duration::from_secs(3600);
    Exchange {
        used: [used; 32],
        successor: [used + 100; 32],
        former: Vec::new(),
        attempt: Some([used + 50; 32]),
        address: Some("198.51.100.24".parse().unwrap()),
        at: f.now(),
        token_lifetime: lifetime,
        session_lifetime: lifetime,
    }
}

/// Somebody who came by an invitation and is suspended, and somebody who waits.
async fn fill_with_new_members(f: &Fixture, members: &mut Vec<MemberId>) {
    let by = Actor::without_session(members[0], None);
    let record = InvitationRecord {
        id: f.ids.invitation(),
        code: [5; 32],
        tier: Tier::Infinity,
        uses: 3,
        used: 0,
        created_by: members[0],
        created_at: f.now(),
        expires_at: f.now().after(std::time::Duration::from_secs(3600)),
        revoked_at: None,
        note: Some("é😀".to_owned()),
    };
    let new = NewInvitation { record: record.clone(), most_open: 10, most_made: 100, needs_admin: false, by };
    assert_eq!(f.store.invitations.create(new).await.unwrap(), Created::Done);
    let from = [192, 0, 2, 1].into();
    let ways = [("Ida", Way::Invitation(record.id)), ("Ole", Way::Application { most: 5 }), ("Una", Way::Free)];
    for (name, way) in ways {
        let member = f.new_member(name, &format!("{name}@example.com"));
        let member = NewMember { must_verify: name == "Una", ..member };
        let new = Registration { member, way, from, link: None, most_unverified: UNVERIFIED_MAX };
        members.push(f.store.members.register(new).await.unwrap().unwrap().profile.id);
    }
    // Somebody who registers with an address that is taken, as whom nobody is there.
    let member = NewMember { must_verify: true, ..f.new_member("Ida", "ida@example.com") };
    let (purpose, token, hash) = (Purpose::VerifyEmail, TokenId([8; 16]), [8; 32]);
    let link = Some(NewLink { member: member.id, purpose, token, hash, asked: AskedFrom(1), email: None, at: f.now() });
    let way = Way::Invitation(record.id);
    let taken = Registration { member, way, from, link, most_unverified: UNVERIFIED_MAX };
    assert!(f.store.members.register(taken).await.unwrap().is_err());
    let until = f.now().after(std::time::Duration::from_secs(60));
    // Somebody who had shown that the address was theirs, and has left.
    let left = f.member_with_email("Uma", LEFT).await.profile.id;
    let link = NewLink {
        member: left,
        purpose: Purpose::VerifyEmail,
        token: TokenId([9; 16]),
        hash: [9; 32],
        asked: AskedFrom(1),
        email: None,
        at: f.now(),
    };
    assert!(f.store.mail.issue(Caller::System, link).await.unwrap());
    f.change(left, Change::VerifyEmail { link: [9; 32] }).await;
    f.change(left, Change::Erase).await;
    // And somebody who has got hold of the address that such a one gets.
    members.push(f.member_with_email("Eva", &format!("{left}@erased.invalid")).await.profile.id);
    f.change(members[3], Change::Suspended(Some(Suspension { until, reason: Some("loud".to_owned()) }))).await;
}

/// A second factor of which codes were used, and a session that was proved again.
async fn fill_with_a_second_factor(f: &Fixture, member: MemberId) {
    let enabled_at = f.now();
    let recovery_codes = vec![[1; 32], [2; 32], [3; 32]];
    let factor = StoredFactor { secret: vec![0, 255, 7], enabled_at, last_step: 59_845_687, recovery_codes };
    let session = f.store.sessions.of_member(member).await.unwrap()[0].id;
    let credentials = f.credentials(member).await;
    let token = NewToken { hash: [1; 32], expires_at: f.now().after(std::time::Duration::from_secs(3600)) };
    let keep = KeptSession { id: session, token };
    f.change(member, Change::EnableSecondFactor { credentials, factor, keep }).await;
    // The token that it goes on with is exchanged, and that is not known to have arrived.
    f.wait(1);
    f.store.sessions.rotate(member, exchange(f, 1)).await.unwrap();
    f.change(member, Change::UseCode(CodeUse { enabled_at, code: Code::Recovery([2; 32]) })).await;
    f.store.sessions.prove(member, session, f.now()).await.unwrap();
}

/// Devices of every kind, what they have acknowledged, what they are to be told and was tried, and choices.
async fn fill_with_pushes(f: &Fixture, members: &[MemberId]) {
    let session = f.store.sessions.of_member(members[1]).await.unwrap()[0].id;
    let good_from = f.store.sessions.view(session).await.unwrap().unwrap().good_from;
    let keys = PushKeys { p256dh: "p".to_owned(), auth: "a".to_owned() };
    let web = PushAddress::Web { endpoint: "https://push.example.com/1".to_owned(), keys };
    let expo = |token: u8| PushAddress::Expo { token: format!("ExponentPushToken[{token}]") };
    let ones = [(0, "phone", expo(1)), (1, "phone", expo(2)), (1, "é/😀", web)];
    let registered_at = f.now();
    for (number, name, address) in ones {
        let (member, device, platform) = (members[number], name.parse().unwrap(), Platform::Android);
        let (since, revision) = (Position::default(), RegistrationId::default());
        let badge = None;
        let record = DeviceRecord { member, device, session, address, platform, registered_at, since, badge, revision };
        f.store.push.register(record.clone(), good_from).await.unwrap();
        // With another moment: both are copied.
        f.store
            .push
            .register(
                DeviceRecord { registered_at: registered_at.after(std::time::Duration::from_secs(1)), ..record },
                good_from,
            )
            .await
            .unwrap();
    }
    let mut tasks = Vec::new();
    for (number, name, with, seq) in [(0, "phone", 1, 4), (1, "é/😀", 0, 5), (1, "phone", 2, 6)] {
        let (member, device) = (members[number], name.parse::<DeviceId>().unwrap());
        let conversation = members_book::service::messaging::direct_conversation(member, members[with]);
        let mark = DeviceMark { member, device: device.clone(), conversation, seq };
        f.store.push.acknowledge(vec![mark]).await.unwrap();
        for subject in [Subject::Badge, Subject::Messages(conversation)] {
            let (at, due, device) = (f.now(), f.now(), device.clone());
            tasks.push(NewTask { member, device, subject, first: seq, last: seq + 1, at, due });
        }
    }
    f.store.push.add(tasks.clone(), None).await.unwrap();
    let taken = f.store.push.take(f.now(), f.now().after(std::time::Duration::from_secs(60)), 2).await.unwrap();
    assert_eq!(taken.len(), 2);
    // Added while it is in hand.
    f.store.push.add(tasks, None).await.unwrap();
    let finished = taken
        .into_iter()
        .map(|taken| (taken, Settled::Finished { badge: Some(ToldBadge { badge: 3, before: None }) }))
        .take(1);
    f.store.push.settle(finished.collect()).await.unwrap();
    let quiet_hours =
        QuietHours { from: "22:00".to_owned(), until: "07:30".to_owned(), time_zone: "Europe/Lisbon".to_owned() };
    let choice = PushChoice { content: PushContent::Sender, quiet_hours: Some(quiet_hours) };
    f.store.push.choose(members[0], choice, None).await.unwrap();
    let choice = PushChoice { content: PushContent::Nothing, quiet_hours: None };
    f.store.push.choose(members[2], choice, None).await.unwrap();
}

#[expect(clippy::cognitive_complexity, reason = "something of everything, one after the other")]
async fn fill(f: &Fixture) -> Vec<MemberId> {
    let mut members = vec![f.member("Ana").await, f.member("Ben").await, f.member("Eva").await];
    f.change(members[0], Change::Tier(Tier::Socio)).await;
    fill_with_new_members(f, &mut members).await;
    f.change(members[2], Change::Active(false)).await;
    f.change(members[2], Change::Active(true)).await;
    for (number, &member) in members.iter().enumerate().take(3) {
        let byte = u8::try_from(number).unwrap();
        let token = NewToken { hash: [byte; 32], expires_at: f.now().after(std::time::Duration::from_secs(3600)) };
        let device = SessionDevice { name: Some(format!("Phone {number}")), platform: Some(Platform::Android) };
        let device = if number == 0 { SessionDevice::default() } else { device };
        let (id, address) = (f.ids.session(), (number == 1).then(|| "2001:db8::7".parse().unwrap()));
        let ends_at = f.now().after(std::time::Duration::from_secs(7200));
        let credentials = f.credentials(member).await;
        let (at, tell_of, known_device) = (f.now(), None, (number == 1).then_some([9; 12]));
        let new = NewSession { id, member, token, device, known_device, address, at, ends_at, credentials, tell_of };
        assert!(f.store.sessions.start(new).await.unwrap().is_some());
        if number == 1 {
            // Exchanged, and not known to have arrived.
            f.wait(1);
            f.store.sessions.rotate(member, exchange(f, byte)).await.unwrap();
        }
    }
    for round in 0..20 {
        f.wait(1);
        let (from, to) = [(0, 1), (1, 0), (2, 0), (0, 2)][round % 4];
        // Some answer the first one.
        let (client_id, reply_to) = (crate::harness::client_id(), (round > 11).then_some(1));
        let content = format!("message {round} é😀");
        f.apply(answer(members[from], members[to], client_id, &content, reply_to)).await.unwrap();
        let conversation = members_book::service::messaging::direct_conversation(members[from], members[to]);
        f.mark(conversation, members[to], MarkKind::Delivered, 1 + round as u64 / 3).await;
        f.mark(conversation, members[from], MarkKind::Read, round as u64 / 4).await;
    }
    let muted = super::settings::muted(1_795_370_633_120);
    let muted = ConversationSettings { archived: true, pinned: true, ..muted };
    let conversation = members_book::service::messaging::direct_conversation(members[0], members[1]);
    super::settings::set(f, conversation, members[0], muted).await;
    let advice = Advice::Connect(Introduction { member_id: members[1], member: None, reasons: Vec::new() });
    let draft = Draft {
        id: RecommendationId::from_bytes([7; 12]),
        advice,
        confidence_score: 0.5,
        source: AdviceSource::Local,
        basis: [1; 16],
        refreshed_at: f.now(),
    };
    f.store.recommendations.keep(members[2], vec![draft.clone()], f.now()).await.unwrap();
    f.store.recommendations.decide(members[2], draft.id, Decision::Dismiss, f.now()).await.unwrap();
    assert!(f.store.recommendations.spend(members[0], 20_000, 3).await.unwrap());
    f.store.members.record_last_seen(vec![(members[1], f.now())]).await.unwrap();
    for byte in [1, 2] {
        f.store.jobs.add(deletion(members[1], byte), f.now()).await.unwrap();
    }
    f.store.jobs.take(f.now(), f.now().after(std::time::Duration::from_secs(60))).await.unwrap().unwrap();
    for (byte, purpose) in [(1, Purpose::ResetPassword), (2, Purpose::ResetPassword), (3, Purpose::VerifyEmail)] {
        let (member, token, hash, at) = (members[0], TokenId([byte; 16]), [byte; 32], f.now());
        assert!(
            f.store
                .mail
                .issue(Caller::System, NewLink { member, purpose, token, hash, asked: AskedFrom(1), email: None, at })
                .await
                .unwrap()
        );
    }
    let taken = f.take_mail(std::time::Duration::from_secs(60)).await.unwrap();
    f.store.mail.postpone(taken, f.now().after(std::time::Duration::from_secs(5))).await.unwrap();
    let taken = Mail::AddressTaken { email: "ana@example.com".to_owned(), asked: AskedFrom(1) };
    f.store.mail.add(Caller::System, taken, f.now()).await.unwrap();
    f.change(members[0], Change::VerifyEmail { link: [3; 32] }).await;
    let asked = super::mail_changes::new_change(f, members[2], 4, "eva@example.org").await;
    assert_eq!(f.store.mail.issue_change(asked).await, Ok(Asked::Written));
    fill_with_a_second_factor(f, members[1]).await;
    fill_with_pushes(f, &members).await;
    let credentials = f.credentials(members[0]).await;
    f.change(members[0], Change::Password { credentials, hash: "another".to_owned(), keep: None }).await;
    let language = members_book::store::changes::ProfileEdit { language: Some(Some(Language::Pt)), ..<_>::default() };
    f.change(members[0], Change::Profile { edit: language, expected: None }).await;
    members
}

/// What a member sees of everything.
async fn view(f: &Fixture, member: MemberId) -> (Vec<ConversationState>, Vec<ConversationState>) {
    let changes = f.store.conversations.delta(member, None).await.unwrap();
    let listed = f.store.conversations.list(member, <_>::default(), None::<Position>, 10).await.unwrap();
    let sorted = |mut conversations: Vec<ConversationState>| {
        for conversation in &mut conversations {
            conversation.members.sort_by_key(|state| state.member);
        }
        conversations
    };
    (sorted(changes.conversations), sorted(listed.conversations))
}

async fn same(one: &Fixture, other: &Fixture, members: &[MemberId]) {
    for &member in members {
        assert_eq!(view(one, member).await, view(other, member).await);
        let (here, there) = (
            one.store.members.by_id(Caller::System, member).await.unwrap().unwrap(),
            other.store.members.by_id(Caller::System, member).await.unwrap().unwrap(),
        );
        assert_eq!(
            (here.profile, here.password_hash, here.version, here.second_factor, here.credentials),
            (there.profile, there.password_hash, there.version, there.second_factor, there.credentials)
        );
        let proved = async |f: &Fixture| {
            let ids = f.store.sessions.of_member(member).await.unwrap().into_iter().map(|session| session.id).collect();
            f.store.sessions.views(ids).await.unwrap()
        };
        assert_eq!(proved(one).await, proved(other).await);
        assert_eq!(
            one.store.sessions.of_member(member).await.unwrap(),
            other.store.sessions.of_member(member).await.unwrap()
        );
        let ids = vec![member];
        assert_eq!(
            one.store.members.last_seen(Caller::System, ids.clone()).await.unwrap(),
            other.store.members.last_seen(Caller::System, ids).await.unwrap()
        );
    }
    same_beside(one, other, members).await;
    same_pushes(one, other, members).await;
}

/// What is not of members as such.
async fn same_beside(one: &Fixture, other: &Fixture, members: &[MemberId]) {
    for &member in members {
        let of = async |f: &Fixture| f.store.recommendations.all_of(member).await.unwrap();
        assert_eq!(of(one).await, of(other).await);
    }
    let invitations = async |f: &Fixture| f.store.invitations.list(Caller::System, None, None, 10).await.unwrap();
    assert_eq!((invitations(one).await, invitations(one).await.len()), (invitations(other).await, 1));
    let jobs = async |f: &Fixture| {
        let mut jobs = f.store.jobs.waiting(10).await.unwrap();
        jobs.sort_unstable_by_key(|(job, _)| job.key());
        jobs
    };
    assert_eq!((jobs(one).await, jobs(one).await.len()), (jobs(other).await, 3), "one is of who has left");
    let audit = async |f: &Fixture| f.store.audit.entries(None, 100).await.unwrap();
    assert_eq!(audit(one).await, audit(other).await);
}

/// What there is of pushes.
async fn same_pushes(one: &Fixture, other: &Fixture, members: &[MemberId]) {
    let devices = async |f: &Fixture| {
        let mut devices = super::push::devices(f, members).await;
        devices.sort_unstable_by_key(|device| (device.member, device.device.clone()));
        devices
    };
    assert_eq!((devices(one).await, devices(one).await.len()), (devices(other).await, 3));
    for &member in members {
        let choice = async |f: &Fixture| f.store.push.choice(Caller::System, member).await.unwrap();
        assert_eq!(choice(one).await, choice(other).await);
    }
    let tasks = async |f: &Fixture| f.store.push.waiting().await.unwrap();
    assert_eq!(tasks(one).await, tasks(other).await);
}

#[tokio::test]
async fn everything_arrives_and_goes_on_from_there() {
    let (file, database, back) = (Fixture::sqlite(), Fixture::mongodb().await, Fixture::sqlite());
    let members = fill(&file).await;
    let verified = transfer::copy(&file.store, &database.store, |_, _, _| ()).await.unwrap();
    assert_eq!(verified.iter().map(|each| each.part).collect::<Vec<_>>(), Part::ALL);
    assert_eq!(verified.iter().find(|each| each.part == Part::Messages).unwrap().rows, 20);
    same(&file, &database, &members).await;
    // The statuses that an outside reader sees follow from the receipts.
    let messages = database.database.as_ref().unwrap().open().await.collection::<Document>("messages");
    let read = messages.count_documents(doc! { "status": "read", "read_at": { "$type": "date" } }).await.unwrap();
    assert!(read > 0);
    // So does an exchange whose answer was lost.
    let again = database.store.sessions.rotate(members[1], exchange(&database, 1)).await.unwrap();
    assert!(matches!(again, Rotation::Rotated(renewal) if renewal.again && renewal.generation == 3));
    // And it goes on: the next seq, the next position, the next audit entry.
    // At a time of its own: the order of two conversations of the same moment is not kept.
    file.wait(1);
    database.clock.set(file.now());
    let before = database.store.conversations.delta(members[0], None).await.unwrap().conversations;
    let next = database.say(members[0], members[1], "on MongoDB").await;
    assert_eq!(next.seq, before.iter().find(|each| each.id == next.conversation).unwrap().last_seq + 1);
    database.change(members[1], Change::Tier(Tier::Infinity)).await;

    // Who has left stays out everywhere.
    let from = [192, 0, 2, 1].into();
    let uma = |f: &Fixture| Registration {
        member: f.new_member("Uma", LEFT),
        way: Way::Free,
        from,
        link: None,
        most_unverified: UNVERIFIED_MAX,
    };
    let returns = database.store.members.register(uma(&database)).await.unwrap();
    assert_eq!(returns.err(), Some(NotRegistered::EmailTaken));
    transfer::copy(&database.store, &back.store, |_, _, _| ()).await.unwrap();
    let returns = back.store.members.register(uma(&back)).await.unwrap();
    assert_eq!(returns.err(), Some(NotRegistered::EmailTaken));
    same(&database, &back, &members).await;
    back.clock.set(file.now());
    assert_eq!(back.say(members[1], members[0], "in a file again").await.seq, next.seq + 1);
    assert_eq!(
        back.store.conversations.list(members[0], <_>::default(), None, 1).await.unwrap().conversations[0].id,
        next.conversation
    );
}

#[tokio::test]
async fn an_interrupted_copy_goes_on_where_it_was() {
    let (file, database) = (Fixture::sqlite(), Fixture::mongodb().await);
    let members = fill(&file).await;
    // As if it had been stopped in the middle of the messages.
    let source = file.store.backend.store_id();
    assert_eq!(database.store.archive.begin_copy(source).await.unwrap(), Some(false));
    for part in [Part::Members, Part::Invitations, Part::Sessions, Part::RefreshTokens, Part::Conversations] {
        let rows = file.store.archive.rows(part, None, 100).await.unwrap();
        database.store.archive.insert_rows(rows).await.unwrap();
    }
    let some = file.store.archive.rows(Part::Messages, None, 7).await.unwrap();
    database.store.archive.insert_rows(some).await.unwrap();
    let mut copied = 0;
    let mut first = None;
    transfer::copy(&file.store, &database.store, |step, done, _| {
        if step == transfer::Step::Copying(Part::Messages) {
            first.get_or_insert(done);
            copied = done;
        }
    })
    .await
    .unwrap();
    assert_eq!((first, copied), (Some(7), 20));
    same(&file, &database, &members).await;
}

#[tokio::test]
async fn a_store_in_use_is_no_target() {
    let (file, database) = (Fixture::sqlite(), Fixture::mongodb().await);
    fill(&file).await;
    database.member("Somebody").await;
    assert!(matches!(transfer::copy(&file.store, &database.store, |_, _, _| ()).await, Err(TransferError::NotEmpty)));
    assert!(matches!(transfer::copy(&database.store, &file.store, |_, _, _| ()).await, Err(TransferError::NotEmpty)));
    assert!(matches!(transfer::copy(&file.store, &file.store, |_, _, _| ()).await, Err(TransferError::Same)));
    assert_eq!(database.store.archive.count(Part::Members).await.unwrap(), 1);
}
