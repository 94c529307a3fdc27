//! The login: who somebody says that they are, and what they show for it, before a session is started ([`super::session_tokens`]).
//!
//! Each step takes what the one before it gives ([`Claim`], [`Known`], [`Shown`]), and a session is started of a [`Shown`] only. All of them
//! look at one record of the member, and the session is started only while the member's credentials are those of that record: a login
//! that is overtaken by another password, or by a second factor that is turned on, is checked anew from the beginning.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::join;
use protocol::{
    ErrorCode,
    rest::{AuthResponse, LoginRequest},
};
use tokio::time::sleep;

use super::{
    accounts::Accounts, audit::WrongFactor, guesses::Allowance, post::may_be_written_to, session_tokens::SignedInOn,
    sessions::stored_device,
};
use crate::{
    auth::{
        Masking, Source,
        device::{DeviceNumber, Holder},
        password::Verdict,
    },
    failure::Failure,
    sources::subscriber,
    store::{changes::Actor, mail::Purpose, members::MemberRecord, sessions::platform_word, turns::Caller},
};

/// How often one login is checked at most: once more each time that what it has shown was replaced before its session was started.
const CHECKS: u32 = 3;
/// How long after the answer of a login its link is sent again.
const REMINDED_AFTER: Duration = Duration::from_millis(100);

/// Somebody who says that they are the member with an address.
struct Claim {
    /// Who that is, if there is one.
    member: Option<MemberRecord>,
    /// The device, if the member has logged in on it before.
    device: Option<DeviceNumber>,
    /// Whose tries theirs are.
    allowance: Allowance,
    /// Where the password comes from.
    source: Source,
    /// The highest cost of the hashes of passwords.
    highest: Option<u32>,
}

/// A member whose password was given.
struct Known {
    member: MemberRecord,
    device: Option<DeviceNumber>,
    allowance: Allowance,
    source: Source,
    /// Whether the password is to be hashed anew.
    is_outdated: bool,
}

/// A member who has shown all that is asked of them.
struct Shown(Known);

impl Accounts {
    /// Logs a member in. A session is started only while what they prove who they are with is what was looked at.
    ///
    /// # Errors
    /// `invalid_credentials` for an unknown address, a wrong password and an address that is not shown to be the member's alike;
    /// `member_deactivated`, `member_suspended`, `approval_pending`, `second_factor_required` and `second_factor_invalid` only to whom
    /// knows the password; a rate limit, or the store.
    pub async fn log_in(self: &Arc<Self>, request: LoginRequest, from: IpAddr) -> Result<AuthResponse, Failure> {
        // Not given back after a good one: it bounds hashes and sessions, too, and whoever has one account could have as many as they like.
        self.logins.check(&subscriber(from))?;
        let mut code = request.second_factor.as_deref();
        for _ in 0..CHECKS {
            let claim = self.identify(&request, subscriber(from)).await?;
            let known = self.check_password(&request.password, claim, from).await?;
            // One that was good is used up: checked anew, it is asked for another one, and none was wrong.
            let code = if known.member.second_factor.is_some() { code.take() } else { None };
            let shown = self.check_second_factor(known, code, from).await?;
            if let Some(answer) = self.let_in(&request, shown, from).await? {
                return Ok(answer);
            }
        }
        Err(self.unknown())
    }

    /// Who somebody says that they are, and what they may try.
    async fn identify(&self, request: &LoginRequest, address: IpAddr) -> Result<Claim, Failure> {
        let by = Caller::Address(address);
        // Together, and neither is given up when the other one fails.
        let (member, highest) = join(self.members.by_email(by, &request.email), self.members.highest_cost(by)).await;
        let (member, highest) = (member?, highest?);
        // Whoever is unknown takes as long.
        let holder = member.as_ref().map_or(Holder::NOBODY, Holder::from);
        let device = request.device_proof.as_deref().and_then(|proof| self.proofs.device(holder, proof));
        let device = device.filter(|_| member.is_some());
        let is_familiar = self.familiar.knows(&request.email, member.as_ref(), address);
        let allowance = match device {
            Some(device) => Allowance::of_device(device),
            None if is_familiar => Allowance::of_address(&request.email, address),
            None => Allowance::of_strangers(&request.email),
        };
        let source = Source { address, familiar: is_familiar || device.is_some() };
        Ok(Claim { member, device, allowance, source, highest })
    }

    /// Checks the password, and whether its member may sign in.
    async fn check_password(self: &Arc<Self>, password: &str, claim: Claim, from: IpAddr) -> Result<Known, Failure> {
        let Claim { member, device, allowance, source, highest } = claim;
        let charged = self.guesses.take(allowance)?;
        let hash = member.as_ref().map(|member| member.password_hash.clone());
        // Who has yet to verify the address is refused in any case, and it takes as long in any case.
        let in_full = member.as_ref().is_some_and(|member| self.has_to_verify(member));
        let masking = Masking { highest, in_full };
        let verified = self.enrolment.passwords.verify_masked(password.to_owned(), hash, source, masking).await;
        let verdict = verified.inspect_err(|_| self.guesses.give_back(charged))?;
        if verdict == Verdict::Wrong {
            self.audit.login_failed(member.as_ref(), WrongFactor::Password, from);
        }
        let member = member.filter(|_| verdict != Verdict::Wrong).ok_or_else(|| self.unknown())?;
        if self.has_to_verify(&member) {
            // As with a wrong one, in everything.
            self.remind_to_verify(&member, from);
            return Err(self.unknown());
        }
        match member.second_factor {
            None => self.guesses.forgive(allowance),
            // The password alone gives back what this try has cost, and nothing of those before.
            Some(_) => self.guesses.give_back(charged),
        }
        self.stands(member.profile.standing(self.clock.now()))?;
        Ok(Known { member, device, allowance, source, is_outdated: verdict == Verdict::Outdated })
    }

    /// Asks a member who has a second factor for a code of it, once the password was right. Tries are counted as those of
    /// passwords are, and of whom they are is the same: a stranger who knows the password keeps no device out that was there before.
    ///
    /// # Errors
    /// `second_factor_required`, `second_factor_invalid`, `rate_limited`, or the store.
    async fn check_second_factor(&self, known: Known, code: Option<&str>, from: IpAddr) -> Result<Shown, Failure> {
        let (member, passwords) = (&known.member, known.allowance);
        if member.second_factor.is_none() {
            return Ok(Shown(known));
        }
        let code = code.filter(|code| !code.trim().is_empty());
        let code = code.ok_or_else(|| self.denied(ErrorCode::SecondFactorRequired))?;
        let codes = passwords.of_codes();
        let charged = self.guesses.take(codes)?;
        let by = Actor::without_session(member.profile.id, Some(from));
        let was_good = self.codes.use_up(member, code, by).await.inspect_err(|_| self.guesses.give_back(charged))?;
        if !was_good {
            self.audit.login_failed(Some(member), WrongFactor::SecondFactor, from);
            return Err(self.denied(ErrorCode::SecondFactorInvalid));
        }
        for allowance in [passwords, codes] {
            self.guesses.forgive(allowance);
        }
        // Of a recovery code the member is told by mail.
        self.post.wake();
        Ok(Shown(known))
    }

    /// Starts the session, and remembers where from. Tells the member by mail of a device that has no proof that it was there before: what it
    /// says about itself, and where it is, proves nothing. Nothing, if what was shown is worth nothing any more.
    async fn let_in(
        self: &Arc<Self>,
        request: &LoginRequest,
        shown: Shown,
        from: IpAddr,
    ) -> Result<Option<AuthResponse>, Failure> {
        let Shown(Known { member, device: known, source, is_outdated, .. }) = shown;
        let device = stored_device(request.device.clone());
        let tell_of = (known.is_none() && self.post.tells_of_device(member.profile.id)).then(|| {
            let platform = || device.platform.map_or("?", platform_word).to_owned();
            device.name.clone().unwrap_or_else(platform)
        });
        // A device stays the one that it is.
        let number = known.unwrap_or_else(|| self.ids.secret());
        let device = SignedInOn { device, number, is_known: known.is_some() };
        let Some(answer) = self.start_session(&member, device, tell_of, from).await? else { return Ok(None) };
        if is_outdated {
            self.rehash(&member, request.password.clone(), source);
        }
        self.familiar.remember(&member, source.address, self.clock.now());
        Ok(Some(answer))
    }

    /// Hashes a password that was right at the cost of new ones, while its member goes on. Done at the next login if it
    /// cannot be done now.
    fn rehash(self: &Arc<Self>, member: &MemberRecord, password: String, source: Source) {
        let Ok(place) = Arc::clone(&self.rehashing).try_acquire_owned() else { return };
        let (accounts, id, former) = (Arc::clone(self), member.profile.id, member.password_hash.clone());
        drop(self.supervisor.once("rehash", async move {
            let _place = place;
            let Ok(hash) = accounts.enrolment.passwords.hash(password, source).await else { return };
            if let Err(error) = accounts.members.replace_hash(id, former, hash).await {
                tracing::warn!(member = %id, %error, "a password keeps its former hash");
            }
        }));
    }

    /// Whether a member may not sign in before they have shown that the address is theirs.
    pub(super) fn has_to_verify(&self, member: &MemberRecord) -> bool {
        member.profile.must_verify && self.post.is_sent()
    }

    /// What a login is answered that is not let in, whatever the reason. Were somebody told that only the link is missing, they could
    /// register with an address and log in with the password of that: it would say whether a member has the address already.
    fn unknown(&self) -> Failure {
        let failure = self.denied(ErrorCode::InvalidCredentials);
        if !self.post.is_sent() {
            return failure;
        }
        let message = "There is no member with this e-mail address and password, or the address is not confirmed yet. If you have \
            registered, open the link in the mail that was sent to it; then log in. It was sent again if the password is right.";
        Failure::new(failure.code, message)
    }

    /// Has the link sent again to somebody who has logged in with the right password before they used one. Nobody waits for it: the
    /// answer takes as long as with a wrong password.
    fn remind_to_verify(self: &Arc<Self>, member: &MemberRecord, from: IpAddr) {
        if !may_be_written_to(member) {
            return;
        }
        let Ok(place) = Arc::clone(&self.reminding).try_acquire_owned() else { return };
        let (accounts, member, asked) = (Arc::clone(self), member.profile.id, self.post.asked(from));
        drop(self.supervisor.once("reminder", async move {
            let _place = place;
            // The store, and the processor, have nothing of it to do before the answer is there.
            sleep(REMINDED_AFTER).await;
            // Whoever knows the password is the member, as far as anybody can tell.
            let sent = accounts.post.send_link(Caller::Member(member), member, Purpose::VerifyEmail, asked);
            if let Err(failure) = sent.await {
                tracing::warn!(%member, problem = failure.message, "a member does not get the link again that verifies the address");
            }
        }));
    }
}
