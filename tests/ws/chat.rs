//! Sending, receiving, delivered, read, history.

use protocol::{
    ClientFrame, ConversationId, ErrorCode, MemberId,
    client::{ConversationsList, HistoryGet, MessageRead, MessageSend},
    limits,
    model::{ConversationKind, Entry},
    server::{Conversations, EntryPush, Error, History, MessageAccepted, Okay, Receipt},
};

use crate::harness::{
    Client, Server,
    client::{answer_to, message_in, message_to},
};

async fn refused(client: &mut Client, frame: ClientFrame) -> (ErrorCode, Option<String>) {
    let error: Error = client.ask(frame).await;
    (error.code, error.field)
}

#[tokio::test]
async fn a_message_arrives_once_and_everybody_agrees_on_it() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let sent = anas.say(ben.id, "  Dinner at eight?\n").await;
    let push: EntryPush = bens.expect().await;
    assert_eq!(push.entry.message(), Some(&sent));
    assert_eq!((sent.seq, sent.sender, sent.content.as_str()), (1, ana.id, "Dinner at eight?"));
    let info = push.conversation.expect("the first message says who is in the conversation");
    assert_eq!(info.kind, ConversationKind::Direct);
    assert!(info.members.len() == 2 && info.members.contains(&ana.id) && info.members.contains(&ben.id));
    let answer: MessageAccepted = bens.ask(message_in(sent.conversation, "With pleasure <3 & \"more\"")).await;
    let push: EntryPush = anas.expect().await;
    let message = push.entry.into_message().unwrap();
    assert_eq!((message.content.as_str(), message.seq), ("With pleasure <3 & \"more\"", 2));
    assert!(push.conversation.is_none());
    assert_eq!(anas.history(sent.conversation).await, [sent, answer.message]);
    bens.expect_no::<EntryPush>().await;
    anas.expect_no::<EntryPush>().await;
}

#[tokio::test]
async fn a_retry_returns_the_first_message_and_notifies_nobody_twice() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let frame = message_to(ben.id, "once");
    let first: MessageAccepted = anas.ask(frame.clone()).await;
    let again: MessageAccepted = anas.ask(frame).await;
    assert_eq!((first.duplicate, again.duplicate), (false, true));
    assert_eq!(first.message, again.message);
    bens.hear().await;
    bens.expect_no::<EntryPush>().await;
}

#[tokio::test]
async fn messages_of_one_sender_keep_their_order_however_fast_they_come() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(anas.post(message_to(ben.id, &number.to_string())).await);
    }
    for number in 0..300_u64 {
        let message = bens.hear().await;
        assert_eq!((message.seq, message.content), (number + 1, number.to_string()));
    }
    for (id, seq) in ids.iter().zip(1..) {
        let protocol::ServerFrame::MessageAccepted(accepted) = anas.reply(id).await else { panic!() };
        assert_eq!(accepted.message.seq, seq);
    }
}

#[tokio::test]
async fn two_senders_at_once_see_the_same_order() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    for _ in 0..100 {
        anas.post(message_to(ben.id, "from Ana")).await;
        bens.post(message_to(ana.id, "from Ben")).await;
    }
    // Each hears the other's messages, always with a larger seq than the one before.
    let mut last = (0, 0);
    for _ in 0..100 {
        let (to_ana, to_ben) = (anas.hear().await.seq, bens.hear().await.seq);
        assert!(to_ana > last.0 && to_ben > last.1);
        last = (to_ana, to_ben);
    }
}

#[tokio::test]
async fn delivered_and_read_reach_the_sender() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let conversation = anas.say(ben.id, "one").await.conversation;
    anas.say(ben.id, "two").await;
    anas.expect_no::<Receipt>().await;

    bens.delivered(conversation, 2).await;
    let receipt: Receipt = anas.expect().await;
    assert_eq!((receipt.member, receipt.delivered, receipt.read), (ben.id, 2, 0));
    assert_eq!(bens.read(conversation, 1).await, 1);
    let receipt: Receipt = anas.expect().await;
    assert_eq!((receipt.delivered, receipt.read), (2, 1));
    assert_eq!(bens.read(conversation, 999).await, 0, "too far is as far as it goes");
    assert_eq!(anas.expect::<Receipt>().await.read, 2);

    // What changes nothing is acknowledged and tells nobody.
    bens.delivered(conversation, 1).await;
    assert_eq!(bens.read(conversation, 1).await, 0);
    anas.expect_no::<Receipt>().await;
    bens.expect_no::<Receipt>().await;
}

#[tokio::test]
async fn a_request_without_an_id_is_done_and_not_answered() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    anas.tell(message_to(ben.id, "no answer please")).await;
    assert_eq!(bens.hear().await.content, "no answer please");
    anas.expect_no::<MessageAccepted>().await;
    anas.expect_no::<Okay>().await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_with_a_reason_and_changes_nothing() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    let nobody: MemberId = "0123456789abcdef01234567".parse().unwrap();
    let nowhere: ConversationId = "0123456789abcdef01234567".parse().unwrap();
    let to = |member, content: &str| message_to(member, content);
    let field = |name: &str| Some(name.to_owned());
    assert_eq!(refused(&mut anas, to(ana.id, "me")).await, (ErrorCode::MessageToSelf, field("to")));
    assert_eq!(refused(&mut anas, to(nobody, "hello?")).await, (ErrorCode::MemberNotFound, None));
    assert_eq!(refused(&mut anas, message_in(nowhere, "hello?")).await, (ErrorCode::ConversationNotFound, None));
    for empty in ["", " ", "\n\t\u{a0}\u{2003}"] {
        assert_eq!(refused(&mut anas, to(ben.id, empty)).await, (ErrorCode::ContentEmpty, field("content")));
    }
    let too_long = "é".repeat(4001);
    assert_eq!(refused(&mut anas, to(ben.id, &too_long)).await, (ErrorCode::ContentTooLong, field("content")));
    server.set_active(ben.id, false).await;
    assert_eq!(refused(&mut anas, to(ben.id, "hi")).await, (ErrorCode::RecipientDeactivated, None));
    let list: Conversations = anas.ask(ClientFrame::ConversationsList(ConversationsList::default())).await;
    assert!(list.conversations.is_empty());
}

#[tokio::test]
async fn the_longest_content_arrives_whole() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    // NUL, quotes, control characters, an astral character: kept byte for byte.
    let content: String = "a\u{0}\"\\\u{7}\u{1F600}é<".chars().cycle().take(4000).collect();
    anas.say(ben.id, &content).await;
    assert_eq!(bens.hear().await.content, content);
}

#[tokio::test]
async fn nobody_reads_or_writes_in_a_conversation_of_others() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let eva = server.member("Eva").await;
    let (mut anas, mut evas) = (ana.connect().await, eva.connect().await);
    let conversation = anas.say(ben.id, "secret").await.conversation;
    let get = HistoryGet { conversation, before: None, after: None, limit: None };
    let not_found = (ErrorCode::ConversationNotFound, None);
    assert_eq!(refused(&mut evas, ClientFrame::HistoryGet(get)).await, not_found);
    assert_eq!(refused(&mut evas, message_in(conversation, "let me in")).await, not_found);
    let read = MessageRead { conversation, seq: 1 };
    assert_eq!(refused(&mut evas, ClientFrame::MessageRead(read)).await, not_found);
    evas.expect_no::<EntryPush>().await;
    assert_eq!(anas.history(conversation).await.len(), 1);
}

#[tokio::test]
async fn history_and_lists_are_paged() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut anas = ana.connect().await;
    let mut conversation = None;
    for name in ["B", "C", "D"] {
        let other = server.member(name).await;
        for _ in 0..5 {
            conversation = Some(anas.say(other.id, name).await.conversation);
        }
    }
    let conversation = conversation.unwrap();
    let page = async |client: &mut Client, before, after| {
        let get = HistoryGet { conversation, before, after, limit: Some(2) };
        let history: History = client.ask(ClientFrame::HistoryGet(get)).await;
        (history.entries.iter().map(Entry::seq).collect::<Vec<_>>(), history.more)
    };
    assert_eq!(page(&mut anas, None, None).await, (vec![4, 5], true));
    assert_eq!(page(&mut anas, Some(4), None).await, (vec![2, 3], true));
    assert_eq!(page(&mut anas, Some(2), None).await, (vec![1], false));
    assert_eq!(page(&mut anas, None, Some(3)).await, (vec![4, 5], false));

    let list = async |client: &mut Client, after| {
        let list = ClientFrame::ConversationsList(ConversationsList { limit: Some(2), after, ..<_>::default() });
        client.ask::<Conversations>(list).await
    };
    let first = list(&mut anas, None).await;
    assert_eq!(first.conversations.len(), 2);
    assert_eq!(first.conversations[0].id, conversation, "the newest first");
    assert_eq!(first.conversations[0].entries[0].seq(), 5);
    let second = list(&mut anas, first.next).await;
    assert_eq!((second.conversations.len(), second.next), (1, None));
    let foreign =
        ClientFrame::ConversationsList(ConversationsList { after: Some("elsewhere".into()), ..<_>::default() });
    assert_eq!(refused(&mut anas, foreign).await, (ErrorCode::ValidationFailed, Some("after".into())));
}

#[tokio::test]
async fn what_a_message_answers_comes_with_it_to_everybody() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    let question = anas.say(ben.id, "Dinner at eight?").await;
    let (mut bens, mut tablet) = (ben.connect().await, ben.connect_as("tablet", None).await);
    let answer: MessageAccepted = bens.ask(answer_to(ana.id, "With pleasure", question.seq)).await;
    assert_eq!((answer.message.seq, answer.message.reply_to, question.reply_to), (2, Some(1), None));
    assert_eq!(anas.hear().await, answer.message);
    assert_eq!(tablet.hear().await, answer.message);
    assert_eq!(anas.history(question.conversation).await, [question, answer.message.clone()]);
    let late = ana.connect_as("late", None).await;
    assert_eq!(late.synced[0].entries.last().and_then(Entry::message), Some(&answer.message));
    let list = ClientFrame::ConversationsList(ConversationsList::default());
    let listed: Conversations = anas.ask(list).await;
    assert_eq!(listed.conversations[0].entries[0].message(), Some(&answer.message));
}

#[tokio::test]
async fn what_is_not_there_is_not_answered() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let not_found = || (ErrorCode::MessageNotFound, Some("reply_to".to_owned()));
    assert_eq!(refused(&mut anas, answer_to(ben.id, "first", 1)).await, not_found());
    let first = anas.say(ben.id, "1").await;
    assert_eq!(first.seq, 1);
    bens.hear().await;
    for bad in [0, 2, limits::INTEGER_MAX] {
        assert_eq!(refused(&mut anas, answer_to(ben.id, "?", bad)).await, not_found(), "{bad}");
    }
    let out_of_bounds = answer_to(ben.id, "?", limits::INTEGER_MAX + 1);
    assert_eq!(refused(&mut anas, out_of_bounds).await, (ErrorCode::ValidationFailed, Some("reply_to".to_owned())));
    bens.expect_no::<EntryPush>().await;
    // A retry is what was stored first, whatever it answers.
    let frame = answer_to(ben.id, "2", 1);
    let ClientFrame::MessageSend(send) = frame.clone() else { unreachable!() };
    let stored: MessageAccepted = anas.ask(frame).await;
    for again in [None, Some(9)] {
        let again: MessageAccepted =
            anas.ask(ClientFrame::MessageSend(MessageSend { reply_to: again, ..send.clone() })).await;
        assert_eq!((again.message, again.duplicate), (stored.message.clone(), true));
    }
}

#[tokio::test]
async fn a_message_is_stored_even_if_its_sender_is_gone_before_the_answer() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut bens = ben.connect().await;
    let mut anas = ana.connect().await;
    let frame = message_to(ben.id, "bye");
    anas.tell(frame.clone()).await;
    drop(anas);
    assert_eq!(bens.hear().await.content, "bye");
    let again: MessageAccepted = ana.connect().await.ask(frame).await;
    assert!(again.duplicate);
}
