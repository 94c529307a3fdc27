//! What is looked at again when doubts begin, last, and end: what was ordered, said or connected meanwhile may not have been heard.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::Fleet;

/// The shortest time between two looks, for doubts that come and go.
const APART: Duration = Duration::from_secs(2);
/// How often sessions are checked while something is in doubt: nobody tells that one is over then.
const CHECK: Duration = Duration::from_secs(5);
/// How often presence is asked about again meanwhile: nobody tells of a changed audience either.
const ASK: Duration = Duration::from_secs(30);

/// When there was a look last, and whether one is wanted.
#[derive(Default)]
pub(super) struct Aftermath(Mutex<Looks>);

#[derive(Default)]
struct Looks {
    /// A doubt has begun, or all have ended.
    turned: bool,
    checked: Option<Instant>,
    asked: Option<Instant>,
}

/// What is to be looked at now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    /// The sessions of the connections here.
    sessions: bool,
    /// The presence of those who are watched here.
    presence: bool,
    /// Who is connected twice, or too often.
    standing: bool,
}

impl Aftermath {
    /// A doubt has begun, or all have ended.
    pub(super) fn turned(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).turned = true;
    }

    fn take_due(&self, is_in_doubt: bool, now: Instant) -> Due {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let mut due = Due::default();
        if looks.turned && since(looks.checked) >= APART {
            looks.turned = false;
            due = Due { sessions: true, presence: !is_in_doubt, standing: !is_in_doubt };
        } else if is_in_doubt {
            due.sessions = since(looks.checked) >= CHECK;
            due.presence = since(looks.asked) >= ASK;
        }
        looks.checked = if due.sessions { Some(now) } else { looks.checked };
        // The first time is a while after a doubt has begun.
        looks.asked = if due.presence || !is_in_doubt || looks.asked.is_none() { Some(now) } else { looks.asked };
        due
    }
}

impl Fleet {
    /// Looks at what is due. To be called with each beat.
    pub(super) fn aftermath(&self) {
        let is_in_doubt = self.roster().is_in_doubt();
        let Due { sessions, presence, standing } = self.aftermath.take_due(is_in_doubt, Instant::now());
        if sessions {
            self.parts.session_check.check_now();
        }
        if presence {
            self.parts.watching.ask_again();
        }
        if standing {
            self.standing.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_that_come_and_go_are_looked_into_at_most_every_two_seconds() {
        let (aftermath, start) = (Aftermath::default(), Instant::now());
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let sessions = Due { sessions: true, ..Due::default() };
        let all = Due { sessions: true, presence: true, standing: true };
        assert_eq!(aftermath.take_due(false, at(0.0)), Due::default());
        aftermath.turned();
        assert_eq!(aftermath.take_due(true, at(0.5)), sessions);
        aftermath.turned();
        assert_eq!(aftermath.take_due(false, at(1.0)), Due::default(), "not yet");
        assert_eq!(aftermath.take_due(false, at(2.5)), all);
        assert_eq!(aftermath.take_due(false, at(60.0)), Due::default());
        // One that lasts.
        aftermath.turned();
        let looks: Vec<Due> = (0..80).map(|step| aftermath.take_due(true, at(60.5 + f64::from(step)))).collect();
        assert_eq!(looks.iter().filter(|due| due.sessions).count(), 16);
        assert_eq!(looks.iter().filter(|due| due.presence).count(), 2);
        assert!(looks.iter().all(|due| !due.standing));
    }
}
