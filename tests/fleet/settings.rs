//! A member's own settings of a conversation, with their devices at different nodes.

use protocol::{
    ClientFrame, ConversationId, ServerFrame,
    client::ConversationConfigure,
    model::{ConversationSettings, Notify},
    server::ConversationSettingsPush,
};

use crate::harness::{Client, fleet::Fleet};

fn settings(notify: Notify) -> ConversationSettings {
    let (archived, pinned) = (notify == Notify::Nothing, notify == Notify::Mentions);
    ConversationSettings { notify, muted_until: None, archived, pinned }
}

fn configure(conversation: ConversationId, notify: Notify) -> ClientFrame {
    ClientFrame::ConversationConfigure(ConversationConfigure { conversation, settings: settings(notify) })
}

/// The settings that a device has, as it is told to keep them: of two, those with the larger revision.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Kept {
    settings: ConversationSettings,
    revision: u64,
}

impl Kept {
    fn take(&mut self, frame: &ServerFrame) {
        let (settings, revision) = match frame {
            ServerFrame::ConversationSettingsPush(push) => (push.settings, push.revision),
            ServerFrame::Sync(sync) => match &sync.conversations[..] {
                [conversation] => (conversation.settings, conversation.settings_revision),
                other => panic!("{other:?}"),
            },
            _ => return,
        };
        if revision > self.revision {
            *self = Self { settings, revision };
        }
    }

    /// Takes what comes until a revision is there.
    async fn reach(&mut self, client: &mut Client, revision: u64) {
        while self.revision < revision {
            self.take(&client.next_frame().await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_at_two_nodes_end_with_the_same_settings_whoever_was_first() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut phone, mut tablet) = (ana.connect().await, fleet.at(&ana, 1).connect_as("tablet", None).await);
    let conversation = phone.say(ben.id, "hi").await.conversation;
    tablet.hear().await;
    let (mut on_phone, mut on_tablet) = (Kept::default(), Kept::default());
    for round in 0..20 {
        let notify = [Notify::Nothing, Notify::All][round % 2];
        // Both at once, each at its own node.
        let (one, other) = tokio::join!(
            phone.ask::<ConversationSettingsPush>(configure(conversation, notify)),
            tablet.ask::<ConversationSettingsPush>(configure(conversation, Notify::Mentions)),
        );
        on_phone.take(&ServerFrame::ConversationSettingsPush(one));
        on_tablet.take(&ServerFrame::ConversationSettingsPush(other));
        let newest = one.revision.max(other.revision);
        on_phone.reach(&mut phone, newest).await;
        on_tablet.reach(&mut tablet, newest).await;
        assert_eq!(on_phone, on_tablet);
    }
    let new = fleet.at(&ana, 1).connect_as("new", None).await;
    let state = &new.synced[0];
    assert_eq!(Kept { settings: state.settings, revision: state.settings_revision }, on_phone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bus_they_come_with_a_sweep() {
    let fleet = Fleet::without_bus(2).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut phone, mut tablet) = (ana.connect().await, fleet.at(&ana, 1).connect_as("tablet", None).await);
    let conversation = phone.say(ben.id, "hi").await.conversation;
    let mut kept = Kept::default();
    for notify in [Notify::Nothing, Notify::Mentions, Notify::All] {
        let set: ConversationSettingsPush = phone.ask(configure(conversation, notify)).await;
        kept.reach(&mut tablet, set.revision).await;
        assert_eq!(kept, Kept { settings: settings(notify), revision: set.revision });
    }
}
