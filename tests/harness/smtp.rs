//! A mail server of a test's own: it speaks SMTP with STARTTLS, with TLS from the start or in the clear, has the trouble that it is told
//! to have, and keeps what it was given.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use members_book::config::Settings;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::eventually;

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Plain,
    StartTls,
    Tls,
}

/// How late [`Trouble::Slow`] and [`Trouble::Late`] are.
const LATE: Duration = Duration::from_millis(2_200);

/// What goes wrong with the next recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The answer to RCPT.
    Recipient(u16),
    /// The same, for a reason that an enhanced status says.
    Rule(&'static str),
    /// The answer to RCPT, late.
    Slow(u16),
    /// The answer to the whole mail.
    Content(u16),
    /// RCPT is not answered.
    Hangs,
    /// The whole mail is not answered: that is waited for for longer.
    Silent,
    /// The whole mail is taken, late.
    Late,
    /// The connection closes in the middle of the mail.
    Closes,
}

/// A mail that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub to: String,
    pub from: String,
    pub subject: String,
    pub body: String,
    pub headers: String,
    /// Whether it came over TLS.
    pub is_encrypted: bool,
    /// Who signed in.
    pub user: Option<String>,
}

impl Received {
    /// The token of the link in it.
    pub fn token(&self) -> String {
        let link = self.link();
        link.split_once("?token=").unwrap_or_else(|| panic!("no token in {link}")).1.to_owned()
    }

    /// The link in it.
    pub fn link(&self) -> String {
        self.body.lines().find(|line| line.starts_with("http")).unwrap_or_else(|| panic!("{}", self.body)).to_owned()
    }
}

#[derive(Default)]
struct State {
    received: Mutex<Vec<Received>>,
    trouble: Mutex<VecDeque<Trouble>>,
    /// With all of a domain.
    at: Mutex<Option<(String, Trouble)>>,
    connections: Mutex<usize>,
    /// Every recipient that it was asked for.
    asked: Mutex<Vec<String>>,
}

/// A mail server.
pub struct MailServer {
    addr: SocketAddr,
    how: How,
    state: Arc<State>,
    acceptor: TlsAcceptor,
    task: Mutex<Option<JoinHandle<()>>>,
    folder: TempDir,
}

impl MailServer {
    /// One that runs.
    pub async fn start(how: How) -> Self {
        let server = Self::down(how).await;
        server.launch().await;
        server
    }

    /// One that does not run yet.
    pub async fn down(how: How) -> Self {
        members_book::tls::install();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        // Its port stays its own: nobody else is given one that was bound just now.
        let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self { addr, how, state: Arc::default(), acceptor, task: Mutex::default(), folder }
    }

    /// Starts it, again if need be.
    pub async fn launch(&self) {
        let listener =
            eventually("the port of the mail server", async || TcpListener::bind(self.addr).await.ok()).await;
        let (state, acceptor, how) = (Arc::clone(&self.state), self.acceptor.clone(), self.how);
        *self.task.lock().unwrap() = Some(tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                *state.connections.lock().unwrap() += 1;
                tokio::spawn(serve(socket, how, acceptor.clone(), Arc::clone(&state)));
            }
        }));
    }

    /// Has trouble with the next recipients, one after the other.
    pub fn expect(&self, trouble: impl IntoIterator<Item = Trouble>) {
        self.state.trouble.lock().unwrap().extend(trouble);
    }

    /// Has trouble with every recipient of a domain, or with one of them, from now on.
    pub fn expect_at(&self, whom: &str, trouble: Trouble) {
        let whom = if whom.contains('@') { whom.to_owned() } else { format!("@{whom}") };
        *self.state.at.lock().unwrap() = Some((whom, trouble));
    }

    /// Whether all the trouble was had.
    pub async fn had_all(&self) {
        eventually("trouble", async || self.state.trouble.lock().unwrap().is_empty().then_some(())).await;
    }

    /// What a server has in `SMTP_URL`.
    pub fn url(&self) -> String {
        let port = self.addr.port();
        match self.how {
            How::Plain => format!("smtp://localhost:{port}?tls=none"),
            How::StartTls => format!("smtp://club:hunter%402@localhost:{port}"),
            How::Tls => format!("smtps://club:hunter%402@localhost:{port}"),
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The certificate that it is known by.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Has a server send over it.
    pub fn set(&self, settings: &mut Settings) {
        settings.mail.smtp_url = Some(self.url().into());
        settings.mail.mail_from = Some("The Club <club@example.com>".to_owned());
        settings.mail.smtp_ca_file = Some(self.ca_file());
        settings.listen.public_url = "https://club.example.com".to_owned();
    }

    /// How many mails it has.
    pub fn count(&self) -> usize {
        self.state.received.lock().unwrap().len()
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }

    /// How often it was asked for recipients of a domain.
    pub fn asked(&self, domain: &str) -> usize {
        self.state.asked.lock().unwrap().iter().filter(|to| to.ends_with(&format!("@{domain}"))).count()
    }

    /// Everything that it was given, by now.
    pub fn all(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// The mail with this number, from zero on, as soon as it is there.
    pub async fn mail(&self, number: usize) -> Received {
        eventually("a mail", async || self.state.received.lock().unwrap().get(number).cloned()).await
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let task = self.task.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

async fn serve(socket: TcpStream, how: How, acceptor: TlsAcceptor, state: Arc<State>) {
    if how == How::Tls {
        if let Ok(socket) = acceptor.accept(socket).await {
            talk(BufReader::new(socket), how, true, true, &state).await;
        }
        return;
    }
    let Some(socket) = talk(BufReader::new(socket), how, true, false, &state).await else { return };
    // It was asked for TLS; what was greeted once is not greeted again.
    if let Ok(socket) = acceptor.accept(socket.into_inner()).await {
        talk(BufReader::new(socket), how, false, true, &state).await;
    }
}

/// Speaks SMTP. Returns the connection when TLS is to begin.
#[expect(clippy::cognitive_complexity, reason = "one arm for each command")]
async fn talk<S>(
    mut io: BufReader<S>,
    how: How,
    greets: bool,
    is_encrypted: bool,
    state: &State,
) -> Option<BufReader<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from, mut to, mut user, mut trouble) = (String::new(), String::new(), None, None);
    if greets {
        say(&mut io, "220 mail.test ESMTP").await?;
    }
    loop {
        let line = read(&mut io).await?;
        let command = line.split(' ').next().unwrap_or_default().to_uppercase();
        match command.as_str() {
            "EHLO" => {
                let starts = if how == How::StartTls && !is_encrypted { "250-STARTTLS\r\n" } else { "" };
                let auth = if is_encrypted { "250-AUTH PLAIN LOGIN\r\n" } else { "" };
                say(&mut io, &format!("250-mail.test\r\n{starts}{auth}250 8BITMIME")).await?;
            }
            "STARTTLS" => {
                say(&mut io, "220 go on").await?;
                return Some(io);
            }
            "AUTH" => {
                let plain = line.rsplit(' ').next().and_then(|plain| STANDARD.decode(plain).ok()).unwrap_or_default();
                let plain = String::from_utf8_lossy(&plain).into_owned();
                if plain == "\0club\0hunter@2" {
                    user = Some("club".to_owned());
                    say(&mut io, "235 welcome").await?;
                } else {
                    say(&mut io, "535 who are you").await?;
                }
            }
            "MAIL" => {
                from = address(&line);
                say(&mut io, "250 ok").await?;
            }
            "RCPT" => {
                to = address(&line);
                state.asked.lock().unwrap().push(to.clone());
                let at = state.at.lock().unwrap().clone().filter(|(domain, _)| to.ends_with(domain));
                trouble = at.map(|(_, trouble)| trouble).or_else(|| state.trouble.lock().unwrap().pop_front());
                match trouble {
                    Some(Trouble::Recipient(code)) => say(&mut io, &format!("{code} no, not {to}")).await?,
                    Some(Trouble::Rule(rule)) => say(&mut io, &format!("550 {rule} no, not {from}")).await?,
                    Some(Trouble::Slow(code)) => {
                        tokio::time::sleep(LATE).await;
                        say(&mut io, &format!("{code} no, not {to}")).await?;
                    }
                    Some(Trouble::Hangs) => std::future::pending().await,
                    _ => say(&mut io, "250 ok").await?,
                }
            }
            "DATA" => {
                say(&mut io, "354 go on").await?;
                let mut content = String::new();
                loop {
                    let line = read(&mut io).await?;
                    if trouble == Some(Trouble::Closes) {
                        return None;
                    }
                    if line == "." {
                        break;
                    }
                    content.push_str(line.strip_prefix('.').unwrap_or(&line));
                    content.push('\n');
                }
                if trouble == Some(Trouble::Late) {
                    tokio::time::sleep(LATE).await;
                }
                if trouble == Some(Trouble::Silent) {
                    std::future::pending::<()>().await;
                }
                if let Some(Trouble::Content(code)) = trouble {
                    say(&mut io, &format!("{code} no")).await?;
                    continue;
                }
                let received = received(&content, (from.clone(), to.clone()), is_encrypted, user.clone());
                state.received.lock().unwrap().push(received);
                say(&mut io, "250 taken").await?;
            }
            "QUIT" => {
                say(&mut io, "221 bye").await?;
                return None;
            }
            _ => say(&mut io, "250 ok").await?,
        }
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(io: &mut BufReader<S>, line: &str) -> Option<()> {
    io.write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
    io.flush().await.ok()
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(io: &mut BufReader<S>) -> Option<String> {
    let mut line = String::new();
    match io.read_line(&mut line).await {
        Ok(1..) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        _ => None,
    }
}

fn address(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(address, _)| address.to_owned()).unwrap()
}

fn received(content: &str, (from, to): (String, String), is_encrypted: bool, user: Option<String>) -> Received {
    let (headers, body) = content.split_once("\n\n").unwrap();
    let unfolded = headers.replace("\n ", " ");
    let header = |name: &str| {
        let found =
            unfolded.lines().find_map(|line| line.split_once(": ").filter(|(is, _)| is.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let body = match header("Content-Transfer-Encoding").as_str() {
        "quoted-printable" => quoted_printable(body),
        "base64" => String::from_utf8(STANDARD.decode(body.replace('\n', "")).unwrap()).unwrap(),
        _ => body.to_owned(),
    };
    let body = body.replace("\r\n", "\n");
    Received { to, from, subject: words(&header("Subject")), body, headers: unfolded.clone(), is_encrypted, user }
}

fn quoted_printable(text: &str) -> String {
    let text = text.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'=', [high, low, left @ ..]) => {
                let pair = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap());
                rest = left;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A header with its encoded words (RFC 2047) decoded.
fn words(text: &str) -> String {
    let (mut whole, mut was_encoded) = (String::new(), true);
    for word in text.split(' ') {
        let encoded = word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?="));
        // A space between two encoded words is none.
        let joins = was_encoded && encoded.is_some();
        if !whole.is_empty() && !joins {
            whole.push(' ');
        }
        was_encoded = encoded.is_some();
        let decoded = encoded.map(|encoded| String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap());
        whole.push_str(&decoded.unwrap_or_else(|| word.to_owned()));
    }
    whole
}
