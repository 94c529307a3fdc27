//! Catching up after any absence.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    ClientFrame, ConversationId, Cursor, ServerFrame,
    client::HistoryGet,
    limits,
    model::{Conversation, Entry, Watermarks},
    server::{Conversations, History},
};

use crate::harness::{Client, Member, Server, client::message_to};

fn seqs(conversation: &Conversation) -> Vec<u64> {
    conversation.entries.iter().map(Entry::seq).collect()
}

/// What a client knows of a conversation, as it is told to keep it.
#[derive(Default)]
struct Log(Vec<u64>);

impl Log {
    fn last(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// Takes what is new, and asks for what is missing before it.
    async fn learn(&mut self, client: &mut Client, conversation: ConversationId, seq: u64) {
        if seq > self.last() + 1 {
            let get = HistoryGet { conversation, before: Some(seq), after: None, limit: Some(100) };
            let history: History = client.ask(ClientFrame::HistoryGet(get)).await;
            let last = self.last();
            self.0.extend(history.entries.iter().map(Entry::seq).filter(|seq| *seq > last));
        }
        if seq > self.last() {
            self.0.push(seq);
        }
    }

    async fn learn_sync(&mut self, client: &mut Client) {
        for conversation in std::mem::take(&mut client.synced) {
            for entry in conversation.entries {
                self.learn(client, conversation.id, entry.seq()).await;
            }
            assert_eq!(self.last(), conversation.last_seq, "the sync ends with the newest entry");
        }
    }
}

#[tokio::test]
async fn a_new_device_gets_the_full_state() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut bens = ben.connect().await;
    for _ in 0..limits::SYNC_FULL_ENTRIES + 5 {
        bens.say(ana.id, "x").await;
    }
    let anas = ana.connect().await;
    let done = anas.sync_done.clone().unwrap();
    assert!(done.full && !done.more);
    let [conversation] = &anas.synced[..] else { panic!("{:?}", anas.synced) };
    assert_eq!((conversation.last_seq, conversation.unread), (25, 25));
    assert_eq!(seqs(conversation), (6..=25).collect::<Vec<_>>(), "the latest, ascending");
}

#[tokio::test]
async fn a_cursor_yields_what_was_missed_and_nothing_else() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let eva = server.member("Eva").await;
    let (mut bens, mut evas) = (ben.connect().await, eva.connect().await);
    let mut anas = ana.connect().await;
    let with_ben = anas.say(ben.id, "one").await.conversation;
    evas.say(ana.id, "unrelated").await;
    anas.hear().await;
    let cursor = anas.ping().await.cursor;
    drop(anas);
    bens.read(with_ben, 1).await;
    bens.say(ana.id, "two").await;
    bens.say(ana.id, "three").await;

    let anas = ana.connect_as("phone", Some(cursor.clone())).await;
    let [conversation] = &anas.synced[..] else { panic!("{:?}", anas.synced) };
    assert_eq!((conversation.id, conversation.last_seq, conversation.unread), (with_ben, 3, 2));
    assert_eq!(seqs(conversation), [2, 3]);
    assert!(conversation.members.contains(&Watermarks { member: ben.id, delivered: 1, read: 1 }));
    assert!(!anas.sync_done.clone().unwrap().full);
    let newer = anas.cursor();
    let synced = anas.synced.clone();
    drop(anas);

    // State, not changes: the same cursor yields the same again.
    assert_eq!(ana.connect_as("phone", Some(cursor)).await.synced, synced);
    assert!(ana.connect_as("phone", Some(newer)).await.synced.is_empty());
}

#[tokio::test]
async fn a_cursor_is_good_after_a_restart() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    anas.say(ben.id, "before").await;
    let cursor = anas.ping().await.cursor;
    drop(anas);
    let server = server.restart().await;
    let (ana, ben) = (ana.at(server.addr()), ben.at(server.addr()));
    ben.connect().await.say(ana.id, "after").await;
    let anas = ana.connect_as("phone", Some(cursor)).await;
    assert_eq!(seqs(&anas.synced[0]), [2]);
    assert!(!anas.sync_done.unwrap().full);
}

#[tokio::test]
async fn a_cursor_of_another_member_or_made_up_gives_the_full_state() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let bens = ben.connect().await.ping().await.cursor;
    // The first byte after the header and the epoch: another position under the same code.
    let mut made_up = ana.connect().await.ping().await.cursor.to_string();
    made_up.replace_range(20..21, if made_up.as_bytes()[20] == b'B' { "C" } else { "B" });
    for cursor in [bens, made_up.parse::<Cursor>().unwrap()] {
        let anas = ana.connect_as("phone", Some(cursor)).await;
        let done = anas.sync_done.clone().unwrap();
        assert!(done.full && done.reset, "what the client has is of somebody else");
    }
    assert!(!ana.connect_as("new", None).await.sync_done.clone().unwrap().reset);
}

#[tokio::test]
async fn a_cursor_of_elsewhere_gives_the_full_state_instead_of_an_error() {
    let (server, other) = (Server::start().await, Server::start().await);
    let (ana, ben) = server.two_members().await;
    ben.connect().await.say(ana.id, "hi").await;
    let foreign = other.member("Zoe").await.connect().await.cursor();
    for cursor in [foreign, "nonsense".parse::<Cursor>().unwrap(), "?".parse().unwrap()] {
        let anas = ana.connect_as("phone", Some(cursor)).await;
        // Such as that of the same file under another secret, which may have gone back to a backup.
        let done = anas.sync_done.clone().unwrap();
        assert!(done.full && done.reset);
        assert_eq!(anas.synced.len(), 1);
    }
}

#[tokio::test]
async fn the_full_state_is_bounded_and_says_that_there_is_more() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut anas = ana.connect().await;
    for number in 0..limits::SYNC_FULL_CONVERSATIONS + 3 {
        let other = server.member(&format!("M{number}")).await;
        anas.say(other.id, "x").await;
    }
    let again = ana.connect_as("tablet", None).await;
    assert_eq!(again.synced.len(), limits::SYNC_FULL_CONVERSATIONS);
    assert!(again.sync_done.unwrap().more);
}

#[tokio::test]
async fn a_client_that_comes_and_goes_while_others_write_misses_nothing() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut bens = ben.connect().await;
    let to = ana.id;
    let writer = tokio::spawn(async move {
        for number in 1..=600_u64 {
            bens.post(message_to(to, &number.to_string())).await;
            if number % 20 == 0 {
                bens.ping().await;
            }
        }
    });
    let mut log = Log::default();
    let mut cursor = None;
    while log.last() < 600 {
        let mut client = ana.connect_as("phone", cursor.take()).await;
        log.learn_sync(&mut client).await;
        // The cursor of the sync is older than what is heard now, and yields it again.
        cursor = Some(client.cursor());
        while log.last() < 600 && log.last() % 7 != 0 {
            let message = client.hear().await;
            log.learn(&mut client, message.conversation, message.seq).await;
        }
        // Not a word: the connection is just gone.
        drop(client);
        let mut client = ana.connect_as("phone", cursor.take()).await;
        log.learn_sync(&mut client).await;
        // Everything up to the cursor of a pong was sent before it.
        let pong = client.ping().await;
        for envelope in client.drain() {
            if let ServerFrame::EntryPush(push) = envelope.frame {
                log.learn(&mut client, push.entry.conversation(), push.entry.seq()).await;
            }
        }
        cursor = Some(pong.cursor);
    }
    writer.await.unwrap();
    assert_eq!(log.0, (1..=600).collect::<Vec<_>>());
}

/// The state of conversations as a client keeps it: by id, with the entries by `seq`.
#[derive(Default, Debug, PartialEq)]
struct Book(BTreeMap<ConversationId, (u64, BTreeSet<u64>)>);

impl Book {
    fn merge(&mut self, conversations: Vec<Conversation>) {
        for conversation in conversations {
            let (last, entries) = self.0.entry(conversation.id).or_default();
            *last = conversation.last_seq;
            entries.extend(conversation.entries.iter().map(Entry::seq));
        }
    }

    /// All entries that there are, and none missing before the newest.
    fn is_whole(&self) -> bool {
        self.0.values().all(|(last, entries)| entries.iter().copied().eq(1..=*last))
    }
}

/// A client that says hello and takes so many frames of the sync; then it is gone. Returns the last cursor that it got.
async fn cut_after(server: &Server, ana: &Member, cursor: Option<Cursor>, frames: usize, book: &mut Book) -> Cursor {
    let mut client = Client::open(server.addr()).await;
    client.say_hello(&ana.auth.access_token, "phone", cursor).await;
    let mut last = None;
    while last.is_none() || book.0.len() < frames {
        if let ServerFrame::Sync(sync) = client.next().await.frame {
            last = Some(sync.cursor);
            book.merge(sync.conversations);
        }
    }
    last.unwrap()
}

#[tokio::test]
async fn a_client_that_is_cut_during_a_sync_goes_on_where_it_was() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut others = Vec::new();
    for number in 0..12 {
        let mut other = server.member(&format!("M{number}")).await.connect().await;
        for _ in 0..3 {
            // Each conversation fills a frame of its own.
            other.say(ana.id, &"x".repeat(3_000)).await;
        }
        others.push(other);
    }
    let mut book = Book::default();
    let half = cut_after(&server, &ana, None, 6, &mut book).await;
    assert_eq!(book.0.len(), 6);
    // One that she has and one that she has not got yet move on.
    others[11].say(ana.id, "new").await;
    others[0].say(ana.id, "new").await;
    let seen = book.0.keys().copied().collect::<BTreeSet<_>>();
    let mut before_last = Book::default();
    let later = cut_after(&server, &ana, Some(half), 3, &mut before_last).await;
    assert!(before_last.0.keys().all(|id| !seen.contains(id)), "what was sent is not sent again");
    book.merge(ana.connect_as("phone", Some(later.clone())).await.synced);
    for (id, state) in before_last.0 {
        book.0.entry(id).or_insert(state);
    }
    assert_eq!(book.0.len(), 12);
    assert!(book.is_whole(), "{book:?}");
    assert_eq!(book.0.values().filter(|(last, _)| *last == 4).count(), 2, "what was new meanwhile");

    let done = ana.connect_as("phone", Some(later)).await.sync_done.unwrap();
    assert!(done.full && !done.more);
    assert!(ana.connect_as("phone", Some(done.cursor)).await.synced.is_empty());
}

#[tokio::test]
async fn a_sync_of_changes_that_is_cut_goes_on_where_it_was() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let start = ana.connect().await.cursor();
    let mut others = Vec::new();
    for number in 0..8 {
        let mut other = server.member(&format!("M{number}")).await.connect().await;
        for _ in 0..3 {
            other.say(ana.id, &"x".repeat(3_000)).await;
        }
        others.push(other);
    }
    let mut book = Book::default();
    let half = cut_after(&server, &ana, Some(start), 4, &mut book).await;
    // One that was not sent yet moves to the front.
    others[0].say(ana.id, "new").await;
    let rest = ana.connect_as("phone", Some(half)).await;
    assert!(!rest.sync_done.clone().unwrap().full);
    assert_eq!(rest.synced.len(), 4);
    book.merge(rest.synced);
    assert_eq!(book.0.len(), 8);
    assert!(book.is_whole(), "{book:?}");
}

#[tokio::test]
async fn a_place_in_a_sync_of_elsewhere_gives_the_full_state() {
    let (server, other) = (Server::start().await, Server::start().await);
    let (ana, ben) = server.two_members().await;
    ben.connect().await.say(ana.id, "hi").await;
    let (zoe, max) = other.two_members().await;
    max.connect().await.say(zoe.id, "hi").await;
    let foreign = cut_after(&other, &zoe, None, 1, &mut Book::default()).await;
    let anas = ana.connect_as("phone", Some(foreign)).await;
    assert!(anas.sync_done.unwrap().full);
    assert_eq!(anas.synced.len(), 1);
}

#[tokio::test]
async fn no_frame_of_the_server_is_larger_than_it_may_be() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    // Six bytes for each character, once it is encoded.
    let content = "\u{1}".repeat(4_000);
    for number in 0..14 {
        let mut other = server.member(&format!("M{number}")).await.connect().await;
        for _ in 0..4 {
            other.say(ana.id, &content).await;
        }
    }
    let mut client = Client::open(server.addr()).await;
    client.say_hello(&ana.auth.access_token, "phone", None).await;
    let (mut synced, mut listed, mut pages, mut after) = (0, 0, 0, None);
    let conversation = loop {
        let frame = client.next().await.frame;
        assert!(frame.encode(None).len() <= limits::SERVER_FRAME_MAX_BYTES);
        match frame {
            ServerFrame::Sync(sync) => synced += sync.conversations.len(),
            ServerFrame::SyncDone(_) => break direct_conversation_of(&mut client).await,
            _ => {}
        }
    };
    assert_eq!(synced, 14);
    loop {
        let list = protocol::client::ConversationsList { limit: Some(100), after: after.take(), ..<_>::default() };
        let page: Conversations = client.ask(ClientFrame::ConversationsList(list)).await;
        (listed, pages) = (listed + page.conversations.len(), pages + 1);
        after = page.next.clone();
        assert!(ServerFrame::Conversations(page).encode(None).len() <= limits::SERVER_FRAME_MAX_BYTES);
        if after.is_none() {
            break;
        }
    }
    assert!(listed == 14 && pages > 1, "{listed} on {pages}");
    let get = HistoryGet { conversation, before: None, after: None, limit: Some(100) };
    let history: History = client.ask(ClientFrame::HistoryGet(get)).await;
    assert!(history.more && !history.entries.is_empty(), "a page of large messages is shorter");
    assert!(ServerFrame::History(history).encode(None).len() <= limits::SERVER_FRAME_MAX_BYTES);
}

async fn direct_conversation_of(client: &mut Client) -> ConversationId {
    let list = protocol::client::ConversationsList { limit: Some(1), ..<_>::default() };
    let page: Conversations = client.ask(ClientFrame::ConversationsList(list)).await;
    page.conversations[0].id
}

#[tokio::test]
async fn a_list_request_during_the_sync_is_answered_after_it() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    ben.connect().await.say(ana.id, "hi").await;
    let mut client = Client::open(server.addr()).await;
    let hello = format!(
        r#"{{"type":"hello","id":"h","token":"{}","device":{{"id":"d","platform":"web"}}}}"#,
        ana.auth.access_token
    );
    // Everything at once, without waiting for welcome.
    client.send_text(&hello).await;
    let list = client.post(ClientFrame::ConversationsList(protocol::client::ConversationsList::default())).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        let envelope = client.next().await;
        order.push(envelope.frame.frame_type());
        if envelope.id.as_ref() == Some(&list) {
            break;
        }
    }
    assert_eq!(order, ["welcome", "sync", "sync.done", "conversations"]);
}
