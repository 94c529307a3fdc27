//! Where mails go: to the mail server, to the log, or nowhere.

use std::time::Duration;

use super::{
    letters::Letter,
    smtp::{Haste, Parcel, Smtp, Undelivered},
};

/// Where mails go.
pub enum Transport {
    /// To the mail server.
    Smtp(Box<Smtp>),
    /// To the log, with everything that is in them: whoever develops on this machine follows links from there.
    Log,
    /// Nowhere.
    Nowhere,
}

impl Transport {
    /// One line for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Smtp(smtp) => smtp.describe(),
            Self::Log => "to the log, with its links; SMTP_URL, MAIL_FROM and PUBLIC_URL send it".to_owned(),
            Self::Nowhere => "none: without SMTP_URL, MAIL_FROM and PUBLIC_URL a password is reset with a link of `members-book admin reset-link` only".to_owned(),
        }
    }

    /// The same way once more, with a connection of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        match self {
            Self::Smtp(smtp) => Self::Smtp(Box::new(smtp.another())),
            Self::Log => Self::Log,
            Self::Nowhere => Self::Nowhere,
        }
    }

    /// The longest time that a mail takes.
    pub const fn longest(&self) -> Duration {
        match self {
            Self::Smtp(smtp) => smtp.longest(),
            Self::Log | Self::Nowhere => Duration::ZERO,
        }
    }

    /// Takes a mail. Returns what became of it, and what time the mail server has taken for it.
    pub async fn take(
        &mut self,
        parcel: &Parcel,
        haste: Option<Haste>,
    ) -> (Result<&'static str, Undelivered>, Duration) {
        match self {
            Self::Smtp(smtp) => {
                let (sent, cost) = smtp.send(parcel, haste).await;
                (sent.map(|()| "sent"), cost)
            }
            Self::Log => {
                let Parcel { to, letter: Letter { subject, body }, .. } = parcel;
                tracing::info!(to, subject, "mail (not sent: there is no SMTP_URL)\n{body}");
                (Ok("logged"), Duration::ZERO)
            }
            Self::Nowhere => (Ok("dropped"), Duration::ZERO),
        }
    }

    /// Finds out whether mails can be handed over, before there is one.
    ///
    /// # Errors
    /// Why not.
    pub async fn greet(&mut self) -> Result<(), String> {
        match self {
            Self::Smtp(smtp) => smtp.greet().await,
            Self::Log | Self::Nowhere => Ok(()),
        }
    }

    /// Closes what is open.
    pub async fn rest(&mut self) {
        if let Self::Smtp(smtp) = self {
            smtp.rest().await;
        }
    }
}
