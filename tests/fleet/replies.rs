//! Messages that answer what another node has stored.

use protocol::{
    ErrorCode,
    server::{Error, MessageAccepted},
};

use crate::harness::{client::answer_to, fleet::Fleet};

/// Whoever was shown a message may answer it at once, at any node, whatever that one knows of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_has_just_stored_is_answered_at_another() {
    let fleets = [Fleet::on_a_bus(2, |_| ()).await, Fleet::without_bus(2).await];
    for fleet in fleets {
        let (ana, ben) = fleet.nodes[0].two_members().await;
        let (mut anas, mut bens) = (ana.connect().await, fleet.at(&ben, 1).connect().await);
        let mut conversation = None;
        for round in 0..10 {
            let (asked, answered) = (2 * round + 1, 2 * round + 2);
            let question = anas.say(ben.id, "?").await;
            assert_eq!(question.seq, asked);
            conversation = Some(question.conversation);
            // Without waiting for it to be told at the other node.
            let answer: MessageAccepted = bens.ask(answer_to(ana.id, "!", asked)).await;
            assert_eq!((answer.message.seq, answer.message.reply_to), (answered, Some(asked)));
            let refused: Error = bens.ask(answer_to(ana.id, "!", answered + 1)).await;
            assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::MessageNotFound, Some("reply_to")));
        }
        let log = anas.history(conversation.unwrap()).await;
        let answered: Vec<_> = log.iter().map(|message| message.reply_to).collect();
        let expected = (0..10).flat_map(|round| [None, Some(2 * round + 1)]).collect::<Vec<_>>();
        assert_eq!(answered, expected);
    }
}
