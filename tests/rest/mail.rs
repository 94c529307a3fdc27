//! Mail, as its readers get it: every test reads it from a mail server and uses the links in it.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use members_book::{
    clock::{Clock as _, ManualClock},
    config::{Settings, values::DatabaseUrl},
    store::mail::{LINK_LIFETIME, STRANGERS_MAX},
};
use protocol::{
    CloseCode, ErrorCode, Timestamp,
    rest::{AuditPage, AuthResponse, MailStats, ServerStats},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{code, fields, problem};
use crate::harness::{
    Member, Server, eventually,
    smtp::{How, MailServer, Received, Trouble},
    within,
};

pub(super) const PASSWORD: &str = "correct horse battery";

pub(super) async fn post(server: &Server, path: &str, body: Value) -> Response {
    within(path, server.http().post(server.url(path)).json(&body).send()).await.unwrap()
}

pub(super) async fn register(server: &Server, email: &str) -> Response {
    post(server, "/api/auth/register", json!({ "name": "Ana", "email": email, "password": PASSWORD })).await
}

pub(super) async fn log_in(server: &Server, email: &str, password: &str) -> Response {
    post(server, "/api/auth/login", json!({ "email": email, "password": password })).await
}

pub(super) async fn forgot(server: &Server, email: &str) -> Response {
    post(server, "/api/auth/password/forgot", json!({ "email": email })).await
}

pub(super) async fn reset(server: &Server, token: &str, password: &str) -> Response {
    post(server, "/api/auth/password/reset", json!({ "token": token, "new_password": password })).await
}

pub(super) async fn verify(server: &Server, token: &str) -> Response {
    post(server, "/api/auth/email/verify", json!({ "token": token, "password": PASSWORD })).await
}

async fn own(server: &Server, auth: &AuthResponse) -> Value {
    let asked = server.http().get(server.url("/api/members/me")).bearer_auth(&auth.access_token).send();
    within("the own record", asked).await.unwrap().json().await.unwrap()
}

/// Registers, follows the link, and logs in.
pub(super) async fn join(server: &Server, mail: &MailServer, email: &str) -> AuthResponse {
    let number = mail.count();
    assert_eq!(register(server, email).await.status(), 202);
    let received = mail.mail(number).await;
    assert_eq!(received.to, email);
    assert_eq!(verify(server, &received.token()).await.status(), 204);
    log_in(server, email, PASSWORD).await.json().await.unwrap()
}

/// Waits until something has become of so many mails.
pub(super) async fn outcome(server: &Server, kind: &str, outcome: &str, times: f64) {
    let name = format!("mail_total{{mail=\"{kind}\",outcome=\"{outcome}\"}}");
    eventually(&name, async || (server.metric(&name).await >= times).then_some(())).await;
}

/// Within so much time an address that is asked about is looked up.
const LOOKED_UP: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_address_is_verified_before_the_first_login() {
    let mail = MailServer::start(How::StartTls).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    let registered = register(&server, "ana@example.com").await;
    assert_eq!(registered.status(), 202);
    assert_eq!(registered.json::<Value>().await.unwrap(), json!({ "status": "verify_email" }));
    let first = mail.mail(0).await;
    assert_eq!((first.to.as_str(), first.from.as_str()), ("ana@example.com", "club@example.com"));
    assert_eq!((first.is_encrypted, first.user.as_deref()), (true, Some("club")));
    assert_eq!(first.subject, "Confirm your e-mail address");
    assert!(first.link().starts_with("https://club.example.com/app/verify?token="), "{}", first.link());
    assert!(!first.body.contains("Ana"), "whoever registered has chosen the name: {}", first.body);
    // Without these a program need not read it as what it is; and a link that is sent as it is can be pressed in any.
    for header in [
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 7bit",
    ] {
        assert!(first.headers.contains(header), "{header}: {}", first.headers);
    }
    // The right password sends the link again, and says no more than a wrong one.
    let wrong = problem(log_in(&server, "ana@example.com", "not this one").await).await;
    let right = problem(log_in(&server, "ana@example.com", PASSWORD).await).await;
    assert_eq!((right.code, &right), (ErrorCode::InvalidCredentials, &wrong));
    let second = mail.mail(1).await;
    assert_eq!(first.token(), second.token(), "whichever of the two is opened");
    assert_eq!(verify(&server, &first.token()).await.status(), 204);
    assert_eq!(code(verify(&server, &first.token()).await).await, ErrorCode::LinkInvalid, "it is good once");
    let auth: AuthResponse = log_in(&server, "ana@example.com", PASSWORD).await.json().await.unwrap();
    assert!(auth.member.email_verified_at.is_some());
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_and_every_session_ends() {
    let mail = MailServer::start(How::StartTls).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    let ana = join(&server, &mail, "ana@example.com").await;
    let device = "phone".parse().unwrap();
    let mut client = crate::harness::Client::open(server.addr()).await;
    client.hello(ana.member.id, &ana.access_token, &device, None).await;
    assert_eq!(forgot(&server, "ANA@example.com").await.status(), 202);
    let received = mail.mail(1).await;
    assert_eq!((received.to.as_str(), received.subject.as_str()), ("ana@example.com", "Choose a new password"));
    assert!(received.link().starts_with("https://club.example.com/app/reset?token="), "{}", received.link());
    assert!(received.body.contains("Hello Ana,"), "{}", received.body);
    // What is refused leaves the link good.
    assert_eq!(fields(reset(&server, &received.token(), "password123").await).await, ["new_password"]);
    assert_eq!(
        code(verify(&server, &received.token()).await).await,
        ErrorCode::LinkInvalid,
        "it is for something else"
    );
    assert_eq!(reset(&server, &received.token(), "battery staple").await.status(), 200);
    assert_eq!(client.close_code().await, Some(CloseCode::Unauthorized.number()));
    let me = server.http().get(server.url("/api/members/me")).bearer_auth(&ana.access_token).send().await.unwrap();
    assert_eq!(code(me).await, ErrorCode::SessionRevoked);
    assert_eq!(code(log_in(&server, "ana@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
    assert_eq!(log_in(&server, "ana@example.com", "battery staple").await.status(), 200);
    let told = mail.mail(2).await;
    assert_eq!(told.subject, "Your password was reset");
    assert!(!told.body.contains("token="), "{}", told.body);
    assert_eq!(code(reset(&server, &received.token(), "staple battery").await).await, ErrorCode::LinkInvalid);
    let all = mail.all();
    let ids: HashSet<&str> =
        all.iter().filter_map(|mail| mail.headers.lines().find(|line| line.starts_with("Message-ID"))).collect();
    assert_eq!(ids.len(), all.len(), "each has an id of its own");
}

#[tokio::test]
async fn a_reset_is_in_the_audit_log_and_a_changed_password_ends_links() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    let email = ana.auth.member.email.clone();
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let (admin, ana) = (admin.at(server.addr()), ana.at(server.addr()));
    // Who registered before there was mail logs in as before.
    assert_eq!(log_in(&server, &email, &ana.password).await.status(), 200);
    assert_eq!(mail.mail(0).await.subject, "A new device logged in");
    assert_eq!(forgot(&server, &email).await.status(), 202);
    let first = mail.mail(1).await;
    let body = json!({ "current_password": ana.password, "new_password": "staple battery" });
    assert_eq!(ana.request(Method::PUT, "/api/members/me/password", body).await.status(), 200);
    assert_eq!(mail.mail(2).await.subject, "Your password was changed");
    assert_eq!(code(reset(&server, &first.token(), "battery staple").await).await, ErrorCode::LinkInvalid);
    assert_eq!(forgot(&server, &email).await.status(), 202);
    let second = mail.mail(3).await;
    assert_eq!(reset(&server, &second.token(), "battery staple").await.status(), 200);
    let audit: AuditPage = admin.request(Method::GET, "/api/admin/audit", Value::Null).await.json().await.unwrap();
    let newest = audit.entries.first().unwrap();
    assert_eq!((newest.action.as_str(), newest.target_id), ("password_reset", Some(ana.id)));
    let path = "/api/admin/members";
    let listed: Value = admin.request(Method::GET, path, Value::Null).await.json().await.unwrap();
    let verified =
        listed["members"].as_array().unwrap().iter().filter(|member| member["email_verified_at"].is_string());
    assert_eq!(verified.count(), 1);
}

/// The address is shown to be theirs first, and then an administrator decides.
#[tokio::test]
async fn who_waits_for_an_administrator_verifies_the_address_too() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let admin = server.admin().await;
    let server = server.restart_with(|settings| {
        mail.set(settings);
        settings.registration.registration = Some(protocol::rest::RegistrationPolicy::Approval);
    });
    let server = server.await;
    let admin = admin.at(server.addr());
    let mut connected = admin.connect().await;
    assert_eq!(register(&server, "ana@example.com").await.json::<Value>().await.unwrap()["status"], "verify_email");
    // One that was not sent yet would be replaced.
    mail.mail(0).await;
    assert_eq!(code(log_in(&server, "ana@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
    let waiting = admin.request(Method::GET, "/api/admin/members?status=pending", Value::Null).await;
    assert_eq!(waiting.json::<Value>().await.unwrap()["members"], json!([]), "nobody knows whose the application is");
    connected.expect_no::<protocol::server::Applications>().await;
    assert_eq!(verify(&server, &mail.mail(1).await.token()).await.status(), 204);
    assert_eq!(connected.expect::<protocol::server::Applications>().await.waiting, 1);
    assert_eq!(code(log_in(&server, "ana@example.com", PASSWORD).await).await, ErrorCode::ApprovalPending);
    let waiting = admin.request(Method::GET, "/api/admin/members?status=pending", Value::Null).await;
    let waiting: Value = waiting.json().await.unwrap();
    let (id, verified) = (&waiting["members"][0]["_id"], &waiting["members"][0]["email_verified_at"]);
    assert!(verified.is_string(), "whoever decides sees it: {waiting}");
    let path = format!("/api/admin/members/{}/approve", id.as_str().unwrap());
    assert_eq!(admin.request(Method::POST, &path, Value::Null).await.status(), 200);
    let told = mail.mail(2).await;
    assert_eq!((told.to.as_str(), told.subject.as_str()), ("ana@example.com", "Welcome: you may come in"));
    assert!(told.body.contains("Hello Ana,") && told.link() == "https://club.example.com/app/", "{}", told.body);
    assert_eq!(log_in(&server, "ana@example.com", PASSWORD).await.status(), 200);
}

/// Found by reading: whoever sends mail could take the first of two writes, and send the notice twice.
#[tokio::test]
async fn one_registration_with_a_taken_address_sends_one_notice() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let mut emails = Vec::new();
    for name in ["ana", "ben", "eva", "ivo", "max", "rui", "tom", "zoe"] {
        emails.push(server.member(name).await.auth.member.email);
    }
    let server = server.restart_with(|settings| mail.set(settings)).await;
    for round in 1..=2_u8 {
        let all = futures_util::future::join_all(emails.iter().map(|email| register(&server, email))).await;
        assert!(all.iter().all(|answer| answer.status() == 202));
        outcome(&server, "address_taken", "sent", f64::from(round) * 8.0).await;
    }
    eventually("nothing waits", async || (server.metric("mail_waiting").await == 0.0).then_some(())).await;
    assert_eq!(
        (mail.count(), server.metric("mail_total{mail=\"address_taken\",outcome=\"dropped\"}").await),
        (16, 0.0)
    );
}

#[tokio::test]
async fn a_link_is_good_for_one_of_many_at_once_and_for_half_an_hour() {
    let mail = MailServer::start(How::Plain).await;
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |settings| mail.set(settings)).await;
    join(&server, &mail, "ana@example.com").await;
    forgot(&server, "ana@example.com").await;
    clock.advance(LOOKED_UP);
    let token = mail.mail(1).await.token();
    let passwords: Vec<String> = (0..20).map(|number| format!("battery staple {number}")).collect();
    let uses = passwords.iter().map(|password| reset(&server, &token, password));
    let answers = futures_util::future::join_all(uses).await;
    let good: Vec<usize> = (0..20).filter(|&number| answers[number].status() == 200).collect();
    assert_eq!(good.len(), 1);
    assert_eq!(log_in(&server, "ana@example.com", &passwords[good[0]]).await.status(), 200);
    for answer in answers.into_iter().filter(|answer| answer.status() != 200) {
        assert_eq!(code(answer).await, ErrorCode::LinkInvalid);
    }
    // Of the password, and of the device that has logged in since.
    mail.mail(3).await;
    forgot(&server, "ana@example.com").await;
    clock.advance(LOOKED_UP);
    let token = mail.mail(4).await.token();
    clock.advance(LINK_LIFETIME - Duration::from_millis(1));
    assert_eq!(fields(reset(&server, &token, "password123").await).await, ["new_password"], "it is good yet");
    clock.advance(Duration::from_millis(1));
    assert_eq!(code(reset(&server, &token, "battery staple").await).await, ErrorCode::LinkInvalid);
    for made_up in ["x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(code(reset(&server, made_up, "battery staple").await).await, ErrorCode::LinkInvalid);
    }
    assert_eq!(fields(reset(&server, &"x".repeat(200), "battery staple").await).await, ["token"]);
}

/// Found by reading: whoever logged in before they had opened the first mail had ended its link, and what strangers asked for left nothing
/// for the member.
#[tokio::test]
async fn a_link_is_sent_twice_and_asking_for_others_ends_none() {
    let mail = MailServer::start(How::Plain).await;
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |settings| mail.set(settings)).await;
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    let first = mail.mail(0).await.token();
    assert_eq!(code(log_in(&server, "ana@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
    assert_eq!(mail.mail(1).await.token(), first);
    assert_eq!(verify(&server, &first).await.status(), 204, "it is what she found first");
    // A stranger asks for five to reset the password.
    let ask = async |times: u8| {
        assert_eq!(forgot(&server, "ana@example.com").await.status(), 202);
        clock.advance(LOOKED_UP);
        outcome(&server, "forgot_password", "resolved", f64::from(times)).await;
    };
    ask(1).await;
    let token = mail.mail(2).await.token();
    ask(2).await;
    assert_eq!(mail.mail(3).await.token(), token);
    for times in 3..=5 {
        ask(times).await;
    }
    clock.advance(Duration::from_secs(15 * 60));
    ask(6).await;
    clock.advance(Duration::from_secs(5 * 60));
    ask(7).await;
    let newest = mail.mail(4).await;
    assert_eq!(mail.count(), 5, "none while one is good that was sent twice");
    assert!(newest.body.contains("30 minutes"), "{}", newest.body);
    assert_ne!(newest.token(), token);
    assert_eq!(reset(&server, &token, "battery staple").await.status(), 200, "it is what she found first");
    assert_eq!(
        code(reset(&server, &newest.token(), "staple battery").await).await,
        ErrorCode::LinkInvalid,
        "of two one"
    );
}

/// What is sent again says for how long it is good.
#[tokio::test]
async fn a_link_that_is_sent_again_says_how_long_it_is_good() {
    let mail = MailServer::start(How::Plain).await;
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |settings| mail.set(settings)).await;
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    assert!(mail.mail(0).await.body.contains("30 minutes"));
    clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(code(log_in(&server, "ana@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
    assert!(mail.mail(1).await.body.contains("15 minutes"), "{}", mail.mail(1).await.body);
}

#[tokio::test]
async fn mails_are_in_the_language_of_their_reader() {
    let mail = MailServer::start(How::Tls).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    let body = json!({ "name": "Inês", "email": "ines@example.com", "password": PASSWORD });
    let sent = server.http().post(server.url("/api/auth/register")).header("Accept-Language", "pt-PT, en;q=0.5");
    assert_eq!(sent.json(&body).send().await.unwrap().status(), 202);
    let first = mail.mail(0).await;
    assert_eq!((first.subject.as_str(), first.is_encrypted), ("Confirme o seu endereço de e-mail", true));
    assert!(first.body.contains("próximos 30 minutos"), "{}", first.body);
    verify(&server, &first.token()).await;
    let auth: AuthResponse = log_in(&server, "ines@example.com", PASSWORD).await.json().await.unwrap();
    assert_eq!(own(&server, &auth).await["language"], "pt");
    let patch = async |language: Value| {
        let body = json!({ "language": language });
        let sent =
            server.http().patch(server.url("/api/members/me")).bearer_auth(&auth.access_token).json(&body).send();
        within("a patch", sent).await.unwrap()
    };
    assert_eq!(fields(patch(json!("fr")).await).await, ["language"]);
    assert_eq!(patch(json!("en")).await.status(), 200);
    forgot(&server, "ines@example.com").await;
    assert_eq!(mail.mail(1).await.subject, "Choose a new password");
    assert_eq!(patch(Value::Null).await.json::<Value>().await.unwrap()["language"], Value::Null);
}

#[tokio::test]
async fn a_new_device_is_told_of_and_one_that_proves_itself_is_not() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    // The first login of all is from no new device.
    join(&server, &mail, "ana@example.com").await;
    let log_in_on = async |device: &str, proof: Option<String>| -> AuthResponse {
        let device = json!({ "name": device, "platform": "web" });
        let body = json!({ "email": "ana@example.com", "password": PASSWORD, "device": device, "device_proof": proof });
        post(&server, "/api/auth/login", body).await.json().await.unwrap()
    };
    let chrome = log_in_on("Chrome on Windows", None).await;
    let told = mail.mail(1).await;
    assert_eq!(told.subject, "A new device logged in");
    assert!(told.body.contains("Chrome on Windows") && !told.body.contains("token="), "{}", told.body);
    assert!(!told.body.contains("More devices"), "{}", told.body);
    // Whatever it is called: what has its proof is known, and a name alone is none.
    log_in_on("A new name", chrome.device_proof).await;
    log_in_on("Chrome on Windows", Some("made up".to_owned())).await;
    assert!(mail.mail(2).await.body.contains("Chrome on Windows"));
}

/// Found by an attacker: whoever had registered with somebody else's address wrote to it in the club's name, by the name of a device.
#[tokio::test]
async fn what_strangers_have_typed_goes_to_no_address_that_nobody_has_verified() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let register = json!({ "name": "Visit evil.example", "email": "ana@example.com", "password": PASSWORD });
    assert_eq!(post(&server, "/api/auth/register", register).await.status(), 201);
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let device = json!({ "name": "and click evil.example", "platform": "web" });
    let body = json!({ "email": "ana@example.com", "password": PASSWORD, "device": device });
    assert_eq!(post(&server, "/api/auth/login", body).await.status(), 200);
    forgot(&server, "ana@example.com").await;
    for number in 0..2 {
        let told = mail.mail(number).await;
        assert!(!format!("{} {}", told.subject, told.body).contains("evil"), "{}: {}", told.subject, told.body);
    }
}

/// Found by a newcomer: only whoever read the metrics knew that no mail went out.
#[tokio::test]
async fn administrators_see_how_much_mail_waits_and_since_when() {
    let mail = MailServer::down(How::Plain).await;
    let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
    let server = Server::at(&clock, |_| ()).await;
    let admin = server.admin().await;
    let server = server.restart_at(&clock, |settings| mail.set(settings)).await;
    let admin = admin.at(server.addr());
    let stats = async || {
        let answer = admin.request(Method::GET, "/api/admin/stats", Value::Null).await;
        answer.json::<ServerStats>().await.unwrap().mail
    };
    let since = clock.now();
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    assert_eq!(stats().await, MailStats { is_sent: true, waiting: 1, oldest_at: Some(since) });
    eventually("the metric", async || (server.metric("mail_waiting").await == 1.0).then_some(())).await;
    clock.advance(Duration::from_secs(90));
    // Which has it looked at.
    forgot(&server, "ben@example.com").await;
    let oldest = async || (server.metric("mail_oldest_seconds").await == 90.0).then_some(());
    eventually("the age of the oldest", oldest).await;
}

/// Found by reading: while the mail server was down, the notice of a second device took the place of the first one's.
#[tokio::test]
async fn each_new_device_is_told_of_once_the_mail_server_is_back() {
    let before = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| before.set(settings)).await;
    join(&server, &before, "ana@example.com").await;
    let mail = MailServer::down(How::Plain).await;
    let server = server.restart_with(|settings| mail.set(settings)).await;
    for number in 1..=7 {
        let device = json!({ "name": format!("Device {number}"), "platform": "web" });
        let body = json!({ "email": "ana@example.com", "password": PASSWORD, "device": device });
        assert_eq!(post(&server, "/api/auth/login", body).await.status(), 200);
    }
    mail.launch().await;
    let last = mail.mail(4).await;
    eventually("nothing waits", async || (server.metric("mail_waiting").await == 0.0).then_some(())).await;
    let all = mail.all();
    let told = |number: u8| all.iter().filter(|mail| mail.body.contains(&format!("Device {number}"))).count();
    assert_eq!((1..=7).map(told).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 0, 0], "{last:?}");
    assert_eq!(all.iter().filter(|mail| mail.body.contains("More devices")).count(), 1);
}

#[tokio::test]
async fn a_member_can_ask_for_the_link_again() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let ana: Member = ana.at(server.addr());
    let path = "/api/members/me/email/verification";
    assert_eq!(ana.request(Method::POST, path, Value::Null).await.status(), 202);
    assert_eq!(verify(&server, &mail.mail(0).await.token()).await.status(), 204);
    assert!(own(&server, &ana.auth).await["email_verified_at"].is_string());
    assert_eq!(ana.request(Method::POST, path, Value::Null).await.status(), 202);
    forgot(&server, &ana.auth.member.email).await;
    assert_eq!(mail.mail(1).await.subject, "Choose a new password", "nothing to verify any more");
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_trusted_is_given_nothing() {
    for how in [How::StartTls, How::Tls] {
        let mail = MailServer::start(how).await;
        let server = Server::with(|settings| {
            mail.set(settings);
            settings.mail.smtp_ca_file = None;
        });
        let server = server.await;
        assert_eq!(register(&server, "ana@example.com").await.status(), 202);
        outcome(&server, "verify_email", "failed", 2.0).await;
        assert_eq!(mail.count(), 0);
        // Whoever is asked to be trusted meanwhile is.
        let server = server.restart_with(|settings| mail.set(settings)).await;
        assert_eq!(mail.mail(0).await.to, "ana@example.com");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_without_starttls_is_told_nothing() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| {
        mail.set(settings);
        settings.mail.smtp_url = Some(mail.url().replace("?tls=none", "").into());
    });
    let server = server.await;
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    outcome(&server, "verify_email", "failed", 1.0).await;
    assert_eq!(mail.count(), 0);
}

#[tokio::test]
async fn what_is_refused_for_now_is_sent_later_and_what_is_refused_for_good_is_given_up() {
    let mail = MailServer::start(How::StartTls).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    mail.expect([Trouble::Recipient(450), Trouble::Content(451)]);
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    let received = mail.mail(0).await;
    assert_eq!(received.to, "ana@example.com");
    outcome(&server, "verify_email", "sent", 1.0).await;
    assert_eq!(server.metric("mail_total{mail=\"verify_email\",outcome=\"failed\"}").await, 2.0);
    assert_eq!(mail.connections(), 3, "of members, of strangers, and of what is set aside, which is kept");
    mail.expect([Trouble::Recipient(550), Trouble::Content(554)]);
    for email in ["ben@example.com", "eva@example.com"] {
        assert_eq!(register(&server, email).await.status(), 202);
    }
    outcome(&server, "verify_email", "refused", 2.0).await;
    mail.had_all().await;
    assert_eq!(register(&server, "max@example.com").await.status(), 202);
    assert_eq!(mail.mail(1).await.to, "max@example.com");
}

#[tokio::test]
async fn a_server_that_hangs_or_closes_in_the_middle_gets_the_mail_again() {
    let mail = MailServer::start(How::StartTls).await;
    let server = Server::with(|settings| {
        mail.set(settings);
        settings.mail.smtp_timeout = Duration::from_millis(500);
    });
    let server = server.await;
    mail.expect([Trouble::Hangs, Trouble::Closes]);
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    let received = mail.mail(0).await;
    assert_eq!(received.to, "ana@example.com");
    assert_eq!(verify(&server, &received.token()).await.status(), 204);
    assert_eq!(mail.asked("example.com"), 3);
}

/// Found by reading: the pause was counted from the beginning of an attempt, so after a server that hung there was none.
#[tokio::test]
async fn after_a_server_that_hangs_a_mail_has_its_pause() {
    let mail = MailServer::start(How::Plain).await;
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let settings = |settings: &mut Settings| {
        mail.set(settings);
        // Less than what has a domain rest, which no clock of a test shortens.
        settings.mail.smtp_timeout = Duration::from_secs(1);
    };
    let server = Server::at(&clock, settings).await;
    mail.expect([Trouble::Hangs]);
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    mail.had_all().await;
    clock.advance(Duration::from_secs(30));
    outcome(&server, "verify_email", "failed", 1.0).await;
    assert_eq!(register(&server, "ben@example.com").await.status(), 202);
    assert_eq!(mail.mail(0).await.to, "ben@example.com", "the other is not due");
    clock.advance(Duration::from_secs(2));
    assert_eq!(register(&server, "eva@example.com").await.status(), 202);
    let mut to = [mail.mail(1).await.to, mail.mail(2).await.to];
    to.sort_unstable();
    assert_eq!(to, ["ana@example.com", "eva@example.com"]);
}

/// Found by an attacker and by faults: a mail server that was lost at some mails got no others for as long as those waited, which is a day.
#[tokio::test]
async fn a_server_that_is_lost_at_some_mails_gets_all_others() {
    for trouble in [Trouble::Recipient(421), Trouble::Hangs, Trouble::Closes] {
        let mail = MailServer::start(How::Plain).await;
        let server = Server::with(|settings| {
            mail.set(settings);
            settings.mail.smtp_timeout = Duration::from_millis(500);
        });
        let server = server.await;
        join(&server, &mail, "ana@example.com").await;
        join(&server, &mail, "eva@slow.example.com").await;
        let before = mail.count();
        mail.expect_at("slow.example.com", trouble);
        // What a member is told waits for a day, and goes before what others ask for.
        for _ in 0..3 {
            assert_eq!(log_in(&server, "eva@slow.example.com", PASSWORD).await.status(), 200);
        }
        for number in 0..3 {
            assert_eq!(register(&server, &format!("{number}@slow.example.com")).await.status(), 202);
        }
        outcome(&server, "new_device", "failed", 2.0).await;
        outcome(&server, "verify_email", "failed", 1.0).await;
        assert_eq!(forgot(&server, "ana@example.com").await.status(), 202);
        assert_eq!(register(&server, "ben@example.com").await.status(), 202);
        let mut to = [mail.mail(before).await.to, mail.mail(before + 1).await.to];
        to.sort_unstable();
        assert_eq!(to, ["ana@example.com", "ben@example.com"], "{trouble:?}");
        server.stop().await;
    }
}

/// Found by an attacker and by faults: who made addresses up at domains that hang kept the mails of members back for that long, and registrations
/// behind each of them.
#[tokio::test]
async fn what_hangs_for_strangers_keeps_nothing_of_members_back() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    join(&server, &mail, "ana@example.com").await;
    let before = mail.count();
    mail.expect_at("slow.example.com", Trouble::Hangs);
    assert_eq!(register(&server, "eva@slow.example.com").await.status(), 202);
    eventually("it hangs", async || (mail.asked("slow.example.com") == 1).then_some(())).await;
    assert_eq!(log_in(&server, "ana@example.com", PASSWORD).await.status(), 200);
    assert_eq!(mail.mail(before).await.to, "ana@example.com");
    assert_eq!(server.metric("mail_total{mail=\"verify_email\",outcome=\"failed\"}").await, 0.0, "it hangs still");
}

/// Found by faults: one recipient that was refused for now after some seconds, again and again, kept all others back.
#[tokio::test]
async fn a_server_that_refuses_some_slowly_gets_all_others() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    mail.expect_at("slow.example.com", Trouble::Slow(451));
    for number in 0..4 {
        assert_eq!(register(&server, &format!("{number}@slow.example.com")).await.status(), 202);
    }
    assert_eq!(register(&server, "ben@example.com").await.status(), 202);
    assert_eq!(mail.mail(0).await.to, "ben@example.com");
    assert!(mail.asked("slow.example.com") <= 2, "the first, and one that was set aside");
}

/// Found by faults and by an attacker: notices that one mailbox refused took every turn of their domain, and no reset of another member there was
/// tried.
#[tokio::test]
async fn a_mailbox_that_refuses_keeps_no_other_one_of_its_domain_back() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    for email in ["ana@example.com", "ben@example.com"] {
        join(&server, &mail, email).await;
    }
    let before = mail.count();
    mail.expect_at("ana@example.com", Trouble::Slow(451));
    for _ in 0..5 {
        assert_eq!(log_in(&server, "ana@example.com", PASSWORD).await.status(), 200);
    }
    // The first in the lane of members, and one beside it: from then on some of them are always due.
    outcome(&server, "new_device", "failed", 2.0).await;
    assert_eq!(forgot(&server, "ben@example.com").await.status(), 202);
    assert_eq!(mail.mail(before).await.to, "ben@example.com");
}

/// Found by an attacker and by faults: whoever logged in again and again at a domain that takes its mails slowly kept all links back.
#[tokio::test]
async fn a_domain_that_takes_mails_slowly_keeps_no_link_of_others_back() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    for email in ["ana@slow.example.com", "ben@example.com"] {
        join(&server, &mail, email).await;
    }
    let before = mail.count();
    mail.expect_at("slow.example.com", Trouble::Late);
    for _ in 0..5 {
        assert_eq!(log_in(&server, "ana@slow.example.com", PASSWORD).await.status(), 200);
    }
    assert_eq!(forgot(&server, "ben@example.com").await.status(), 202);
    let to = [mail.mail(before).await.to, mail.mail(before + 1).await.to, mail.mail(before + 2).await.to];
    assert!(to.contains(&"ben@example.com".to_owned()), "{to:?}");
}

/// Found by faults: who did not wait for the answer to a whole mail had it come twice.
#[tokio::test]
async fn a_server_that_takes_its_time_for_a_mail_gets_it_once() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| {
        mail.set(settings);
        settings.mail.smtp_timeout = Duration::from_millis(1_500);
    });
    let server = server.await;
    mail.expect([Trouble::Late]);
    for email in ["ana@example.com", "ben@example.com"] {
        assert_eq!(register(&server, email).await.status(), 202);
    }
    outcome(&server, "verify_email", "sent", 2.0).await;
    assert_eq!(mail.count(), 2);
    assert_eq!(server.metric("mail_total{mail=\"verify_email\",outcome=\"failed\"}").await, 0.0);
}

/// Found by faults: a mail that was put off for more than some minutes was tried 500 times a second from then on.
#[tokio::test]
async fn a_mail_that_is_kept_back_for_long_is_tried_now_and_then() {
    let mail = MailServer::start(How::Plain).await;
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |settings| mail.set(settings)).await;
    mail.expect_at("strict.example.com", Trouble::Rule("5.7.1"));
    assert_eq!(register(&server, "ana@strict.example.com").await.status(), 202);
    for number in 1..=24 {
        // It costs no mail, and has the queue looked at.
        forgot(&server, &format!("{number}@example.com")).await;
        clock.advance(Duration::from_secs(30));
        outcome(&server, "forgot_password", "resolved", f64::from(number)).await;
    }
    let asked = mail.asked("strict.example.com");
    assert!((1..=12).contains(&asked), "{asked} times in 12 minutes");
}

/// Found by faults: many servers say what they hold against the sender as the answer to RCPT, and each mail was given up for good.
#[tokio::test]
async fn a_rule_that_may_be_about_the_sender_keeps_a_mail_back_and_loses_none() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    mail.expect([Trouble::Rule("5.7.1"), Trouble::Rule("5.4.5"), Trouble::Rule("5.1.1")]);
    for email in ["ana@example.com", "ben@example.com"] {
        assert_eq!(register(&server, email).await.status(), 202);
    }
    outcome(&server, "verify_email", "refused", 1.0).await;
    assert_eq!(mail.mail(0).await.subject, "Confirm your e-mail address");
    outcome(&server, "verify_email", "sent", 1.0).await;
    assert_eq!(server.metric("mail_total{mail=\"verify_email\",outcome=\"failed\"}").await, 2.0);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_server_that_hangs() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    mail.expect([Trouble::Hangs]);
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    mail.had_all().await;
    within("the end", server.stop()).await;
}

#[tokio::test]
async fn a_server_that_is_down_for_a_while_gets_everything_once_it_is_back() {
    let mail = MailServer::down(How::StartTls).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    let emails = ["ana@example.com", "ben@example.com", "eva@example.com"];
    for email in emails {
        assert_eq!(register(&server, email).await.status(), 202);
    }
    outcome(&server, "verify_email", "failed", 1.0).await;
    mail.launch().await;
    let mut to = HashSet::new();
    for number in 0..emails.len() {
        to.insert(mail.mail(number).await.to);
    }
    assert_eq!(to, emails.map(str::to_owned).into());
    eventually("nothing waits", async || (server.metric("mail_waiting").await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn without_a_mail_server_links_are_in_the_log_or_there_are_none() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    assert_eq!(forgot(&server, &ana.auth.member.email).await.status(), 202);
    outcome(&server, "reset_password", "logged", 1.0).await;
    // Behind a proxy others reach it, too.
    let proxy = IpAddr::from([127, 0, 0, 1]);
    let server = server.restart_with(|settings| settings.listen.trusted_proxies = vec![proxy.into()]).await;
    assert_eq!(code(forgot(&server, &ana.auth.member.email).await).await, ErrorCode::MailUnavailable);
    let server = server.restart_with(|settings| settings.listen.host = [0, 0, 0, 0].into()).await;
    let ana = ana.at(([127, 0, 0, 1], server.addr().port()).into());
    let url = format!("http://127.0.0.1:{}/api/auth/password/forgot", server.addr().port());
    let body = json!({ "email": ana.auth.member.email });
    let refused = server.http().post(url).json(&body).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(code(refused).await, ErrorCode::MailUnavailable);
    let refused = ana.request(Method::POST, "/api/members/me/email/verification", Value::Null).await;
    assert_eq!(code(refused).await, ErrorCode::MailUnavailable);
    // A second one with this address is told so, as ever.
    let body = json!({ "name": "Ana", "email": ana.auth.member.email, "password": PASSWORD });
    let url = format!("http://127.0.0.1:{}/api/auth/register", server.addr().port());
    assert_eq!(code(server.http().post(url).json(&body).send().await.unwrap()).await, ErrorCode::EmailTaken);
}

#[tokio::test]
async fn of_what_waits_for_who_leaves_that_is_sent_which_they_have_to_know() {
    let mail = MailServer::down(How::Plain).await;
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let (ana, ben) = (ana.at(server.addr()), ben.at(server.addr()));
    for member in [&ana, &ben] {
        let sent = member.request(Method::POST, "/api/members/me/email/verification", Value::Null).await;
        assert_eq!(sent.status(), 202);
    }
    outcome(&server, "verify_email", "failed", 1.0).await;
    assert_eq!(ana.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    mail.launch().await;
    let mut received: Vec<Received> = vec![mail.mail(0).await, mail.mail(1).await];
    received.sort_by_key(|received| received.to != ben.auth.member.email);
    assert_eq!((&received[0].to, &received[1].to), (&ben.auth.member.email, &ana.auth.member.email));
    assert_eq!(received[1].subject, "Your account was deleted");
    eventually("nothing waits", async || (server.metric("mail_waiting").await == 0.0).then_some(())).await;
    assert_eq!(mail.count(), 2);
}

/// Found by faults: whoever had taken an account deleted it before the mail server had taken the notices, and its owner was never told.
#[tokio::test]
async fn who_deletes_an_account_does_not_hide_what_they_did_with_it() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    join(&server, &mail, "ana@example.com").await;
    mail.expect([Trouble::Recipient(450), Trouble::Recipient(450)]);
    let thief: AuthResponse = log_in(&server, "ana@example.com", PASSWORD).await.json().await.unwrap();
    let as_thief = |method: Method, path: &str, token: &str| {
        server.http().request(method, server.url(path)).bearer_auth(token.to_owned())
    };
    let passwords = json!({ "current_password": PASSWORD, "new_password": "battery staple horse" });
    let changed = as_thief(Method::PUT, "/api/members/me/password", &thief.access_token).json(&passwords).send();
    let thief: AuthResponse = changed.await.unwrap().json().await.unwrap();
    let deleted = as_thief(Method::DELETE, "/api/members/me", &thief.access_token).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    let mut subjects = HashSet::new();
    for number in 1..4 {
        let received = mail.mail(number).await;
        assert_eq!(received.to, "ana@example.com");
        subjects.insert(received.subject);
    }
    let expected = ["A new device logged in", "Your password was changed", "Your account was deleted"];
    assert_eq!(subjects, expected.map(str::to_owned).into());
}

/// Found by faults: a mail that was put off while the clock was ahead waited until the clock had come to that.
#[tokio::test]
async fn a_mail_that_was_put_off_by_a_wrong_clock_is_sent_when_that_is_right() {
    let mail = MailServer::start(How::StartTls).await;
    let started = Timestamp::from_millis(1_795_370_633_000);
    let clock = ManualClock::at(started.after(Duration::from_secs(86_400)));
    let server = Server::at(&clock, |settings| mail.set(settings)).await;
    mail.expect([Trouble::Recipient(451)]);
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    outcome(&server, "verify_email", "failed", 1.0).await;
    clock.set(started);
    // Whoever looks next finds it.
    assert_eq!(register(&server, "ben@example.com").await.status(), 202);
    let mut to = [mail.mail(0).await.to, mail.mail(1).await.to];
    to.sort_unstable();
    assert_eq!(to, ["ana@example.com", "ben@example.com"]);
}

/// Found by an attacker: with a full queue nothing came of forgotten passwords, which took that for a mail server that is down: they waited
/// for a minute each, and nothing left the queue.
#[tokio::test]
async fn a_full_queue_is_worked_off_by_itself() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let email = ana.auth.member.email.clone();
    let server = server
        .restart_with(|settings| {
            mail.set(settings);
            let DatabaseUrl::Sqlite(file) = settings.store.database().unwrap() else { panic!() };
            let rows = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
                INSERT INTO mail (key, kind, share, turn, body, due, until, revision)
                SELECT 'forgot_password/' || n, 'forgot_password', n, 0,
                    json_object('kind', 'forgot_password', 'email', ?2, 'asked', n), n, n, n FROM numbers";
            rusqlite::Connection::open(file).unwrap().execute(rows, (STRANGERS_MAX, &email)).unwrap();
        })
        .await;
    assert_eq!(mail.mail(0).await.to, email);
    eventually("there is room", async || {
        (server.metric("mail_waiting").await < f64::from(u32::try_from(STRANGERS_MAX).unwrap())).then_some(())
    })
    .await;
}

/// Found by an attacker: they were told that a mail was sent, and none could be.
#[tokio::test]
async fn an_address_that_no_mail_can_be_written_to_is_refused() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    for email in ["ana..x@example.com", ".ana@example.com", "ana.@example.com"] {
        let refused = register(&server, email).await;
        assert_eq!(refused.status(), 422, "{email}");
        assert_eq!(fields(refused).await, ["email"], "{email}");
    }
    assert_eq!(register(&server, "ana.x@example.com").await.status(), 202);
    assert_eq!(mail.mail(0).await.to, "ana.x@example.com");
}
