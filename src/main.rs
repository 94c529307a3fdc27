//! The `members-book` command.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    process::ExitCode,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use members_book::{
    allocator,
    app::{self, App, World},
    config::{
        self, Cli, Command, Settings,
        settings::{AdminCommand, Because},
    },
    http::web::{APP_PATH, has_app},
    service::{
        demo::{DemoClub, Login},
        transfer::{Step, Verified},
    },
    store::{mail::LINK_LIFETIME, restore::Ended},
    telemetry::logs,
};
use protocol::{
    FieldError, SUBPROTOCOL,
    rest::{ForgotPasswordRequest, RegisterRequest, RegistrationPolicy},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// Chosen by measurement: see `docs/performance.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long the store may take to say whether there is an administrator before the server says that it is ready.
const SETUP_WAIT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(problem) => {
            // To standard error whatever the log settings are: this is for whoever started it.
            eprintln!("members-book: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let in_dotenv = config::read_dotenv()?;
    let Cli { settings, command } = config::command_line();
    let filter = logs::filter(&settings.telemetry.log).map_err(|error| format!("LOG: {error}"))?;
    logs::init(filter, settings.telemetry.log_format);
    config::names::warn(&in_dotenv);
    if let Err(error) = allocator::give_back_soon() {
        tracing::warn!(%error, "the allocator keeps memory for longer than it should");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    let ended = runtime.block_on(async {
        match command {
            None => serve(settings).await,
            Some(Command::Admin { command: AdminCommand::Create { name, email } }) => {
                create_admin(settings, name, email).await
            }
            Some(Command::Admin { command: AdminCommand::Promote { email } }) => promote(settings, &email).await,
            Some(Command::Admin { command: AdminCommand::ResetSecondFactor { email } }) => {
                reset_second_factor(settings, &email).await
            }
            Some(Command::Admin { command: AdminCommand::ResetLink { email } }) => reset_link(settings, &email).await,
            Some(Command::Admin { command: AdminCommand::SetEmail { old, new, taken_over } }) => {
                set_email(settings, &old, &new, taken_over).await
            }
            Some(Command::Admin { command: AdminCommand::AfterRestore { keep_invitations } }) => {
                after_restore(settings, keep_invitations).await
            }
            Some(Command::Migrate { check }) => migrate(&settings, check).await,
            Some(Command::Copy { from, to }) => copy(&settings, &from, &to).await,
            Some(Command::Demo { members }) => demo(settings, members).await,
        }
    });
    // What is to be finished was waited for. A call of the file system that hangs has no deadline.
    runtime.shutdown_background();
    ended
}

async fn serve(settings: Settings) -> Result<ExitCode, String> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let app = App::start(settings, World::default()).await.map_err(|error| error.to_string())?;
    announce(&app).await;
    let failure = tokio::select! {
        // Somebody at a terminal.
        _ = interrupt.recv() => None,
        _ = terminate.recv() => tokio::select! {
            () = app.drain() => None,
            // Whoever asks twice does not want to wait for the others to be spread.
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
            reason = app.failed() => Some(reason),
        },
        reason = app.failed() => Some(reason),
    };
    tokio::select! {
        complete = app.stop() => {
            if !complete {
                tracing::warn!("not everything was finished in time");
            }
            failure.map_or(Ok(ExitCode::SUCCESS), Err)
        }
        // Whoever asks twice does not want to wait.
        _ = interrupt.recv() => std::process::exit(130),
        _ = terminate.recv() => std::process::exit(143),
    }
}

/// One line for each thing that a newcomer needs.
async fn announce(app: &App) {
    let addr = within_reach(app.addr);
    let mut lines = vec![("app", format!("{}{APP_PATH}", for_browsers(app)))];
    lines.retain(|_| has_app());
    let (setup, store, fleet) = tokio::join!(setup_line(app), app.reaches_store(), app.describe_fleet());
    lines.push(setup);
    lines.extend(registration_lines(app));
    lines.extend([
        ("API", format!("http://{addr}")),
        ("socket", format!("ws://{addr}/ws (subprotocol {SUBPROTOCOL})")),
        (
            "store",
            match &store {
                Ok(()) => app.store.clone(),
                Err(why) => format!(
                    "NOT REACHED: {}: {why}; it is tried again, and requests are answered 503 until then",
                    app.store
                ),
            },
        ),
    ]);
    lines.extend(fleet.map(|fleet| ("fleet", fleet)));
    lines.extend([("photos", app.photos.clone()), ("mail", app.mail.clone())]);
    lines.extend(app.metrics_addr.map(|addr| ("metrics", format!("http://{addr}/metrics"))));
    lines.extend(
        app.generated_secret.as_ref().map(|file| {
            ("secret", format!("{}, generated; keep it with the backups, or set JWT_SECRET", file.display()))
        }),
    );
    lines.push(("docs", format!("http://{addr}/api/docs/ and README.md; members-book --help for the settings")));
    let mut out = io::stdout().lock();
    // A closed standard output is no reason not to serve.
    let state = if store.is_ok() { "is ready" } else { "runs, and cannot serve before it reaches its store" };
    let _ = writeln!(out, "Members Book {} {state}. Stop it with Ctrl-C.", env!("CARGO_PKG_VERSION"));
    for (what, value) in lines {
        let _ = writeln!(out, "  {what:<8} {value}");
    }
    let _ = out.flush();
}

/// Who may register, and why; with a warning if that is anybody on the way here.
fn registration_lines(app: &App) -> Vec<(&'static str, String)> {
    let (policy, because) = app.who_registers;
    let who = match policy {
        RegistrationPolicy::Open => "anybody may register",
        RegistrationPolicy::Invite => "whoever has an invitation may register",
        RegistrationPolicy::Approval => "whoever has no invitation waits for an administrator",
        RegistrationPolicy::Closed => "nobody may register",
    };
    let why = match because {
        Because::Set => "REGISTRATION says so",
        Because::OnlyHere => "only this machine reaches the server; REGISTRATION decides otherwise",
        Because::Reached => "others reach the server; REGISTRATION decides otherwise",
    };
    let mut lines = vec![("register", format!("{}: {who} ({why})", policy.as_str()))];
    if policy == RegistrationPolicy::Open && app.is_reached {
        tracing::warn!("REGISTRATION is open and others reach this server: anybody who finds it becomes a member");
        lines.push((
            "warning",
            "anybody who finds this server becomes a member; REGISTRATION=invite keeps the door".to_owned(),
        ));
    }
    lines
}

/// How the first account is made: with the setup code, while it is needed or nobody knows whether it is.
async fn setup_line(app: &App) -> (&'static str, String) {
    let where_to = if has_app() { "in the app" } else { "with POST /api/setup" };
    let code = app.setup.code();
    match timeout(SETUP_WAIT, app.setup.is_needed()).await {
        Ok(Ok(false)) => {
            let may = match app.who_registers.0 {
                RegistrationPolicy::Closed => "; while REGISTRATION is closed nobody is invited",
                RegistrationPolicy::Approval => ", who may invite and approve",
                RegistrationPolicy::Open | RegistrationPolicy::Invite => ", who may invite",
            };
            ("admin", format!("the club has an administrator{may}"))
        }
        Ok(Ok(true)) => {
            ("setup", format!("{code}; whoever enters this code {where_to} becomes the first administrator"))
        }
        _ => {
            ("setup", format!("{code}, if the club has no administrator yet: the store does not answer at the moment"))
        }
    }
}

/// Where a browser reaches the server: the address for everybody if a setting gives it, else one of this machine.
fn for_browsers(app: &App) -> String {
    if !app.public_url.is_empty() {
        return app.public_url.clone();
    }
    format!("http://{}", within_reach(app.addr))
}

/// An address that can be opened: of a server that listens on all of them, the one that this machine has in its network.
fn within_reach(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(own_address().unwrap_or(Ipv4Addr::LOCALHOST.into()));
    }
    addr
}

/// The address that this machine would reach others from. Nothing is sent: of a UDP socket only the route is looked up, to an address for
/// documentation (RFC 5737).
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}

/// What is wrong with what was given on the command line.
fn problems(errors: &[FieldError]) -> String {
    let problems: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
    problems.join("; ")
}

async fn create_admin(settings: Settings, name: String, email: String) -> Result<ExitCode, String> {
    let password = read_password().map_err(|error| format!("the password: {error}"))?;
    let body = serde_json::json!({ "name": name, "email": email, "password": password });
    let request: RegisterRequest = protocol::parse_body(body).map_err(|errors| problems(&errors))?;
    let (admin, store) = app::create_admin(settings, request).await.map_err(|error| error.to_string())?;
    println!("{} is an administrator now, with the id {}, in {store}.", admin.profile.email, admin.profile.id);
    Ok(ExitCode::SUCCESS)
}

async fn promote(settings: Settings, email: &str) -> Result<ExitCode, String> {
    let (admin, store) = app::promote(settings, email).await.map_err(|error| error.to_string())?;
    println!("{} is an administrator now, with the id {}, in {store}.", admin.profile.email, admin.profile.id);
    if !admin.profile.is_active {
        println!("They are deactivated, and cannot log in until another administrator activates them.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn reset_second_factor(settings: Settings, email: &str) -> Result<ExitCode, String> {
    let (member, store) = app::reset_second_factor(settings, email).await.map_err(|error| error.to_string())?;
    println!("{} has no second factor now: the password alone lets them in, in {store}.", member.profile.email);
    Ok(ExitCode::SUCCESS)
}

async fn reset_link(settings: Settings, email: &str) -> Result<ExitCode, String> {
    let base = for_links(&settings);
    let ((member, token), store) =
        app::reset_link(settings, World::default(), email).await.map_err(|error| error.to_string())?;
    print_link(&base, &token, &member.profile.email, &store);
    Ok(ExitCode::SUCCESS)
}

/// Where links lead that are handed out.
fn for_links(settings: &Settings) -> String {
    let listens_at = within_reach(SocketAddr::new(settings.listen.host, settings.listen.port));
    let base = Some(settings.listen.public_url.clone()).filter(|url| !url.is_empty());
    base.unwrap_or_else(|| format!("http://{listens_at}"))
}

/// Prints a link that sets a password, and to standard error what it does.
fn print_link(base: &str, token: &str, email: &str, store: &str) {
    println!("{base}{APP_PATH}reset?token={token}");
    let minutes = LINK_LIFETIME.as_secs() / 60;
    eprintln!(
        "Whoever opens this link sets a new password for {email} (in {store}), once, within {minutes} minutes. Give it to that member only."
    );
}

async fn set_email(settings: Settings, old: &str, new: &str, taken_over: bool) -> Result<ExitCode, String> {
    // The request that has an address alone: by the rule of all of them.
    let body = serde_json::json!({ "email": new.trim() });
    let new: ForgotPasswordRequest = protocol::parse_body(body).map_err(|errors| problems(&errors))?;
    if taken_over {
        return take_back(settings, old, &new.email).await;
    }
    let (member, store) = app::set_email(settings, old, &new.email).await.map_err(|error| error.to_string())?;
    println!("{old} is {} now, in {store}.", member.profile.email);
    Ok(ExitCode::SUCCESS)
}

async fn take_back(settings: Settings, old: &str, new: &str) -> Result<ExitCode, String> {
    let base = for_links(&settings);
    let ((member, token), store) = app::take_back(settings, old, new).await.map_err(|error| error.to_string())?;
    let email = member.profile.email;
    println!(
        "{old} is {email} now, in {store}. Every device is signed out, and nobody gets in with the former password."
    );
    if let Some(factor) = member.second_factor {
        println!(
            "A second factor is on since {}. If it is not the member's: members-book admin reset-second-factor --email {email}",
            factor.enabled_at
        );
    }
    match token {
        Some(token) => print_link(&base, &token, &email, &store),
        None => println!(
            "They are deactivated. Once an administrator has activated them: members-book admin reset-link --email {email}"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

async fn after_restore(settings: Settings, keep_invitations: bool) -> Result<ExitCode, String> {
    let ended = app::after_restore(settings, keep_invitations).await.map_err(|error| error.to_string())?;
    let (Ended { sessions, links, mails, invitations }, store) = ended;
    println!("What the backup had brought back is ended in {store}:");
    let kept = "kept open, as --keep-invitations says".to_owned();
    for (what, count) in [
        ("sessions", format!("{sessions}; everybody signs in again")),
        ("links", links.to_string()),
        ("waiting mails", mails.to_string()),
        ("invitations", invitations.map_or(kept, |count| format!("{count} revoked"))),
    ] {
        println!("  {what:<14} {count}");
    }
    println!(
        "What else it has brought back, passwords among it, and what to do about that: docs/operating.md, \"After a restore\"."
    );
    Ok(ExitCode::SUCCESS)
}

async fn migrate(settings: &Settings, check: bool) -> Result<ExitCode, String> {
    let missing = app::migrate(settings, check).await.map_err(|error| error.to_string())?;
    for what in &missing {
        println!("{} {what}", if check { "missing:" } else { "applied:" });
    }
    if missing.is_empty() {
        println!("The schema is up to date.");
    }
    Ok(if check && !missing.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn copy(settings: &Settings, from: &str, to: &str) -> Result<ExitCode, String> {
    let style = ProgressStyle::with_template("{msg:<28} [{bar:40}] {pos}/{len} {per_sec} {eta}");
    let bar = ProgressBar::new(0).with_style(style.map_err(|error| error.to_string())?);
    let is_terminal = io::stderr().is_terminal();
    let mut current = None;
    let progress = |step, done, total| {
        let (what, part) = match step {
            Step::Copying(part) => ("copying", part),
            Step::Verifying(part) => ("verifying", part),
        };
        if current.replace(step) != Some(step) {
            if !is_terminal {
                eprintln!("{what} {}", part.name());
            }
            bar.set_message(format!("{what} {}", part.name()));
            bar.reset_eta();
        }
        bar.set_length(total);
        bar.set_position(done);
    };
    let verified = app::copy(settings, from, to, progress).await.map_err(|error| error.to_string())?;
    bar.finish_and_clear();
    for Verified { part, rows, checksum } in verified {
        println!("{:<16} {rows:>12}  sha256 {checksum}", part.name());
    }
    println!("Everything is there, and the same.");
    Ok(ExitCode::SUCCESS)
}

async fn demo(settings: Settings, members: u16) -> Result<ExitCode, String> {
    let (club, store) = app::demo(settings, members).await.map_err(|error| error.to_string())?;
    let DemoClub { members, conversations, messages, admin, member } = club;
    println!("A club of {members} members with {messages} messages in {conversations} conversations is in {store}.");
    for (who, Login { email, password }) in [("administrator", admin), ("member", member)] {
        println!("  {who:<14} {email:<36} password {password}");
    }
    println!("The passwords are new and shown only now; run this again for other ones. Start the server, and log in.");
    Ok(ExitCode::SUCCESS)
}

/// Asks for the password without showing it, or reads one line where nobody can be asked.
fn read_password() -> io::Result<String> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password("Password: ");
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
