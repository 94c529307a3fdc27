//! Accounts: register, log in, refresh; who a token speaks for.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{
    CloseCode, ErrorCode, MemberId, SessionId, Timestamp,
    model::UserType,
    rest::{AuthResponse, DeviceInfo, Language, LoginRequest, RegisterRequest, TokenType},
};

use tokio::sync::Semaphore;

use super::{
    audit::{AuditTrail, WrongFactor},
    codes::Codes,
    decisions::until_known,
    effects::{Effect, Effects},
    enrolment::Enrolment,
    guesses::{Allowance, Guesses},
    limiter::Limiter,
    post::Post,
    registration::Registration,
    sessions::{Sessions, stored_device},
    views,
};
use crate::{
    auth::{
        AccessTokens, DeviceProofs, Familiar, Source, Stale,
        access::{Grant, Verified},
        device::{DeviceNumber, Holder},
        password::Verdict,
        refresh::{self, Successors},
    },
    clock::Clock,
    failure::Failure,
    ids::Ids,
    sources::subscriber,
    store::{
        MemberStore, SessionStore, StoreError,
        members::{MemberRecord, Standing},
        sessions::{Exchange, NewSession, NewToken, Renewal, Rotation, TokenOwner},
        turns::Caller,
    },
    telemetry::Metrics,
};

/// Passwords that are hashed anew at the same time, after their logins.
pub const REHASHED_AT_ONCE: usize = 4;
/// Hashes with which the password of one login is compared at most: one that is replaced while a session is started is looked at again.
const PASSWORDS_LOOKED_AT: u32 = 3;

/// Links that are sent again at the same time, after their logins.
pub const REMINDED_AT_ONCE: usize = 64;

/// Who a request or a connection speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authorized {
    /// The member.
    pub member: MemberId,
    /// The session.
    pub session: SessionId,
    /// What the member may do.
    pub user_type: UserType,
    /// Whether they are an administrator without the second factor that the club demands of one. They may do what a member may.
    pub lacks_second_factor: bool,
    /// When who is at the device has proved last that they are the member.
    pub proved_at: Timestamp,
    /// When the token expires.
    pub expires_at: Timestamp,
}

/// Somebody who has proved a short while ago that they are who they say, for what does much harm in the hands of somebody who has found a
/// device unlocked, or a token. There is no way to get one but [`Proved::new`].
#[derive(Debug, Clone, Copy)]
pub struct Proved(Authorized);

/// How long a proof is good.
const PROOF: Duration = Duration::from_secs(15 * 60);

impl Proved {
    /// Takes a signed-in member for one who has proved who they are.
    ///
    /// # Errors
    /// `step_up_required`.
    pub fn new(who: &Authorized, now: Timestamp) -> Result<Self, Failure> {
        if now < who.proved_at.after(PROOF) { Ok(Self(*who)) } else { Err(ErrorCode::StepUpRequired.into()) }
    }

    /// Who it is.
    #[must_use]
    pub const fn who(&self) -> &Authorized {
        &self.0
    }
}

/// What has become of a registration.
pub enum Registered {
    /// The member is in, and logged in.
    In(Box<AuthResponse>),
    /// They wait for an administrator.
    Waiting,
    /// A mail says what comes next. Whether there is a new member is for its reader to know.
    ByMail,
}

impl Registered {
    /// Who is logged in, if somebody is.
    #[must_use]
    pub fn logged_in(self) -> Option<AuthResponse> {
        match self {
            Self::In(answer) => Some(*answer),
            Self::Waiting | Self::ByMail => None,
        }
    }
}

/// Accounts.
pub struct Accounts {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// What members see and do of them.
    pub devices: Arc<Sessions>,
    /// Access tokens.
    pub tokens: AccessTokens,
    /// Refresh tokens.
    pub successors: Successors,
    /// Makes members, with their passwords.
    pub enrolment: Enrolment,
    /// Who may come in.
    pub registration: Arc<Registration>,
    /// Who has logged in from where.
    pub familiar: Familiar,
    /// Proofs of devices on which somebody has logged in.
    pub proofs: DeviceProofs,
    /// How many passwords are tried at one account.
    pub guesses: Arc<Guesses>,
    /// Writes failed logins of administrators to the audit log.
    pub audit: Arc<AuditTrail>,
    /// Codes of second factors.
    pub codes: Codes,
    /// Whether the club demands a second factor of its administrators.
    pub demands_second_factor: bool,
    /// Sessions that are over although their tokens are not.
    pub stale: Arc<Stale>,
    /// Places for hashing passwords anew.
    pub rehashing: Arc<Semaphore>,
    /// Places for sending links again to whoever logs in before they have used one.
    pub reminding: Arc<Semaphore>,
    /// How long a refresh token lives.
    pub refresh_lifetime: Duration,
    /// Registrations from one address.
    pub registrations: Arc<Limiter<IpAddr>>,
    /// Logins from one address.
    pub logins: Arc<Limiter<IpAddr>>,
    /// Exchanges of refresh tokens by one member.
    pub refreshes: Arc<Limiter<MemberId>>,
    /// Sends mail.
    pub post: Arc<Post>,
    /// What follows from changes.
    pub effects: Arc<Effects>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes ids and tokens.
    pub ids: Arc<Ids>,
    /// Counts failures.
    pub metrics: Arc<Metrics>,
}

impl Accounts {
    /// Registers a member and logs them in; or they wait for an administrator. Where mail is sent, they have to show first that the
    /// address is theirs.
    ///
    /// # Errors
    /// Why they may not come in ([`Registration::way`]), `email_taken` where no mail is sent, a rate limit, or the store.
    pub async fn register(
        &self,
        mut request: RegisterRequest,
        language: Option<Language>,
        from: IpAddr,
    ) -> Result<Registered, Failure> {
        self.registrations.check(&subscriber(from))?;
        let way = self.registration.way(request.invitation.as_deref(), from).await?;
        let device = request.device.take();
        let source = Source { address: subscriber(from), familiar: false };
        if self.post.is_sent() {
            return self.register_by_mail(request, way, language, source).await.map(|()| Registered::ByMail);
        }
        let member = self.enrolment.register(request, way, (language, None), source).await?;
        self.metrics.registration(way.name());
        if member.profile.is_pending {
            tracing::info!(member = %member.profile.id, "somebody registered and waits for an administrator");
            self.registration.applications.changed();
            return Ok(Registered::Waiting);
        }
        tracing::info!(member = %member.profile.id, "member registered");
        self.log_in_as(member, device, from).await.map(|tokens| Registered::In(Box::new(tokens)))
    }

    /// Logs a member in. A session is started only while the password is the one that was given.
    ///
    /// # Errors
    /// `invalid_credentials` for an unknown address, a wrong password and an address that is not shown to be the member's alike;
    /// `member_deactivated`, `member_suspended`, `approval_pending`, `second_factor_required` and `second_factor_invalid` only to whom
    /// knows the password; a rate limit, or the store.
    pub async fn log_in(self: &Arc<Self>, request: LoginRequest, from: IpAddr) -> Result<AuthResponse, Failure> {
        self.logins.check(&subscriber(from))?;
        let member = self.members.by_email(Caller::Address(subscriber(from)), &request.email).await?;
        let address = subscriber(from);
        let known = self.known_device(member.as_ref(), request.device_proof.as_deref());
        let is_familiar = self.familiar.knows(&request.email, address);
        let allowance = match known {
            Some(device) => Allowance::of_device(device),
            None if is_familiar => Allowance::of_address(&request.email, address),
            None => Allowance::of_strangers(&request.email),
        };
        let charged = self.guesses.take(allowance)?;
        let source = Source { address, familiar: is_familiar || known.is_some() };
        let hash = member.as_ref().map(|member| member.password_hash.clone());
        let (passwords, password) = (&self.enrolment.passwords, request.password.clone());
        let verified = if member.as_ref().is_some_and(|member| self.has_to_verify(member)) {
            // They are refused in any case, and it takes as long in any case.
            passwords.verify_in_full(password, hash, source).await
        } else {
            passwords.verify(password, hash, source).await
        };
        let mut verdict = verified.inspect_err(|_| self.guesses.give_back(charged))?;
        let mut member = self.right(member, verdict, from).inspect_err(|_| self.guesses.was_wrong(allowance))?;
        if self.has_to_verify(&member) {
            // As with a wrong one, in everything.
            self.guesses.was_wrong(allowance);
            self.remind_to_verify(&member, from);
            return Err(self.unknown());
        }
        match member.second_factor {
            None => self.guesses.forgive(allowance),
            // The password alone gives back what this try has cost, and nothing of those before.
            Some(_) => self.guesses.give_back(charged),
        }
        self.stands(member.profile.standing(self.clock.now()))?;
        self.check_second_factor(&member, request.second_factor.as_deref(), allowance, from).await?;
        let mut attempts = 0;
        let answer = loop {
            let started = self.log_in_from(member.clone(), request.device.clone(), known.is_some(), from).await?;
            if let Some(answer) = started {
                break answer;
            }
            // Hashed anew at another cost, or changed: only the new hash tells which.
            attempts += 1;
            let found = self.members.by_id(Caller::Member(member.profile.id), member.profile.id).await?;
            let found = found.filter(|_| attempts < PASSWORDS_LOOKED_AT);
            let hash = found.as_ref().map(|member| member.password_hash.clone());
            verdict = self.enrolment.passwords.verify(request.password.clone(), hash, source).await?;
            member = self.right(found, verdict, from)?;
        };
        self.check_factor_is_the_same(&member, &answer).await?;
        if verdict == Verdict::Outdated {
            self.rehash(&member, request.password, source);
        }
        self.familiar.remember(&request.email, address, member.profile.created_at, self.clock.now());
        // A device stays the one that it is.
        let number = known.unwrap_or_else(|| self.ids.secret());
        Ok(AuthResponse { device_proof: Some(self.proofs.issue(Holder::from(&member), number)), ..answer })
    }

    /// A second factor that was turned on after the member was read ends the sessions that are there, and whoever has not shown a code of it
    /// gets nothing of one that was started after that: it ends here.
    ///
    /// # Errors
    /// `second_factor_required`, or the store: nobody has the tokens of that session.
    async fn check_factor_is_the_same(&self, member: &MemberRecord, started: &AuthResponse) -> Result<(), Failure> {
        let id = member.profile.id;
        let now = self.members.by_id(Caller::Member(id), id).await?;
        let since = |member: &MemberRecord| member.second_factor.as_ref().map(|factor| factor.enabled_at);
        let Some(now) = now.filter(|now| since(now).is_some() && since(now) != since(member)) else { return Ok(()) };
        tracing::info!(member = %now.profile.id, "a login is overtaken by a second factor that was turned on");
        let session = self.tokens.verify(&started.access_token)?.session;
        self.sessions.revoke_many(id, vec![session], self.clock.now()).await?;
        self.devices.is_over(id, session);
        Err(self.denied(ErrorCode::SecondFactorRequired))
    }

    /// Where a password of a member comes from who is known by something else than it, such as their session.
    pub(super) fn source_of(&self, member: &MemberRecord, from: IpAddr) -> Source {
        let familiar = Familiar::is_old_enough(member.profile.created_at, self.clock.now());
        Source { address: subscriber(from), familiar }
    }

    /// The member whose password was given.
    ///
    /// # Errors
    /// `invalid_credentials` if it was not, or there is nobody.
    fn right(&self, member: Option<MemberRecord>, verdict: Verdict, from: IpAddr) -> Result<MemberRecord, Failure> {
        if verdict == Verdict::Wrong {
            self.audit.login_failed(member.as_ref(), WrongFactor::Password, from);
        }
        member.filter(|_| verdict != Verdict::Wrong).ok_or_else(|| self.unknown())
    }

    /// The device on which somebody logs in, if the member has before. Whoever is unknown takes as long.
    fn known_device(&self, member: Option<&MemberRecord>, proof: Option<&str>) -> Option<DeviceNumber> {
        let holder = member.map_or(Holder::NOBODY, Holder::from);
        proof.and_then(|proof| self.proofs.device(holder, proof)).filter(|_| member.is_some())
    }

    /// What the device from which a password was just replaced proves itself with from now on. Wrong passwords that its number has tried
    /// are forgiven, and codes of a second factor are not: a number that others do not choose keeps them counted however often the password
    /// is replaced.
    pub(super) fn proof_with_new_password(&self, member: &MemberRecord, number: DeviceNumber) -> String {
        self.guesses.forgive(Allowance::of_device(number));
        self.proofs.issue(Holder::from(member), number)
    }

    /// Hashes a password that was right at the cost of new ones, while its member goes on. Done at the next login if it
    /// cannot be done now.
    fn rehash(self: &Arc<Self>, member: &MemberRecord, password: String, source: Source) {
        let Ok(place) = Arc::clone(&self.rehashing).try_acquire_owned() else { return };
        let (accounts, id, former) = (Arc::clone(self), member.profile.id, member.password_hash.clone());
        tokio::spawn(async move {
            let _place = place;
            let Ok(hash) = accounts.enrolment.passwords.hash(password, source).await else { return };
            if let Err(error) = accounts.members.replace_hash(id, former, hash).await {
                tracing::warn!(member = %id, %error, "a password keeps its former hash");
            }
        });
    }

    /// Logs a member in who was made just now.
    ///
    /// # Errors
    /// `member_deactivated`, or the store.
    pub(super) async fn log_in_as(
        &self,
        member: MemberRecord,
        device: Option<DeviceInfo>,
        from: IpAddr,
    ) -> Result<AuthResponse, Failure> {
        let started = self.start_session(member, device, None, from).await?;
        started.ok_or_else(|| self.denied(ErrorCode::SessionRevoked))
    }

    /// Starts a session of a member whose password was verified. Nothing, if its hash is another one by now. `tell_of` is what the device
    /// is called in the mail that tells them of it, if they are to be told.
    ///
    /// # Errors
    /// `member_deactivated`, or the store.
    pub(super) async fn start_session(
        &self,
        mut member: MemberRecord,
        device: Option<DeviceInfo>,
        tell_of: Option<String>,
        from: IpAddr,
    ) -> Result<Option<AuthResponse>, Failure> {
        let (session, now) = (self.ids.session(), self.clock.now());
        let token = refresh::issue(&self.ids);
        let (id, ends_at) = (member.profile.id, now.after(self.devices.lifetime));
        let first = NewToken { hash: token.hash, expires_at: now.after(self.refresh_lifetime).min(ends_at) };
        let is_told = tell_of.is_some();
        let new = NewSession {
            id: session,
            member: id,
            token: first,
            device: stored_device(device),
            address: Some(from),
            at: now,
            ends_at,
            tell_of,
            password_hash: member.password_hash.clone(),
        };
        let started = self.sessions.start(new).await.inspect_err(|error| {
            if *error == StoreError::Timeout {
                // It may be made, and have ended others, nobody knows which. Whoever may still sign in comes back.
                self.effects.close(id, None, CloseCode::Disconnected);
            }
        });
        let Some(ended) = started? else {
            let found = self.members.by_id(Caller::Member(id), id).await?;
            let may_sign_in = found.filter(|found| found.profile.may_sign_in(now));
            return match may_sign_in {
                Some(found) if found.password_hash != member.password_hash => Ok(None),
                _ => Err(self.kept_out(id).await),
            };
        };
        for session in ended {
            self.devices.is_over(id, session);
        }
        self.effects.apply(is_told.then_some(Effect::SendMail));
        let proof = self.proofs.issue(Holder::from(&member), self.ids.secret());
        member.profile.last_login = Some(now);
        let grant = Grant { member: id, session, generation: 0, until: ends_at };
        let answer = self.auth_response(member, grant, token.token, first.expires_at)?;
        Ok(Some(AuthResponse { device_proof: Some(proof), ..answer }))
    }

    /// Exchanges a refresh token for a new pair of tokens: the same refresh token again, with another access token, while nobody is
    /// known to have got it.
    ///
    /// # Errors
    /// `refresh_token_invalid`; `refresh_token_reused`, after which the whole session is revoked and its connections
    /// are closed; `member_deactivated`; `rate_limited`; or the store.
    pub async fn refresh(&self, token: &str, from: IpAddr) -> Result<AuthResponse, Failure> {
        let (now, used) = (self.clock.now(), refresh::hash(token));
        let by = Caller::Address(subscriber(from));
        // What is of no use to anybody spends nothing of its member's.
        let Some(TokenOwner { member, spent }) = self.sessions.owner(by, used, now).await? else {
            return Err(self.denied(ErrorCode::RefreshTokenInvalid));
        };
        // One that gives a thief away ends its session, once.
        if !spent {
            self.refreshes.check(&member)?;
        }
        let (successor, former) = (self.successors.of(token), self.successors.former(token));
        let exchange = Exchange {
            used,
            successor: successor.hash,
            former: former.iter().map(|token| token.hash).collect(),
            at: now,
            token_lifetime: self.refresh_lifetime,
            session_lifetime: self.devices.lifetime,
        };
        match until_known(|_| self.sessions.rotate(member, exchange.clone())).await?.outcome {
            Rotation::Rotated(renewal) => {
                let Renewal { session, member, successor: hash, expires_at, generation, ends_at, again } = *renewal;
                self.metrics.refresh(if again { "again" } else { "rotated" });
                let next = std::iter::once(successor).chain(former).find(|token| token.hash == hash);
                let next = next.ok_or(ErrorCode::Internal)?.token;
                let grant = Grant { member: member.profile.id, session, generation, until: ends_at };
                self.auth_response(member, grant, next, expires_at)
            }
            Rotation::Invalid => Err(self.denied(ErrorCode::RefreshTokenInvalid)),
            Rotation::Deactivated => Err(self.kept_out(member).await),
            Rotation::Reused { session, member } => {
                tracing::warn!(%session, %member, "a refresh token was used twice; its session is revoked");
                self.metrics.refresh("reused");
                self.devices.is_over(member, session);
                Err(self.denied(ErrorCode::RefreshTokenReused))
            }
        }
    }

    /// Checks an access token: who it speaks for, and that its session and member are still good. The first use of one says that it
    /// has arrived.
    ///
    /// # Errors
    /// The code of what is wrong with it, or the store.
    pub async fn authorize(&self, token: &str) -> Result<Authorized, Failure> {
        self.authorize_verified(self.tokens.verify(token)).await
    }

    /// The same, of a token that was verified just now.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub async fn authorize_verified(&self, verified: Result<Verified, ErrorCode>) -> Result<Authorized, Failure> {
        let verified = verified.map_err(|code| self.denied(code))?;
        let session = self.sessions.view(verified.session).await?;
        let session = session.filter(|session| session.member == verified.member);
        if session.as_ref().is_none_or(|session| session.revoked) {
            self.stale.remember(verified.session);
        } else {
            self.stale.forget(verified.session);
        }
        let session = session.ok_or_else(|| self.denied(ErrorCode::SessionRevoked))?;
        self.stands(session.standing(self.clock.now()))?;
        if session.revoked {
            return Err(self.denied(ErrorCode::SessionRevoked));
        }
        if verified.generation == Some(session.generation) && !session.confirmed {
            self.devices.confirm(verified.member, verified.session, session.generation).await;
        }
        let lacks_second_factor =
            self.demands_second_factor && session.user_type == UserType::Admin && !session.has_second_factor;
        Ok(Authorized {
            member: verified.member,
            session: verified.session,
            user_type: if lacks_second_factor { UserType::Member } else { session.user_type },
            lacks_second_factor,
            proved_at: session.proved_at,
            expires_at: verified.expires_at,
        })
    }

    fn auth_response(
        &self,
        member: MemberRecord,
        grant: Grant,
        refresh_token: String,
        refresh_expires_at: Timestamp,
    ) -> Result<AuthResponse, Failure> {
        let access = self.tokens.issue(grant)?;
        Ok(AuthResponse {
            member: views::member(member.profile),
            access_token: access.token,
            token_type: TokenType::Bearer,
            expires_at: access.expires_at,
            refresh_token,
            refresh_expires_at,
            device_proof: None,
        })
    }

    /// Whether a member may sign in.
    ///
    /// # Errors
    /// Why not.
    fn stands(&self, standing: Standing) -> Result<(), Failure> {
        match standing {
            Standing::Active => Ok(()),
            Standing::Deactivated => Err(self.denied(ErrorCode::MemberDeactivated)),
            Standing::Pending => Err(self.denied(ErrorCode::ApprovalPending)),
            Standing::Unverified => Err(self.denied(ErrorCode::EmailUnverified)),
            Standing::Suspended(until) => {
                let Failure { code, .. } = self.denied(ErrorCode::MemberSuspended);
                let message = format!("An administrator has suspended you until {until}.");
                Err(Failure::new(code, message).until(until, self.clock.now()))
            }
        }
    }

    /// Why a member may not sign in who could a moment ago.
    async fn kept_out(&self, id: MemberId) -> Failure {
        let record = match self.members.by_id(Caller::Member(id), id).await {
            Ok(record) => record,
            Err(error) => return error.into(),
        };
        let standing = record.map_or(Standing::Deactivated, |record| record.profile.standing(self.clock.now()));
        // It may have changed again.
        self.stands(standing).err().unwrap_or_else(|| self.denied(ErrorCode::SessionRevoked))
    }

    pub(super) fn denied(&self, code: ErrorCode) -> Failure {
        self.metrics.auth_failure(code);
        Failure::of(code)
    }
}
