//! Messages that a node stored in MongoDB and did not live to tell of.

use std::{sync::Arc, time::Duration};

use mongodb::bson::{DateTime, Document, Uuid, doc, oid::ObjectId};
use protocol::{
    ClientMessageId, ConversationId,
    client::MessageSend,
    model::Message,
    server::{EntryPush, MessageAccepted},
};

use crate::harness::{
    Member, Server,
    client::{message_in, message_to},
    client_id,
    database::Database,
};

/// A server on MongoDB, with two members.
struct Club {
    server: Server,
    database: mongodb::Database,
    ana: Member,
    ben: Member,
    // The last one to go.
    _store: Arc<Database>,
}

impl Club {
    async fn open() -> Self {
        let store = Arc::new(Database::new().await);
        let server = Server::with(|settings| {
            settings.store.database_url = Some(store.uri.clone().into());
        })
        .await;
        let (ana, ben) = server.two_members().await;
        Self { server, database: store.open().await, ana, ben, _store: store }
    }

    /// As if another node had stored a message of Ana's and died.
    async fn leave(&self, after: &Message, client_id: ClientMessageId, content: &str) {
        let message = doc! {
            "_id": ObjectId::new(),
            "conversation_id": ObjectId::from_bytes(*after.conversation.as_bytes()),
            "seq": i64::try_from(after.seq + 1).unwrap(),
            "sender_id": ObjectId::from_bytes(*self.ana.id.as_bytes()),
            "receiver_id": ObjectId::from_bytes(*self.ben.id.as_bytes()),
            "client_id": Uuid::from_bytes(*client_id.as_bytes()),
            "content": content,
            "created_at": DateTime::now(),
            "status": "sent",
            "delivered_at": null,
            "read_at": null,
            "stamp": DateTime::now(),
        };
        self.database.collection::<Document>("messages").insert_one(message).await.unwrap();
    }
}

fn again(conversation: ConversationId, client_id: ClientMessageId, content: &str) -> protocol::ClientFrame {
    let (to, content) = (None, content.to_owned());
    protocol::ClientFrame::MessageSend(MessageSend {
        to,
        conversation: Some(conversation),
        client_id,
        content,
        reply_to: None,
    })
}

#[tokio::test]
async fn the_receiver_hears_of_it_before_of_what_comes_after_it() {
    let club = Club::open().await;
    let (mut anas, mut bens) = (club.ana.connect().await, club.ben.connect().await);
    let first = anas.say(club.ben.id, "one").await;
    assert_eq!(bens.hear().await, first);
    let lost = client_id();
    club.leave(&first, lost, "two").await;

    let third: MessageAccepted = bens.ask(message_in(first.conversation, "three")).await;
    assert_eq!(third.message.seq, 3);
    let second = bens.hear().await;
    assert_eq!((second.seq, second.content.as_str()), (2, "two"));
    assert_eq!((anas.hear().await.seq, anas.hear().await), (2, third.message));

    let retry: MessageAccepted = anas.ask(again(first.conversation, lost, "two")).await;
    assert!(retry.duplicate);
    assert_eq!(retry.message, second);
    bens.expect_no::<EntryPush>().await;
    anas.expect_no::<EntryPush>().await;
    let back = club.ben.connect().await;
    assert_eq!(back.synced[0].last_seq, 3);
    assert!(club.server.metric("messages_recovered_total").await > 0.0);
}

#[tokio::test]
async fn a_retry_tells_the_receiver_and_answers_the_sender() {
    let club = Club::open().await;
    let (mut anas, mut bens) = (club.ana.connect().await, club.ben.connect().await);
    let first = anas.say(club.ben.id, "one").await;
    bens.hear().await;
    let lost = client_id();
    club.leave(&first, lost, "two").await;
    let retry: MessageAccepted = anas.ask(again(first.conversation, lost, "two")).await;
    assert_eq!((retry.duplicate, retry.message.seq), (true, 2));
    assert_eq!(bens.hear().await, retry.message);
    anas.expect_no::<EntryPush>().await;
}

/// Nobody says anything more, and the node that has died is found.
#[tokio::test]
async fn a_node_that_is_gone_is_looked_after() {
    let club = Club::open().await;
    let (mut anas, mut bens) = (club.ana.connect().await, club.ben.connect().await);
    let first = anas.say(club.ben.id, "one").await;
    bens.hear().await;
    club.leave(&first, client_id(), "two").await;
    let long_ago = DateTime::from_millis(DateTime::now().timestamp_millis() - 61_000);
    let dead = doc! { "_id": ObjectId::new(), "at": long_ago };
    club.database.collection::<Document>("nodes").insert_one(dead).await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(30), bens.hear()).await.unwrap();
    assert_eq!((second.seq, second.content.as_str()), (2, "two"));
    assert_eq!(anas.hear().await, second);
    let reply: MessageAccepted = bens.ask(message_to(club.ana.id, "three")).await;
    assert_eq!(reply.message.seq, 3);
}

/// Whoever takes the place of a node that was killed looks after it at once, however young its last beat is.
#[tokio::test]
async fn a_server_that_starts_again_finishes_what_it_left() {
    let club = Club::open().await;
    let mut anas = club.ana.connect().await;
    let first = anas.say(club.ben.id, "one").await;
    club.leave(&first, client_id(), "two").await;
    let young = doc! { "_id": ObjectId::new(), "at": DateTime::now() };
    club.database.collection::<Document>("nodes").insert_one(young).await.unwrap();
    let Club { server, ana, ben, _store, .. } = club;
    let server = server.restart().await;
    let (ana, ben) = (ana.at(server.addr()), ben.at(server.addr()));
    let mut bens = ben.connect().await;
    if bens.synced[0].last_seq < 2 {
        assert_eq!(bens.hear().await.seq, 2, "who was faster is told");
    }
    assert_eq!(ana.connect().await.synced[0].last_seq, 2);
}
