//! Photos: uploading, serving, removing.

use std::{fs, io::Cursor};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use protocol::{ErrorCode, MemberId, limits::PHOTO_MAX_BYTES, rest, server::MemberPush};
use reqwest::{Body, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::{code, problem};
use crate::harness::{Member, Server, eventually, within};

/// A picture of one colour.
pub(super) fn picture(format: ImageFormat, color: [u8; 3]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    DynamicImage::from(RgbImage::from_pixel(800, 400, Rgb(color))).write_to(&mut file, format).unwrap();
    file.into_inner()
}

pub(super) fn jpeg(color: [u8; 3]) -> Vec<u8> {
    picture(ImageFormat::Jpeg, color)
}

/// Uploads a photo of a member, as somebody.
pub(super) async fn upload(
    server: &Server,
    by: &Member,
    of: MemberId,
    content_type: &str,
    body: impl Into<Body>,
) -> Response {
    let request = server.http().put(server.url(&format!("/api/members/{of}/photo"))).body(body);
    let request = request.bearer_auth(&by.auth.access_token).header(header::CONTENT_TYPE, content_type);
    within("an upload", request.send()).await.unwrap()
}

/// Uploads one's own photo and returns its address.
pub(super) async fn own(server: &Server, member: &Member, color: [u8; 3]) -> String {
    let response = upload(server, member, member.id, "image/jpeg", jpeg(color)).await;
    assert_eq!(response.status(), 200);
    response.json::<rest::Member>().await.unwrap().profile_image_url.unwrap()
}

pub(super) async fn status(server: &Server, url: &str) -> StatusCode {
    server.http().get(server.url(url)).send().await.unwrap().status()
}

pub(super) async fn remove(by: &Member, of: MemberId) -> Response {
    by.request(Method::DELETE, &format!("/api/members/{of}/photo"), Value::Null).await
}

pub(super) async fn url_of(member: &Member) -> Option<String> {
    let response = member.request(Method::GET, "/api/members/me", Value::Null).await;
    response.json::<rest::Member>().await.unwrap().profile_image_url
}

/// The photos that the server keeps.
fn files(server: &Server) -> usize {
    fs::read_dir(&server.settings().photos.photo_dir).unwrap().count()
}

/// Waits until the server keeps so many photos: the file of one that nobody has any more is deleted after the answer.
pub(super) async fn keeps(server: &Server, count: usize) {
    eventually("the files to be deleted", async || (files(server) == count).then_some(())).await;
}

#[tokio::test]
async fn an_uploaded_photo_is_served_to_anybody_for_ever() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let uploaded = upload(&server, &ana, ana.id, "image/png", picture(ImageFormat::Png, [10, 200, 10])).await;
    assert_eq!((uploaded.status().as_u16(), &uploaded.headers()["etag"]), (200, &"\"2\"".parse().unwrap()));
    let member: rest::Member = uploaded.json().await.unwrap();
    let url = member.profile_image_url.unwrap();
    assert!(url.starts_with("/api/photos/") && url.ends_with(".jpg"), "{url}");
    assert_eq!(url_of(&ana).await.as_ref(), Some(&url));

    let get = server.http().get(server.url(&url));
    let response = get.try_clone().unwrap().send().await.unwrap();
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "image/jpeg");
    assert_eq!(header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(header("x-content-type-options"), "nosniff");
    let tag = header("etag");
    let image = image::load_from_memory_with_format(&response.bytes().await.unwrap(), ImageFormat::Jpeg).unwrap();
    assert_eq!((image.width(), image.height()), (512, 256));

    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let again = get.try_clone().unwrap().header(header::IF_NONE_MATCH, &known).send().await.unwrap();
        assert_eq!((again.status().as_u16(), &again.headers()["etag"]), (304, &tag.parse().unwrap()), "{known}");
        assert_eq!(again.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert!(again.bytes().await.unwrap().is_empty());
    }
    let other = get.header(header::IF_NONE_MATCH, "\"other\"").send().await.unwrap();
    assert_eq!(other.status(), 200);
}

#[tokio::test]
async fn a_photo_outlives_a_restart_and_the_address_is_whole_when_the_server_knows_its_own() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let path = own(&server, &ana, [1, 2, 3]).await;
    let server =
        server.restart_with(|settings| "https://api.example.com".clone_into(&mut settings.listen.public_url)).await;
    assert_eq!(status(&server, &path).await, 200);
    let url = own(&server, &ana.at(server.addr()), [200, 2, 3]).await;
    let path = url.strip_prefix("https://api.example.com").unwrap();
    assert_eq!(status(&server, path).await, 200);
    keeps(&server, 1).await;
}

#[tokio::test]
async fn what_is_in_the_file_decides_and_not_what_the_header_says() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    for (format, content_type) in
        [(ImageFormat::WebP, "image/webp"), (ImageFormat::Png, "image/jpeg"), (ImageFormat::Jpeg, "Image/PNG; x=y")]
    {
        let response = upload(&server, &ana, ana.id, content_type, picture(format, [9, 9, 200])).await;
        assert_eq!(response.status(), 200, "{format:?} as {content_type}");
    }
    let gif = b"GIF89a\x01\0\x01\0\0\0\0;".to_vec();
    assert_eq!(code(upload(&server, &ana, ana.id, "image/png", gif).await).await, ErrorCode::ImageInvalid);
}

#[tokio::test]
async fn the_place_where_a_photo_was_taken_is_not_served() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let photo = jpeg([90, 90, 90]);
    // An EXIF segment with the GPS directory only, whose one entry is the name of a place.
    let mut tiff = b"II*\0\x08\0\0\0\x01\0\x25\x88\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0".to_vec();
    tiff.extend(b"\x01\0\x1b\0\x02\0\x0c\0\0\0\x2c\0\0\0\0\0\0\0Rua Secreta\0");
    let length = u16::try_from(tiff.len() + 8).unwrap().to_be_bytes();
    let tagged = [&photo[..2], b"\xff\xe1", &length, b"Exif\0\0", &tiff, &photo[2..]].concat();
    assert_eq!(upload(&server, &ana, ana.id, "image/jpeg", tagged).await.status(), 200);
    let url = server.url(&url_of(&ana).await.unwrap());
    let served = server.http().get(url).send().await.unwrap().bytes().await.unwrap();
    for trace in [&b"Rua Secreta"[..], b"Exif"] {
        assert!(!served.windows(trace.len()).any(|part| part == trace));
    }
}

#[tokio::test]
async fn what_cannot_be_a_photo_is_refused_with_the_reason_and_changes_nothing() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let before = own(&server, &ana, [1, 1, 1]).await;
    let photo = jpeg([200, 0, 0]);
    for (body, reason) in [
        (Vec::new(), "no JPEG, PNG or WebP"),
        (b"hello".to_vec(), "no JPEG, PNG or WebP"),
        (photo[..photo.len() / 2].to_vec(), "cut short"),
    ] {
        let problem = problem(upload(&server, &ana, ana.id, "image/jpeg", body).await).await;
        assert_eq!(problem.code, ErrorCode::ImageInvalid);
        assert!(problem.detail.contains(reason), "{}", problem.detail);
    }
    for content_type in ["application/json", "image/gif", "image/svg+xml", ""] {
        let refused = upload(&server, &ana, ana.id, content_type, photo.clone()).await;
        assert_eq!(code(refused).await, ErrorCode::UnsupportedMediaType, "{content_type}");
    }
    // A picture of 5 MiB, and of a byte more, whose length is said before or is not.
    let padded = |length: usize| [photo.clone(), vec![0; length - photo.len()]].concat();
    assert_eq!(upload(&server, &ana, ana.id, "image/jpeg", padded(PHOTO_MAX_BYTES + 1)).await.status(), 413);
    let pieces =
        padded(PHOTO_MAX_BYTES + 1).chunks(100_000).map(|piece| Ok::<_, String>(piece.to_vec())).collect::<Vec<_>>();
    let streamed = Body::wrap_stream(futures_util::stream::iter(pieces));
    assert_eq!(code(upload(&server, &ana, ana.id, "image/jpeg", streamed).await).await, ErrorCode::PayloadTooLarge);
    assert_eq!((url_of(&ana).await.as_ref(), files(&server)), (Some(&before), 1));
    assert_eq!(upload(&server, &ana, ana.id, "image/jpeg", padded(PHOTO_MAX_BYTES)).await.status(), 200);
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_before_it_sends_anything() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let head = format!(
        "PUT /api/members/{}/photo HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: image/jpeg\r\n\
         content-length: 9000000\r\nexpect: 100-continue\r\n\r\n",
        ana.id, ana.auth.access_token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within("the answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn only_the_member_and_administrators_change_a_photo() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let admin = server.admin().await;
    let path = format!("/api/members/{}/photo", ana.id);
    let anonymous = server.http().put(server.url(&path)).header(header::CONTENT_TYPE, "image/jpeg").body(jpeg([1; 3]));
    assert_eq!(code(anonymous.send().await.unwrap()).await, ErrorCode::TokenMissing);
    assert_eq!(code(upload(&server, &ben, ana.id, "image/jpeg", jpeg([1; 3])).await).await, ErrorCode::Forbidden);
    assert_eq!(code(remove(&ben, ana.id).await).await, ErrorCode::Forbidden);
    assert_eq!((url_of(&ana).await, files(&server)), (None, 0));

    assert_eq!(upload(&server, &admin, ana.id, "image/jpeg", jpeg([1; 3])).await.status(), 200);
    assert!(url_of(&ana).await.is_some());
    assert_eq!(remove(&admin, ana.id).await.status(), 204);
    let audit: Value = admin.request(Method::GET, "/api/admin/audit", Value::Null).await.json().await.unwrap();
    for entry in &audit["entries"].as_array().unwrap()[..2] {
        assert_eq!((&entry["action"], &entry["target_id"]), (&json!("profile_changed"), &json!(ana.id)), "{audit}");
        assert_eq!(entry["details"], json!({ "fields": ["profile_image_url"] }));
    }
    let nobody: MemberId = "0123456789abcdef01234567".parse().unwrap();
    let response = upload(&server, &admin, nobody, "image/jpeg", jpeg([1; 3])).await;
    assert_eq!(code(response).await, ErrorCode::MemberNotFound);
    assert_eq!(code(remove(&admin, nobody).await).await, ErrorCode::MemberNotFound);
    eventually("no file is left", async || (files(&server) == 0).then_some(())).await;
}

#[tokio::test]
async fn a_new_photo_takes_the_place_of_the_former_one() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let first = own(&server, &ana, [1, 1, 1]).await;
    assert_eq!(own(&server, &ana, [1, 1, 1]).await, first, "the same picture has the same address");
    assert_eq!(status(&server, &first).await, 200);
    let bens = own(&server, &ben, [1, 1, 1]).await;
    assert_ne!(bens, first, "no two members share a file");
    let second = own(&server, &ana, [200, 1, 1]).await;
    assert_eq!(status(&server, &first).await, 404);
    assert_eq!((status(&server, &second).await, status(&server, &bens).await), (StatusCode::OK, StatusCode::OK));
    keeps(&server, 2).await;
    assert_eq!(own(&server, &ana, [1, 1, 1]).await, first);
    assert_eq!(status(&server, &first).await, 200, "the one before can come back");
    keeps(&server, 2).await;
    assert_eq!(status(&server, &first).await, 200);
}

#[tokio::test]
async fn a_photo_is_a_change_of_the_profile_and_limited_as_one() {
    let server = Server::with(|settings| {
        settings.rates.rate_profiles = 1;
        settings.rates.rate_profiles_burst = 2;
    })
    .await;
    let ana = server.member("Ana").await;
    let url = own(&server, &ana, [1, 1, 1]).await;
    assert_eq!(remove(&ana, ana.id).await.status(), 204);
    let refused = upload(&server, &ana, ana.id, "image/jpeg", jpeg([2, 2, 2])).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(remove(&ana, ana.id).await.status(), 429);
    assert_eq!(status(&server, &url).await, 404);
    keeps(&server, 0).await;
}

#[tokio::test]
async fn live_sockets_hear_of_a_new_photo() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    anas.say(ben.id, "hello").await;
    let url = own(&server, &ana, [5, 5, 5]).await;
    for client in [&mut anas, &mut bens] {
        let push: MemberPush = client.expect().await;
        assert_eq!((push.member.id, push.member.profile_image_url.as_ref()), (ana.id, Some(&url)));
    }
    assert_eq!(remove(&ana, ana.id).await.status(), 204);
    assert_eq!(bens.expect::<MemberPush>().await.member.profile_image_url, None);
}

#[tokio::test]
async fn a_removed_photo_is_gone_however_often_it_is_removed() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let url = own(&server, &ana, [1, 1, 1]).await;
    for _ in 0..2 {
        assert_eq!(remove(&ana, ana.id).await.status(), 204);
        assert_eq!((url_of(&ana).await, status(&server, &url).await), (None, StatusCode::NOT_FOUND));
    }
    keeps(&server, 0).await;
    let known = server.http().get(server.url(&url)).header(header::IF_NONE_MATCH, "*").send().await.unwrap();
    assert_eq!(code(known).await, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_profile_that_points_elsewhere_leaves_no_file_behind_and_takes_nobody_elses() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (anas, bens) = (own(&server, &ana, [1, 1, 1]).await, own(&server, &ben, [2, 2, 2]).await);
    let patch =
        async |url: Value| ana.request(Method::PATCH, "/api/members/me", json!({ "profile_image_url": url })).await;

    // Sending back what was read keeps the photo.
    assert_eq!(patch(json!(anas)).await.status(), 200);
    // Ana claims Ben's photo. Hers goes, and his stays when she has another one, or none, or leaves.
    assert_eq!(patch(json!(bens)).await.status(), 200);
    assert_eq!(status(&server, &anas).await, 404);
    assert_eq!(patch(Value::Null).await.status(), 200);
    assert_eq!(patch(json!(bens)).await.status(), 200);
    assert_eq!(remove(&ana, ana.id).await.status(), 204);
    assert_eq!(patch(json!(bens)).await.status(), 200);
    own(&server, &ana, [3, 3, 3]).await;
    assert_eq!(patch(json!(bens)).await.status(), 200);
    assert_eq!(ana.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    keeps(&server, 1).await;
    assert_eq!(status(&server, &bens).await, 200);
}

#[tokio::test]
async fn a_member_who_leaves_takes_the_photo_along() {
    let server = Server::start().await;
    let (ana, root) = (server.member("Ana").await, server.admin().await);
    let (anas, roots) = (own(&server, &ana, [1, 1, 1]).await, own(&server, &root, [2, 2, 2]).await);
    assert_eq!(ana.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    assert_eq!(status(&server, &anas).await, 404);
    keeps(&server, 1).await;
    let refused = root.request(Method::DELETE, "/api/members/me", Value::Null).await;
    assert_eq!(code(refused).await, ErrorCode::LastAdmin);
    assert_eq!(status(&server, &roots).await, 200, "who stays keeps the photo");
    let response = upload(&server, &root, ana.id, "image/jpeg", jpeg([1; 3])).await;
    assert_eq!(code(response).await, ErrorCode::MemberNotFound);
}

#[tokio::test]
async fn nothing_but_photos_is_served() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let url = own(&server, &ana, [1, 1, 1]).await;
    fs::write(server.settings().photos.photo_dir.join("other.txt"), "x").unwrap();
    for path in [
        url.replace(".jpg", ".png"),
        url.replace(".jpg", ""),
        url.to_uppercase().replace("/API/PHOTOS", "/api/photos").replace(".JPG", ".jpg"),
        format!("/api/photos/{}.jpg", "0".repeat(64)),
        "/api/photos/other.txt".to_owned(),
        "/api/photos/..%2Ftest.db".to_owned(),
        "/api/photos/%ff".to_owned(),
        "/api/photos/".to_owned(),
    ] {
        let response = server.http().get(server.url(&path)).send().await.unwrap();
        assert_eq!(code(response).await, ErrorCode::NotFound, "{path}");
    }
}

#[tokio::test]
async fn a_picture_is_a_photo_of_this_server_and_no_other_host_learns_who_looks() {
    let server = Server::with(|settings| "https://api.example.com".clone_into(&mut settings.listen.public_url)).await;
    let ana = server.member("Ana").await;
    let patch =
        async |url: &str| ana.request(Method::PATCH, "/api/members/me", json!({ "profile_image_url": url })).await;
    let whole = own(&server, &ana, [1, 1, 1]).await;
    let path = whole.strip_prefix("https://api.example.com").unwrap();
    for ours in [path, &whole] {
        assert_eq!(patch(ours).await.status(), 200, "{ours}");
    }
    for foreign in [
        "https://tracker.example/ana.jpg".to_owned(),
        "http://10.0.0.1/".to_owned(),
        format!("https://tracker.example{path}"),
        format!("https://api.example.com.tracker.example{path}"),
        format!("//tracker.example{path}"),
        format!("https://api.example.com/elsewhere{path}"),
        format!("http://api.example.com{path}"),
    ] {
        let problem = problem(patch(&foreign).await).await;
        assert_eq!(
            (problem.code, problem.errors[0].field.as_str()),
            (ErrorCode::ValidationFailed, "profile_image_url")
        );
    }
    assert_eq!(url_of(&ana).await.as_deref(), Some(&*whole));
    // What the record has may be sent back, also when the server has another address by now.
    let server = server.restart_with(|settings| settings.listen.public_url.clear()).await;
    let ana = ana.at(server.addr());
    let again = ana.request(Method::PATCH, "/api/members/me", json!({ "profile_image_url": whole })).await;
    assert_eq!(again.status(), 200);
}

#[tokio::test]
async fn a_member_has_one_upload_at_a_time_and_leaves_room_for_others() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let head = format!(
        "PUT /api/members/{}/photo HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: image/jpeg\r\n\
         content-length: 1000\r\nexpect: 100-continue\r\n\r\n",
        ana.id, ana.auth.access_token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within("the server to wait for the body", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    let second = upload(&server, &ana, ana.id, "image/jpeg", jpeg([1; 3])).await;
    assert_eq!(code(second).await, ErrorCode::Overloaded);
    own(&server, &ben, [1; 3]).await;
    drop(stream);
    eventually("the place of the first upload", async || {
        let again = upload(&server, &ana, ana.id, "image/jpeg", jpeg([1; 3])).await;
        (again.status() == 200).then_some(())
    })
    .await;
}

/// Begins an upload from an address of this machine, whose body never comes. Returns what the server says.
async fn begin_upload(server: &Server, by: &Member, from: &str) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = within("a connection", socket.connect(server.addr())).await.unwrap();
    let head = format!(
        "PUT /api/members/{}/photo HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: image/jpeg\r\n\
         content-length: 1000\r\nexpect: 100-continue\r\n\r\n",
        by.id, by.auth.access_token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within("an answer", stream.read_exact(&mut answer)).await.unwrap();
    (stream, String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn one_address_with_many_accounts_does_not_take_all_uploads() {
    let server = Server::start().await;
    let mut held = Vec::new();
    for number in 0..4 {
        let member = server.member(&format!("Member {number}")).await;
        let (stream, answer) = begin_upload(&server, &member, "127.0.0.1").await;
        assert_eq!(answer, "HTTP/1.1 100");
        held.push(stream);
    }
    let ana = server.member("Ana").await;
    assert_eq!(begin_upload(&server, &ana, "127.0.0.1").await.1, "HTTP/1.1 503");
    assert_eq!(begin_upload(&server, &ana, "127.0.0.2").await.1, "HTTP/1.1 100");
}
