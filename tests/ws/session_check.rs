//! Sessions that end on another node, of which this one is told nothing.
//!
//! Two servers on one database, and no bus between them: whatever closes a connection here was read from the store.

use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};
use protocol::CloseCode;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::harness::{
    Member, Server,
    database::{self, Database},
    eventually,
};

/// A server on a database that others use, too.
async fn node(database: &Database) -> Server {
    let uri = database.uri.clone();
    Server::with(|settings| {
        settings.store.database_url = Some(uri.into());
        settings.auth.jwt_secret = Some("the same secret on every node of the fleet".to_owned().into());
    })
    .await
}

/// One server to be changed by, and one whose connections are checked.
async fn two_nodes() -> (Database, Server, Server) {
    let database = Database::new().await;
    let (one, other) = (node(&database).await, node(&database).await);
    (database, one, other)
}

async fn disconnect(admin: &Member, member: &Member) {
    let path = format!("/api/admin/members/{}/disconnect", member.id);
    assert_eq!(admin.request(Method::POST, &path, Value::Null).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_was_ended_on_another_node_ends_here_and_nothing_else() {
    let (_database, one, other) = two_nodes().await;
    let [ana, ben, eva, leo] = [one.member("Ana"), one.member("Ben"), one.member("Eva"), one.member("Leo")];
    let (ana, ben, eva, leo) = tokio::join!(ana, ben, eva, leo);
    let anas_tablet = ana.log_in().await;
    let here = other.addr();
    let mut anas = ana.clone().at(here).connect().await;
    let mut tablet = anas_tablet.at(here).connect_as("tablet", None).await;
    let mut bens = ben.clone().at(here).connect().await;
    let mut evas = eva.clone().at(here).connect().await;
    let mut leos = leo.clone().at(here).connect().await;

    assert!(ana.request(Method::POST, "/api/auth/logout", Value::Null).await.status().is_success());
    one.set_active(ben.id, false).await;
    assert!(eva.request(Method::DELETE, "/api/members/me", Value::Null).await.status().is_success());
    other.check_sessions();

    assert_eq!(anas.expect_close().await.code, CloseCode::Unauthorized);
    assert_eq!(bens.expect_close().await.code, CloseCode::Deactivated);
    assert_eq!(evas.expect_close().await.code, CloseCode::Deactivated);
    // The other session of the same member, and somebody of whom nothing was changed.
    tablet.ping().await;
    leos.ping().await;
    assert_eq!(other.metric("session_check_closed_total{reason=\"revoked\"}").await, 1.0);
    assert_eq!(other.metric("session_check_closed_total{reason=\"deactivated\"}").await, 2.0);
    eventually("the end of the check", async || {
        (other.metric("session_check_seconds_count").await >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_that_is_gone_closes_its_connections() {
    let (database, one, other) = two_nodes().await;
    let ana = one.member("Ana").await;
    let mut anas = ana.clone().at(other.addr()).connect().await;
    let sessions = database.open().await.collection::<Document>("sessions");
    sessions.delete_many(doc! { "member_id": ObjectId::from_bytes(*ana.id.as_bytes()) }).await.unwrap();
    other.check_sessions();
    assert_eq!(anas.expect_close().await.code, CloseCode::Unauthorized);
}

#[tokio::test]
async fn whom_an_administrator_disconnects_on_another_node_is_closed_here_once() {
    let (_database, one, other) = two_nodes().await;
    let (admin, ana, ben) = (one.admin().await, one.member("Ana").await, one.member("Ben").await);
    let ana = ana.at(other.addr());
    let (mut anas, mut bens) = (ana.connect().await, ben.at(other.addr()).connect().await);
    // The first check begins with what the log has by then.
    other.check_sessions();
    eventually("the first check", async || (other.metric("session_check_seconds_count").await >= 1.0).then_some(()))
        .await;
    disconnect(&admin, &ana).await;
    other.check_sessions();
    assert_eq!(anas.expect_close().await.code, CloseCode::Disconnected);
    // They may come back, and the same entry does not close them again.
    let mut again = ana.connect().await;
    other.check_sessions();
    eventually("a further check", async || (other.metric("session_check_seconds_count").await >= 3.0).then_some(()))
        .await;
    again.ping().await;
    bens.ping().await;
    assert_eq!(other.metric("session_check_closed_total{reason=\"disconnected\"}").await, 1.0);
}

#[tokio::test]
async fn a_node_that_has_disconnected_a_member_itself_does_not_close_who_came_back() {
    let (_database, one, _other) = two_nodes().await;
    let (admin, ana) = (one.admin().await, one.member("Ana").await);
    let mut anas = ana.connect().await;
    disconnect(&admin, &ana).await;
    assert_eq!(anas.expect_close().await.code, CloseCode::Disconnected);
    // Within the second of the entry.
    let mut again = ana.connect().await;
    one.check_sessions();
    eventually("the check", async || (one.metric("session_check_seconds_count").await >= 1.0).then_some(())).await;
    again.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_while_the_database_did_not_answer_ends_when_it_does() {
    let server = database::Server::with_fail_points().await;
    let database = server.database();
    let node = node(&database).await;
    let ana = node.member("Ana").await;
    let mut anas = ana.connect().await;
    let away = doc! { "failCommands": ["find"], "errorCode": 91 };
    server.fail("alwaysOn", away).await;
    node.check_sessions();
    eventually("a check that fails", async || (node.metric("session_check_failures_total").await >= 1.0).then_some(()))
        .await;
    // By somebody else: the driver of this test.
    let sessions = database.open().await.collection::<Document>("sessions");
    let now = doc! { "$set": { "revoked_at": DateTime::now() } };
    sessions.update_many(doc! { "member_id": ObjectId::from_bytes(*ana.id.as_bytes()) }, now).await.unwrap();
    anas.ping().await;
    server.fail("off", doc! {}).await;
    // Nobody asks for it.
    assert_eq!(anas.expect_close().await.code, CloseCode::Unauthorized);
}
