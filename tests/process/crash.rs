//! `kill -9` at random moments: what was acknowledged is there afterwards, exactly once. A kill alone does not show a sync
//! that is missing, because the kernel keeps what a process has written: so a loss of power, too, after which there is only
//! what was synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use protocol::{
    ClientFrame, ClientMessageId, ConversationId, Envelope, MemberId, Request, ServerFrame, Timestamp,
    client::{ConversationConfigure, HistoryGet, MessageRead, MessageSend},
    model::{ConversationSettings, Entry, Message},
    server::{History, MessageAccepted},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio_tungstenite::tungstenite;

use crate::harness::{
    Client, Member, client, client_id,
    database::Database,
    process::{Process, command},
    server::http,
};

const KILLS: usize = 22;
const LOSSES_OF_POWER: usize = 12;
/// Each start takes longer there.
const KILLS_ON_MONGODB: usize = 8;
const PAIRS: usize = 4;
/// Messages of one writer that are on their way at the same time.
const WINDOW: usize = 8;

/// What one writer knows.
#[derive(Default)]
struct Ledger {
    /// Everything that was ever sent, by its client id.
    sent: BTreeMap<ClientMessageId, String>,
    /// What was acknowledged.
    acknowledged: BTreeMap<ClientMessageId, Message>,
    /// The read watermark that was acknowledged.
    read: u64,
    /// The newest settings that were acknowledged, with their revision.
    settings: (ConversationSettings, u64),
}

struct Writer {
    member: Member,
    other: MemberId,
    ledger: Mutex<Ledger>,
}

impl Writer {
    fn message(&self, client_id: ClientMessageId, content: String) -> ClientFrame {
        ClientFrame::MessageSend(MessageSend {
            to: Some(self.other),
            conversation: None,
            client_id,
            content,
            reply_to: None,
        })
    }

    /// Writes until the server is gone.
    async fn write(self: Arc<Self>, addr: SocketAddr) {
        let Ok((mut socket, _)) = client::try_socket(addr).await else { return };
        let hello = format!(
            r#"{{"type":"hello","token":"{}","device":{{"id":"d","platform":"other"}}}}"#,
            self.member.auth.access_token
        );
        let _ = socket.send(tungstenite::Message::text(hello)).await;
        let mut synced = false;
        loop {
            let Some(Ok(message)) = socket.next().await else { return };
            let tungstenite::Message::Text(text) = message else { continue };
            let Envelope { id, frame } = Envelope::decode(&text).unwrap();
            let mut next = Vec::new();
            {
                let mut ledger = self.ledger.lock().unwrap();
                match frame {
                    ServerFrame::SyncDone(_) => {
                        synced = true;
                        next.extend((0..WINDOW).map(|_| self.next_message(&mut ledger)));
                    }
                    ServerFrame::MessageAccepted(MessageAccepted { message, .. }) => {
                        ledger.acknowledged.insert(message.client_id, message);
                        next.push(self.next_message(&mut ledger));
                    }
                    ServerFrame::EntryPush(push) if synced => {
                        let (conversation, seq) = (push.entry.conversation(), push.entry.seq());
                        let read = MessageRead { conversation, seq };
                        let id = Some(format!("read {seq}").parse().unwrap());
                        next.push(Request { id, frame: ClientFrame::MessageRead(read) }.encode());
                        // Other settings for each message.
                        let until = Timestamp::from_millis(i64::try_from(seq).unwrap());
                        let (archived, pinned) = (seq % 2 == 0, seq % 3 == 0);
                        let settings =
                            ConversationSettings { muted_until: Some(until), archived, pinned, ..<_>::default() };
                        let configure = ConversationConfigure { conversation, settings };
                        let id = Some(format!("settings {seq}").parse().unwrap());
                        next.push(Request { id, frame: ClientFrame::ConversationConfigure(configure) }.encode());
                    }
                    ServerFrame::Okay(_) => {
                        let id = id.unwrap();
                        let read = id.as_str().strip_prefix("read ").unwrap().parse().unwrap();
                        ledger.read = ledger.read.max(read);
                    }
                    ServerFrame::ConversationSettingsPush(set) if set.revision > ledger.settings.1 => {
                        ledger.settings = (set.settings, set.revision);
                    }
                    ServerFrame::Error(error) => panic!("{error:?}"),
                    _ => {}
                }
            }
            for frame in next {
                let _ = socket.feed(tungstenite::Message::text(frame)).await;
            }
            let _ = socket.flush().await;
        }
    }

    fn next_message(&self, ledger: &mut Ledger) -> String {
        let (id, content) = (client_id(), format!("message {}", ledger.sent.len()));
        ledger.sent.insert(id, content.clone());
        Request { id: Some(id.to_string().parse().unwrap()), frame: self.message(id, content) }.encode()
    }
}

/// The whole log of a conversation.
async fn log(client: &mut Client, conversation: ConversationId) -> Vec<Message> {
    let mut log: Vec<Message> = Vec::new();
    loop {
        let after = Some(log.last().map_or(0, |message| message.seq));
        let get = HistoryGet { conversation, before: None, after, limit: Some(100) };
        let page: History = client.ask(ClientFrame::HistoryGet(get)).await;
        log.extend(page.entries.into_iter().map(|Entry::Message(message)| message));
        if !page.more {
            return log;
        }
    }
}

/// What was acknowledged is there, once, where it was; nothing is there that was not sent; no seq is missing.
async fn check(pair: &[Arc<Writer>], addr: SocketAddr) -> usize {
    let mut client = pair[0].member.clone().at(addr).connect_as("checker", None).await;
    let Some(conversation) = client.synced.first().cloned() else { return 0 };
    let log = log(&mut client, conversation.id).await;
    let seqs: Vec<u64> = log.iter().map(|message| message.seq).collect();
    // On MongoDB the new server may find more of what the old one left just after the sync.
    let last = conversation.last_seq.max(log.len() as u64);
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>(), "no hole, no seq twice");
    let ids: BTreeSet<_> = log.iter().map(|message| (message.sender, message.client_id)).collect();
    assert_eq!(ids.len(), log.len(), "no message twice");
    let (settings, revision) = pair[0].ledger.lock().unwrap().settings;
    assert!(conversation.settings_revision >= revision, "acknowledged settings are gone");
    assert!(conversation.settings_revision > revision || conversation.settings == settings, "they are others");
    for writer in pair {
        let ledger = writer.ledger.lock().unwrap();
        let mine: BTreeMap<_, _> = log
            .iter()
            .filter(|message| message.sender == writer.member.id)
            .map(|message| (message.client_id, message))
            .collect();
        for (id, acknowledged) in &ledger.acknowledged {
            assert_eq!(mine.get(id), Some(&acknowledged), "acknowledged and not there");
        }
        for (id, message) in mine {
            assert_eq!(ledger.sent.get(&id), Some(&message.content), "there and never sent");
        }
        let state = conversation.members.iter().find(|state| state.member == writer.member.id).unwrap();
        assert!(state.read >= ledger.read, "the acknowledged watermark {} is at {}", ledger.read, state.read);
    }
    log.len()
}

/// Sends again what a writer has ever sent, and compares.
async fn retry(writer: &Writer, addr: SocketAddr, random: &mut StdRng) {
    let mut client = writer.member.clone().at(addr).connect_as("retry", None).await;
    let (sent, acknowledged) = {
        let ledger = writer.ledger.lock().unwrap();
        (ledger.sent.clone(), ledger.acknowledged.clone())
    };
    for (id, content) in sent {
        // All that are in doubt, and a few of the others.
        let first = acknowledged.get(&id);
        if first.is_some() && !random.random_ratio(1, 20) {
            continue;
        }
        let again: MessageAccepted = client.ask(writer.message(id, content)).await;
        if let Some(first) = first {
            assert!(again.duplicate);
            assert_eq!(&again.message, first);
        }
        writer.ledger.lock().unwrap().acknowledged.insert(id, again.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    survive("sqlite:./data/members-book.db", KILLS, 5..120, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_loss_of_power() {
    let folder = tempfile::tempdir().unwrap();
    let library = preloadable("keep_synced", folder.path());
    survive("sqlite:./data/members-book.db", LOSSES_OF_POWER, 20..300, Some(&library)).await;
}

/// A library that stands between the server and the disk, built.
pub fn preloadable(name: &str, folder: &Path) -> PathBuf {
    let (source, library) = (format!("tests/process/power/{name}.c"), folder.join(format!("{name}.so")));
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([&source, "-ldl"]).status();
    assert!(built.unwrap().success());
    library
}

/// Leaves of a database what was synced.
fn lose_power(folder: &Path) {
    for name in ["members-book.db", "members-book.db-wal"] {
        let file = folder.join("data").join(name);
        let synced = folder.join("data").join(format!("{name}.synced"));
        assert!(synced.exists(), "{name} was never synced");
        std::fs::copy(synced, file).unwrap();
    }
    // The index of the log is not of what is stored.
    let _ = std::fs::remove_file(folder.join("data/members-book.db-shm"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_on_mongodb() {
    let database = Database::new().await;
    survive(&database.uri, KILLS_ON_MONGODB, 100..900, None).await;
}

/// Kills the server after times of that many milliseconds. With a library that keeps what was synced, only that is left.
async fn survive(database: &str, kills: usize, times: std::ops::Range<u64>, keep_synced: Option<&Path>) {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let preloaded = keep_synced.map(|library| ("LD_PRELOAD", library));
    let start = || Process::spawn(command(folder.path()).env("DATABASE_URL", database).envs(preloaded));
    let mut server = start();
    let http = http();
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let one = Member::register_at(server.addr, &http, "One").await;
        let two = Member::register_at(server.addr, &http, "Two").await;
        let writer = |member: &Member, other: &Member| {
            Arc::new(Writer { member: member.clone(), other: other.id, ledger: Mutex::default() })
        };
        pairs.push([writer(&one, &two), writer(&two, &one)]);
    }
    let mut stored = 0;
    for _ in 0..kills {
        let addr = server.addr;
        let writers: Vec<_> =
            pairs.iter().flatten().map(|writer| tokio::spawn(Arc::clone(writer).write(addr))).collect();
        // A random moment: this is no waiting for anything.
        tokio::time::sleep(Duration::from_millis(random.random_range(times.clone()))).await;
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        if keep_synced.is_some() {
            lose_power(folder.path());
        }
        server = start();
        stored = 0;
        for pair in &pairs {
            stored += check(pair, server.addr).await;
        }
    }
    let acknowledged: usize =
        pairs.iter().flatten().map(|writer| writer.ledger.lock().unwrap().acknowledged.len()).sum();
    println!("{kills} kills, {acknowledged} messages acknowledged, {stored} stored");
    assert!(acknowledged > kills * 10, "the test has to have something to lose: {acknowledged}");
    for pair in &pairs {
        for writer in pair {
            retry(writer, server.addr, &mut random).await;
        }
        let known: usize = pair.iter().map(|writer| writer.ledger.lock().unwrap().sent.len()).sum();
        assert_eq!(check(pair, server.addr).await, known, "after the retries everything is there");
    }
}
