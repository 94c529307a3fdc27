//! A session and its tokens: starting one, and exchanging its refresh token.

use std::{net::IpAddr, time::Duration};

use protocol::{
    CloseCode, ErrorCode, Timestamp,
    rest::{AuthResponse, DeviceInfo, TokenType},
};
use tokio::time::{Instant, sleep};

use super::{
    accounts::{Accounts, Authorized},
    decisions::until_known,
    effects::Effect,
    sessions::stored_device,
    views,
};
use crate::{
    auth::{
        access::Grant,
        device::{DeviceNumber, Holder},
        refresh::{self, RefreshToken},
    },
    failure::Failure,
    sources::subscriber,
    store::{
        StoreError,
        members::MemberRecord,
        sessions::{Exchange, KeptSession, NewSession, NewToken, Renewal, Rotation, SessionDevice, TokenOwner},
        turns::Caller,
    },
};

/// For how long what is read after a change that is made is read again while the store does not answer, whatever it fails of: whoever asked
/// has nothing else to go on with, and does not wait much longer.
const READ_FOR: Duration = Duration::from_secs(60);
/// How long after the read before.
const READ_AGAIN: Duration = Duration::from_millis(300);

/// The refresh token that a session goes on with after a change that ends the others.
pub(super) struct Fresh {
    /// What the change stores.
    pub(super) kept: KeptSession,
    token: String,
    ends_at: Timestamp,
}

/// The device on which a session is started.
pub(super) struct SignedInOn {
    /// What it says about itself.
    pub(super) device: SessionDevice,
    /// The number that it has a proof of from now on.
    pub(super) number: DeviceNumber,
    /// Whether it has proved to be that one, so that the member had logged in on it before.
    pub(super) is_known: bool,
}

impl Accounts {
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
        let device = SignedInOn { device: stored_device(device), number: self.ids.secret(), is_known: false };
        let started = self.start_session(&member, device, None, from).await?;
        started.ok_or_else(|| self.denied(ErrorCode::SessionRevoked))
    }

    /// Starts a session of a member on a device, which gets a proof for its number. Nothing, if the member has other credentials by now.
    /// `tell_of` is what the device is called in the mail that tells them of it, if they are to be told; not of the first login of all.
    ///
    /// # Errors
    /// `member_deactivated`, or the store.
    pub(super) async fn start_session(
        &self,
        member: &MemberRecord,
        SignedInOn { device, number, is_known }: SignedInOn,
        tell_of: Option<String>,
        from: IpAddr,
    ) -> Result<Option<AuthResponse>, Failure> {
        let (session, now) = (self.ids.session(), self.clock.now());
        let token = refresh::issue(&self.ids);
        let (id, ends_at) = (member.profile.id, now.after(self.sessions.lifetime));
        let first = NewToken { hash: token.hash, expires_at: now.after(self.refresh_lifetime).min(ends_at) };
        let is_told = tell_of.is_some();
        let new = NewSession {
            id: session,
            member: id,
            token: first,
            device,
            known_device: is_known.then_some(number),
            address: Some(from),
            at: now,
            ends_at,
            tell_of,
            credentials: member.credentials,
        };
        let started = self.sessions.store.start(new).await.inspect_err(|error| {
            if *error == StoreError::Timeout {
                // It may be made, and have ended others, nobody knows which. Whoever may still sign in comes back.
                self.effects.close(id, None, CloseCode::Disconnected);
            }
        });
        let Some(ended) = started? else {
            let found = self.members.by_id(Caller::Member(id), id).await?;
            return match found.filter(|found| found.profile.may_sign_in(now)) {
                Some(found) if found.credentials != member.credentials => Ok(None),
                _ => Err(self.kept_out(id).await),
            };
        };
        for session in ended {
            self.sessions.is_over(id, session);
        }
        self.effects.apply(is_told.then_some(Effect::SendMail));
        let proof = self.proofs.issue(Holder::from(member), number);
        let mut member = member.clone();
        member.profile.last_login = Some(now);
        let grant = Grant { member: id, session, generation: 0, until: ends_at };
        let answer = self.auth_response(member, grant, token.token, first.expires_at)?;
        Ok(Some(AuthResponse { device_proof: Some(proof), ..answer }))
    }

    /// Exchanges a refresh token for a new pair of tokens: the same refresh token again, with another access token, for the same `attempt`
    /// while nobody is known to have got it.
    ///
    /// # Errors
    /// `refresh_token_invalid`; `refresh_token_reused`, after which the whole session is revoked and its connections
    /// are closed; `member_deactivated`; `rate_limited`; or the store.
    pub async fn refresh(&self, token: &str, attempt: Option<&str>, from: IpAddr) -> Result<AuthResponse, Failure> {
        let (successor, former) = (self.successors.of(token), self.successors.former(token));
        let exchange = Exchange {
            used: refresh::hash(token),
            successor: successor.hash,
            former: former.iter().map(|token| token.hash).collect(),
            attempt: attempt.map(refresh::hash),
            address: Some(from),
            at: self.clock.now(),
            token_lifetime: self.refresh_lifetime,
            session_lifetime: self.sessions.lifetime,
        };
        let by = Caller::Address(subscriber(from));
        // What is of no use to anybody spends nothing of its member's.
        let Some(TokenOwner { member, spent }) = self.sessions.store.owner(by, exchange.clone()).await? else {
            return Err(self.denied(ErrorCode::RefreshTokenInvalid));
        };
        // One that gives a thief away ends its session, once.
        if !spent {
            self.refreshes.check(&member)?;
        }
        match until_known(|_| self.sessions.store.rotate(member, exchange.clone())).await?.outcome {
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
                self.sessions.is_over(member, session);
                Err(self.denied(ErrorCode::RefreshTokenReused))
            }
        }
    }

    /// What the session of who asks goes on with when a change ends the others: a token that nobody could have copied.
    ///
    /// # Errors
    /// `session_revoked`, or the store.
    pub(super) async fn fresh_token(&self, who: &Authorized) -> Result<Fresh, Failure> {
        let ends_at = self.sessions.ends(who).await?.ok_or(ErrorCode::SessionRevoked)?;
        let RefreshToken { token, hash } = refresh::issue(&self.ids);
        let expires_at = self.clock.now().after(self.refresh_lifetime).min(ends_at);
        let kept = KeptSession { id: who.session, token: NewToken { hash, expires_at } };
        Ok(Fresh { kept, token, ends_at })
    }

    /// The answer to such a change, once that is made: new tokens, and a new proof of the device.
    ///
    /// # Errors
    /// The store, when it does not answer for a minute.
    pub(super) async fn go_on(&self, member: MemberRecord, fresh: Fresh) -> Result<AuthResponse, Failure> {
        let Fresh { kept: KeptSession { id: session, token: NewToken { expires_at, .. } }, token, ends_at } = fresh;
        // Nobody but who gets this answer can have exchanged the token.
        let (store, deadline) = (&self.sessions.store, Instant::now() + READ_FOR);
        let view = loop {
            match store.view(session).await {
                Err(_) if Instant::now() < deadline => sleep(READ_AGAIN).await,
                read => break read?,
            }
        };
        let view = view.ok_or(ErrorCode::SessionRevoked)?;
        let generation = view.generation;
        self.stale.saw_good(session, view.good_from);
        // One proof for each session, however often it does so.
        let proof = self.new_proof(&member, *session.as_bytes());
        let grant = Grant { member: member.profile.id, session, generation, until: ends_at };
        let answer = self.auth_response(member, grant, token, expires_at)?;
        Ok(AuthResponse { device_proof: Some(proof), ..answer })
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
            member: views::member(member.profile, self.clock.now()),
            access_token: access.token,
            token_type: TokenType::Bearer,
            expires_at: access.expires_at,
            refresh_token,
            refresh_expires_at,
            device_proof: None,
        })
    }
}
