//! A member's own settings of a conversation, on all their devices.

use protocol::{
    ClientFrame, ConversationId, ErrorCode, ServerFrame, Timestamp,
    client::ConversationConfigure,
    model::{Conversation, ConversationSettings, Notify},
    server::{ConversationSettingsPush, Error},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Server};

/// Muted "until I say so".
fn muted() -> ConversationSettings {
    ConversationSettings { muted_until: Some(Timestamp::from_millis(253_370_764_800_000)), ..<_>::default() }
}

/// Muted, archived and at the top of the list: nothing as it is by default.
const NOTHING: ConversationSettings =
    ConversationSettings { notify: Notify::Nothing, muted_until: None, archived: true, pinned: true };

async fn configure(
    client: &mut Client,
    conversation: ConversationId,
    settings: ConversationSettings,
) -> ConversationSettingsPush {
    client.ask(ClientFrame::ConversationConfigure(ConversationConfigure { conversation, settings })).await
}

fn settings_of(synced: &[Conversation]) -> Vec<(ConversationSettings, u64)> {
    synced.iter().map(|conversation| (conversation.settings, conversation.settings_revision)).collect()
}

#[tokio::test]
async fn what_is_set_on_one_device_shows_on_the_others_and_to_nobody_else() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut phone, mut tablet) = (ana.connect_as("phone", None).await, ana.connect_as("tablet", None).await);
    let mut bens = ben.connect().await;
    let conversation = phone.say(ben.id, "hi").await.conversation;
    let set = configure(&mut phone, conversation, muted()).await;
    assert_eq!((set.conversation, set.settings), (conversation, muted()));
    assert_eq!(tablet.expect::<ConversationSettingsPush>().await, set);
    phone.expect_no::<ConversationSettingsPush>().await;
    bens.expect_no::<ConversationSettingsPush>().await;
    // The same again is no news.
    assert_eq!(configure(&mut phone, conversation, muted()).await, set);
    tablet.expect_no::<ConversationSettingsPush>().await;
    // Of another device later: newer.
    let unset = configure(&mut tablet, conversation, ConversationSettings::default()).await;
    assert!(unset.revision > set.revision);
    assert_eq!(phone.expect::<ConversationSettingsPush>().await, unset);
    // A message comes all the same: settings are about pushes.
    configure(&mut phone, conversation, NOTHING).await;
    bens.say(ana.id, "still there?").await;
    assert_eq!(phone.hear().await.content, "still there?");
}

#[tokio::test]
async fn a_device_that_was_away_gets_them_by_its_cursor_and_a_new_one_with_everything() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let eva = server.member("Eva").await;
    let (mut phone, mut tablet) = (ana.connect_as("phone", None).await, ana.connect_as("tablet", None).await);
    let conversation = phone.say(ben.id, "hi").await.conversation;
    phone.say(eva.id, "hi").await;
    let bens = ben.connect().await.ping().await.cursor;
    let cursor = tablet.ping().await.cursor;
    drop(tablet);
    let set = configure(&mut phone, conversation, NOTHING).await;

    let tablet = ana.connect_as("tablet", Some(cursor.clone())).await;
    assert!(!tablet.sync_done.unwrap().full);
    assert_eq!(settings_of(&tablet.synced), [(NOTHING, set.revision)], "that conversation, and nothing else");
    assert!(tablet.synced[0].entries.is_empty());
    let new = ana.connect_as("new", None).await;
    assert_eq!(settings_of(&new.synced).into_iter().filter(|(settings, _)| *settings == NOTHING).count(), 1);
    // Ben sees nothing of it.
    for cursor in [Some(bens), None] {
        let synced = ben.connect_as("phone", cursor).await.synced;
        assert!(settings_of(&synced).iter().all(|(settings, revision)| settings.is_default() && *revision == 0));
    }
    // Nor does anything get lost with the server.
    let server = server.restart().await;
    let tablet = ana.clone().at(server.addr()).connect_as("tablet", Some(cursor)).await;
    assert_eq!(settings_of(&tablet.synced), [(NOTHING, set.revision)]);
}

#[tokio::test]
async fn settings_of_a_conversation_of_others_are_refused_by_name() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let conversation = ana.connect().await.say(ben.id, "hi").await.conversation;
    let mut evas = server.member("Eva").await.connect().await;
    for conversation in [conversation, ConversationId::from_bytes([9; 12])] {
        let frame = ClientFrame::ConversationConfigure(ConversationConfigure { conversation, settings: NOTHING });
        let error: Error = evas.ask(frame).await;
        assert_eq!(error.code, ErrorCode::ConversationNotFound);
    }
    for (field, settings) in [
        ("settings.notify", r#""notify":"loud""#),
        ("settings.archived", r#""notify":"all","archived":"yes""#),
        ("settings.pinned", r#""notify":"all","pinned":1"#),
    ] {
        let bad = format!(
            r#"{{"type":"conversation.configure","id":"x","conversation":"{conversation}","settings":{{{settings}}}}}"#
        );
        evas.send_text(&bad).await;
        let ServerFrame::Error(error) = evas.reply(&"x".parse().unwrap()).await else { panic!() };
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::ValidationFailed, Some(field)));
    }
}

#[tokio::test]
async fn what_is_set_over_rest_shows_on_sockets_in_the_list_and_in_the_export() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut phone, mut bens) = (ana.connect().await, ben.connect().await);
    let conversation = phone.say(ben.id, "hi").await.conversation;
    let path = format!("/api/conversations/{conversation}/settings");
    let body =
        json!({ "notify": "mentions", "muted_until": "2099-01-01T00:00:00.000Z", "archived": true, "pinned": true });
    let answer = ana.request(Method::PUT, &path, body.clone()).await;
    assert_eq!(answer.status(), 200);
    let push: ConversationSettingsPush = phone.expect().await;
    let mut with_revision = body.clone();
    with_revision["revision"] = json!(push.revision);
    assert_eq!(answer.json::<Value>().await.unwrap(), with_revision);
    assert_eq!(json!(push.settings), body);
    bens.expect_no::<ConversationSettingsPush>().await;
    let list = async |member: &crate::harness::Member| {
        let list = member.request(Method::GET, "/api/messages/conversations", Value::Null).await;
        list.json::<Value>().await.unwrap()["conversations"][0]["settings"].clone()
    };
    assert_eq!((list(&ana).await, list(&ben).await), (body.clone(), json!({ "notify": "all" })));
    let export = ana.request(Method::GET, "/api/members/me/export", Value::Null).await.json::<Value>().await.unwrap();
    assert_eq!(export["conversations"][0]["settings"], body);
    // What is left out is the default: the settings are set whole.
    let answer = ana.request(Method::PUT, &path, json!({ "notify": "all", "muted_until": null, "pinned": null })).await;
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "notify": "all", "revision": push.revision + 1 }));
    for (body, field) in [
        (json!({}), "notify"),
        (json!({ "notify": "all", "muted_until": "soon" }), "muted_until"),
        (json!({ "notify": "all", "archived": "yes" }), "archived"),
        (json!({ "notify": "all", "pinned": 1 }), "pinned"),
    ] {
        let answer = ana.request(Method::PUT, &path, body).await;
        assert_eq!(answer.status(), 422);
        assert_eq!(answer.json::<Value>().await.unwrap()["errors"][0]["field"], field);
    }
    let other =
        ana.request(Method::PUT, "/api/conversations/0123456789abcdef01234567/settings", json!({ "notify": "all" }));
    assert_eq!(other.await.status(), 404);
}
