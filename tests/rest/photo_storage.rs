//! Where photos are kept: a folder that fails, an S3 service, and one that does not answer.

use std::{fs, time::Duration};

use members_book::config::Settings;
use protocol::ErrorCode;
use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use super::{
    code,
    photos::{jpeg, own, remove, status, upload, url_of},
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

/// While the storage fails: nothing is acknowledged, and nothing has changed.
async fn nothing_changes(server: &Server, member: &Member) {
    let before = url_of(member).await;
    let refused = upload(server, member, member.id, "image/jpeg", jpeg([7, 7, 7])).await;
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(code(refused).await, ErrorCode::Unavailable);
    if let Some(url) = &before {
        assert_eq!(code(remove(member, member.id).await).await, ErrorCode::Unavailable);
        let leave = member.request(Method::DELETE, "/api/members/me", Value::Null).await;
        assert_eq!(code(leave).await, ErrorCode::Unavailable);
        let get = server.http().get(server.url(url)).send().await.unwrap();
        assert_eq!(code(get).await, ErrorCode::Unavailable);
    }
    assert_eq!(url_of(member).await, before);
}

#[tokio::test]
async fn a_folder_that_fails_changes_nothing_and_is_used_again_when_it_is_back() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let url = own(&server, &ana, [1, 1, 1]).await;
    // A file where the folder should be.
    let folder = &server.settings().photos.photo_dir;
    let aside = folder.with_extension("aside");
    fs::rename(folder, &aside).unwrap();
    fs::write(folder, "").unwrap();
    nothing_changes(&server, &ana).await;
    fs::remove_file(folder).unwrap();
    fs::rename(&aside, folder).unwrap();
    assert_eq!(status(&server, &url).await, 200);
    assert_eq!(remove(&ana, ana.id).await.status(), 204);
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
    assert_eq!(s3.objects("club/photos"), [""; 0]);
}

#[tokio::test]
async fn a_bucket_that_refuses_or_is_gone_changes_nothing() {
    let s3 = S3::start("club").await;
    let server = Server::with(in_bucket(s3.url(), "another secret")).await;
    let ana = server.member("Ana").await;
    nothing_changes(&server, &ana).await;
    let server = server.restart_with(in_bucket(s3.url(), SECRET_KEY)).await;
    let ana = ana.at(server.addr());
    own(&server, &ana, [1, 1, 1]).await;
    drop(s3);
    nothing_changes(&server, &ana).await;
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_is_not_waited_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::with(in_bucket(format!("http://{}", silent.local_addr().unwrap()), SECRET_KEY)).await;
    let ana = server.member("Ana").await;
    nothing_changes(&server, &ana).await;
}

#[tokio::test]
async fn no_more_uploads_are_held_than_there_is_room_for() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let head = format!(
        "PUT /api/members/{}/photo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: image/jpeg\r\n\
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
