//! The attacks, each in a module of its own.
//!
//! An attack goes on until it is stopped, and never faster than it says. It counts what it does and what it meets; whether
//! the server withstood it is for others to say, except for what only the attack can know.

mod flood;
mod hang_up;
mod hello_storm;
mod labels;
mod logins;
mod made_up_cursors;
mod openapi;
mod pictures;
mod pings;
mod presence_flap;
mod refused_frames;
mod search;
mod silent;
mod slow_readers;
mod strangers;
mod unread_answers;
mod unread_counts;
mod withheld_bodies;

use std::{collections::BTreeMap, time::Duration};

use clap::ValueEnum;

use super::field::Field;
use crate::report::attacks::Check;

/// The attacks, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// 500 anonymous connections ask for large pages and read nothing
    UnreadAnswers,
    /// A member with 20,000 unread messages has them counted, and syncs, again and again
    UnreadCounts,
    /// A member reconnects with a full sync as fast as possible
    HelloStorm,
    /// WebSocket pings, unasked pongs and empty fragments from four connections
    Pings,
    /// A member far over the frame limit, who reconnects at once
    RefusedFrames,
    /// One address takes as many connections as it can and says nothing
    Silent,
    /// Wrong passwords from ten addresses
    Logins,
    /// Logins from twelve networks whose bodies never come
    WithheldBodies,
    /// Ten members search for single letters in a large directory
    Search,
    /// Anonymous requests for the OpenAPI document, compressed
    Openapi,
    /// 60 connections stop reading while large messages are sent to them
    SlowReaders,
    /// Pictures of 32 megapixels, uploaded in parallel
    Pictures,
    /// Presence and name of a member change all the time, before 300 watchers
    PresenceFlap,
    /// Invented methods and paths
    Labels,
    /// Hello with forged cursors, from ten devices that do not read
    MadeUpCursors,
    /// A fresh account writes to as many members as it can, and types at one
    Strangers,
    /// Logout and deactivation by a caller who is gone before the answer
    HangUp,
}

impl Attack {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it does, in a line.
    pub(crate) fn what(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    /// How long it takes: some have seen all there is to see after half of the time.
    pub(super) fn time(self, of: Duration) -> Duration {
        match self {
            Self::Openapi | Self::Labels | Self::MadeUpCursors | Self::Strangers => of / 2,
            Self::HangUp => of.max(hang_up::TIME_MIN),
            _ => of,
        }
    }

    /// Whether it can be made again: of those who have left, nobody is there any more.
    pub(super) const fn repeats(self) -> bool {
        !matches!(self, Self::HangUp)
    }

    /// Makes it, until it is stopped.
    pub(super) async fn make(self, field: Field) -> Result<(), String> {
        match self {
            Self::UnreadAnswers => unread_answers::run(field).await,
            Self::UnreadCounts => unread_counts::run(field).await,
            Self::HelloStorm => hello_storm::run(field).await,
            Self::Pings => pings::run(field).await,
            Self::RefusedFrames => refused_frames::run(field).await,
            Self::Silent => silent::run(field).await,
            Self::Logins => logins::run(field).await,
            Self::WithheldBodies => withheld_bodies::run(field).await,
            Self::Search => search::run(field).await,
            Self::Openapi => openapi::run(field).await,
            Self::SlowReaders => slow_readers::run(field).await,
            Self::Pictures => pictures::run(field).await,
            Self::PresenceFlap => presence_flap::run(field).await,
            Self::Labels => labels::run(field).await,
            Self::MadeUpCursors => made_up_cursors::run(field).await,
            Self::Strangers => strangers::run(field).await,
            Self::HangUp => hang_up::run(field).await,
        }
    }

    /// What only this attack can be judged by.
    pub(super) fn checks(self, achieved: &BTreeMap<String, u64>, seconds: f64) -> Vec<Check> {
        match self {
            Self::Strangers => strangers::checks(achieved, seconds),
            Self::HangUp => hang_up::checks(achieved),
            _ => Vec::new(),
        }
    }
}

/// Something that was counted, as a number to compare.
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn counted(achieved: &BTreeMap<String, u64>, what: &str) -> f64 {
    achieved.get(what).copied().unwrap_or_default() as f64
}

fn check(name: &str, value: f64, limit: f64, unit: &str) -> Check {
    Check { name: name.to_owned(), value, limit, unit: unit.to_owned(), binding: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_name_and_says_what_it_does() {
        for attack in Attack::value_variants() {
            assert!(!attack.name().is_empty() && !attack.what().is_empty(), "{attack:?}");
        }
        assert_eq!(Attack::MadeUpCursors.name(), "made-up-cursors");
    }
}
