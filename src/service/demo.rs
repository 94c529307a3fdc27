//! A club to look at: members of many countries who have talked over the last days.
//!
//! Everything goes the way it always goes, through the stores, so that whatever holds of a club holds of this one; only the clock is
//! moved: it stands where each thing is to have happened. So the store has to be this process's alone. Who is there, who has
//! talked to whom and what they said is the same every time, and what is there already is not made again: whatever was
//! interrupted goes on where it was.

mod club;
mod people;
mod talk;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use protocol::{ErrorCode, MemberId, Timestamp, model::UserType};
use tokio_util::sync::CancellationToken;

pub use people::MAX as MEMBERS_MAX;

use self::{
    club::Club,
    people::{DOMAIN, Person},
    talk::{Speaker, TALKS, Talk},
};
use super::{base32, enrolment::Enrolment};
use crate::{
    auth::Source,
    clock::{Clock as _, ManualClock},
    failure::Failure,
    ids::Ids,
    store::{
        Store, StoreError,
        changes::{Actor, Change},
        conversations::{MarkKind, Refusal},
        members::{DirectoryPosition, Filter},
        turns::Caller,
    },
};

/// How many members are read at a time.
const PAGE: usize = 100;

/// The fewest members a demo club has: somebody who runs it, somebody to look at it as, and somebody to talk to.
pub const MEMBERS_MIN: u16 = 3;

/// How many can be logged in as: the first ones.
const LOGINS: usize = 2;

/// Between the first lines of two conversations, at least as many as one takes.
const BETWEEN: Duration = Duration::from_secs(5 * 3600);
/// How long ago the newest conversation began.
const NEWEST: Duration = Duration::from_secs(45 * 60);
/// Between two members who joined.
const BETWEEN_JOINS: Duration = Duration::from_secs(17 * 3600);
/// With how many others the member whom a visitor looks at it as has talked, at most.
const OWN_TALKS: usize = 11;

/// Why a demo club was not made.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The store has members of a club that is none.
    #[error(
        "the store has a member who is not of a demo club ({0}): a demo is made in a store of its own, which DATABASE_URL names, \
         such as sqlite:./data/demo.db"
    )]
    InUse(MemberId),
    /// The store, or hashing a password.
    #[error("{}", .0.message)]
    Failed(Failure),
}

impl From<Failure> for DemoError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for DemoError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Refusal> for DemoError {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal.into())
    }
}

/// Somebody who can be logged in as.
#[derive(Clone)]
pub struct Login {
    /// The e-mail address.
    pub email: String,
    /// The password: new each time, and kept nowhere.
    pub password: String,
}

/// A demo club.
pub struct DemoClub {
    /// How many members it was asked to have.
    pub members: usize,
    /// How many conversations they have.
    pub conversations: usize,
    /// How many messages are in them.
    pub messages: usize,
    /// The administrator.
    pub admin: Login,
    /// A member who is no administrator.
    pub member: Login,
}

/// Makes a demo club.
pub struct Demo {
    /// The store, which nobody else uses meanwhile.
    pub store: Store,
    /// Hashes passwords.
    pub enrolment: Enrolment,
    /// The clock of the store; it is moved.
    pub clock: ManualClock,
    /// Makes ids and passwords.
    pub ids: Arc<Ids>,
}

/// Something that happened in the club.
enum Step {
    Join(Person, UserType),
    Say { from: usize, to: usize, key: String, content: String },
    Read { member: usize, other: usize, kind: MarkKind },
}

impl Demo {
    /// Fills the store, up to now.
    ///
    /// # Errors
    /// When it has other members, or the store fails.
    pub async fn fill(self, members: u16, now: Timestamp) -> Result<DemoClub, DemoError> {
        self.check_empty().await?;
        let people: Vec<Person> = (0..usize::from(members)).map(Person::new).collect();
        let talks = talks(people.len());
        let conversations = talks.len();
        let mut steps = joining(&people, now);
        steps.extend(talks.into_iter().flat_map(|pair| talking(&people, pair, now)));
        // Those of one moment stay in their order.
        steps.sort_by_key(|(at, _)| *at);
        let nobodys = self.hash(&self.password()).await?;
        let mut club = Club::new(&self, nobodys);
        for (at, step) in steps {
            self.clock.set(at);
            club.take(at, step).await?;
        }
        let (ids, messages) = (club.ids, club.messages);
        self.clock.set(now);
        let seen =
            ids.iter().zip(1_u64..).map(|(id, number)| (*id, before(now, Duration::from_secs(number * 37 * 60))));
        self.store.members.record_last_seen(seen.collect()).await?;
        let admin = self.login(&people, &ids, 0).await?;
        let member = self.login(&people, &ids, 1).await?;
        Ok(DemoClub { members: people.len(), conversations, messages, admin, member })
    }

    /// Refuses a store that has members of another club.
    async fn check_empty(&self) -> Result<(), DemoError> {
        let mut after = None;
        loop {
            let page = self.store.members.list(Caller::System, Filter::default(), after, PAGE).await?;
            if let Some(other) = page.iter().find(|member| !member.profile.email.ends_with(DOMAIN)) {
                return Err(DemoError::InUse(other.profile.id));
            }
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(DirectoryPosition { name_key: last.name_key(), id: last.profile.id });
        }
    }

    /// Sixteen digits that nobody can guess: 80 bits.
    fn password(&self) -> String {
        let group = || base32::digits(u64::from_be_bytes(self.ids.secret()), 4);
        [group(), group(), group(), group()].join("-")
    }

    async fn hash(&self, password: &str) -> Result<String, DemoError> {
        let here = Source { address: Ipv4Addr::LOCALHOST.into(), familiar: true };
        self.enrolment.passwords.hash(password.to_owned(), here).await.map_err(|refused| Failure::from(refused).into())
    }

    /// Gives somebody a new password, and ends the sessions that were started with former ones.
    async fn login(&self, people: &[Person], ids: &[MemberId], number: usize) -> Result<Login, DemoError> {
        let (person, id) = people.get(number).zip(ids.get(number)).ok_or_else(missing)?;
        let record = self.store.members.by_id(Caller::System, *id).await?.ok_or_else(missing)?;
        let password = self.password();
        let hash = self.hash(&password).await?;
        let change = Change::Password { credentials: record.credentials, hash, keep: None };
        let (by, at) = (Actor::default(), self.clock.now());
        self.store.members.change(*id, change, by, at, CancellationToken::new()).await?;
        Ok(Login { email: person.email(), password })
    }
}

fn missing() -> Failure {
    Failure::new(ErrorCode::Internal, "somebody of the demo club is not there")
}

/// So long before.
fn before(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

/// Everybody joins, one after the other, long enough ago that they know each other by now.
fn joining(people: &[Person], now: Timestamp) -> Vec<(Timestamp, Step)> {
    let longest = BETWEEN * 100;
    let joined = people.iter().zip(0_u32..).map(|(person, number)| {
        let behind = u32::try_from(people.len()).unwrap_or(u32::MAX).saturating_sub(number);
        let role = if number == 0 { UserType::Admin } else { UserType::Member };
        (before(now, longest + BETWEEN_JOINS * behind), Step::Join(person.clone(), role))
    });
    joined.collect()
}

/// Who talks to whom: the member whom a visitor looks at it as, the administrator, and the others.
fn talks(members: usize) -> Vec<[usize; 2]> {
    let others = 2..members;
    let own = others.clone().take(OWN_TALKS).map(|other| if other % 2 == 0 { [other, 1] } else { [1, other] });
    let admins = others.clone().skip(1).step_by(4).take(OWN_TALKS).map(|other| [0, other]);
    let more =
        others.step_by(2).filter(|other| other + 1 < members).take(4 * OWN_TALKS).map(|other| [other, other + 1]);
    std::iter::once([0, 1]).chain(own).chain(admins).chain(more).collect()
}

/// Which conversation that of two members is, the newest one first: the same however many members there are, so that it is never told
/// twice in different words.
fn number_of(pair: [usize; 2]) -> usize {
    let [first, second] = [*pair.iter().min().unwrap_or(&0), *pair.iter().max().unwrap_or(&0)];
    match (first, second) {
        (0, 1) => 0,
        (1, other) => other.saturating_sub(1),
        (0, other) => 1 + OWN_TALKS + other / 4,
        (one, _) => 1 + 2 * OWN_TALKS + one / 2,
    }
}

/// What is said in one conversation, and what of it was read. Of some the last line waits to be read.
fn talking(people: &[Person], pair: [usize; 2], now: Timestamp) -> Vec<(Timestamp, Step)> {
    let number = number_of(pair);
    let Some(&talk): Option<&Talk> = TALKS.get((number * 5 + 6) % TALKS.len()) else { return Vec::new() };
    let nth = u32::try_from(number).unwrap_or_default();
    // A week and a half at most.
    let began = before(now, NEWEST + BETWEEN * (nth % 48) + Duration::from_secs(60) * (nth / 48 % 240));
    let [one, other] = pair;
    let emails = [one, other].map(|place| people.get(place).map(Person::email).unwrap_or_default());
    let mut steps = Vec::new();
    for (line, (speaker, content)) in (0_u32..).zip(talk) {
        let (from, to) = if *speaker == Speaker::One { (one, other) } else { (other, one) };
        let at = began.after(Duration::from_secs(u64::from(line) * (240 + u64::from((nth * 7 + line * 5) % 150))));
        let key = format!("members-book demo 1 {} {} {line}", emails[0], emails[1]);
        steps.push((at, Step::Say { from, to, key, content: (*content).to_owned() }));
        let is_last = usize::try_from(line).is_ok_and(|line| line + 1 == talk.len());
        let waits = number.is_multiple_of(3) || (to == 1 && !number.is_multiple_of(2));
        let kind = if is_last && waits { MarkKind::Delivered } else { MarkKind::Read };
        steps.push((at.after(Duration::from_secs(20)), Step::Read { member: to, other: from, kind }));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_talks_to_somebody_and_all_of_it_has_happened() {
        let now = Timestamp::from_millis(1_795_370_633_000);
        for members in [MEMBERS_MIN, 4, 24, MEMBERS_MAX] {
            let people: Vec<Person> = (0..usize::from(members)).map(Person::new).collect();
            let talks = talks(people.len());
            let joined = joining(&people, now).into_iter().map(|(at, _)| at).max().unwrap();
            let mut pairs = Vec::new();
            for pair in &talks {
                assert!(pair[0] != pair[1] && pair.iter().all(|place| *place < people.len()), "{pair:?}");
                pairs.push([*pair.iter().min().unwrap(), *pair.iter().max().unwrap()]);
                let steps = talking(&people, *pair, now);
                assert!(steps.iter().all(|(at, _)| *at < now && *at > joined), "{members}: {pair:?}");
            }
            let mut numbers: Vec<usize> = talks.iter().map(|pair| number_of(*pair)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), talks.len(), "each has a number of its own");
            pairs.sort_unstable();
            let all = pairs.len();
            pairs.dedup();
            assert_eq!(pairs.len(), all, "a conversation is told once");
            if members == 24 {
                assert!((0..24).all(|place| pairs.iter().any(|pair| pair.contains(&place))), "{pairs:?}");
            }
        }
    }
}
