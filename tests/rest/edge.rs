//! What every answer has around it: rate limits, request ids, security headers, compression, origins.

use std::time::Duration;

use futures_util::FutureExt as _;
use protocol::ErrorCode;
use reqwest::{Method, StatusCode, header};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::code;
use crate::harness::{Server, client, eventually, within};

#[tokio::test]
async fn a_member_is_told_what_is_left_and_when_to_come_back() {
    let server = Server::with(|settings| {
        settings.rates.rate_requests = 1;
        settings.rates.rate_requests_burst = 3;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let me = async |member: &crate::harness::Member| member.request(Method::GET, "/api/members/me", Value::Null).await;
    let first = me(&ana).await;
    assert_eq!(first.headers()["ratelimit-policy"], r#""member";q=3;w=3"#);
    assert_eq!(first.headers()["ratelimit"], r#""member";r=2;t=1"#);
    let mut refused = me(&ana).await;
    for _ in 0..10 {
        if refused.status() == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        refused = me(&ana).await;
    }
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["ratelimit"], r#""member";r=0;t=1"#);
    assert_eq!(code(refused).await, ErrorCode::RateLimited);
    assert_eq!(me(&ben).await.status(), 200, "another member has an allowance of their own");
    assert_eq!(server.http().get(server.url("/healthz")).send().await.unwrap().status(), 200);
}

/// Found by an attacker: health had no limit, and refused requests were answered on one connection for ever: 33,000 and
/// 31,000 a second cost the members 40 times their latency.
#[tokio::test]
async fn whoever_asks_too_often_is_refused_and_then_closed_whatever_they_ask_for() {
    let server = Server::with(|settings| {
        settings.rates.rate_address = 1;
        settings.rates.rate_address_burst = 5;
    })
    .await;
    let gets = ["/healthz", "/nothing", "/api/members", "/ws"].map(|path| ("GET", path));
    for (method, path) in gets.into_iter().chain(["/healthz", "/api/members", "/ws"].map(|path| ("OPTIONS", path))) {
        let mut socket = TcpStream::connect(server.addr()).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut requests = request.repeat(5_000);
        if (method, path) == ("GET", "/ws") {
            requests = requests.replace("\r\n\r\n", "\r\nUpgrade: websocket\r\n\r\n");
        }
        // The server may close while this is still being written.
        let (mut reader, mut writer) = socket.split();
        let mut answers = Vec::new();
        let write = async {
            let _ = writer.write_all(requests.as_bytes()).await;
        };
        let read = async {
            let mut part = vec![0; 65_536];
            while let Ok(count @ 1..) = reader.read(&mut part).await {
                answers.extend_from_slice(&part[..count]);
            }
        };
        within("the end of the connection", async { tokio::join!(write, read) }).await;
        let answers = String::from_utf8_lossy(&answers);
        let (all, refused) = (answers.matches("HTTP/1.1 ").count(), answers.matches("HTTP/1.1 429").count());
        assert!(all < 5_000 && refused <= 11, "{method} {path}: {refused} refused of {all}");
    }
}

#[tokio::test]
async fn the_token_of_a_session_that_is_over_spends_nothing_of_its_member() {
    let server = Server::with(|settings| {
        settings.rates.rate_requests = 1;
        settings.rates.rate_requests_burst = 10;
    })
    .await;
    let stolen = server.member("Ana").await;
    let ana = stolen.log_in().await;
    let me = async |member: &crate::harness::Member| member.request(Method::GET, "/api/members/me", Value::Null).await;
    assert_eq!(ana.request(Method::POST, "/api/auth/logout", serde_json::json!({ "all": true })).await.status(), 204);
    let ana = ana.log_in().await;
    let mut refused = 0;
    for _ in 0..40 {
        let status = me(&stolen).await.status();
        assert!(status == StatusCode::UNAUTHORIZED || status == StatusCode::TOO_MANY_REQUESTS, "{status}");
        refused += usize::from(status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused > 0, "it has a limit of its own");
    for _ in 0..5 {
        assert_eq!(me(&ana).await.status(), 200);
    }
}

/// Whoever has copied a token keeps it when the password is changed. It is refused, and so must not keep its member out.
#[tokio::test]
async fn a_token_that_was_replaced_spends_nothing_of_its_member() {
    let server = Server::with(|settings| {
        settings.rates.rate_requests = 1;
        settings.rates.rate_requests_burst = 10;
    })
    .await;
    let copied = server.member("Ana").await;
    let me = async |member: &crate::harness::Member| member.request(Method::GET, "/api/members/me", Value::Null).await;
    let body = serde_json::json!({ "current_password": copied.password, "new_password": "battery staple" });
    let changed = copied.request(Method::PUT, "/api/members/me/password", body).await;
    let mut ana = copied.clone();
    ana.auth = changed.json().await.unwrap();
    let mut refused = 0;
    for _ in 0..40 {
        let answer = me(&copied).await;
        let told = answer.headers()["ratelimit"].to_str().unwrap().to_owned();
        assert!(told.starts_with(r#""stale_session""#), "{told}");
        match code(answer).await {
            ErrorCode::TokenExpired => {}
            ErrorCode::RateLimited => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "it has a limit of its own");
    for _ in 0..5 {
        assert_eq!(me(&ana).await.status(), 200);
    }
}

#[tokio::test]
async fn an_address_is_limited_and_a_trusted_proxy_speaks_for_many() {
    let server = Server::with(|settings| {
        settings.rates.rate_address = 1;
        settings.rates.rate_address_burst = 2;
        settings.listen.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let from = async |address: &str| {
        let request = server.http().get(server.url("/api/members")).header("x-forwarded-for", address);
        request.send().await.unwrap()
    };
    let until_refused = async |address: &str| {
        for _ in 0..10 {
            if from(address).await.status() == StatusCode::TOO_MANY_REQUESTS {
                return true;
            }
        }
        false
    };
    assert!(until_refused("198.51.100.7").await);
    assert!(until_refused("203.0.113.1, 198.51.100.8").await);
    assert_eq!(from("198.51.100.9").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(from("198.51.100.8, 198.51.100.10").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_answer_has_an_id_and_says_how_to_treat_it() {
    let server = Server::start().await;
    let ask = async |id: Option<&str>| {
        let request = server.http().get(server.url("/api/members/me"));
        let request = id.into_iter().fold(request, |request, id| request.header("x-request-id", id));
        request.send().await.unwrap()
    };
    assert_eq!(ask(Some("trace-1.2:3")).await.headers()["x-request-id"], "trace-1.2:3");
    let made = ask(None).await.headers()["x-request-id"].clone();
    assert_eq!(made.len(), 24);
    for unfit in ["a b", &"x".repeat(65), "a\u{7f}"] {
        if let Ok(unfit) = header::HeaderValue::from_str(unfit) {
            let response = ask(unfit.to_str().ok()).await;
            assert_ne!(response.headers()["x-request-id"], unfit);
        }
    }
    let response = ask(None).await;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
}

#[tokio::test]
async fn long_answers_are_compressed_and_short_ones_are_not() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    for number in 0..10 {
        server.member(&format!("Member {number}")).await;
    }
    let encoding = async |path: &str, accept: &str| {
        let request = server.http().get(server.url(path)).bearer_auth(&ana.auth.access_token);
        let response = request.header(header::ACCEPT_ENCODING, accept).send().await.unwrap();
        response.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(encoding("/api/members", "gzip").await.as_deref(), Some("gzip"));
    assert_eq!(encoding("/api/members", "gzip, br").await.as_deref(), Some("gzip"));
    assert_eq!(encoding("/api/members", "identity").await, None);
    assert_eq!(encoding("/api/members/me", "gzip, br").await, None);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_open_a_socket() {
    let server = Server::start().await;
    let own = format!("http://{}", server.addr());
    let status = async |origin: Option<&str>| {
        let stream = TcpStream::connect(server.addr()).await.unwrap();
        client::upgrade_from(stream, origin).await
    };
    assert_eq!(status(None).await, 101);
    assert_eq!(status(Some("http://localhost:8081")).await, 101);
    assert_eq!(status(Some(&own)).await, 101, "an app sends the origin of the server itself");
    assert_eq!(status(Some("https://evil.example")).await, 403);
    assert_eq!(status(Some("null")).await, 403);
}

/// Behind a proxy that asks by a name of its own, what the browser says is not where the request says that the server is.
#[tokio::test]
async fn a_page_from_where_clients_reach_the_server_can_open_a_socket_whatever_the_proxy_calls_it() {
    let server = Server::with(|settings| settings.listen.public_url = "https://club.example.com".into()).await;
    let status = async |origin: &str| {
        let stream = TcpStream::connect(server.addr()).await.unwrap();
        client::upgrade_from(stream, Some(origin)).await
    };
    assert_eq!(status("https://club.example.com").await, 101);
    for other in ["http://club.example.com", "https://club.example.com:8443", "https://example.com", ""] {
        assert_eq!(status(other).await, 403, "{other}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let body = serde_json::json!({ "name": "x".repeat(70_000) });
    let response = ana.request(Method::PATCH, "/api/members/me", body).await;
    assert_eq!(code(response).await, ErrorCode::PayloadTooLarge);
    let request = server.http().get(server.url("/api/members/me")).header("x-long", "x".repeat(40_000));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

/// A connection that asks for something large, and reads nothing of the answer.
async fn stalled(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = within("a connection", socket.connect(server.addr())).await.unwrap();
    let request = "GET /api/assets/redoc-2.5.4/redoc.standalone.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    within("a request", stream.write_all(request.as_bytes())).await.unwrap();
    stream
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_its_connection() {
    let server = Server::with(|settings| {
        settings.connections.write_timeout = Duration::from_millis(200);
        settings.connections.max_connections_per_address = 2;
    })
    .await;
    let _stalled = [stalled(&server).await, stalled(&server).await];
    // Both places of this address are free again only when the server has ended them.
    let member = async || {
        let response = server.http().get(server.url("/api/members/me")).send().await.unwrap();
        (response.status() == StatusCode::UNAUTHORIZED).then_some(())
    };
    eventually("the end of those who do not read", member).await;
}

#[tokio::test]
async fn a_browser_can_read_the_metrics() {
    let server = Server::start().await;
    let get = async |path: &str, accept: &str| {
        let request = server.http().get(format!("http://{}{path}", server.metrics_addr())).header("accept", accept);
        let response = request.send().await.unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status().as_u16(), content_type, response.text().await.unwrap())
    };
    let (status, content_type, text) = get("/metrics", "text/html,application/xhtml+xml,*/*;q=0.8").await;
    assert_eq!((status, content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.contains("# TYPE membersbook_messages_total counter\n") && !text.contains("# EOF"), "{text}");
    let (_, content_type, text) = get("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await;
    assert!(content_type.starts_with("application/openmetrics-text") && text.ends_with("# EOF\n"), "{content_type}");
    let (status, _, text) = get("/", "*/*").await;
    assert!(status == 404 && text.contains("/metrics"), "{status} {text}");
}

/// Found by an attacker: silent connections to the metrics took all files of the process, and nobody could sign in.
#[tokio::test]
async fn silent_connections_to_the_metrics_keep_nobody_out() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(TcpStream::connect(server.metrics_addr()).await.unwrap());
    }
    let metrics = async || {
        let response = server.http().get(format!("http://{}/metrics", server.metrics_addr())).send().await;
        response.is_ok_and(|response| response.status() == StatusCode::OK).then_some(())
    };
    eventually("a place", metrics).await;
    let mut ended = 0;
    for socket in &mut silent {
        let mut byte = [0];
        ended += usize::from(matches!(socket.read(&mut byte).now_or_never(), Some(Ok(_) | Err(_))));
    }
    assert!(ended >= 60 - 32, "{ended} of them were answered or closed");
}

#[tokio::test]
async fn an_asset_is_in_memory_once_however_many_ask_for_it() {
    let server = Server::start().await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(stalled(&server).await);
    }
    let asked = r#"http_requests_total{method="GET",route="/api/assets/{*path}",status="200"}"#;
    eventually("all answers", async || (server.metric(asked).await == 20.0).then_some(())).await;
    assert_eq!(server.metric("memory_charged_bytes").await, 0.0, "what all share is nobody's");
}

#[tokio::test]
async fn what_is_invented_makes_no_series() {
    let server = Server::start().await;
    let series = async || server.metrics().await.lines().filter(|line| !line.starts_with('#')).count();
    let attack = async |number: usize| {
        let nowhere = format!("/nowhere/{number}");
        for path in ["/healthz", "/api/members/me", "/ws", "/api/assets/x", &nowhere] {
            let method = Method::from_bytes(format!("BREW{number}").as_bytes()).unwrap();
            let url = server.url(&format!("{path}?x={number}"));
            let request = server.http().request(method, url).header("origin", format!("https://x{number}.example"));
            let request = request.header("x-request-id", format!("id-{number}"));
            request.send().await.unwrap();
        }
    };
    attack(0).await;
    let before = series().await;
    for number in 1..50 {
        attack(number).await;
    }
    assert_eq!(series().await, before);
    assert!(!server.metrics().await.contains("BREW"));
}

#[tokio::test]
async fn a_refused_connection_is_answered_like_any_other_and_health_is_always_told() {
    let server = Server::with(|settings| settings.connections.max_connections_per_address = 2).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(server.addr()).await.unwrap());
    }
    let ask = async |path: &str| {
        let origin = "http://localhost:8081";
        let request = server.http().get(server.url(path)).header("origin", origin);
        let response = request.header("x-request-id", "trace-1").send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"], "trace-1", "{path}");
        assert_eq!(response.headers()["access-control-allow-origin"], origin, "{path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{path}");
        response
    };
    for path in ["/api/members", "/ws", "/"] {
        let response = ask(path).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(response.headers()["retry-after"], "5");
        assert_eq!(code(response).await, ErrorCode::Overloaded);
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(path).await.status(), StatusCode::OK, "{path}");
    }
    let body = server.http().post(server.url("/api/auth/login")).body("x".repeat(100_000));
    assert_eq!(body.send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE, "the answer is not taken back");
    // Those who say nothing do not keep out those who ask.
    for _ in 0..200 {
        silent.push(TcpStream::connect(server.addr()).await.unwrap());
    }
    assert_eq!(ask("/healthz").await.status(), StatusCode::OK);
    assert!(server.metric(r#"connections_refused_total{limit="address"}"#).await > 200.0);
}

#[tokio::test]
async fn signing_in_gives_the_place_among_strangers_back() {
    let server = Server::with(|settings| settings.connections.max_connections_per_address = 3).await;
    let ana = server.member("Ana").await;
    let mut signed_in = Vec::new();
    for number in 0..10 {
        signed_in.push(ana.connect_as(&format!("device-{number}"), None).await);
    }
    let mut strangers = Vec::new();
    let mut refused = 0;
    for _ in 0..4 {
        let stream = TcpStream::connect(server.addr()).await.unwrap();
        match client::upgrade(stream, None).await {
            Ok((socket, _)) => strangers.push(socket),
            Err(_) => refused += 1,
        }
    }
    assert!(refused >= 1 && !strangers.is_empty(), "{refused}");
    for client in &mut signed_in {
        client.ping().await;
    }
}

#[tokio::test]
async fn a_stranger_of_another_address_makes_room() {
    let server = Server::with(|settings| settings.connections.max_connections = 4).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(server.addr()).await.unwrap());
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut newcomer = within("a connection", socket.connect(server.addr())).await.unwrap();
    newcomer.write_all(b"GET /api/members HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("an answer", newcomer.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let oldest = within("the end of the oldest", silent[0].read(&mut [0; 10])).await;
    assert!(matches!(oldest, Ok(0) | Err(_)), "{oldest:?}");
    assert_eq!(server.metric("connections_evicted_total").await, 1.0);
}

#[tokio::test]
async fn who_does_not_read_is_cut_when_memory_runs_out() {
    let server = Server::with(|settings| {
        settings.connections.memory_max = 8 << 20;
        settings.connections.outbox_max_bytes = 64 << 20;
        settings.connections.outbox_max_frames = 1_000_000;
        settings.connections.write_timeout = Duration::from_secs(600);
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = client::Client::over(socket.connect(server.addr()).await.unwrap()).await;
    stalled.hello(ben.id, &ben.auth.access_token, &"phone".parse().unwrap(), None).await;
    let mut anas = ana.connect().await;
    let content = "x".repeat(4000);
    let cut = r#"memory_cuts_total{what="outbox"}"#;
    let mut sent = 0;
    while server.metric(cut).await == 0.0 {
        for _ in 0..100 {
            anas.say(ben.id, &content).await;
            sent += 1;
        }
        assert!(sent < 10_000, "the budget has no bound");
    }
    let charged = async || (server.metric("memory_charged_bytes").await < 1e6).then_some(());
    eventually("the memory", charged).await;
    anas.ping().await;
}

/// Connections from an address of this machine that have sent `head` and send nothing more.
async fn withheld(server: &Server, from: &str, head: &str, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = within("a connection", socket.connect(server.addr())).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    streams
}

#[tokio::test]
async fn a_body_that_does_not_come_keeps_nobody_from_writing() {
    let server = Server::with(|settings| {
        settings.connections.max_connections_per_address = 0;
        settings.connections.max_connections_per_network = 0;
    })
    .await;
    let ana = server.member("Ana").await;
    let head = "POST /api/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    // More than there are slots for one address.
    let _withheld = withheld(&server, "127.0.0.1", head, 300).await;
    for _ in 0..20 {
        let answer = ana.request(Method::PATCH, "/api/members/me", serde_json::json!({ "name": "Ana" })).await;
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn a_body_is_charged_when_it_arrives_and_what_waits_for_it_from_the_start() {
    let server = Server::with(|settings| settings.connections.memory_max = 8 << 20).await;
    let head = "POST /api/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let long = format!("{head}content-length: 5000000\r\n\r\n");
    let mut streams = withheld(&server, "127.0.0.2", &chunked, 3).await;
    streams.extend(withheld(&server, "127.0.0.2", &long, 3).await);
    let charged = async || server.metric("memory_charged_bytes").await;
    // The buffers and futures of three requests, and nothing of those that say that they are going to send too much.
    let waiting = 3.0 * 22.0 * 1024.0;
    eventually("what waits", async || (charged().await >= waiting).then_some(())).await;
    assert!(charged().await < waiting + 10_000.0);
    streams[0].write_all(format!("4e20\r\n{}\r\n", " ".repeat(20_000)).as_bytes()).await.unwrap();
    eventually("what has arrived", async || (charged().await >= waiting + 20_000.0).then_some(())).await;
    drop(streams);
    eventually("nothing to be held", async || (charged().await < 10_000.0).then_some(())).await;
}

/// Found by an attacker: 3,000 requests whose bodies never came took 68 MB of which 3,000 bytes were charged.
#[tokio::test]
async fn bodies_that_do_not_come_are_cut_when_memory_runs_out() {
    let server = Server::with(|settings| settings.connections.memory_max = 8 << 20).await;
    let head = "POST /api/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    let _withheld = withheld(&server, "127.0.0.2", head, 400).await;
    let cut = async || (server.metric(r#"memory_cuts_total{what="answer"}"#).await >= 20.0).then_some(());
    eventually("those to be cut that there is no room for", cut).await;
    let relieved = async || (server.metric("memory_charged_bytes").await < 6.3e6).then_some(());
    eventually("the memory", relieved).await;
}

#[tokio::test]
async fn the_largest_uploads_are_cut_when_memory_runs_out() {
    let server = Server::with(|settings| settings.connections.memory_max = 8 << 20).await;
    let (ana, ben) = server.two_members().await;
    let mut streams = Vec::new();
    for (member, bytes) in [(&ana, 3_500_000), (&ben, 3_000_000)] {
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        let head = format!(
            "PUT /api/members/{}/photo HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: image/jpeg\r\ncontent-length: 5000000\r\n\r\n",
            member.id, member.auth.access_token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It may be cut before it has sent everything.
        let _ = within("the body", stream.write_all(&vec![0; bytes])).await;
        streams.push(stream);
    }
    let relieved = async || (server.metric("memory_charged_bytes").await < 6.3e6).then_some(());
    eventually("the memory", relieved).await;
    let mut content = Vec::new();
    drop(within("the end of the largest", streams[0].read_to_end(&mut content)).await);
    assert!(server.metric(r#"memory_cuts_total{what="answer"}"#).await >= 1.0);
}
