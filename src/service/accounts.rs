//! Accounts: register, log in, refresh, log out.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{
    CloseCode, ErrorCode, MemberId, SessionId, Timestamp,
    model::UserType,
    rest::{AuthResponse, LoginRequest, RegisterRequest, TokenType},
};

use tokio::sync::{OnceCell, Semaphore};

use super::{
    decisions::{or_when_unknown, until_known},
    effects::{Effect, Effects},
    enrolment::Enrolment,
    limiter::Limiter,
    registration::Registration,
    views,
};
use crate::{
    auth::{AccessTokens, Familiar, Source, Stale, access::Verified, password::Verdict, refresh},
    clock::Clock,
    failure::Failure,
    ids::Ids,
    sources::subscriber,
    store::{
        MemberStore, SessionStore, StoreError,
        members::{MemberRecord, Standing},
        sessions::{NewToken, Rotation, TokenOwner},
        turns::Caller,
    },
    telemetry::Metrics,
};

/// Passwords that are hashed anew at the same time, after their logins.
pub const REHASHED_AT_ONCE: usize = 4;

/// Who a request or a connection speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authorized {
    /// The member.
    pub member: MemberId,
    /// The session.
    pub session: SessionId,
    /// What the member may do.
    pub user_type: UserType,
    /// When the token expires.
    pub expires_at: Timestamp,
}

/// What has become of a registration.
pub enum Registered {
    /// The member is in, and logged in.
    In(Box<AuthResponse>),
    /// They wait for an administrator.
    Waiting,
}

/// Accounts.
pub struct Accounts {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// Access tokens.
    pub tokens: AccessTokens,
    /// Makes members, with their passwords.
    pub enrolment: Enrolment,
    /// Who may come in.
    pub registration: Arc<Registration>,
    /// Who has logged in from where.
    pub familiar: Familiar,
    /// Sessions that are over although their tokens are not.
    pub stale: Arc<Stale>,
    /// Places for hashing passwords anew.
    pub rehashing: Arc<Semaphore>,
    /// How long a refresh token lives.
    pub refresh_lifetime: Duration,
    /// Registrations from one address.
    pub registrations: Arc<Limiter<IpAddr>>,
    /// Logins from one address.
    pub logins: Arc<Limiter<IpAddr>>,
    /// Exchanges of refresh tokens by one member.
    pub refreshes: Arc<Limiter<MemberId>>,
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
    /// Registers a member and logs them in; or they wait for an administrator.
    ///
    /// # Errors
    /// Why they may not come in ([`Registration::way`]), `email_taken`, a rate limit, or the store.
    pub async fn register(&self, request: RegisterRequest, from: IpAddr) -> Result<Registered, Failure> {
        self.registrations.check(&subscriber(from))?;
        let way = self.registration.way(request.invitation.as_deref(), from).await?;
        let source = Source { address: subscriber(from), familiar: false };
        let member = self.enrolment.register(request, way, source).await?;
        self.metrics.registration(way.name());
        if member.profile.is_pending {
            tracing::info!(member = %member.profile.id, "somebody registered and waits for an administrator");
            self.registration.applications.changed();
            return Ok(Registered::Waiting);
        }
        tracing::info!(member = %member.profile.id, "member registered");
        self.log_in_as(member).await.map(|tokens| Registered::In(Box::new(tokens)))
    }

    /// Logs a member in.
    ///
    /// # Errors
    /// `invalid_credentials` for an unknown address and for a wrong password alike, `member_deactivated`,
    /// `member_suspended` and `approval_pending` only to whom knows the password, a rate limit, or the store.
    pub async fn log_in(self: &Arc<Self>, request: LoginRequest, from: IpAddr) -> Result<AuthResponse, Failure> {
        self.logins.check(&subscriber(from))?;
        let member = self.members.by_email(Caller::Address(subscriber(from)), &request.email).await?;
        let address = subscriber(from);
        let source = Source { address, familiar: self.familiar.knows(&request.email, address) };
        let hash = member.as_ref().map(|member| member.password_hash.clone());
        let verdict = self.enrolment.passwords.verify(request.password.clone(), hash, source).await?;
        let Some(member) = member.filter(|_| verdict != Verdict::Wrong) else {
            return Err(self.denied(ErrorCode::InvalidCredentials));
        };
        self.stands(member.profile.standing(self.clock.now()))?;
        if verdict == Verdict::Outdated {
            self.rehash(&member, request.password, source);
        }
        self.familiar.remember(&request.email, address, member.profile.created_at, self.clock.now());
        self.log_in_as(member).await
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

    /// Logs a member in who has shown that they are who they say.
    ///
    /// # Errors
    /// `member_deactivated`, or the store.
    pub(super) async fn log_in_as(&self, mut member: MemberRecord) -> Result<AuthResponse, Failure> {
        let (session, now) = (self.ids.session(), self.clock.now());
        let token = refresh::issue(&self.ids);
        let next = NewToken { hash: token.hash, expires_at: now.after(self.refresh_lifetime) };
        let id = member.profile.id;
        let started = self.sessions.start(session, id, next, now).await.inspect_err(|error| {
            if *error == StoreError::Timeout {
                // It may be made, and have ended others, nobody knows which. Whoever may still sign in comes back.
                self.effects.close(id, None, CloseCode::Disconnected);
            }
        });
        let Some(ended) = started? else { return Err(self.kept_out(id).await) };
        for session in ended {
            self.end(id, session);
        }
        member.profile.last_login = Some(now);
        self.auth_response(member, session, token.token, next.expires_at)
    }

    /// A session is over: its connections close, and its access tokens spend nothing of its member's.
    fn end(&self, member: MemberId, session: SessionId) {
        let close = Effect::Close { member, session: Some(session), code: CloseCode::Unauthorized };
        self.effects.apply([Effect::EndSession(session), close]);
    }

    /// Exchanges a refresh token for a new pair of tokens.
    ///
    /// # Errors
    /// `refresh_token_invalid`; `refresh_token_reused`, after which the whole session is revoked and its connections
    /// are closed; `member_deactivated`; `rate_limited`; or the store.
    pub async fn refresh(&self, token: &str, from: IpAddr) -> Result<AuthResponse, Failure> {
        let now = self.clock.now();
        let successor = refresh::issue(&self.ids);
        let next = NewToken { hash: successor.hash, expires_at: now.after(self.refresh_lifetime) };
        let used = refresh::hash(token);
        let by = Caller::Address(subscriber(from));
        // What is of no use to anybody spends nothing of its member's.
        let Some(TokenOwner { member, used: is_used }) = self.sessions.owner(by, used, now).await? else {
            return Err(self.denied(ErrorCode::RefreshTokenInvalid));
        };
        // One that was used before ends its session, once.
        if !is_used {
            self.refreshes.check(&member)?;
        }
        match until_known(|_| self.sessions.rotate(member, used, next, now)).await?.outcome {
            Rotation::Rotated { session, member } => {
                self.auth_response(*member, session, successor.token, next.expires_at)
            }
            Rotation::Invalid => Err(self.denied(ErrorCode::RefreshTokenInvalid)),
            Rotation::Deactivated => Err(self.kept_out(member).await),
            Rotation::Reused { session, member } => {
                tracing::warn!(%session, %member, "a refresh token was used twice; its session is revoked");
                self.end(member, session);
                Err(self.denied(ErrorCode::RefreshTokenReused))
            }
        }
    }

    /// Logs out the session, or all sessions of the member. Their connections are closed with 4401.
    ///
    /// # Errors
    /// The store.
    pub async fn log_out(&self, who: &Authorized, all: bool) -> Result<(), Failure> {
        let now = self.clock.now();
        let session = (!all).then_some(who.session);
        // The same ones at each attempt, and none that is started while it is made.
        let sessions = OnceCell::new_with(session.map(|session| vec![session]));
        let revoke = async |_| {
            let sessions = sessions.get_or_try_init(|| self.valid_sessions(who.member)).await?;
            self.sessions.revoke_many(who.member, sessions.clone(), now).await
        };
        let close = |code| {
            self.effects.close(who.member, session, code);
        };
        // It may have happened. Whoever may still sign in comes back.
        or_when_unknown(until_known(revoke), || close(CloseCode::Disconnected)).await?;
        self.effects.apply(sessions.into_inner().unwrap_or_default().into_iter().map(Effect::EndSession));
        // All of them: whose session was started in the meantime comes back with a new token.
        close(CloseCode::Unauthorized);
        Ok(())
    }

    async fn valid_sessions(&self, member: MemberId) -> Result<Vec<SessionId>, StoreError> {
        let of_member = self.sessions.of_member(member).await?;
        Ok(of_member.iter().filter(|known| known.revoked_at.is_none()).map(|known| known.id).collect())
    }

    /// Checks an access token: who it speaks for, and that its session and member are still good.
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
        Ok(Authorized {
            member: verified.member,
            session: verified.session,
            user_type: session.user_type,
            expires_at: verified.expires_at,
        })
    }

    fn auth_response(
        &self,
        member: MemberRecord,
        session: SessionId,
        refresh_token: String,
        refresh_expires_at: Timestamp,
    ) -> Result<AuthResponse, Failure> {
        let access = self.tokens.issue(member.profile.id, session)?;
        Ok(AuthResponse {
            member: views::member(member.profile),
            access_token: access.token,
            token_type: TokenType::Bearer,
            expires_at: access.expires_at,
            refresh_token,
            refresh_expires_at,
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
