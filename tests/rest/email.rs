//! The e-mail address of a member is changed: with a link that is sent to the new one, on every store.

use std::time::Duration;

use members_book::{
    clock::{Clock as _, SystemClock},
    store::{
        changes::{Actor, Change, EmailProof},
        mail::CHANGES_MAX,
        members::Suspension,
    },
};
use protocol::{
    ErrorCode, MemberId,
    model::UserType,
    rest::{AuditPage, AuthResponse},
    server::MemberPush,
};
use reqwest::{Method, Response};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    code, fields,
    mail::{PASSWORD, forgot, join, log_in, outcome, post, register, reset, verify},
    second_factor::state,
};
use crate::harness::{
    Member, Server,
    authenticator::turn_on,
    database::Database,
    eventually,
    smtp::{How, MailServer, Trouble},
};

/// Runs each test with a server of each store, which sends mail.
macro_rules! on_every_store {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                let mail = super::MailServer::start(super::How::Plain).await;
                super::$test(super::Server::with(|settings| mail.set(settings)).await, mail).await;
            })+
        }

        mod mongodb {
            $(#[tokio::test]
            async fn $test() {
                let mail = super::MailServer::start(super::How::Plain).await;
                let database = super::Database::new().await;
                let server = super::Server::with(|settings| {
                    mail.set(settings);
                    settings.store.database_url = Some(super::SecretString::from(database.uri.clone()));
                });
                super::$test(server.await, mail).await;
            })+
        }
    };
}

on_every_store![
    the_address_is_another_one_once_the_link_was_used,
    who_has_the_address_is_told_and_nobody_else,
    a_newer_link_ends_the_former_and_nothing_happens_without_one,
    of_two_who_confirm_one_address_one_has_it,
    five_links_an_hour_are_sent,
    a_code_is_not_used_up_where_there_were_too_many,
    a_link_ends_with_what_its_member_has_shown_for_it,
    a_right_password_costs_nothing_whatever_comes_of_it,
    the_export_has_the_addresses_that_were_asked_for,
    a_former_address_is_told_of_what_was_for_it_whatever_becomes_of_the_member,
    an_address_that_nobody_has_verified_is_had_by_who_reads_its_mail,
];

async fn member(server: &Server, mail: &MailServer, email: &str) -> Member {
    Member::of(server, join(server, mail, email).await, PASSWORD)
}

async fn ask(member: &Member, email: &str) -> Response {
    let body = json!({ "email": email, "password": member.password });
    member.request(Method::POST, "/api/members/me/email", body).await
}

async fn own(member: &Member) -> Value {
    member.request(Method::GET, "/api/members/me", Value::Null).await.json().await.unwrap()
}

/// The mails to an address that the mail server has got.
fn to(mail: &MailServer, email: &str) -> Vec<String> {
    mail.all().into_iter().filter(|mail| mail.to == email).map(|mail| mail.subject).collect()
}

/// What an administrator decides of a member; there is none where everybody has to verify the address.
async fn decide(server: &Server, member: MemberId, change: Change) {
    let at = SystemClock.now();
    server.members().change(member, change, Actor::default(), at, CancellationToken::new()).await.unwrap();
}

async fn audited(admin: &Member, target: MemberId) -> Value {
    let page = admin.request(Method::GET, "/api/admin/audit?action=email_changed", Value::Null).await;
    let AuditPage { entries, .. } = page.json().await.unwrap();
    assert_eq!((entries.len(), entries[0].target_id), (1, Some(target)));
    serde_json::to_value(&entries[0]).unwrap()
}

#[expect(clippy::cognitive_complexity, reason = "the way, from its beginning to its end")]
async fn the_address_is_another_one_once_the_link_was_used(server: Server, mail: MailServer) {
    let ana = member(&server, &mail, "ana@example.com").await;
    let mut device = ana.connect().await;
    assert_eq!(forgot(&server, "ana@example.com").await.status(), 202);
    let forgotten = mail.mail(1).await.token();
    let refused = |email: &str, password: &str| {
        ana.request(Method::POST, "/api/members/me/email", json!({ "email": email, "password": password }))
    };
    assert_eq!(fields(refused("new@example.com", "not this one").await).await, ["password"]);
    for email in ["ana@example.com", "root@localhost", "nonsense", ""] {
        assert_eq!(fields(refused(email, PASSWORD).await).await, ["email"], "{email}");
    }
    assert_eq!(ask(&ana, " Ana@New.Example.com ").await.status(), 202);
    let asked = mail.mail(2).await;
    assert_eq!((asked.to.as_str(), asked.subject.as_str()), ("Ana@New.Example.com", "Confirm your new e-mail address"));
    assert!(!asked.body.contains("Hello Ana"), "it may be anybody's: {}", asked.body);
    assert!(asked.link().starts_with("https://club.example.com/app/verify?token="), "{}", asked.link());
    // Nothing is changed yet.
    let before = own(&ana).await;
    assert_eq!(before["email"], "ana@example.com");
    // Were it mistyped, whoever reads the mail would have the account.
    for body in [json!({ "token": asked.token() }), json!({ "token": asked.token(), "password": "not this one" })] {
        assert_eq!(fields(post(&server, "/api/auth/email/verify", body).await).await, ["password"]);
    }
    assert_eq!(code(reset(&server, &asked.token(), "battery staple").await).await, ErrorCode::LinkInvalid);
    assert_eq!(verify(&server, &asked.token()).await.status(), 204);
    assert_eq!(device.expect::<MemberPush>().await.member.id, ana.id);
    let after = own(&ana).await;
    assert_eq!(after["email"], "Ana@New.Example.com");
    assert!(after["email_verified_at"].as_str() > before["email_verified_at"].as_str(), "{after}");
    assert!(after["updated_at"].as_str() > before["updated_at"].as_str(), "{after}");
    assert_eq!(code(verify(&server, &asked.token()).await).await, ErrorCode::LinkInvalid, "it is good once");
    assert_eq!(code(reset(&server, &forgotten, "battery staple").await).await, ErrorCode::LinkInvalid);
    let told = mail.mail(3).await;
    assert_eq!((told.to.as_str(), told.subject.as_str()), ("ana@example.com", "Your e-mail address was changed"));
    assert!(told.body.contains("administrator") && !told.body.contains("New.Example"), "{}", told.body);
    assert_eq!(code(log_in(&server, "ana@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
    assert_eq!(log_in(&server, "ana@new.example.com", PASSWORD).await.status(), 200);
    // The former address is anybody's.
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    mail.mail(5).await;
    let told = mail.all().into_iter().rfind(|told| told.subject == "Confirm your e-mail address").unwrap();
    assert_eq!(told.to, "ana@example.com");
    assert_eq!(verify(&server, &told.token()).await.status(), 204);
    let other: AuthResponse = log_in(&server, "ana@example.com", PASSWORD).await.json().await.unwrap();
    assert_ne!(other.member.id, ana.id);
    decide(&server, ana.id, Change::Role(UserType::Admin)).await;
    let entry = audited(&ana, ana.id).await;
    assert_eq!(entry["actor_id"], json!(ana.id));
    assert!(!entry.to_string().contains("example.com"), "{entry}");
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn who_has_the_address_is_told_and_nobody_else(server: Server, mail: MailServer) {
    let ana = member(&server, &mail, "ana@example.com").await;
    let ben = member(&server, &mail, "ben@example.com").await;
    let uma = member(&server, &mail, "uma@example.com").await;
    let out = member(&server, &mail, "out@example.com").await;
    assert_eq!(uma.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    decide(&server, out.id, Change::Active(false)).await;
    let is_told = async || (to(&mail, "uma@example.com").last()? == "Your account was deleted").then_some(());
    eventually("who has left", is_told).await;
    let before = mail.count();
    assert_eq!(ask(&ana, "BEN@example.com").await.status(), 202, "nobody learns who is there");
    let told = mail.mail(before).await;
    assert_eq!((told.to.as_str(), told.subject.as_str()), ("ben@example.com", "You have an account already"));
    assert!(!told.body.contains("token="), "{}", told.body);
    assert_eq!(ask(&ana, "out@example.com").await.status(), 202);
    outcome(&server, "change_email", "dropped", 1.0).await;
    assert_eq!(ask(&ana, "uma@example.com").await.status(), 202);
    assert_eq!(ask(&ana, "free@example.com").await.status(), 202);
    assert_eq!(mail.mail(before + 1).await.to, "free@example.com");
    assert_eq!(mail.count(), before + 2, "neither who has left nor who was put out is written to");
    assert_eq!(
        (own(&ana).await["email"].as_str(), own(&ben).await["email"].as_str()),
        (Some("ana@example.com"), Some("ben@example.com"))
    );
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn a_newer_link_ends_the_former_and_nothing_happens_without_one(server: Server, mail: MailServer) {
    let ana = member(&server, &mail, "ana@example.com").await;
    assert_eq!(ask(&ana, "first@example.com").await.status(), 202);
    let first = mail.mail(1).await;
    assert_eq!(ask(&ana, "second@example.com").await.status(), 202);
    let second = mail.mail(2).await;
    assert_eq!((first.to.as_str(), second.to.as_str()), ("first@example.com", "second@example.com"));
    let server = server.restart().await;
    let ana = ana.at(server.addr());
    assert_eq!(own(&ana).await["email"], "ana@example.com", "it was only asked for");
    assert_eq!(code(verify(&server, &first.token()).await).await, ErrorCode::LinkInvalid);
    assert_eq!(verify(&server, &second.token()).await.status(), 204);
    assert_eq!(own(&ana).await["email"], "second@example.com");
    // Another case is the same address: nobody has to be told, and nobody has it.
    assert_eq!(ask(&ana, "Second@example.com").await.status(), 202);
    let asked = mail.mail(4).await;
    assert_eq!(asked.subject, "Confirm your new e-mail address");
    assert_eq!(verify(&server, &asked.token()).await.status(), 204);
    assert_eq!(own(&ana).await["email"], "Second@example.com");
    // What a member changes meanwhile ends a link that waits for them.
    assert_eq!(ask(&ana, "third@example.com").await.status(), 202);
    let third =
        eventually("the third link", async || mail.all().into_iter().find(|mail| mail.to == "third@example.com"));
    let third = third.await;
    let body = json!({ "current_password": PASSWORD, "new_password": "battery staple" });
    assert_eq!(ana.request(Method::PUT, "/api/members/me/password", body).await.status(), 200);
    assert_eq!(code(verify(&server, &third.token()).await).await, ErrorCode::LinkInvalid);
    assert_eq!(to(&mail, "first@example.com").len(), 1);
}

async fn of_two_who_confirm_one_address_one_has_it(server: Server, mail: MailServer) {
    let ana = member(&server, &mail, "ana@example.com").await;
    let ben = member(&server, &mail, "ben@example.com").await;
    let mut tokens = Vec::new();
    for (number, who) in [&ana, &ben].into_iter().enumerate() {
        assert_eq!(ask(who, "both@example.com").await.status(), 202);
        tokens.push(mail.mail(2 + number).await.token());
    }
    let (first, second) = tokio::join!(verify(&server, &tokens[0]), verify(&server, &tokens[1]));
    let (won, lost) = if first.status() == 204 { (0, second) } else { (1, first) };
    assert_eq!(code(lost).await, ErrorCode::EmailTaken);
    assert_eq!(code(verify(&server, &tokens[1 - won]).await).await, ErrorCode::EmailTaken, "and so it stays");
    let has = [own(&ana).await, own(&ben).await].map(|own| own["email"] == "both@example.com");
    assert_eq!(has, [won == 0, won == 1]);
}

async fn five_links_an_hour_are_sent(server: Server, mail: MailServer) {
    let ana = member(&server, &mail, "ana@example.com").await;
    for number in 0..CHANGES_MAX {
        assert_eq!(ask(&ana, &format!("{number}@example.com")).await.status(), 202);
    }
    let refused = ask(&ana, "another@example.com").await;
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    assert_eq!(code(refused).await, ErrorCode::RateLimited);
    // As many wrong passwords are tried as where the password is changed, and no more.
    for _ in 0..10 {
        let body = json!({ "email": "x@example.com", "password": "a guess" });
        assert_eq!(fields(ana.request(Method::POST, "/api/members/me/email", body).await).await, ["password"]);
    }
    let body = json!({ "current_password": PASSWORD, "new_password": "battery staple" });
    let refused = ana.request(Method::PUT, "/api/members/me/password", body).await;
    assert_eq!(code(refused).await, ErrorCode::RateLimited);
}

/// Found by an attacker: whoever asked too often was answered 429, and the code of the second factor that they had given was used up by it.
async fn a_code_is_not_used_up_where_there_were_too_many(server: Server, mail: MailServer) {
    let mut ana = member(&server, &mail, "ana@example.com").await;
    let (_, codes) = turn_on(&mut ana, &SystemClock).await;
    let ask = async |email: &str, code: &str| {
        let body = json!({ "email": email, "password": PASSWORD, "code": code });
        ana.request(Method::POST, "/api/members/me/email", body).await
    };
    for (number, code) in codes.iter().enumerate().take(5) {
        assert_eq!(ask(&format!("{number}@example.com"), code).await.status(), 202);
    }
    assert_eq!(fields(ask("x@example.com", &codes[0]).await).await, ["code"], "it is used");
    for _ in 0..2 {
        assert_eq!(code(ask("x@example.com", &codes[5]).await).await, ErrorCode::RateLimited);
    }
    assert_eq!(state(&ana).await.recovery_codes_left, 5);
}

/// Found by an attacker: the link of a thief stayed good whatever its member and administrators did, but for a new password.
#[expect(clippy::cognitive_complexity, reason = "what ends it, one after the other")]
async fn a_link_ends_with_what_its_member_has_shown_for_it(server: Server, mail: MailServer) {
    let until = SystemClock.now().after(Duration::from_secs(3_600));
    let suspended = Change::Suspended(Some(Suspension { until, reason: None }));
    let mut members = Vec::new();
    for what in ["on", "reset", "suspended", "all", "others"] {
        members.push((what, member(&server, &mail, &format!("{what}@example.com")).await));
    }
    for (what, mut ana) in members {
        assert_eq!(ask(&ana, &format!("new.{what}@example.com")).await.status(), 202);
        let to_new = format!("new.{what}@example.com");
        let link = eventually("the link", async || mail.all().into_iter().find(|mail| mail.to == to_new)).await;
        match what {
            "on" => drop(turn_on(&mut ana, &SystemClock).await),
            "reset" => {
                let (_, codes) = turn_on(&mut ana, &SystemClock).await;
                let body = json!({ "email": "again@example.com", "password": PASSWORD, "code": codes[0] });
                assert_eq!(ana.request(Method::POST, "/api/members/me/email", body).await.status(), 202);
                let again = async || mail.all().into_iter().find(|mail| mail.to == "again@example.com");
                let again = eventually("the further link", again).await;
                decide(&server, ana.id, Change::ResetSecondFactor).await;
                assert_eq!(code(verify(&server, &again.token()).await).await, ErrorCode::LinkInvalid);
            }
            "suspended" => decide(&server, ana.id, suspended.clone()).await,
            "all" => {
                let out = ana.request(Method::POST, "/api/auth/logout", json!({ "all": true })).await;
                assert_eq!(out.status(), 204);
            }
            _ => {
                let others =
                    async || ana.request(Method::DELETE, "/api/members/me/sessions", Value::Null).await.status();
                assert_eq!(others().await, 204);
                // There were none, so nothing has ended.
                let wrong = json!({ "token": link.token(), "password": "another one" });
                assert_ne!(code(post(&server, "/api/auth/email/verify", wrong).await).await, ErrorCode::LinkInvalid);
                assert_eq!(log_in(&server, "others@example.com", PASSWORD).await.status(), 200);
                assert_eq!(others().await, 204);
            }
        }
        assert_eq!(code(verify(&server, &link.token()).await).await, ErrorCode::LinkInvalid, "{what}");
    }
}

/// Found by looking: a right password was charged as a wrong one, so that whoever tried again had to wait.
async fn a_right_password_costs_nothing_whatever_comes_of_it(server: Server, mail: MailServer) {
    let ana = member(&server, &mail, "ana@example.com").await;
    let ben = member(&server, &mail, "ben@example.com").await;
    assert_eq!(ask(&ana, "both@example.com").await.status(), 202);
    let link = mail.mail(2).await;
    decide(&server, ben.id, Change::Email { email: "both@example.com".to_owned(), proof: EmailProof::Command }).await;
    for _ in 0..12 {
        assert_eq!(code(verify(&server, &link.token()).await).await, ErrorCode::EmailTaken);
    }
}

/// Found by an attacker: the export of a member did not have the address that they had asked for, which is kept for a day.
async fn the_export_has_the_addresses_that_were_asked_for(server: Server, mail: MailServer) {
    let ana = member(&server, &mail, "ana@example.com").await;
    assert_eq!(forgot(&server, "ana@example.com").await.status(), 202);
    for email in ["first@example.com", "second@example.com"] {
        assert_eq!(ask(&ana, email).await.status(), 202);
    }
    let export: Value = ana.request(Method::GET, "/api/members/me/export", Value::Null).await.json().await.unwrap();
    let asked = export["email_changes"].as_array().unwrap();
    let emails: Vec<&str> = asked.iter().filter_map(|asked| asked["email"].as_str()).collect();
    assert_eq!(emails, ["second@example.com", "first@example.com"], "and nothing of other links");
    assert!(asked.iter().all(|asked| asked["asked_at"].is_string()), "{asked:?}");
}

/// Found by an attacker: who had changed the address was told of what waited for its owner, and nobody of that when they had left.
async fn a_former_address_is_told_of_what_was_for_it_whatever_becomes_of_the_member(server: Server, mail: MailServer) {
    let ana = member(&server, &mail, "ana@example.com").await;
    mail.expect([Trouble::Recipient(451)]);
    let body = json!({ "current_password": PASSWORD, "new_password": "battery staple" });
    assert_eq!(ana.request(Method::PUT, "/api/members/me/password", body).await.status(), 200);
    outcome(&server, "password_changed", "failed", 1.0).await;
    let set = |email: &str| Change::Email { email: email.to_owned(), proof: EmailProof::Command };
    decide(&server, ana.id, set("thief@example.com")).await;
    decide(&server, ana.id, Change::Active(false)).await;
    decide(&server, ana.id, set("Thief@example.com")).await;
    decide(&server, ana.id, Change::Erase).await;
    // Somebody asks for something, so that it is looked.
    assert_eq!(forgot(&server, "nobody@example.com").await.status(), 202);
    eventually("all are told", async || {
        let to_ana = to(&mail, "ana@example.com");
        let told = |subject: &str| to_ana.iter().any(|told| told == subject);
        let told = told("Your password was changed") && told("Your e-mail address was changed");
        (told && to(&mail, "thief@example.com") == ["Your e-mail address was changed"]).then_some(())
    })
    .await;
    let is_told = async || (to(&mail, "Thief@example.com") == ["Your account was deleted"]).then_some(());
    eventually("the last one is told that there is no account", is_told).await;
}

/// Found by an attacker: a stranger who had registered with it, and never read its mail, kept it from its owner.
async fn an_address_that_nobody_has_verified_is_had_by_who_reads_its_mail(server: Server, mail: MailServer) {
    let ana = member(&server, &mail, "ana@example.com").await;
    assert_eq!(register(&server, "new@example.com").await.status(), 202);
    let registered = mail.mail(1).await;
    assert_eq!(ask(&ana, "New@example.com").await.status(), 202);
    let asked = mail.mail(2).await;
    assert_eq!((asked.to.as_str(), asked.subject.as_str()), ("New@example.com", "Confirm your new e-mail address"));
    assert_eq!(verify(&server, &asked.token()).await.status(), 204);
    assert_eq!(own(&ana).await["email"], "New@example.com");
    assert_eq!(code(verify(&server, &registered.token()).await).await, ErrorCode::LinkInvalid);
}

/// Found by an attacker: whoever had the address that a member gets who leaves kept them from that.
#[tokio::test]
async fn nobody_has_an_address_of_who_has_left() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    for email in [format!("{}@erased.invalid", ana.id), "eva@Erased.INVALID".to_owned()] {
        let new = json!({ "name": "Eva", "email": email, "password": PASSWORD });
        let register = ben.request(Method::POST, "/api/auth/register", new);
        assert_eq!(fields(register.await).await, ["email"], "{email}");
        assert_eq!(fields(ask(&ben, &email).await).await, ["email"], "{email}");
    }
}

/// There is nobody to ask whose the address is.
#[tokio::test]
async fn without_mail_it_is_changed_at_once_and_not_verified() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let server = server.restart_with(|settings| settings.listen.host = [0, 0, 0, 0].into()).await;
    let ana = ana.at(([127, 0, 0, 1], server.addr().port()).into());
    let wrong = json!({ "email": "new@example.com", "password": "not this one" });
    let wrong = ana.request(Method::POST, "/api/members/me/email", wrong).await;
    assert_eq!(fields(wrong).await, ["password"]);
    assert_eq!(code(ask(&ana, &ben.auth.member.email.to_uppercase()).await).await, ErrorCode::EmailTaken);
    let changed = ask(&ana, "new@example.com").await;
    assert_eq!((changed.status().as_u16(), changed.headers().contains_key("etag")), (200, true));
    let changed: Value = changed.json().await.unwrap();
    assert_eq!((&changed["email"], &changed["email_verified_at"]), (&json!("new@example.com"), &Value::Null));
    assert_eq!(own(&ana).await, changed);
    let to = async |what: &str, body: Value| ana.request(Method::POST, &format!("/api/auth/{what}"), body).await;
    let log_in = |email: &str| to("login", json!({ "email": email, "password": ana.password }));
    assert_eq!(log_in("new@example.com").await.status(), 200);
    assert_eq!(code(log_in(&ana.auth.member.email).await).await, ErrorCode::InvalidCredentials);
    let other = json!({ "name": "Ivo", "email": ana.auth.member.email, "password": PASSWORD });
    assert_eq!(to("register", other).await.status(), 201, "it is anybody's");
}

/// Found by reading: it was answered 200, and nothing was changed.
#[tokio::test]
async fn a_patch_says_where_the_address_is_changed() {
    let server = Server::start().await;
    let (ana, admin) = (server.member("Ana").await, server.admin().await);
    for email in [json!("new@example.com"), Value::Null, json!(5)] {
        let own = ana.request(Method::PATCH, "/api/members/me", json!({ "name": "Ana", "email": email })).await;
        let problem = super::problem(own).await;
        assert_eq!((problem.errors.len(), problem.errors[0].field.as_str()), (1, "email"));
        assert!(problem.errors[0].message.contains("POST /api/members/me/email"), "{problem:?}");
        let theirs = format!("/api/members/{}", ana.id);
        let theirs = admin.request(Method::PATCH, &theirs, json!({ "email": email })).await;
        assert_eq!(fields(theirs).await, ["email"]);
    }
}
