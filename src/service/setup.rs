//! Setting a club up: who has the code that the server prints becomes its first administrator.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hmac::Mac as _;
use protocol::{
    ErrorCode,
    model::UserType,
    rest::{AuthResponse, SetupRequest},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{
    accounts::Accounts,
    base32,
    guesses::Allowance,
    limiter::{Limiter, Rate},
};
use crate::{
    auth::{
        Source,
        keys::{KeyRing, Keyed, first_bytes},
        password::Verdict,
    },
    failure::Failure,
    sources::subscriber,
    store::{members::MemberRecord, turns::Caller},
    telemetry::Metrics,
};

/// What the code is derived with, so that it is good for nothing else and says nothing about the secret.
const LABEL: &[u8] = b"members-book setup code 1";
/// What it is compared by.
const PROOF: &[u8] = b"members-book setup proof 1";
/// Digits of a code, in two groups: 50 bits.
const LENGTH: u32 = 10;

/// Codes that are tried at this server, whoever tries them: a second, and at once. Half of all codes would take seventeen thousand years;
/// and strangers who try as many as they can do not keep out who has the code.
const ATTEMPTS: Rate = Rate { per_period: 1_000, period: Duration::from_secs(1), burst: 1_000 };
/// How long it is remembered that there is no administrator: another node may make one, or a command.
const FRESH: Duration = Duration::from_secs(1);

/// How long the first administrator may ask again whose answer was lost.
const LOST: Duration = Duration::from_secs(10 * 60);

/// The code, and how it is recognised.
struct Code {
    shown: String,
    /// What codes are compared by, but for their digits.
    key: Keyed,
    proof: [u8; 32],
}

impl Code {
    /// The code of all who have this secret.
    fn derive(ring: &KeyRing) -> Self {
        let bits = u64::from_be_bytes(first_bytes(ring.labelled(LABEL).present));
        let digits = base32::digits(bits, LENGTH);
        let key = ring.labelled(PROOF).present;
        let proof = first_bytes(key.clone().chain_update(&digits));
        let (one, other) = digits.split_at(digits.len() / 2);
        Self { shown: format!("{one}-{other}"), key, proof }
    }

    /// Whether this is the code, in a time that does not depend on where it differs. Case, hyphens and spaces do not matter, nor do
    /// letters that look like digits.
    fn is(&self, given: &str) -> bool {
        self.key.clone().chain_update(base32::typed(given)).verify_slice(&self.proof).is_ok()
    }
}

/// Whether the club is set up, and how it gets so.
pub struct Setup {
    accounts: Arc<Accounts>,
    code: Code,
    attempts: Limiter<()>,
    /// There is an administrator. There always will be: the last one stays.
    is_done: AtomicBool,
    /// When the store said last that there is none.
    looked: Mutex<Option<Instant>>,
    looking: Semaphore,
}

impl Setup {
    /// Of a club whose nodes sign with the secret of now.
    #[must_use]
    pub fn new(accounts: Arc<Accounts>, ring: &KeyRing, metrics: Arc<Metrics>) -> Self {
        Self {
            accounts,
            code: Code::derive(ring),
            attempts: Limiter::new("setup", ATTEMPTS, metrics),
            is_done: AtomicBool::new(false),
            looked: Mutex::default(),
            looking: Semaphore::new(1),
        }
    }

    /// The code, for whoever may read what the server prints. The same on all nodes and after every start, as long as the secret is.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code.shown
    }

    /// Whether the club has no administrator. That it has one is remembered; that it has none is looked at anew after a second, once
    /// for all who ask.
    ///
    /// # Errors
    /// The store.
    pub async fn is_needed(&self) -> Result<bool, Failure> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let _turn = self.looking.acquire().await.map_err(|_| Failure::of(ErrorCode::Internal))?;
        // Whoever looked before has found it.
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let asked = Instant::now();
        if self.accounts.members.has_admin().await? {
            self.is_done.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        Ok(true)
    }

    /// Writes the code to the log if it is needed, as soon as the store says whether it is.
    pub async fn tell(&self) {
        loop {
            match self.is_needed().await {
                Ok(false) => return,
                Ok(true) => break,
                Err(_) => sleep(FRESH).await,
            }
        }
        let code = self.code();
        tracing::info!(
            code,
            "setup: the club has no administrator; whoever enters this code in the app becomes the first one"
        );
    }

    fn known(&self) -> Option<bool> {
        if self.is_done.load(Ordering::Relaxed) {
            return Some(false);
        }
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.filter(|looked| looked.elapsed() < FRESH).map(|_| true)
    }

    /// Makes the first administrator and logs them in.
    ///
    /// # Errors
    /// `already_set_up`, `forbidden` for a wrong code, `email_taken`, an address to which no mail goes where mail is sent, a rate limit,
    /// or the store.
    pub async fn set_up(&self, request: SetupRequest, from: IpAddr) -> Result<AuthResponse, Failure> {
        if !self.is_needed().await? {
            return self.again(request, from).await;
        }
        let address = subscriber(from);
        self.accounts.registrations.check(&address)?;
        // The right one too, or whoever is refused would know that it is not.
        self.attempts.check(&())?;
        let (code, mut account) = request.into_parts();
        let device = account.device.take();
        if !self.code.is(&code) {
            self.accounts.denied(ErrorCode::Forbidden);
            let message = "This is not the setup code of this server. The server prints it when it starts, and it is in its log: \
                look for `setup`. Without it, `members-book admin create` makes the first administrator.";
            return Err(Failure::new(ErrorCode::Forbidden, message));
        }
        self.accounts.can_be_written_to(&account.email)?;
        let made = self.accounts.enrolment.create_first_admin(account, Source { address, familiar: false }).await;
        if made.as_ref().map_or_else(|failure| failure.code == ErrorCode::AlreadySetUp, |_| true) {
            self.is_done.store(true, Ordering::Relaxed);
        }
        let admin = made.map_err(with_advice)?;
        tracing::info!(member = %admin.profile.id, "the club is set up: it has its first administrator");
        self.accounts.log_in_as(admin, device, from).await
    }

    /// Logs the first administrator in whose answer was lost: the same code, address and password, shortly after it. To everybody else
    /// the club is set up, and that is all.
    async fn again(&self, request: SetupRequest, from: IpAddr) -> Result<AuthResponse, Failure> {
        let (code, account) = request.into_parts();
        let done = || Failure::of(ErrorCode::AlreadySetUp);
        if !self.code.is(&code) {
            return Err(done());
        }
        let (accounts, address) = (&self.accounts, subscriber(from));
        accounts.registrations.check(&address)?;
        self.attempts.check(&())?;
        let found = accounts.members.by_email(Caller::Address(address), account.email.trim()).await?;
        let now = accounts.clock.now();
        let is_new = |record: &MemberRecord| {
            let profile = &record.profile;
            let is_admin = profile.user_type == UserType::Admin && profile.may_sign_in(now);
            is_admin && record.second_factor.is_none() && now < profile.created_at.after(LOST)
        };
        let record = found.filter(is_new).ok_or_else(done)?;
        let (source, allowance) = (Source { address, familiar: false }, Allowance::of_strangers(&record.profile.email));
        let charged = accounts.guesses.take(allowance)?;
        let hash = Some(record.password_hash.clone());
        let verified = accounts.enrolment.passwords.verify(account.password, hash, source).await;
        if verified.inspect_err(|_| accounts.guesses.give_back(charged))? == Verdict::Wrong {
            return Err(done());
        }
        accounts.guesses.give_back(charged);
        accounts.log_in_as(record, account.device, from).await
    }
}

/// Somebody has registered with the address before: there are two ways out.
fn with_advice(failure: Failure) -> Failure {
    if failure.code != ErrorCode::EmailTaken {
        return failure;
    }
    let message = "A member has this e-mail address already. Give another one, or make that member the administrator with \
        `members-book admin promote`.";
    Failure::new(ErrorCode::EmailTaken, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::auth::keys::ring;

    fn code(secret: &str) -> Code {
        Code::derive(&ring(secret, &["a former one, which gives none"]))
    }

    /// Nodes of two versions run beside each other.
    #[test]
    fn a_code_is_what_it_has_always_been() {
        assert_eq!(code("a secret of some length, and then some more").shown, "2MEF6-R7K4V");
    }

    #[test]
    fn a_code_is_that_of_its_secret_and_easily_read_out() {
        let first = code("a secret of some length, and then some more");
        assert_eq!(first.shown, code("a secret of some length, and then some more").shown);
        let (one, other) = first.shown.split_once('-').unwrap();
        assert!(one.len() == 5 && other.len() == 5, "{}", first.shown);
        let codes: BTreeSet<String> = (0..200).map(|number| code(&format!("secret {number}")).shown).collect();
        assert_eq!(codes.len(), 200);
        let used: BTreeSet<char> = codes.iter().flat_map(|code| code.chars()).collect();
        assert_eq!(used.len(), 33, "every digit is used, and the hyphen");
    }

    #[test]
    fn how_it_is_written_does_not_matter_and_what_it_says_does() {
        let code = code("a secret of some length, and then some more");
        let plain = code.shown.replace('-', "");
        let mistaken = plain.replace('0', "o").replace('1', "l");
        for same in [code.shown.clone(), plain.clone(), plain.to_lowercase(), format!(" {} ", code.shown), mistaken] {
            assert!(code.is(&same), "{same} and {}", code.shown);
        }
        let other: String = plain.chars().rev().collect();
        for wrong in [other, plain[1..].to_owned(), format!("{plain}0"), String::new(), "ÄÖÜ-ẞ😀".to_owned()] {
            assert!(!code.is(&wrong), "{wrong}");
        }
    }
}
