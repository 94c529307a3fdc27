//! Where photos are kept: a folder that fails, an S3 service, and one that does not answer.

use std::{fs, time::Duration};

use members_book::config::Settings;
use protocol::ErrorCode;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use super::{
    code,
    photos::{jpeg, keeps, own, remove, status, upload, url_of},
};
use crate::harness::{
    Member, Server, eventually,
    s3::{ACCESS_KEY, S3, SECRET_KEY},
};

fn in_bucket(endpoint: String, secret: &str) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.photos.aws_s3_bucket = Some("club".to_owned());
        settings.photos.aws_endpoint_url = Some(endpoint);
        settings.photos.aws_access_key_id = Some(ACCESS_KEY.to_owned());
        settings.photos.aws_secret_access_key = Some(secret.into());
        settings.store.store_timeout = Duration::from_millis(500);
    }
}

/// While the storage fails no photo is stored, and none can be seen.
async fn is_unavailable(server: &Server, member: &Member) {
    let before = url_of(member).await;
    let refused = upload(server, member, member.id, "image/jpeg", jpeg([7, 7, 7])).await;
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(code(refused).await, ErrorCode::Unavailable);
    if let Some(url) = &before {
        let get = server.http().get(server.url(url)).send().await.unwrap();
        assert_eq!(code(get).await, ErrorCode::Unavailable);
    }
    assert_eq!(url_of(member).await, before);
}

/// Puts a file where the folder should be, until [`mend`].
fn break_folder(server: &Server) {
    let folder = &server.settings().photos.photo_dir;
    fs::rename(folder, folder.with_extension("aside")).unwrap();
    fs::write(folder, "").unwrap();
}

fn mend_folder(server: &Server) {
    let folder = &server.settings().photos.photo_dir;
    fs::remove_file(folder).unwrap();
    fs::rename(folder.with_extension("aside"), folder).unwrap();
}

async fn tried(server: &Server, outcome: &str) -> f64 {
    server.metric(&format!("jobs_total{{job=\"delete_photo\",outcome=\"{outcome}\"}}")).await
}

#[tokio::test]
async fn a_folder_that_fails_changes_nothing_and_is_used_again_when_it_is_back() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let url = own(&server, &ana, [1, 1, 1]).await;
    break_folder(&server);
    is_unavailable(&server, &ana).await;
    mend_folder(&server);
    assert_eq!(status(&server, &url).await, 200);
    assert_eq!(remove(&ana, ana.id).await.status(), 204);
    keeps(&server, 0).await;
}

#[tokio::test]
async fn who_leaves_while_the_folder_fails_is_gone_and_the_photo_is_deleted_later() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (anas, bens) = (own(&server, &ana, [1, 1, 1]).await, own(&server, &ben, [2, 2, 2]).await);
    break_folder(&server);
    assert_eq!(ana.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    assert_eq!(remove(&ben, ben.id).await.status(), 204);
    eventually("both jobs to fail", async || (tried(&server, "failed").await >= 2.0).then_some(())).await;
    mend_folder(&server);
    assert_eq!(
        (status(&server, &anas).await, status(&server, &bens).await),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND),
        "whether the files are there or not"
    );
    // The jobs are in the store.
    let server = server.restart().await;
    keeps(&server, 0).await;
    assert_eq!((status(&server, &anas).await, tried(&server, "failed").await), (StatusCode::NOT_FOUND, 0.0));
}

#[tokio::test]
async fn photos_can_be_in_a_bucket() {
    let s3 = S3::start("club").await;
    let server = Server::with(in_bucket(s3.url(), SECRET_KEY)).await;
    let ana = server.member("Ana").await;
    let first = own(&server, &ana, [1, 1, 1]).await;
    assert_eq!(s3.objects("club/photos"), [first.replace("/api/photos/", "")]);
    assert_eq!(status(&server, &first).await, 200);
    let second = own(&server, &ana, [200, 1, 1]).await;
    assert_eq!((status(&server, &first).await.as_u16(), status(&server, &second).await.as_u16()), (404, 200));
    assert_eq!(remove(&ana, ana.id).await.status(), 204);
    assert_eq!(remove(&ana, ana.id).await.status(), 204);
    assert_eq!(status(&server, &second).await, 404);
    let last = own(&server, &ana, [1, 1, 1]).await;
    assert_eq!(ana.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    assert_eq!(status(&server, &last).await, 404);
    eventually("all objects to be deleted", async || s3.objects("club/photos").is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_bucket_that_refuses_or_is_gone_changes_nothing() {
    let s3 = S3::start("club").await;
    let server = Server::with(in_bucket(s3.url(), "another secret")).await;
    let ana = server.member("Ana").await;
    is_unavailable(&server, &ana).await;
    let server = server.restart_with(in_bucket(s3.url(), SECRET_KEY)).await;
    let ana = ana.at(server.addr());
    own(&server, &ana, [1, 1, 1]).await;
    drop(s3);
    is_unavailable(&server, &ana).await;
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_is_not_waited_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::with(in_bucket(format!("http://{}", silent.local_addr().unwrap()), SECRET_KEY)).await;
    let ana = server.member("Ana").await;
    is_unavailable(&server, &ana).await;
}

#[tokio::test]
async fn no_more_uploads_are_held_than_there_is_room_for() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let head = format!(
        "PUT /api/members/{}/photo HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: image/jpeg\r\n\
         content-length: 1000\r\n\r\n",
        ana.id, ana.auth.access_token
    );
    let mut stalled = Vec::new();
    // More than there is room for: one of them may be refused while an upload below has its place for a moment.
    for _ in 0..40 {
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    eventually("no room to be left", async || {
        let response = upload(&server, &ana, ana.id, "image/jpeg", jpeg([1, 1, 1])).await;
        (response.status() == 503).then_some(())
    })
    .await;
    let refused = upload(&server, &ana, ana.id, "image/jpeg", jpeg([1, 1, 1])).await;
    assert_eq!(code(refused).await, ErrorCode::Overloaded);
    drop(stalled);
    eventually("room for another one", async || {
        let response = upload(&server, &ana, ana.id, "image/jpeg", jpeg([1, 1, 1])).await;
        (response.status() == 200).then_some(())
    })
    .await;
}
