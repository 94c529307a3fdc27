//! Starting: what is printed, what is refused, and the first administrator.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use members_book::clock::SystemClock;
use protocol::{
    CloseCode, ErrorCode, Problem,
    model::UserType,
    rest::{self, AuditAction, AuditPage, AuthResponse},
};
use serde_json::json;

use crate::harness::{
    Member,
    authenticator::turn_on,
    client_id, eventually,
    process::{Process, command},
    server::http,
};

/// Runs the command with arguments until it ends by itself.
pub(super) fn run(folder: &Path, arguments: &[&str], input: &str) -> Output {
    run_as(command(folder), arguments, input)
}

/// The same, of a command with settings.
pub(super) fn run_as(mut command: Command, arguments: &[&str], input: &str) -> Output {
    let mut child = command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_any_settings_it_says_where_everything_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut plain = Command::new(env!("CARGO_BIN_EXE_members-book"));
    plain.current_dir(folder.path()).env_clear().args([
        "--port",
        "0",
        "--metrics-addr",
        "127.0.0.1:0",
        "--bcrypt-cost",
        "4",
    ]);
    plain.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let server = Process::spawn(&mut plain);
    let said = |what: &str| server.banner.iter().any(|line| line.trim().starts_with(what));
    for what in ["API", "socket", "store    SQLite, /", "metrics", "secret", "docs"] {
        assert!(said(what), "{what} is not in {:?}", server.banner);
    }
    assert!(server.addr.ip().is_loopback());
    let secret = std::fs::metadata(folder.path().join("data/jwt-secret")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
    assert!(server.banner.iter().any(|line| line.contains("JWT_SECRET")));
}

#[test]
fn a_setting_that_does_not_fit_is_named_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("JWT_SECRET", "short"),
        ("DATABASE_URL", "postgres://user:hunter2@x"),
        ("MONGODB_URI", "mongodb://user:hunter2@x:port"),
        ("LOG", "=,="),
        ("METRICS_ADDR", "nowhere"),
        ("HEARTBEAT_INTERVAL", "soon"),
        ("CORS_ORIGINS", "https://x.example/path"),
    ] {
        let mut command = command(folder.path());
        let output = command.env(name, value).stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success());
        let said = stderr(&output);
        let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
        assert!(said.contains(name) || said.contains(&flag), "{name}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert!(!folder.path().join("data").exists());
}

#[test]
fn settings_come_from_dotenv_and_the_environment_overrules_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), "DATABASE_URL=sqlite:./from-dotenv.db\nBCRYPT_COST=99\n").unwrap();
    let server = Process::start(folder.path());
    assert!(server.banner.iter().any(|line| line.contains("from-dotenv.db")), "{:?}", server.banner);
    drop(server);
    std::fs::write(folder.path().join(".env"), "JWT_SECRET='unfinished\n").unwrap();
    let output = run(folder.path(), &[], "");
    assert!(!output.status.success() && stderr(&output).contains(".env"), "{}", stderr(&output));
}

#[test]
fn an_address_or_a_database_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path());
    let second = run(folder.path(), &[], "");
    assert!(!second.status.success());
    let said = stderr(&second);
    assert!(said.contains("DATABASE_URL") && said.contains(&format!("process {}", server.id())), "{said}");
    let elsewhere = tempfile::tempdir().unwrap();
    let promoted = run(elsewhere.path(), &["admin", "promote", "--email", "ana@example.com"], "");
    assert!(!promoted.status.success() && stderr(&promoted).contains(elsewhere.path().to_str().unwrap()));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "no new store");
    let port = server.addr.port().to_string();
    let second = run(elsewhere.path(), &["--port", &port], "");
    assert!(!second.status.success() && stderr(&second).contains("PORT"), "{}", stderr(&second));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let both = ["--port", &free.port().to_string(), "--metrics-addr", &free.to_string()];
    let both = stderr(&run(elsewhere.path(), &both, ""));
    assert!(both.contains("METRICS_ADDR") && both.contains("HOST and PORT have the same one"), "{both}");
    std::fs::write(elsewhere.path().join("notes.txt"), "no database, whatever its name".repeat(100)).unwrap();
    let other = run(elsewhere.path(), &["--database-url", "sqlite:./notes.txt"], "");
    assert!(!other.status.success() && stderr(&other).contains("/notes.txt"), "{}", stderr(&other));
    assert!(!elsewhere.path().join("notes.txt.lock").exists());
}

#[test]
fn what_is_easily_mistaken_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), "RATE_MESAGES=0\nHOST=localhost\nlog_format=json\nport=1\n").unwrap();
    let log = folder.path().join("log");
    let mut command = command(folder.path());
    command.env("LOG", "info").env("JWT_SECRETS", "x").stderr(std::fs::File::create(&log).unwrap());
    let server = Process::spawn(&mut command);
    assert!(server.addr.ip().is_loopback());
    drop(server);
    let log = std::fs::read_to_string(&log).unwrap();
    let line = |what: &str| log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {log}"));
    assert!(line("RATE_MESAGES").contains(r#""did_you_mean":"RATE_MESSAGES""#), "{log}");
    assert!(line(r#""port""#).contains(r#""did_you_mean":"PORT""#), "{log}");
    assert!(line("JWT_SECRETS").contains(r#""did_you_mean":"JWT_SECRET""#), "{log}");
    assert!(line("a new, empty store was made").contains("members-book.db"), "{log}");
}

/// As in `.env.example` with its `#` taken away.
#[test]
fn a_setting_that_is_empty_is_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let empty = "CORS_ORIGINS=\nTRUSTED_PROXIES=\nJWT_SECRET_PREVIOUS=\nALLOW_SEVERAL_NODES=\nAI_SERVICE_URL=\nLOG=\n";
    std::fs::write(folder.path().join(".env"), empty).unwrap();
    let mut command = command(folder.path());
    for name in ["DATABASE_URL", "MONGODB_URI", "JWT_SECRET", "RATE_MESSAGES", "HEARTBEAT_INTERVAL", "DATA_DIR"] {
        command.env(name, "");
    }
    let server = Process::spawn(&mut command);
    let said = |what: &str| server.banner.iter().any(|line| line.contains(what));
    assert!(said("data/members-book.db") && said("generated"), "{:?}", server.banner);
}

#[test]
fn the_help_shows_every_setting_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    let output = command.arg("--help").env("JWT_SECRET", "hunter2").env("DATABASE_URL", "hunter2").output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    for name in ["DATABASE_URL", "MONGODB_URI", "JWT_SECRET", "HOST", "PORT", "CORS_ORIGINS", "RATE_MESSAGES"] {
        assert!(help.contains(&format!("[env: {name}")), "{name} is not in:\n{help}");
    }
    assert!(!help.contains("hunter2"));
}

#[tokio::test]
async fn the_first_administrator_is_made_from_the_command_line_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path());
    let create = ["admin", "create", "--name", "Root", "--email", "root@example.com"];
    let output = run(folder.path(), &create, "correct horse\n");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("root@example.com is an administrator"));

    let login = json!({ "email": "root@example.com", "password": "correct horse" });
    let response = http().post(format!("http://{}/api/auth/login", server.addr)).json(&login).send().await.unwrap();
    let auth: AuthResponse = response.json().await.unwrap();
    let rest::Member { name, user_type, .. } = auth.member;
    assert_eq!((name.as_str(), user_type), ("Root", UserType::Admin));

    let again = run(folder.path(), &create, "correct horse\n");
    assert!(!again.status.success() && stderr(&again).contains("e-mail"), "{}", stderr(&again));
    assert!(stderr(&again).contains("admin promote"), "{}", stderr(&again));
    let weak = run(folder.path(), &["admin", "create", "--name", "R", "--email", "nobody"], "short\n");
    assert!(stderr(&weak).contains("email:") && stderr(&weak).contains("password:"), "{}", stderr(&weak));
}

/// The code is told while there is nobody who runs the club, and the need ends whoever makes the first administrator.
#[tokio::test]
async fn the_setup_code_is_printed_while_there_is_no_administrator() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let code = |server: &Process| {
        let line = server.banner.iter().find_map(|line| line.trim().strip_prefix("setup")).map(str::trim);
        line.map(|line| line.split(';').next().unwrap().to_owned())
    };
    let needed = async |server: &Process| {
        let asked = http().get(format!("http://{}/api/setup", server.addr)).send().await.unwrap();
        asked.json::<rest::SetupState>().await.unwrap().needed
    };
    let mut command = command(folder.path());
    command.env("LOG", "info").stderr(std::fs::File::create(&log).unwrap());
    let server = Process::spawn(&mut command);
    let first = code(&server).unwrap();
    assert!(first.len() == 11 && first.contains('-'), "{first}");
    assert!(needed(&server).await);
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.lines().any(|line| line.contains("setup: ") && line.contains(&first)), "{logged}");
    drop(server);
    let server = Process::start(folder.path());
    assert_eq!(code(&server).as_ref(), Some(&first), "the same after a restart");
    let output =
        run(folder.path(), &["admin", "create", "--name", "Root", "--email", "root@example.com"], "correct horse\n");
    assert!(output.status.success(), "{}", stderr(&output));
    eventually("the need to end", async || (!needed(&server).await).then_some(())).await;
    let body = json!({ "code": first, "name": "Rita", "email": "rita@example.com", "password": "correct horse" });
    let refused = http().post(format!("http://{}/api/setup", server.addr)).json(&body).send().await.unwrap();
    assert_eq!(refused.status(), 409);
    drop(server);
    assert_eq!(code(&Process::start(folder.path())), None);
}

#[tokio::test]
async fn a_member_is_made_an_administrator_from_the_command_line_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path());
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let audit = async |ana: &Member| {
        let url = format!("http://{}/api/admin/audit", server.addr);
        http.get(url).bearer_auth(&ana.auth.access_token).send().await.unwrap()
    };
    assert_eq!(audit(&ana).await.status(), 403);
    let email = ana.auth.member.email.to_uppercase();
    let output = run(folder.path(), &["admin", "promote", "--email", &email], "");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is an administrator"));
    let entries: AuditPage = audit(&ana).await.json().await.unwrap();
    let newest = &entries.entries[0];
    assert_eq!((newest.action, newest.target_id, newest.actor_id), (AuditAction::RoleChanged, Some(ana.id), None));

    let nobody = run(folder.path(), &["admin", "promote", "--email", "nobody@example.com"], "");
    assert!(!nobody.status.success() && stderr(&nobody).contains("nobody@example.com"), "{}", stderr(&nobody));
}

/// For the last administrator, who has lost theirs.
#[tokio::test]
async fn a_second_factor_is_reset_from_the_command_line_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let (server, http) = (Process::start(folder.path()), http());
    let mut ana = Member::register_at(server.addr, &http, "Ana").await;
    turn_on(&mut ana, &SystemClock).await;
    let login = json!({ "email": ana.auth.member.email, "password": ana.password });
    let log_in = async || {
        let url = format!("http://{}/api/auth/login", server.addr);
        http.post(url).json(&login).send().await.unwrap().status().as_u16()
    };
    assert_eq!(log_in().await, 401);
    let reset = |email: &str| run(folder.path(), &["admin", "reset-second-factor", "--email", email], "");
    let output = reset(&ana.auth.member.email.to_uppercase());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("has no second factor now"));
    let own = ana.request(reqwest::Method::GET, "/api/members/me", serde_json::Value::Null).await;
    assert_eq!((log_in().await, own.status().as_u16()), (200, 401));
    let nobody = reset("nobody@example.com");
    assert!(!nobody.status.success() && stderr(&nobody).contains("nobody@example.com"), "{}", stderr(&nobody));
}

/// Without mail nobody could set a lost password.
#[tokio::test]
async fn a_link_from_the_command_line_sets_a_lost_password_once() {
    let folder = tempfile::tempdir().unwrap();
    let (server, http) = (Process::start(folder.path()), http());
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let made = |email: &str| run(folder.path(), &["admin", "reset-link", "--email", email], "");
    let output = made(&ana.auth.member.email.to_uppercase());
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let token = said.trim().split_once("/app/reset?token=").unwrap_or_else(|| panic!("{said}")).1.to_owned();
    assert!(stderr(&output).contains("within 30 minutes"), "{}", stderr(&output));
    let reset = async || {
        let body = json!({ "token": token, "new_password": "battery staple horse" });
        let url = format!("http://{}/api/auth/password/reset", server.addr);
        http.post(url).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(reset().await, 200);
    assert_eq!(reset().await, 422, "it is good once");
    let log_in = async |password: &str| {
        let body = json!({ "email": ana.auth.member.email, "password": password });
        let url = format!("http://{}/api/auth/login", server.addr);
        http.post(url).json(&body).send().await.unwrap()
    };
    assert_eq!(log_in(&ana.password).await.status(), 401);
    let in_again = log_in("battery staple horse").await;
    assert_eq!(in_again.status(), 200);
    let in_again: AuthResponse = in_again.json().await.unwrap();
    assert_eq!(in_again.member.email_verified_at, None, "nobody has read a mail");
    let nobody = made("nobody@example.com");
    assert!(!nobody.status.success() && stderr(&nobody).contains("nobody@example.com"), "{}", stderr(&nobody));
    // In the name of nobody.
    run(folder.path(), &["admin", "promote", "--email", &ana.auth.member.email], "");
    let token = in_again.access_token;
    let entries = http.get(format!("http://{}/api/admin/audit", server.addr)).bearer_auth(token).send().await.unwrap();
    let AuditPage { entries, .. } = entries.json().await.unwrap();
    let entry = entries.iter().find(|entry| entry.action == AuditAction::ResetLinkMade).unwrap();
    assert_eq!((entry.target_id, entry.actor_id), (Some(ana.id), None));
}

/// Who has lost the mailbox and the password gets in by nothing else.
#[tokio::test]
async fn an_address_is_set_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let (server, http) = (Process::start(folder.path()), http());
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    let set = |old: &str, new: &str| run(folder.path(), &["admin", "set-email", old, new], "");
    let former = &ana.auth.member.email;
    for (old, new, why) in [
        (former.as_str(), "nonsense", "email: "),
        (former, &ben.auth.member.email, "already"),
        ("nobody@example.com", "new@example.com", "nobody@example.com"),
    ] {
        let refused = set(old, new);
        assert!(!refused.status.success() && stderr(&refused).contains(why), "{}", stderr(&refused));
    }
    let output = set(&former.to_uppercase(), "new@example.com");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is new@example.com now"));
    // In the name of nobody, and who is signed in stays that.
    run(folder.path(), &["admin", "promote", "--email", "new@example.com"], "");
    let own = ana.request(reqwest::Method::GET, "/api/members/me", serde_json::Value::Null).await;
    let own: serde_json::Value = own.json().await.unwrap();
    assert_eq!((&own["email"], &own["email_verified_at"]), (&json!("new@example.com"), &serde_json::Value::Null));
    let entries = ana.request(reqwest::Method::GET, "/api/admin/audit", serde_json::Value::Null).await;
    let AuditPage { entries, .. } = entries.json().await.unwrap();
    let entry = entries.iter().find(|entry| entry.action == AuditAction::EmailChanged).unwrap();
    assert_eq!((entry.target_id, entry.actor_id), (Some(ana.id), None));
    let log_in = async |email: &str| {
        let body = json!({ "email": email, "password": ana.password });
        let url = format!("http://{}/api/auth/login", server.addr);
        http.post(url).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!((log_in(former).await, log_in("new@example.com").await), (401, 200));
}

/// Found by an attacker: who had taken an account stayed signed in when its owner got the address back, with a password that was good.
#[tokio::test]
async fn an_account_that_somebody_has_taken_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (server, http) = (Process::start(folder.path()), http());
    let mut ana = Member::register_at(server.addr, &http, "Ana").await;
    turn_on(&mut ana, &SystemClock).await;
    let mut thief = ana.connect().await;
    let former = ana.auth.member.email.clone();
    let output = run(folder.path(), &["admin", "set-email", &former, "ana@example.org", "--taken-over"], "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("is ana@example.org now"), "{said}{}", stderr(&output));
    assert!(said.contains("admin reset-second-factor --email ana@example.org"), "{said}");
    // Who has a connection does not keep it: a command is another process, which closes none.
    assert_eq!(thief.close_code().await, Some(CloseCode::Unauthorized.number()));
    let own = ana.request(reqwest::Method::GET, "/api/members/me", serde_json::Value::Null).await;
    assert_eq!((own.status().as_u16(), ana.refresh().await.status().as_u16()), (401, 401));
    let post = async |path: &str, body: serde_json::Value| {
        let url = format!("http://{}/api/auth/{path}", server.addr);
        http.post(url).json(&body).send().await.unwrap()
    };
    let log_in = async |password: &str| {
        let answer = post("login", json!({ "email": "ana@example.org", "password": password })).await;
        answer.json::<Problem>().await.unwrap().code
    };
    assert_eq!(log_in(&ana.password).await, ErrorCode::InvalidCredentials);
    let token = said.trim().split_once("/app/reset?token=").unwrap_or_else(|| panic!("{said}")).1;
    let reset = post("password/reset", json!({ "token": token, "new_password": "battery staple horse" })).await;
    assert_eq!(reset.status(), 200);
    assert_eq!(log_in("battery staple horse").await, ErrorCode::SecondFactorRequired, "it is whose it was");
}

/// Found by faults: sessions of before a restore were good again, whatever had been ended since.
#[tokio::test]
async fn after_a_restore_everybody_signs_in_again() {
    let folder = tempfile::tempdir().unwrap();
    let after = || run(folder.path(), &["admin", "after-restore"], "");
    let missing = after();
    assert!(!missing.status.success(), "there is no store yet");
    let (server, http) = (Process::start(folder.path()), http());
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let beside = after();
    assert!(!beside.status.success() && stderr(&beside).contains("in use"), "{}", stderr(&beside));
    drop(server);
    let output = after();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1; everybody signs in again"), "{said}{}", stderr(&output));
    let server = Process::start(folder.path());
    let ana = ana.at(server.addr);
    let own = ana.request(reqwest::Method::GET, "/api/members/me", serde_json::Value::Null).await;
    assert_eq!((own.status().as_u16(), ana.refresh().await.status().as_u16()), (401, 401));
    let again = ana.log_in().await;
    let own = again.request(reqwest::Method::GET, "/api/members/me", serde_json::Value::Null).await;
    assert_eq!(own.status(), 200);
}

/// Found by a newcomer: the advice for a second server on one file would have split the club.
#[tokio::test]
async fn a_second_server_on_one_file_hears_what_several_need() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Process::start(folder.path());
    let ended = command(folder.path()).stderr(Stdio::piped()).output().unwrap();
    let said = stderr(&ended);
    assert!(!ended.status.success() && said.contains("in use by another server"), "{said}");
    assert!(said.contains("need MongoDB (docs/fleet.md)"), "{said}");
}

#[tokio::test]
async fn the_banner_promises_no_invitation_where_nobody_is_let_in_and_says_what_redis_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path());
    let ana = Member::register_at(server.addr, &http(), "Ana").await;
    drop(server);
    assert!(run(folder.path(), &["admin", "promote", "--email", &ana.auth.member.email], "").status.success());
    let said = |settings: &[(&str, &str)], what: &str| {
        let server = Process::spawn(command(folder.path()).envs(settings.iter().copied()));
        assert!(server.banner[0].contains("is ready"), "{:?}", server.banner);
        let found = server.banner.iter().find_map(|line| line.trim().strip_prefix(what));
        found.map(|line| line.trim().to_owned()).unwrap_or_default()
    };
    assert_eq!(said(&[], "admin"), "the club has an administrator, who may invite");
    assert_eq!(
        said(&[("REGISTRATION", "approval")], "admin"),
        "the club has an administrator, who may invite and approve"
    );
    let closed = said(&[("REGISTRATION", "closed")], "admin");
    assert!(closed.contains("nobody is invited") && !closed.contains("may invite"), "{closed}");
    assert_eq!(said(&[], "fleet"), "");
    assert!(said(&[("REDIS_URL", "redis://127.0.0.1:1")], "fleet").contains("need MongoDB (docs/fleet.md)"));
}

/// Found by reading: the server remembered what a member may do, and a command beside it changed that.
#[tokio::test]
async fn a_running_server_believes_what_a_command_beside_it_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command.envs([("RATE_NEW_CONVERSATIONS", "1"), ("RATE_NEW_CONVERSATIONS_BURST", "1")]);
    let (server, http) = (Process::spawn(&mut command), http());
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let (mut others, mut answers) = (Vec::new(), Vec::new());
    for name in ["Ben", "Cid", "Dea"] {
        others.push(Member::register_at(server.addr, &http, name).await.id);
    }
    let begin = async |to: usize| {
        let message = json!({ "receiver_id": others[to], "client_id": client_id(), "content": "hello" });
        let url = format!("http://{}/api/messages", server.addr);
        let sent = http.post(url).bearer_auth(&ana.auth.access_token).json(&message).send().await.unwrap();
        sent.status().as_u16()
    };
    answers.extend([begin(0).await, begin(1).await]);
    let promoted = run(folder.path(), &["admin", "promote", "--email", &ana.auth.member.email], "");
    assert!(promoted.status.success(), "{}", stderr(&promoted));
    answers.extend([begin(1).await, begin(2).await]);
    assert_eq!(answers, [201, 429, 201, 201]);
}

/// Whoever starts a server sees who may register, and why it is so.
#[tokio::test]
async fn the_banner_says_who_may_register() {
    let folder = tempfile::tempdir().unwrap();
    let said = |settings: &[(&str, &str)]| {
        let log = folder.path().join("log");
        let mut command = command(folder.path());
        command.envs(settings.iter().copied()).stderr(std::fs::File::create(&log).unwrap());
        let server = Process::spawn(&mut command);
        let line = |what: &str| {
            let found = server.banner.iter().find_map(|line| line.trim().strip_prefix(what));
            found.map(|line| line.trim().to_owned()).unwrap_or_default()
        };
        (line("register"), line("warning"), std::fs::read_to_string(log).unwrap())
    };
    let (register, warning, _) = said(&[]);
    assert!(register.starts_with("open: ") && register.contains("only this machine"), "{register}");
    assert_eq!(warning, "");
    let reached = ("PUBLIC_URL", "https://club.example");
    let (register, warning, _) = said(&[reached]);
    assert!(register.starts_with("invite: ") && register.contains("others reach"), "{register}");
    assert_eq!(warning, "");
    let (register, warning, log) = said(&[reached, ("REGISTRATION", "open"), ("LOG", "warn")]);
    assert!(register.starts_with("open: ") && register.contains("REGISTRATION says so"), "{register}");
    assert!(warning.contains("REGISTRATION=invite") && log.contains("REGISTRATION is open"), "{warning} {log}");
}
