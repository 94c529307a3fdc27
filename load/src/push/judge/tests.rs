//! Each rule, broken once: what finds nothing wrong has to be able to.

use protocol::{ClientMessageId, MemberId};
use tokio::time::advance;

use super::*;

const HERE: ConversationId = ConversationId::from_bytes([3; 12]);
const ANA: usize = 0;
const BEN: usize = 1;
/// The phone of Ben.
const PHONE: usize = 4;
const TOKEN: &str = "ExponentPushToken[ben]";

/// Ben has a phone, and Ana has written to him.
async fn written() -> Facts {
    let members = vec![MemberId::from_bytes([1; 12]), MemberId::from_bytes([2; 12])];
    let mut facts = Facts { members, ..Facts::default() };
    registered(&mut facts, PHONE, BEN).await;
    write(&mut facts, 1).await;
    facts
}

async fn registered(facts: &mut Facts, phone: usize, member: usize) {
    registered_at(facts, phone, member, TOKEN).await;
}

async fn registered_at(facts: &mut Facts, phone: usize, member: usize, address: &str) {
    facts.registering(phone, member, address);
    facts.registered(phone, true);
    after(1).await;
}

async fn write(facts: &mut Facts, seq: u64) {
    let id = ClientMessageId::from_uuid(uuid::Uuid::from_u128(seq.into()));
    facts.sending(id, (ANA, BEN), format!("text {seq}"));
    facts.sent(&id, HERE, seq);
    after(1).await;
}

async fn after(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
}

/// Something that is pushed now.
fn push(facts: &mut Facts, seq: u64, badge: u32) {
    let sender = facts.members.first().copied();
    let notice = Notice { conversation: HERE, seq, sender, body: format!("text {seq}") };
    let (at, taken) = (Instant::now(), Some(Instant::now()));
    let (address, notice) = (TOKEN.to_owned(), Some(notice));
    facts.arrived(vec![Push { address, badge, notice, at, taken, is_put_off: false, is_too_long: false }]);
}

fn say(facts: &mut Facts, phone: Option<usize>, seq: u64, is_read: bool) {
    let said = facts.saying((phone, BEN), HERE, seq, is_read);
    facts.said(&said);
}

fn rules() -> Rules {
    let seconds = Duration::from_secs;
    Rules { slack: seconds(3), ttl: seconds(600), recovery: seconds(45) }
}

fn broken(facts: &Facts) -> Vec<String> {
    let case = Case::new(facts, rules());
    let rules = case.broken().into_iter().map(|rule| rule.split(':').next().unwrap_or_default().to_owned());
    rules.chain(case.owed(Instant::now()).0).collect()
}

#[tokio::test(start_paused = true)]
async fn a_push_of_what_a_device_does_not_have_is_as_it_has_to_be() {
    let mut facts = written().await;
    after(4).await;
    push(&mut facts, 1, 1);
    after(60).await;
    assert_eq!(broken(&facts), [""; 0]);
    assert_eq!(Case::new(&facts, rules()).owed(Instant::now()).1, 0);
    assert_eq!(Case::new(&facts, rules()).latencies(), [(Duration::from_secs(5), false)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_pushed_is_owed_and_late_unless_something_failed() {
    let mut facts = written().await;
    after(9).await;
    assert_eq!(Case::new(&facts, rules()).owed(Instant::now()).1, 1);
    after(4).await;
    assert!(broken(&facts)[0].contains("was not told of message 1"), "{:?}", broken(&facts));
    Facts::begin(&mut facts.crashes);
    Facts::over(&mut facts.crashes);
    assert_eq!(broken(&facts), [""; 0]);
    assert_eq!(Case::new(&facts, rules()).owed(Instant::now()).1, 1, "and is owed all the same");
    say(&mut facts, Some(PHONE), 1, false);
    assert_eq!(Case::new(&facts, rules()).owed(Instant::now()).1, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_put_off_for_hours_is_not_owed_at_the_next_address_of_the_phone_either() {
    let mut facts = written().await;
    push(&mut facts, 1, 1);
    let refused = facts.pushes.last_mut().unwrap();
    (refused.taken, refused.is_put_off) = (None, true);
    after(4).await;
    registered_at(&mut facts, PHONE, BEN, "ExponentPushToken[ben, again]").await;
    write(&mut facts, 2).await;
    after(60).await;
    assert_eq!(Case::new(&facts, rules()).owed(Instant::now()).1, 0);
    registered_at(&mut facts, PHONE + 1, BEN, "ExponentPushToken[another of ben]").await;
    write(&mut facts, 3).await;
    after(11).await;
    assert_eq!(Case::new(&facts, rules()).owed(Instant::now()).1, 1, "another phone has to be told");
}

#[tokio::test(start_paused = true)]
async fn what_was_read_muted_or_acknowledged_before_is_not_to_be_pushed() {
    let mut facts = written().await;
    say(&mut facts, None, 1, true);
    after(4).await;
    push(&mut facts, 1, 0);
    assert_eq!(broken(&facts), ["pushed what was read before, for 4.0 s"]);

    let mut facts = written().await;
    facts.choosing((BEN, HERE), true);
    facts.chosen((BEN, HERE));
    after(4).await;
    push(&mut facts, 1, 1);
    assert_eq!(broken(&facts), ["pushed what was muted before"]);

    let mut facts = written().await;
    say(&mut facts, Some(PHONE), 1, false);
    after(7).await;
    push(&mut facts, 1, 1);
    assert_eq!(broken(&facts), ["pushed what the device has"]);
}

#[tokio::test(start_paused = true)]
async fn a_former_owner_gets_nothing() {
    let mut facts = written().await;
    registered(&mut facts, 0, ANA).await;
    after(4).await;
    push(&mut facts, 1, 1);
    assert_eq!(broken(&facts), ["pushed to an address that its member does not have"]);

    let mut facts = written().await;
    facts.ending(PHONE);
    facts.ended(PHONE);
    push(&mut facts, 1, 1);
    assert_eq!(broken(&facts), [""; 0], "it was under way");
    after(4).await;
    write(&mut facts, 2).await;
    push(&mut facts, 2, 2);
    assert_eq!(broken(&facts), ["pushed to an address that its member does not have"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_push_of_a_message_needs_a_crash() {
    let mut facts = written().await;
    push(&mut facts, 1, 1);
    after(4).await;
    push(&mut facts, 1, 1);
    assert_eq!(broken(&facts), ["pushed again 4.0 s after its ticket"]);

    let mut facts = written().await;
    push(&mut facts, 1, 1);
    after(4).await;
    Facts::begin(&mut facts.crashes);
    Facts::over(&mut facts.crashes);
    push(&mut facts, 1, 1);
    assert_eq!(broken(&facts), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_badge_is_what_was_unread_at_that_moment() {
    let mut facts = written().await;
    after(4).await;
    write(&mut facts, 2).await;
    push(&mut facts, 2, 1);
    assert_eq!(broken(&facts), [""; 0], "it may have been made before the second message was stored");
    after(4).await;
    write(&mut facts, 3).await;
    push(&mut facts, 3, 1);
    assert_eq!(broken(&facts), ["a badge of 1 instead of 2..=3"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_or_from_before_the_registration_is_not_pushed() {
    let mut facts = written().await;
    after(610).await;
    push(&mut facts, 1, 1);
    assert_eq!(broken(&facts), ["pushed a message that is older than PUSH_TTL"]);

    let mut facts = written().await;
    registered(&mut facts, PHONE, BEN).await;
    after(4).await;
    push(&mut facts, 1, 1);
    assert_eq!(broken(&facts), [""; 0], "what waits is told to the address that the phone has now");

    let mut facts = written().await;
    facts.ending(PHONE);
    facts.ended(PHONE);
    after(4).await;
    registered(&mut facts, PHONE, BEN).await;
    push(&mut facts, 1, 1);
    let broken = broken(&facts);
    assert!(broken.contains(&"pushed what was stored before the device was registered".to_owned()), "{broken:?}");
}
