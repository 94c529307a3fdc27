//! Several nodes without a bus: what others store is found in the store.

use protocol::{
    ClientFrame, ConversationId, ServerFrame,
    client::{MessageRead, Ping},
    model::{Conversation, Entry},
    server::Okay,
};

use crate::harness::{Client, eventually, fleet::Fleet};

/// The seqs of the entries that a client has heard of one conversation, from pushes and from syncs, and its last watermark of
/// somebody.
fn entries(conversations: &[Conversation]) -> Vec<u64> {
    conversations.iter().flat_map(|conversation| conversation.entries.iter().map(Entry::seq)).collect()
}

/// Waits for a sync that nobody asked for and that has an entry.
async fn swept(client: &mut Client, seq: u64) -> Conversation {
    loop {
        let ServerFrame::Sync(sync) = client.next_frame().await else { continue };
        let found = sync.conversations.into_iter().find(|conversation| conversation.last_seq >= seq);
        if let Some(found) = found {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_stores_comes_with_a_sync_that_nobody_asked_for() {
    let fleet = Fleet::without_bus(2).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, fleet.at(&ben, 1).connect().await);
    let sent = anas.say(ben.id, "from the other node").await;
    let conversation = swept(&mut bens, 1).await;
    assert_eq!((conversation.id, conversation.last_seq, conversation.unread), (sent.conversation, 1, 1));
    let [Entry::Message(message)] = &conversation.entries[..] else { panic!("{conversation:?}") };
    assert_eq!(*message, sent);
    // And receipts on their way back.
    assert_eq!(bens.read(sent.conversation, 1).await, 0);
    let read = async |client: &mut Client, conversation: ConversationId| loop {
        let ServerFrame::Sync(sync) = client.next_frame().await else { continue };
        let of_ben =
            sync.conversations.iter().filter(|known| known.id == conversation).flat_map(|known| &known.members);
        if of_ben.clone().any(|marks| marks.member == ben.id && marks.read == 1) {
            return;
        }
    };
    read(&mut anas, sent.conversation).await;
    // What this node has stored itself was pushed, and is not swept.
    let own = bens.say(ana.id, "own").await;
    let found = swept(&mut anas, own.seq).await;
    assert_eq!(entries(&[found]), [2], "what was delivered before is not delivered again");
}

/// A cursor of one node must not pass what another one has stored and this one has not delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_never_passes_what_the_client_has_not_seen() {
    let fleet = Fleet::without_bus(2).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let bens = fleet.at(&ben, 1);
    let mut anas = ana.connect().await;
    let mut seen: Vec<u64> = Vec::new();
    let mut cursor = None;
    for round in 1..=12_u64 {
        let mut client = bens.connect_as("phone", cursor.take()).await;
        seen.extend(entries(&client.synced));
        let sent = anas.say(ben.id, "again").await;
        assert_eq!(sent.seq, round);
        // Whatever has come before the pong, the cursor stands for it.
        let pong = client.ping().await;
        for envelope in client.drain() {
            match envelope.frame {
                ServerFrame::Sync(sync) => seen.extend(entries(&sync.conversations)),
                ServerFrame::EntryPush(push) => seen.push(push.entry.seq()),
                _ => {}
            }
        }
        cursor = Some(pong.cursor);
    }
    let last = bens.connect_as("phone", cursor).await;
    seen.extend(entries(&last.synced));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (1..=12).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_that_it_sweeps_and_stops_when_it_is_alone() {
    let mut fleet = Fleet::without_bus(2).await;
    let degraded = serde_json::json!({ "status": "degraded", "reasons": ["no_bus"] });
    eventually("both to see each other", async || {
        (fleet.readiness(0).await == degraded && fleet.readiness(1).await == degraded).then_some(())
    })
    .await;
    assert_eq!(fleet.nodes[0].metric("fleet_nodes").await, 2.0);
    fleet.nodes.pop().unwrap().stop().await;
    let ready = async || (fleet.readiness(0).await == serde_json::json!({ "status": "ok" })).then_some(());
    eventually("it to be alone", ready).await;
    // Its cursors follow the store again.
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let sent = anas.say(ben.id, "alone").await;
    assert_eq!(bens.hear().await, sent);
    let _: Okay = bens.ask(ClientFrame::MessageRead(MessageRead { conversation: sent.conversation, seq: 1 })).await;
    let _: protocol::server::Pong = anas.ask(ClientFrame::Ping(Ping {})).await;
}

/// Found from outside: what another device of the same member had read at another node was lost to the one that said delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_hears_what_another_one_has_read_at_another_node_whatever_it_says_itself() {
    let fleet = Fleet::without_bus(2).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let mut anas = ana.connect().await;
    let (mut phone, mut tablet) = (ben.connect().await, fleet.at(&ben, 1).connect_as("tablet", None).await);
    for round in 1..=4 {
        let (first, last) = (anas.say(ben.id, "one").await, anas.say(ben.id, "two").await);
        assert_eq!(last.seq, round * 2);
        tablet.read(first.conversation, first.seq).await;
        phone.delivered(last.conversation, last.seq).await;
        loop {
            let ServerFrame::Sync(sync) = phone.next_frame().await else { continue };
            let marks = sync.conversations.iter().flat_map(|conversation| &conversation.members);
            if marks.clone().any(|marks| marks.member == ben.id && marks.read >= first.seq) {
                break;
            }
        }
    }
}
