//! Mail that a node has in hand when it stops.

use serde_json::json;

use crate::harness::{
    eventually,
    fleet::Fleet,
    smtp::{How, MailServer, Trouble},
};

/// Found by faults: a mail that was in hand when its node stopped waited for minutes, until the lease of that node ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_lets_go_of_the_mail_that_it_has_in_hand() {
    let hanging = MailServer::start(How::StartTls).await;
    hanging.expect([Trouble::Hangs]);
    let mut fleet = Fleet::without_bus(0).await;
    let node = fleet.join(|settings| hanging.set(settings)).await;
    let body = json!({ "name": "Ana", "email": "ana@example.com", "password": "correct horse battery" });
    let asked = node.http().post(node.url("/api/auth/register")).json(&body).send().await.unwrap();
    assert_eq!(asked.status(), 202);
    hanging.had_all().await;
    fleet.nodes.remove(0).stop().await;
    let other = MailServer::start(How::StartTls).await;
    fleet.join(|settings| other.set(settings)).await;
    assert_eq!(other.mail(0).await.to, "ana@example.com");
    eventually("nothing to wait", async || (fleet.nodes[0].metric("mail_waiting").await == 0.0).then_some(())).await;
    assert_eq!((hanging.count(), other.count()), (0, 1));
}
