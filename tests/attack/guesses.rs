//! Guessing passwords, from many addresses.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use members_book::clock::SystemClock;
use protocol::rest::AuthResponse;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{Member, Server, authenticator, within};

const ACCOUNTS: usize = 100;
const ADDRESSES: usize = 1_000;
const GUESSES: usize = 10_000;
/// Within this every member is in who logs in while others guess.
const SOON: Duration = Duration::from_secs(2);

/// A server behind a proxy that says where requests come from.
async fn behind_a_proxy(bcrypt_cost: u32) -> Server {
    Server::with(|settings| {
        settings.listen.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        settings.auth.bcrypt_cost = bcrypt_cost;
    })
    .await
}

async fn log_in(server: &Server, from: &str, body: Value) -> Response {
    let request = server.http().post(server.url("/api/auth/login")).header("x-forwarded-for", from);
    within("a login", request.json(&body).send()).await.unwrap()
}

async fn with_proof(server: &Server, from: &str, member: &Member, proof: Option<&str>) -> Response {
    let email = &member.auth.member.email;
    let mut body = json!({ "email": email, "password": member.password });
    body["device_proof"] = json!(proof);
    log_in(server, from, body).await
}

fn address(number: usize) -> String {
    format!("10.{}.{}.{}", number % 250, number / 250 % 250, 1 + number % 7)
}

/// Logs one member after the other in, each on the device on which they have been, until it is over: how long each took.
async fn own_logins(server: &Server, members: &[Member], is_over: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    for member in members.iter().cycle() {
        let started = Instant::now();
        let own = with_proof(server, "192.0.2.2", member, member.auth.device_proof.as_deref()).await;
        times.push(started.elapsed());
        assert_eq!(own.status(), 200);
        let own: AuthResponse = own.json().await.unwrap();
        assert_eq!(own.device_proof, member.auth.device_proof, "a device stays the same");
        // Every member has been in at least once.
        if is_over.load(Ordering::Relaxed) && times.len() >= members.len() {
            break;
        }
    }
    times
}

/// The longest time for which the machine let a thread wait that only sleeps, until it is told to end. That is no time of the server: the
/// processors had something else to do, or stood still.
fn stalls(is_over: &AtomicBool) -> Duration {
    const NAP: Duration = Duration::from_millis(5);
    let mut longest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let started = Instant::now();
        std::thread::sleep(NAP);
        longest = longest.max(started.elapsed().saturating_sub(NAP));
    }
    longest
}

/// `.config/nextest.toml` has it run with no other test beside it: the time of each login is looked at.
#[tokio::test]
async fn guesses_from_a_thousand_addresses_end_at_the_account_and_keep_no_member_out() {
    let server = behind_a_proxy(4).await;
    let members: Vec<Member> = stream::iter(0..ACCOUNTS).map(|_| server.member("Ana")).buffered(16).collect().await;
    let before = server.metric("password_seconds_count").await;
    let guess = |number: usize| {
        let (server, members) = (&server, &members);
        async move {
            // Half of the accounts do not exist, and nobody can tell.
            let email = match number % (2 * ACCOUNTS) {
                known if known < ACCOUNTS => members[known].auth.member.email.clone(),
                unknown => format!("nobody{unknown}@example.com"),
            };
            let body = json!({ "email": email, "password": format!("guess {number}") });
            (number % (2 * ACCOUNTS), log_in(server, &address(number % ADDRESSES), body).await.status().as_u16())
        }
    };
    let is_over = AtomicBool::new(false);
    let guessing = async {
        let answers: Vec<(usize, u16)> = stream::iter(0..GUESSES).map(guess).buffer_unordered(64).collect().await;
        is_over.store(true, Ordering::Relaxed);
        answers
    };
    let measured = Arc::new(AtomicBool::new(false));
    let witness = std::thread::spawn({
        let measured = Arc::clone(&measured);
        move || stalls(&measured)
    });
    let (answers, mut own) = tokio::join!(guessing, own_logins(&server, &members, &is_over));
    measured.store(true, Ordering::Relaxed);
    let stalled = witness.join().unwrap();
    let mut hashed: BTreeMap<usize, u32> = BTreeMap::new();
    for (account, status) in answers {
        assert!(matches!(status, 401 | 429), "{status}");
        *hashed.entry(account).or_default() += u32::from(status == 401);
    }
    assert!(hashed.len() == 2 * ACCOUNTS && hashed.values().all(|hashed| *hashed == 10), "{hashed:?}");
    // As the server has counted them.
    let all = server.metric("password_seconds_count").await - before;
    assert_eq!(all, (20 * ACCOUNTS + own.len()) as f64, "nothing else was hashed");
    own.sort_unstable();
    let (middle, longest) = (own[own.len() / 2], own[own.len() - 1]);
    let found =
        format!("{middle:?} in the middle, {longest:?} at most, of which the machine stood still {stalled:?} at most");
    println!("{} own logins beside the guesses: {found}", own.len());
    assert!(longest < SOON + stalled, "{found}");
    // A stranger with the right password has to wait, and the member does not, wherever they are.
    for member in members.iter().step_by(10) {
        let stranger = with_proof(&server, "192.0.2.1", member, None).await;
        assert!(stranger.status() == 429 && stranger.headers().contains_key("retry-after"));
        let own = with_proof(&server, "192.0.2.3", member, member.auth.device_proof.as_deref()).await;
        assert_eq!(own.status(), 200);
    }
    // The proof of one member is nothing at the account of another.
    let foreign = with_proof(&server, "192.0.2.4", &members[0], members[1].auth.device_proof.as_deref()).await;
    assert_eq!(foreign.status(), 429);
}

/// What time it takes depends on the machine; whose turn it is does not.
#[tokio::test]
async fn a_member_does_not_wait_until_the_guesses_of_others_are_hashed() {
    const STRANGERS: usize = 200;
    let server = behind_a_proxy(6).await;
    let members: Vec<Member> = stream::iter(0..3).then(|_| server.member("Ana")).collect().await;
    let answered = AtomicUsize::new(0);
    let guess = async |number: usize| {
        let body = json!({ "email": format!("nobody{number}@example.com"), "password": "guess" });
        let status = log_in(&server, &address(number), body).await.status();
        answered.fetch_add(1, Ordering::Relaxed);
        status
    };
    let own = async {
        let mut overtaken = Vec::new();
        for member in &members {
            // Not before the guesses wait.
            let before = until_some(&answered).await;
            let own = with_proof(&server, "192.0.2.2", member, member.auth.device_proof.as_deref()).await;
            assert_eq!(own.status(), 200);
            overtaken.push(answered.load(Ordering::Relaxed) - before);
        }
        overtaken
    };
    let (statuses, overtaken) = tokio::join!(join_all((0..STRANGERS).map(guess)), own);
    // Whoever has waited too long on a machine that has enough to do is sent away.
    assert!(statuses.iter().all(|status| matches!(status.as_u16(), 401 | 503)), "{statuses:?}");
    println!("guesses that were answered while a member waited: {overtaken:?} of {STRANGERS}");
    assert!(overtaken.iter().all(|overtaken| *overtaken < STRANGERS / 4), "{overtaken:?}");
}

/// How many were answered, as soon as there are any.
async fn until_some(answered: &AtomicUsize) -> usize {
    crate::harness::eventually("an answer", async || Some(answered.load(Ordering::Relaxed)).filter(|count| *count > 0))
        .await
}

#[tokio::test]
async fn a_device_has_so_many_wrong_passwords_as_well_and_the_right_one_gives_them_back() {
    let server = behind_a_proxy(4).await;
    let ana = server.member("Ana").await;
    let wrong = || {
        let mut body = json!({ "email": ana.auth.member.email, "password": "not this one" });
        body["device_proof"] = json!(ana.auth.device_proof);
        log_in(&server, "192.0.2.1", body)
    };
    for _ in 0..9 {
        assert_eq!(wrong().await.status(), 401);
    }
    assert_eq!(with_proof(&server, "192.0.2.1", &ana, ana.auth.device_proof.as_deref()).await.status(), 200);
    for _ in 0..10 {
        assert_eq!(wrong().await.status(), 401);
    }
    assert_eq!(wrong().await.status(), 429);
    // That of strangers is untouched.
    assert_eq!(with_proof(&server, "192.0.2.2", &ana, None).await.status(), 200);
    assert_eq!(with_proof(&server, "192.0.2.2", &ana, Some("nothing")).await.status(), 200);
    let too_long = with_proof(&server, "192.0.2.2", &ana, Some(&"x".repeat(200))).await;
    assert_eq!(too_long.status(), 422);
    let problem: protocol::Problem = too_long.json().await.unwrap();
    assert_eq!(problem.errors[0].field, "device_proof");
}

/// Tries a wrong password with each of these proofs, twice as often as a stranger may. Returns how many were looked at.
async fn guesses_with(server: &Server, member: &Member, proofs: &[String]) -> usize {
    let mut looked_at = 0;
    for (number, proof) in proofs.iter().cycle().take(20).enumerate() {
        let body = json!({ "email": member.auth.member.email, "password": "guess", "device_proof": proof });
        let status = log_in(server, &address(number), body).await.status();
        assert!(matches!(status.as_u16(), 401 | 429), "{status}");
        looked_at += usize::from(status == 401);
    }
    looked_at
}

/// Found by reading: whoever knew the password once kept as many proofs as they liked, each with an allowance of its own.
#[tokio::test]
async fn proofs_that_were_collected_before_the_password_changed_are_of_strangers() {
    let server = behind_a_proxy(4).await;
    let ana = server.member("Ana").await;
    let mut collected = Vec::new();
    for number in 0..10 {
        let in_time: AuthResponse = with_proof(&server, &address(number), &ana, None).await.json().await.unwrap();
        collected.extend(in_time.device_proof);
    }
    let change = async |member: &Member, current: &str, new: &str| -> AuthResponse {
        let body = json!({ "current_password": current, "new_password": new });
        let changed = member.request(Method::PUT, "/api/members/me/password", body).await;
        assert_eq!(changed.status(), 200);
        changed.json().await.unwrap()
    };
    let changed = change(&ana, &ana.password, "battery staple").await;
    let first = changed.device_proof.clone().unwrap();
    let here = Member::of(&server, changed, "battery staple");
    assert_eq!(guesses_with(&server, &ana, &collected).await, 10);
    // The device that has changed it is known, and the one of before, without its new proof, is not.
    let own = async |proof: &str, password: &str| {
        let body = json!({ "email": ana.auth.member.email, "password": password, "device_proof": proof });
        log_in(&server, "192.0.2.1", body).await
    };
    let former = ana.auth.device_proof.as_deref().unwrap();
    assert_eq!(own(former, "battery staple").await.status(), 429);
    let known: AuthResponse = own(&first, "battery staple").await.json().await.unwrap();
    assert_eq!(known.device_proof.as_ref(), Some(&first), "a device stays the same");
    // Wrong passwords with it are over with the next change, and so is it.
    for _ in 0..10 {
        assert_eq!(own(&first, "guess").await.status(), 401);
    }
    assert_eq!(own(&first, "battery staple").await.status(), 429);
    let second = change(&here, "battery staple", "staple battery").await.device_proof.unwrap();
    assert_eq!(own(&first, "staple battery").await.status(), 429);
    assert_eq!(own(&second, "staple battery").await.status(), 200);
}

/// Found by a reviewer: whoever knew the password alone, before the second factor was turned on, had codes to try with each proof.
#[tokio::test]
async fn proofs_that_were_collected_before_a_second_factor_was_turned_on_are_of_strangers() {
    let server = behind_a_proxy(4).await;
    let mut ana = server.member("Ana").await;
    let mut collected = Vec::new();
    for number in 0..4 {
        let in_time: AuthResponse = with_proof(&server, &address(number), &ana, None).await.json().await.unwrap();
        collected.extend(in_time.device_proof);
    }
    let (app, enabled) = authenticator::enable(&mut ana, &SystemClock).await;
    let try_code = async |proof: &str, typed: String| {
        let (email, password) = (&ana.auth.member.email, &ana.password);
        let body = json!({ "email": email, "password": password, "device_proof": proof, "second_factor": typed });
        log_in(&server, "192.0.2.1", body).await.status().as_u16()
    };
    let mut looked_at = 0;
    for proof in collected.iter().cycle().take(20) {
        looked_at += u32::from(try_code(proof, app.wrong()).await == 401);
    }
    assert_eq!(looked_at, 10, "as a stranger");
    assert_eq!(try_code(&enabled.device_proof, app.wrong()).await, 401, "the device at which it was turned on");
    assert_eq!(try_code(&enabled.device_proof, app.code_after(1)).await, 200);
}
