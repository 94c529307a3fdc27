//! Accounts: register, log in; who a token speaks for.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{
    ErrorCode, MemberId, SessionId, Timestamp,
    model::UserType,
    rest::{AuthResponse, Language, LoginRequest, RegisterRequest},
};

use tokio::sync::Semaphore;

use super::{
    audit::{AuditTrail, WrongFactor},
    codes::Codes,
    effects::Effects,
    enrolment::Enrolment,
    guesses::{Allowance, Guesses},
    limiter::Limiter,
    post::Post,
    registration::Registration,
    sessions::Sessions,
};
use crate::{
    auth::{
        AccessTokens, DeviceProofs, Familiar, Source, Stale,
        access::Verified,
        device::{DeviceNumber, Holder},
        password::Verdict,
        refresh::Successors,
    },
    clock::Clock,
    failure::Failure,
    ids::Ids,
    mail::reach::is_public,
    sources::subscriber,
    store::{
        MemberStore,
        members::{MemberRecord, Standing},
        turns::Caller,
    },
    supervisor::Supervisor,
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

/// What is wrong with an address to which no mail goes.
const NOT_PUBLIC: &str =
    "must be an address that mail from anywhere reaches, such as ana@example.com: a link is sent to it";

/// Accounts.
pub struct Accounts {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Sessions.
    pub sessions: Arc<Sessions>,
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
    /// Runs what goes on after an answer.
    pub supervisor: Supervisor,
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
        if self.post.is_sent() && !is_public(&request.email) {
            return Err(Failure::field(ErrorCode::ValidationFailed, "email", NOT_PUBLIC));
        }
        let way = self.registration.way(request.invitation.as_deref(), from).await?;
        self.registration.shares.take(way, self.post.is_sent(), from)?;
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
        self.guesses.take(allowance)?;
        let source = Source { address, familiar: is_familiar || known.is_some() };
        let hash = member.as_ref().map(|member| member.password_hash.clone());
        let (passwords, password) = (&self.enrolment.passwords, request.password.clone());
        let verified = if member.as_ref().is_some_and(|member| self.has_to_verify(member)) {
            // They are refused in any case, and it takes as long in any case.
            passwords.verify_in_full(password, hash, source).await
        } else {
            passwords.verify(password, hash, source).await
        };
        let mut verdict = verified.inspect_err(|_| self.guesses.give_back(allowance))?;
        let mut member = self.right(member, verdict, from).inspect_err(|_| self.guesses.was_wrong(allowance))?;
        if self.has_to_verify(&member) {
            // As with a wrong one, in everything.
            self.guesses.was_wrong(allowance);
            self.remind_to_verify(&member);
            return Err(self.unknown());
        }
        match member.second_factor {
            None => self.guesses.forgive(allowance),
            // The password alone gives back what this try has cost, and nothing of those before.
            Some(_) => self.guesses.give_back(allowance),
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
        drop(self.supervisor.once("rehash", async move {
            let _place = place;
            let Ok(hash) = accounts.enrolment.passwords.hash(password, source).await else { return };
            if let Err(error) = accounts.members.replace_hash(id, former, hash).await {
                tracing::warn!(member = %id, %error, "a password keeps its former hash");
            }
        }));
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
        let session = self.sessions.store.view(verified.session).await?;
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
            self.sessions.confirm(verified.member, verified.session, session.generation).await;
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
    pub(super) async fn kept_out(&self, id: MemberId) -> Failure {
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
