//! Filling a store directly, before its server starts: registering thousands of members one by one is not what is measured.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use members_book::{
    auth::{
        AccessTokens, Passwords, Source,
        access::{Grant, Options},
        keys::Keys,
        refresh,
    },
    clock::{Clock, SystemClock},
    ids::{Ids, SystemEntropy},
    service::messaging::direct_conversation,
    store::{
        Store,
        conversations::{Append, Command, NewConversation},
        members::NewMember,
        sessions::{NewSession, NewToken, SessionDevice},
        sqlite::{self, Sqlite},
    },
    supervisor::Supervisor,
    telemetry::Metrics,
};
use protocol::{MemberId, SessionId, model::UserType};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    client_ids::ClientIds,
    scenario::graph::Graph,
    target::{Account, PASSWORD},
    trial::Stored,
};

/// Writes that are under way at the same time; the store commits them together.
const TOGETHER: usize = 2_000;
/// Messages in one commit.
const BATCH: usize = 4_000;
const DAY: Duration = Duration::from_secs(86_400);

/// Messages of one member to another, by their numbers among the members.
#[derive(Debug, Clone)]
pub(crate) struct Letters {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) count: u64,
    pub(crate) content: String,
}

/// An open store that is being filled.
pub(crate) struct Seed {
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<Ids>,
    tokens: AccessTokens,
    client_ids: ClientIds,
    random: StdRng,
}

impl Seed {
    /// Opens the embedded store in a file. `secret` is what its server will check tokens with.
    pub(crate) fn open(path: PathBuf, secret: &str, client_ids: ClientIds, seed: u64) -> Result<Self, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids = Arc::new(Ids::new(Arc::clone(&clock), Arc::new(SystemEntropy)));
        let options = sqlite::Options { path, readers: 1, timeout: Duration::from_secs(120), exclusive: true };
        let metrics = Arc::new(Metrics::new());
        let supervisor = Supervisor::new(Arc::clone(&metrics), CancellationToken::new());
        let store = Sqlite::open(options, Arc::clone(&clock), Arc::clone(&ids), metrics, &supervisor);
        let tokens = access_tokens(secret, &clock, &ids);
        let store = store.map_err(|error| error.to_string())?;
        // Members who talk later draw from other streams: an id that is drawn twice would be a retry.
        let random = StdRng::seed_from_u64(!seed);
        Ok(Self { store, clock, ids, tokens, client_ids, random })
    }

    /// Makes signed-in members, the last of them administrators; `cost` is that of their password.
    pub(crate) async fn members(
        &self,
        count: usize,
        administrators: usize,
        cost: u32,
        mut made: impl FnMut(),
    ) -> Result<Vec<Account>, String> {
        let ordinary = count.saturating_sub(administrators);
        let mut ids = self.ids_of_members(ordinary, UserType::Member, cost, &mut made).await?;
        ids.extend(self.ids_of_members(count - ordinary, UserType::Admin, cost, &mut made).await?);
        let account = |(id, session)| {
            let (token, email) = (self.token(id, session)?, address(id));
            Ok(Account { id, token, refresh: None, email })
        };
        ids.into_iter().map(account).collect()
    }

    /// The same, when there are so many that a token for each would take too much room.
    pub(crate) async fn ids_of_members(
        &self,
        count: usize,
        user_type: UserType,
        cost: u32,
        mut made: impl FnMut(),
    ) -> Result<Vec<(MemberId, SessionId)>, String> {
        let metrics = Arc::new(Metrics::new());
        let supervisor = Supervisor::new(Arc::clone(&metrics), CancellationToken::new());
        let passwords = Passwords::new(cost, DAY, metrics, &supervisor).map_err(|error| error.to_string())?;
        let source = Source { address: IpAddr::V4(Ipv4Addr::LOCALHOST), familiar: false };
        let password_hash = passwords.hash(PASSWORD.to_owned(), source).await.map_err(|error| error.to_string())?;
        let mut ids = Vec::with_capacity(count);
        let mut writing = JoinSet::new();
        for number in 0..count {
            if writing.len() >= TOGETHER {
                ids.extend(joined(writing.join_next().await)?);
                made();
            }
            let (id, session, at) = (self.ids.member(), self.ids.session(), self.clock.now());
            let member = NewMember {
                id,
                name: format!("Load {number}"),
                email: address(id),
                password_hash: password_hash.clone(),
                user_type,
                created_at: at,
                language: None,
                must_verify: false,
            };
            let refresh = refresh::issue(&self.ids);
            let token = NewToken { hash: refresh.hash, expires_at: at.after(DAY) };
            let (device, ends_at) = (SessionDevice::default(), at.after(DAY));
            let (address, tell_of) = (None, None);
            let new = NewSession {
                id: session,
                member: id,
                token,
                device,
                known_device: None,
                address,
                at,
                ends_at,
                credentials: 0,
                tell_of,
            };
            let (members, sessions) = (Arc::clone(&self.store.members), Arc::clone(&self.store.sessions));
            writing.spawn(async move {
                let inserted = members.insert(member, None).await.map_err(|error| error.to_string())?;
                inserted.map_err(|_| "two members with one address".to_owned())?;
                sessions.start(new).await.map_err(|error| error.to_string())?;
                Ok::<_, String>((id, session))
            });
        }
        while let Some(one) = writing.join_next().await {
            ids.extend(joined(Some(one))?);
            made();
        }
        Ok(ids)
    }

    /// An access token.
    pub(crate) fn token(&self, member: MemberId, session: SessionId) -> Result<String, String> {
        Ok(self.tokens.issue(grant(member, session)).map_err(|code| code.to_string())?.token)
    }

    /// Stores messages: one in each conversation after the other at first, then in conversations drawn at random.
    pub(crate) async fn messages(
        &mut self,
        accounts: &[Account],
        Stored { count, size, among }: Stored,
        mut made: impl FnMut(u64),
    ) -> Result<(), String> {
        let graph = among.unwrap_or_else(|| Graph::new(accounts.len() / 2, None));
        let content = "x".repeat(size);
        for first in (0..count).step_by(BATCH) {
            let numbers = first..count.min(first + BATCH as u64);
            let more = numbers.end - first;
            let batch: Option<Vec<Command>> =
                numbers.map(|number| self.message(accounts, &graph, number, among.is_some(), &content)).collect();
            self.apply(batch.ok_or("fewer members than there are to be in conversations")?).await?;
            made(more);
        }
        Ok(())
    }

    /// The message of a number. Those who are in a conversation take turns when they are not drawn at random.
    fn message(
        &mut self,
        accounts: &[Account],
        graph: &Graph,
        number: u64,
        drawn: bool,
        content: &str,
    ) -> Option<Command> {
        let conversations = graph.conversations().max(1);
        let number = usize::try_from(number).ok()?;
        let (conversation, even) = if drawn && number >= conversations {
            (self.random.random_range(0..conversations), self.random.random())
        } else {
            (number % conversations, (number / conversations).is_multiple_of(2))
        };
        let (one, other) = graph.ends(conversation);
        let (one, other) = (accounts.get(one)?.id, accounts.get(other)?.id);
        let (sender, receiver) = if even { (one, other) } else { (other, one) };
        Some(self.append(sender, receiver, content.to_owned()))
    }

    /// Stores what single members have written to others.
    pub(crate) async fn letters(&mut self, accounts: &[Account], letters: &[Letters]) -> Result<(), String> {
        let mut batch = Vec::new();
        for Letters { from, to, count, content } in letters {
            let (Some(from), Some(to)) = (accounts.get(*from), accounts.get(*to)) else {
                return Err("a letter of or to nobody".to_owned());
            };
            for _ in 0..*count {
                batch.push(self.append(from.id, to.id, content.clone()));
                if batch.len() >= BATCH {
                    self.apply(std::mem::take(&mut batch)).await?;
                }
            }
        }
        self.apply(batch).await
    }

    fn append(&mut self, sender: MemberId, receiver: MemberId, content: String) -> Command {
        Command::Append(Append {
            conversation: direct_conversation(sender, receiver),
            create: Some(NewConversation::direct(sender, receiver)),
            sender,
            client_id: self.client_ids.next(&mut self.random),
            content,
            reply_to: None,
        })
    }

    async fn apply(&self, batch: Vec<Command>) -> Result<(), String> {
        let applied = self.store.log.apply(batch).await.map_err(|error| error.to_string())?;
        match applied.outcomes.into_iter().find(Result::is_err) {
            Some(Err(refusal)) => Err(format!("a prepared message was refused: {refusal:?}")),
            _ => Ok(()),
        }
    }

    /// Closes the store, so that its server can open it.
    pub(crate) async fn close(self) {
        self.store.backend.close().await;
    }
}

fn address(id: MemberId) -> String {
    format!("{id}@load.example.com")
}

/// Makes the tokens that a server with this secret takes, with the defaults of its other settings.
pub(crate) fn access_tokens(secret: &str, clock: &Arc<dyn Clock>, ids: &Arc<Ids>) -> AccessTokens {
    let options = Options {
        secrets: Keys { present: secret.into(), former: Vec::new() },
        issuer: "members-book".to_owned(),
        audience: "members-book-app".to_owned(),
        lifetime: DAY / 2,
    };
    AccessTokens::new(&options, Arc::clone(clock), Arc::clone(ids))
}

/// For an access token of a session that was seeded: its first one, for as long as such a session lives.
pub(crate) fn grant(member: MemberId, session: SessionId) -> Grant {
    let until = SystemClock.now().after(DAY);
    Grant { member, session, generation: 0, until }
}

/// What a task returned; a task of ours that panicked is a fault of ours.
pub(crate) fn joined<T>(task: Option<Result<Result<T, String>, tokio::task::JoinError>>) -> Result<Option<T>, String> {
    task.map(|task| task.map_err(|error| error.to_string())?).transpose()
}
