//! What is published on the bus that is not true, or not of this club.

use bytes::Bytes;
use members_book::{
    cluster::{
        Beat, Channel, Event, NodeId,
        event::{Answer, EntryPlace, Note, Question, Relayed},
    },
    position::{Epoch, Position, StreamPosition},
    service::messaging::direct_conversation,
};
use protocol::{
    CloseCode, ConversationId, MemberId, ServerFrame, Timestamp,
    server::{EntryPush, TypingPush},
};

use super::missed::next_seq;
use crate::harness::{Member, eventually, fleet::Fleet};

/// Somebody types, as another node says it; with the place of an entry, if it is to be taken for one.
fn typing(member: &Member, conversation: ConversationId, entry: Option<EntryPlace>) -> Event {
    let push = TypingPush { conversation, member: member.id, active: true };
    let frame = ServerFrame::TypingPush(push);
    let index = u8::try_from(frame.index()).unwrap();
    Event::Frame(Relayed { index, entry, text: Bytes::from(frame.encode(None)) })
}

/// Found from outside: the next message after it had a hole before it, and a time that could not be written, which ended the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_says_of_a_log_does_not_get_into_it() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut here, mut there) = (ana.connect().await, fleet.at(&ben, 1).connect().await);
    let first = here.say(ben.id, "first").await;
    there.hear().await;
    let bus = fleet.bus.as_ref().unwrap();
    let said = |seq, millis| {
        let at = Timestamp::from_millis(millis);
        let entry = EntryPlace { conversation: first.conversation, seq, at, sender: Some(ben.id) };
        typing(&ben, first.conversation, Some(entry))
    };
    for (seq, millis) in [(2, i64::MAX), (3, 4_102_444_800_000), (u64::MAX, i64::MIN)] {
        bus.forge(0, bus.id_of(1), Channel::Member(ana.id), said(seq, millis));
    }
    // It was taken in.
    here.expect::<TypingPush>().await;
    let second = here.say(ben.id, "second").await;
    assert_eq!(second.seq, 2);
    assert!(second.at.since(first.at).as_secs() < 60, "{:?}", second.at);
    let pushed: EntryPush = there.expect().await;
    let pushed = pushed.entry.into_message().unwrap();
    assert_eq!((pushed.seq, pushed.at), (2, second.at));
}

/// Found from outside: a copy of a database on the same Redis has the same channels, and what its nodes said was believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_a_copy_of_the_database_are_not_heard() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut here, mut there) = (ana.connect().await, fleet.at(&ben, 1).connect().await);
    let bus = fleet.bus.as_ref().unwrap();
    let doubts = async || {
        let metrics = fleet.nodes[0].metrics().await;
        metrics
            .lines()
            .filter(|line| line.starts_with("membersbook_fleet_doubts_total"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (stranger, before) = (NodeId([77; 12]), doubts().await);
    let place = StreamPosition { epoch: Epoch([1; 8]), position: Position(1) };
    for number in 0..20 {
        bus.forge_beat(0, stranger, Beat { losses: number, ..Beat::at(1, place) });
        let close = Note::Close { session: None, code: CloseCode::Unauthorized.number() };
        bus.forge(0, stranger, Channel::Member(ana.id), close);
        bus.forge(0, stranger, Channel::Member(ana.id), typing(&ben, direct_conversation(ana.id, ben.id), None));
    }
    eventually("all of it to be passed over", async || {
        (fleet.nodes[0].metric("bus_strangers_total").await >= 60.0).then_some(())
    })
    .await;
    // The connection lives, and hears what is said next; cursors go on.
    there.say(ana.id, "real").await;
    let ServerFrame::EntryPush(pushed) = here.next_frame().await else { panic!("nothing before it") };
    assert_eq!(pushed.entry.into_message().unwrap().content, "real");
    let cursor = here.ping().await;
    while here.ping().await == cursor {
        tokio::task::yield_now().await;
    }
    assert_eq!(doubts().await, before, "nothing is in doubt for that");
    // Whoever is of this club is heard, from the first event on.
    let mut fleet = fleet;
    fleet.join(|_| ()).await;
    let (mut tablet, mut seqs) = (fleet.at(&ben, 2).connect_as("tablet", None).await, Vec::new());
    let said = tablet.say(ana.id, "from a new one").await;
    while !seqs.contains(&said.seq) {
        seqs.extend(next_seq(&mut here).await);
    }
}

/// Found from outside: one question about very many members had as many answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_for_as_many_members_as_nodes_ask_about() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let bus = fleet.bus.as_ref().unwrap();
    let members: Vec<MemberId> = (0..2_000_u16)
        .map(|number| {
            let mut id = [1; 12];
            id[..2].copy_from_slice(&number.to_be_bytes());
            MemberId::from_bytes(id)
        })
        .collect();
    bus.hold(1);
    members.iter().for_each(|member| bus.hear(1, Channel::Watchers(*member)));
    let (asked, asks) = (Channel::Node(bus.id_of(0)), bus.id_of(1));
    bus.forge(0, asks, asked, Note::PresenceDoubted { members: members.clone() });
    bus.forge(0, asks, asked, Note::Ask { number: 7, question: Question::Connections { members } });
    let counts = eventually("the answer", async || {
        bus.waiting(1).into_iter().find_map(|event| match event {
            Event::Note(note) => match *note {
                Note::Answer { number: 7, answer: Answer::Connections { counts } } => Some(counts),
                _ => None,
            },
            Event::Frame(_) => None,
        })
    })
    .await;
    let is_presence = |event: &&Event| matches!(event, Event::Note(note) if matches!(**note, Note::Presence { .. }));
    // What was asked first is answered by then.
    assert_eq!((counts.len(), bus.waiting(1).iter().filter(is_presence).count()), (100, 256));
}
