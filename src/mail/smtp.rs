//! The connection to the server that takes mail. One is kept while there is more to send; each step of it has a deadline.
//!
//! What the server says is not repeated, because it may say whom a mail was for: only its number is, and to what it was the answer.

use std::{path::Path, time::Duration};

use lettre::{
    Address, Message,
    message::{Body, Mailbox, SinglePart, header},
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        commands::{Data, Mail, Noop, Rcpt, Rset},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
        response::Severity,
    },
};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, timeout};

use super::Letter;
use crate::config::settings::{Relay, Security};

/// The longest time that a mail takes, in times of one answer: to connect, with all that is said before the first mail, for five
/// commands, and for a whole mail.
const LONGEST: u32 = 1 + AT_A_MAIL;
/// Of these, for a mail once the server is connected to.
const AT_A_MAIL: u32 = 5 + ACCEPTANCE;
/// How long the answer to a whole mail may take, in times of one answer.
const ACCEPTANCE: u32 = 2;
/// How long a connection is kept that nothing is sent over.
const IDLE: Duration = Duration::from_secs(30);
/// How long goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a mail was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// It never will be: the address or the mail is refused for good.
    Refused(String),
    /// Not now; this one mail.
    Later(String),
    /// Not now: by a rule that may be about who sends, or how much, and not about whom it is for.
    Denied(String),
    /// The server was lost at this mail: it closed, said that it is not available, or did not answer in time. This one may be the reason, or it
    /// holds for all. It may have been taken.
    Lost(String),
    /// No mail can be handed over at the moment.
    Unreachable(String),
}

impl Undelivered {
    /// Why.
    #[must_use]
    pub fn into_reason(self) -> String {
        match self {
            Self::Refused(why) | Self::Later(why) | Self::Denied(why) | Self::Lost(why) | Self::Unreachable(why) => why,
        }
    }
}

/// A mail to be handed over.
pub struct Parcel {
    /// For whom.
    pub to: String,
    /// What it says.
    pub letter: Letter,
    /// What tells it from every other mail, and is the same if it is sent again.
    pub id: String,
}

/// How long the answer to whom a mail is for is waited for while others wait: who hangs there is given the whole time when it is tried beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// There are others.
    Some,
    /// There are others, and many domains were slow.
    Much,
    /// It is tried beside the others, and many domains were slow.
    Little,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// To most of what is said.
    answer: Duration,
    /// To whom the mail is for: some servers look the address up.
    recipient: Duration,
    /// To the whole mail: some servers look into it.
    content: Duration,
}

impl Patience {
    fn of(answer: Duration, haste: Option<Haste>) -> Self {
        let recipient = match haste {
            None => answer,
            Some(Haste::Little) => Duration::from_secs(10),
            Some(Haste::Some) => Duration::from_secs(8),
            Some(Haste::Much) => Duration::from_secs(2),
        };
        // Whoever does not wait for the answer to the mail has it come twice.
        Self { answer, recipient: recipient.min(answer), content: answer.saturating_mul(ACCEPTANCE) }
    }
}

/// The way to the server that takes mail. For one task.
pub struct Smtp {
    relay: Relay,
    from: Mailbox,
    roots: Vec<Certificate>,
    /// How long an answer may take.
    patience: Duration,
    open: Option<(AsyncSmtpConnection, Instant)>,
}

/// Says that nobody wrote this (RFC 3834), so that nobody's absence is answered with.
#[derive(Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// The longest line of a mail, in bytes (RFC 5322, section 2.1.1).
const LINE_BYTES: usize = 998;

/// A text as it goes into a mail: as it is where that is allowed, so that a link is in one piece for whoever reads what was sent.
fn encoded(text: &str) -> Body {
    if text.is_ascii() && text.lines().all(|line| line.len() <= LINE_BYTES) {
        let lines = text.lines().flat_map(|line| [line, "\r\n"]).collect::<String>();
        return Body::dangerous_pre_encoded(lines.into_bytes(), header::ContentTransferEncoding::SevenBit);
    }
    Body::new(text.to_owned())
}

impl Smtp {
    /// The way to a server, for mails from an address, which also trusts the certificates in a file.
    ///
    /// # Errors
    /// The setting that does not fit, and why.
    pub fn new(relay: Relay, from: &str, ca_file: Option<&Path>, patience: Duration) -> Result<Self, String> {
        crate::tls::install();
        let from = from.parse().map_err(|_| "MAIL_FROM: not an address".to_owned())?;
        let roots = match ca_file {
            None => Vec::new(),
            Some(file) => {
                let problem = |why: String| format!("SMTP_CA_FILE: {}: {why}", file.display());
                let pem = std::fs::read(file).map_err(|error| problem(error.to_string()))?;
                vec![Certificate::from_pem(&pem).map_err(|_| problem("no certificates in PEM".to_owned()))?]
            }
        };
        let smtp = Self { relay, from, roots, patience, open: None };
        smtp.tls().map_err(|error| format!("SMTP_URL: {error}"))?;
        Ok(smtp)
    }

    /// One line for people. No credentials.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{}, from {}", self.relay.describe(), self.from)
    }

    /// The longest time that handing a mail over takes.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.patience.saturating_mul(LONGEST)
    }

    /// The same way once more, with a connection of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        let Self { relay, from, roots, patience, .. } = self;
        Self { relay: relay.clone(), from: from.clone(), roots: roots.clone(), patience: *patience, open: None }
    }

    /// Hands a mail over. Returns what it has cost, too: the time from when the server could be told of it.
    pub async fn send(&mut self, parcel: &Parcel, haste: Option<Haste>) -> (Result<(), Undelivered>, Duration) {
        let ready = async {
            let bytes = self.written(parcel)?;
            let to: Address =
                parcel.to.parse().map_err(|_| Undelivered::Refused("mail knows no such address".to_owned()))?;
            // Taken out of its place: what is dropped in the middle is not used again.
            Ok((self.connection().await?, bytes, to))
        };
        let (connection, bytes, to) = match ready.await {
            Ok(ready) => ready,
            Err(undelivered) => return (Err(undelivered), Duration::ZERO),
        };
        let begun = Instant::now();
        let longest = self.patience.saturating_mul(AT_A_MAIL);
        let sent = timeout(longest, self.send_over(connection, (to, bytes), haste)).await;
        let sent = sent.unwrap_or_else(|_| Err(Undelivered::Lost("it took too long".to_owned())));
        (sent, begun.elapsed())
    }

    async fn send_over(
        &mut self,
        mut connection: AsyncSmtpConnection,
        (to, bytes): (Address, Vec<u8>),
        haste: Option<Haste>,
    ) -> Result<(), Undelivered> {
        let patience = Patience::of(self.patience, haste);
        let outcome = hand_over(&mut connection, patience, (self.from.email.clone(), to), &bytes).await;
        match &outcome {
            Err(Undelivered::Unreachable(_) | Undelivered::Lost(_)) => {}
            Ok(()) => self.open = Some((connection, Instant::now())),
            // It forgets the mail that it has refused.
            Err(_) if answered("RSET", self.patience, connection.command(Rset)).await.is_ok() => {
                self.open = Some((connection, Instant::now()));
            }
            Err(_) => {}
        }
        outcome
    }

    /// Connects and signs in, so that what is wrong with the settings is known before there is a mail. The connection is kept for the first one.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn greet(&mut self) -> Result<(), String> {
        let connection = self.connection().await.map_err(Undelivered::into_reason)?;
        self.open = Some((connection, Instant::now()));
        Ok(())
    }

    /// Closes the connection, if one is open: there is nothing to send at the moment.
    pub async fn rest(&mut self) {
        if let Some((mut connection, _)) = self.open.take() {
            // It is closed in any case.
            let _ = timeout(GOODBYE, connection.quit()).await;
        }
    }

    fn written(&self, parcel: &Parcel) -> Result<Vec<u8>, Undelivered> {
        let refused = |_| Undelivered::Refused("mail knows no such address".to_owned());
        let to: Address = parcel.to.parse().map_err(refused)?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&parcel.letter.subject)
            .message_id(Some(format!("<{}@{}>", parcel.id, self.from.email.domain())))
            .header(AutoSubmitted)
            .singlepart(
                SinglePart::builder().header(header::ContentType::TEXT_PLAIN).body(encoded(&parcel.letter.body)),
            );
        message.map(|message| message.formatted()).map_err(|error| Undelivered::Refused(error.to_string()))
    }

    fn tls(&self) -> Result<TlsParameters, SmtpError> {
        let builder = TlsParameters::builder(self.relay.host.clone());
        let roots = self.roots.iter().cloned();
        roots.fold(builder, lettre::transport::smtp::client::TlsParametersBuilder::add_root_certificate).build_rustls()
    }

    /// The connection that is open, or a new one.
    async fn connection(&mut self) -> Result<AsyncSmtpConnection, Undelivered> {
        if let Some((mut connection, used)) = self.open.take()
            && used.elapsed() < IDLE
            && answered("NOOP", self.patience, connection.command(Noop)).await.is_ok()
        {
            return Ok(connection);
        }
        let made = timeout(self.patience, self.connect()).await;
        let Relay { host, port, .. } = &self.relay;
        let made = made.unwrap_or_else(|_| Err(Undelivered::Unreachable("no answer in time".to_owned())));
        made.map_err(|undelivered| match undelivered {
            Undelivered::Unreachable(why) => Undelivered::Unreachable(format!("{host}:{port}: {why}")),
            other => other,
        })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Undelivered> {
        let Relay { host, port, security, user } = &self.relay;
        let unreachable = |what: &str, error: &SmtpError| Undelivered::Unreachable(format!("{what}: {}", told(error)));
        let tls = self.tls().map_err(|error| unreachable("TLS", &error))?;
        let hello = ClientId::Domain(self.from.email.domain().to_owned());
        let from_the_start = (*security == Security::Tls).then(|| tls.clone());
        let connected = AsyncSmtpConnection::connect_tokio1(
            (host.as_str(), *port),
            Some(self.patience),
            &hello,
            from_the_start,
            None,
        );
        let mut connection = connected.await.map_err(|error| unreachable("connecting", &error))?;
        if *security == Security::StartTls {
            if !connection.can_starttls() {
                let message = "the server offers no STARTTLS: use smtps:// and its port, or see ?tls=none".to_owned();
                return Err(Undelivered::Unreachable(message));
            }
            connection.starttls(tls, &hello).await.map_err(|error| unreachable("STARTTLS", &error))?;
        }
        if let Some((user, password)) = user {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            let auth = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            auth.map_err(|error| unreachable("signing in to the mail server", &error))?;
        }
        Ok(connection)
    }
}

async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    Patience { answer, recipient, content }: Patience,
    (from, to): (Address, Address),
    bytes: &[u8],
) -> Result<(), Undelivered> {
    let supports = |extension| connection.server_info().supports_feature(extension);
    let mut parameters = Vec::new();
    if !to.to_string().is_ascii() {
        if !supports(Extension::SmtpUtfEight) {
            return Err(Undelivered::Refused("the mail server takes no such addresses (SMTPUTF8)".to_owned()));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !bytes.is_ascii() && supports(Extension::EightBitMime) {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    // Who is refused as a sender cannot send anything.
    let sender = answered("MAIL", answer, connection.command(Mail::new(Some(from), parameters))).await;
    sender.map_err(|undelivered| match undelivered {
        Undelivered::Refused(why) | Undelivered::Denied(why) => Undelivered::Unreachable(why),
        other => other,
    })?;
    let handed_over = async {
        answered("RCPT", recipient, connection.command(Rcpt::new(to, Vec::new()))).await?;
        answered("DATA", answer, connection.command(Data)).await?;
        answered("the mail", content, connection.message(bytes)).await
    };
    // Up to here there was nothing wrong that holds for all.
    handed_over.await.map_err(|undelivered| match undelivered {
        Undelivered::Unreachable(why) => Undelivered::Lost(why),
        other => other,
    })
}

/// What became of something that was said.
async fn answered<T>(
    what: &str,
    within: Duration,
    answer: impl Future<Output = Result<T, SmtpError>>,
) -> Result<(), Undelivered> {
    match timeout(within, answer).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            let problem = format!("{what}: {}", told(&error));
            Err(match error.status() {
                // The service is not available, and closes the connection.
                Some(code) if code.to_string() == "421" => Undelivered::Unreachable(problem),
                Some(code) if code.severity == Severity::PermanentNegativeCompletion => {
                    if is_of_a_rule(&error) {
                        Undelivered::Denied(problem)
                    } else {
                        Undelivered::Refused(problem)
                    }
                }
                Some(_) => Undelivered::Later(problem),
                None => Undelivered::Unreachable(problem),
            })
        }
        Err(_) => Err(Undelivered::Unreachable(format!("{what}: no answer in time"))),
    }
}

/// Whether a refusal for good may be of who sends, of how much, or of the server itself, by its enhanced status (RFC 3463): of the mail system,
/// of the way, or of security and policy. Many servers say what they hold against a sender only as the answer to RCPT.
fn is_of_a_rule(error: &SmtpError) -> bool {
    let text = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let status = text.split_whitespace().next().unwrap_or_default();
    // That there is no such recipient, as a large provider says it.
    status != "5.4.1" && ["5.3.", "5.4.", "5.7."].iter().any(|class| status.starts_with(class))
}

/// An error in words that name nobody.
fn told(error: &SmtpError) -> String {
    match error.status() {
        Some(code) => format!("the mail server answered {code}"),
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
    }
}
