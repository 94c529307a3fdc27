//! Quiet hours: when nothing is pushed, and until when.

use jiff::{ToSpan as _, civil::Time, tz::TimeZone};
use protocol::{Timestamp, rest::QuietHours};

/// Whether somebody knows a time zone by this name.
pub(super) fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

/// When the quiet hours end in which a time lies; nothing if it is in none.
///
/// A clock that is put forward over one of both ends, or back, changes nothing but how long they are. A time zone that nobody knows any more has
/// no quiet hours.
pub(super) fn until(quiet: &QuietHours, now: Timestamp) -> Option<Timestamp> {
    let zone = TimeZone::get(&quiet.time_zone).ok()?;
    let (from, until) = (time(&quiet.from)?, time(&quiet.until)?);
    let now = jiff::Timestamp::from_millisecond(now.as_millis()).ok()?.to_zoned(zone.clone());
    let clock = now.time();
    let is_over_night = until <= from;
    let is_quiet = if is_over_night { clock >= from || clock < until } else { clock >= from && clock < until };
    if !is_quiet {
        return None;
    }
    let is_tomorrow = is_over_night && clock >= from;
    let day = if is_tomorrow { now.date().checked_add(1.day()).ok()? } else { now.date() };
    let end = zone.to_ambiguous_zoned(day.to_datetime(until)).compatible().ok()?;
    // Where a clock is put back, the end may be the first of two.
    let end = Timestamp::from_millis(end.timestamp().as_millisecond());
    (end > Timestamp::from_millis(now.timestamp().as_millisecond())).then_some(end)
}

fn time(text: &str) -> Option<Time> {
    let (hours, minutes) = text.split_once(':')?;
    Time::new(hours.parse().ok()?, minutes.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn end(hours: (&str, &str, &str), now: &str) -> Option<String> {
        let (from, until_, time_zone) = hours;
        let quiet = QuietHours { from: from.to_owned(), until: until_.to_owned(), time_zone: time_zone.to_owned() };
        until(&quiet, at(now)).map(|end| end.to_string())
    }

    #[test]
    fn a_night_ends_on_the_next_morning_where_the_member_is() {
        let night = ("22:00", "07:30", "Europe/Lisbon");
        // Summer: one hour before UTC.
        assert_eq!(end(night, "2026-07-01T20:59:59Z"), None);
        assert_eq!(end(night, "2026-07-01T21:00:00Z").as_deref(), Some("2026-07-02T06:30:00.000Z"));
        assert_eq!(end(night, "2026-07-02T06:29:59Z").as_deref(), Some("2026-07-02T06:30:00.000Z"));
        assert_eq!(end(night, "2026-07-02T06:30:00Z"), None);
        // Winter.
        assert_eq!(end(night, "2026-12-31T23:00:00Z").as_deref(), Some("2027-01-01T07:30:00.000Z"));
        assert_eq!(end(("22:00", "07:30", "America/Sao_Paulo"), "2026-12-31T23:00:00Z"), None);
    }

    #[test]
    fn hours_within_a_day_end_on_it() {
        let lunch = ("12:00", "13:00", "UTC");
        assert_eq!(end(lunch, "2026-07-01T11:59:59Z"), None);
        assert_eq!(end(lunch, "2026-07-01T12:10:00Z").as_deref(), Some("2026-07-01T13:00:00.000Z"));
        assert_eq!(end(lunch, "2026-07-01T13:00:00Z"), None);
    }

    #[test]
    fn a_clock_that_is_put_forward_or_back_makes_no_night_endless() {
        // 2026-03-29, 01:00 UTC: 01:00 becomes 02:00 in Lisbon; on 2026-10-25 at 01:00 UTC, 02:00 becomes 01:00.
        assert_eq!(
            end(("22:00", "01:30", "Europe/Lisbon"), "2026-03-29T00:59:00Z").as_deref(),
            Some("2026-03-29T01:30:00.000Z")
        );
        assert_eq!(
            end(("22:00", "01:30", "Europe/Lisbon"), "2026-10-25T00:10:00Z").as_deref(),
            Some("2026-10-25T00:30:00.000Z")
        );
        assert_eq!(end(("22:00", "01:30", "Europe/Lisbon"), "2026-10-25T01:10:00Z"), None, "it has ended once");
    }

    #[test]
    fn zones_are_those_of_the_world() {
        for zone in ["Europe/Lisbon", "America/New_York", "UTC", "Asia/Kolkata"] {
            assert!(is_zone(zone), "{zone}");
        }
        assert!(!is_zone("Europe/Atlantis"));
        assert_eq!(end(("22:00", "07:30", "Europe/Atlantis"), "2026-07-01T23:00:00Z"), None);
    }
}
