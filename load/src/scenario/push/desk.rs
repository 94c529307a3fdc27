//! A member at a desk: writes to others and reads what they write, on a device that is not registered for pushes.

use std::{sync::Arc, time::Duration};

use protocol::{
    ClientFrame, ClientMessageId, ConversationId, ServerFrame,
    client::{ConversationConfigure, MessageRead, MessageSend},
    model::{ConversationSettings, Notify},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, timeout_at};

use super::world::World;
use crate::{
    link::Link,
    recorder::{Count, Tally},
    wire::Ended,
};

/// What this device is called.
const NAME: &str = "desk";
/// How long before the server is asked again that asks to be.
const LATER: Duration = Duration::from_millis(200);
/// The share of what a member does that is reading.
const READING: f64 = 0.2;
/// The share that is muting a conversation, or hearing of it again.
const MUTING: f64 = 0.03;

/// A member at a desk.
pub(super) struct Desk {
    pub(super) world: Arc<World>,
    pub(super) member: usize,
    /// Whom the member writes to.
    pub(super) others: Vec<usize>,
    /// How long the member waits between two things, on average.
    pub(super) pause: Duration,
    tally: Tally,
    random: StdRng,
    number: u64,
}

impl Desk {
    pub(super) fn new(
        world: Arc<World>,
        member: usize,
        others: Vec<usize>,
        pause: Duration,
        tally: Tally,
        seed: u64,
    ) -> Self {
        Self { world, member, others, pause, tally, random: StdRng::seed_from_u64(seed), number: 0 }
    }

    /// Writes and reads until the run is over.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let mut link = self.connect().await?;
        while !self.world.is_over() {
            let until = Instant::now() + self.pause.mul_f64(2.0 * self.random.random::<f64>());
            while let Ok(heard) = timeout_at(until, link.next()).await {
                if heard.is_err() {
                    link = self.connect().await?;
                }
            }
            link = match self.random.random::<f64>() {
                deed if deed < MUTING => self.choose(link).await?,
                deed if deed < MUTING + READING => self.read(link).await?,
                _ => self.write(link).await?,
            };
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Link, String> {
        let account = self.world.accounts.get(self.member).ok_or("no such member")?;
        self.world.connect(&account.token, NAME, &self.tally).await
    }

    /// Asks for something until it is answered, over as many connections as that takes.
    async fn ask(&self, mut link: Link, frame: &ClientFrame) -> Result<(Link, ServerFrame), String> {
        loop {
            match link.ask(frame, |_| ()).await {
                Ok(ServerFrame::Error(error)) if error.retry_after_ms.is_some() => tokio::time::sleep(LATER).await,
                Ok(ServerFrame::Error(error)) => return Err(format!("a request was answered: {}", error.message)),
                Ok(answer) => return Ok((link, answer)),
                Err(Ended::Foreign(what)) => return Err(what),
                Err(_) => link = self.connect().await?,
            }
        }
    }

    async fn write(&mut self, link: Link) -> Result<Link, String> {
        let place = self.random.random_range(0..self.others.len().max(1));
        let Some((to, other)) = self.others.get(place).and_then(|to| Some((*to, self.world.accounts.get(*to)?.id)))
        else {
            return Ok(link);
        };
        self.number += 1;
        let content = format!("{}.{} {}", self.member, self.number, "é".repeat(self.random.random_range(1..80)));
        let client_id = ClientMessageId::from_uuid(uuid::Uuid::new_v4());
        self.world.ledger.lock().sending(client_id, (self.member, to), content.clone());
        let frame = ClientFrame::MessageSend(MessageSend {
            to: Some(other),
            conversation: None,
            client_id,
            content,
            reply_to: None,
        });
        match self.ask(link, &frame).await? {
            (link, ServerFrame::MessageAccepted(accepted)) => {
                self.tally.count(Count::Acknowledged);
                let message = accepted.message;
                self.world.ledger.lock().sent(&client_id, message.conversation, message.seq);
                Ok(link)
            }
            (_, other) => Err(format!("{} instead of message.accepted", other.frame_type())),
        }
    }

    /// Reads everything of one conversation.
    async fn read(&mut self, link: Link) -> Result<Link, String> {
        let Some(conversation) = self.draw() else { return Ok(link) };
        let read = {
            let mut facts = self.world.ledger.lock();
            let seq = facts.newest(&conversation);
            seq.map(|seq| (seq, facts.saying((None, self.member), conversation, seq, true)))
        };
        let Some((seq, said)) = read else { return Ok(link) };
        let (link, _) = self.ask(link, &ClientFrame::MessageRead(MessageRead { conversation, seq })).await?;
        self.world.ledger.lock().said(&said);
        Ok(link)
    }

    /// Mutes a conversation, or hears of it again. Whether it is archived makes no difference to pushes.
    async fn choose(&mut self, link: Link) -> Result<Link, String> {
        let Some(conversation) = self.draw() else { return Ok(link) };
        let of = (self.member, conversation);
        let is_muted = {
            let mut facts = self.world.ledger.lock();
            let is_muted = !facts.choices.get(&of).and_then(|choices| choices.last()).is_some_and(|last| last.is_muted);
            facts.choosing(of, is_muted);
            is_muted
        };
        let notify = if is_muted { Notify::Nothing } else { Notify::All };
        let (archived, pinned) = (self.random.random(), self.random.random());
        let settings = ConversationSettings { notify, muted_until: None, archived, pinned };
        let configure = ClientFrame::ConversationConfigure(ConversationConfigure { conversation, settings });
        let (link, answer) = self.ask(link, &configure).await?;
        match answer {
            ServerFrame::ConversationSettingsPush(push) if push.settings == settings => {}
            other => return Err(format!("{settings:?} were set, and the answer is {other:?}")),
        }
        self.world.ledger.lock().chosen(of);
        Ok(link)
    }

    /// One of the member's conversations.
    fn draw(&mut self) -> Option<ConversationId> {
        let facts = self.world.ledger.lock();
        let mine = facts.conversations.iter().filter(|(_, (one, other))| [*one, *other].contains(&self.member));
        let mut mine: Vec<ConversationId> = mine.map(|(conversation, _)| *conversation).collect();
        mine.sort_unstable();
        mine.get(self.random.random_range(0..mine.len().max(1))).copied()
    }
}
