//! The one timestamp of the wire: RFC 3339, UTC, milliseconds.

use std::{borrow::Cow, fmt, ops::Range, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::Digits;

/// A moment, in milliseconds since the Unix epoch. On the wire `2026-11-22T18:03:53.120Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(type = "string"))]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down; the unit of JWT claims (RFC 7519).
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment plus a duration, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The digits of a moment of the years 1 to 9999, as it is on the wire. A general formatter takes ten times as long, and every
    /// message has one.
    pub(crate) fn digits(self) -> Option<Digits<24>> {
        let (day, milli) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = civil(day).filter(|(year, ..)| (1..=9999).contains(year))?;
        let second = milli / 1000;
        let mut digits = *b"0000-00-00T00:00:00.000Z";
        put(&mut digits, 0..4, year);
        put(&mut digits, 5..7, month);
        put(&mut digits, 8..10, day);
        put(&mut digits, 11..13, second / 3600);
        put(&mut digits, 14..16, second / 60 % 60);
        put(&mut digits, 17..19, second % 60);
        put(&mut digits, 20..23, milli % 1000);
        Some(Digits(digits))
    }

    /// How long it is from `earlier` until this moment; zero when it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// Writes a number with leading zeros.
fn put(digits: &mut [u8], place: Range<usize>, mut number: i64) {
    for digit in digits.get_mut(place).unwrap_or_default().iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

/// Year, month and day of the Gregorian calendar, of a day counted from 1970-01-01. Years are counted from March here, so that the
/// day that some of them lack is the last, and in eras of 400 years, which all have 146,097 days. None before the year 0.
fn civil(day: i64) -> Option<(i64, i64, i64)> {
    const ERA: i64 = 146_097;
    // From 0000-03-01.
    let day = day.checked_add(719_468).filter(|day| *day >= 0)?;
    let (era, day) = (day / ERA, day % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    Some((era * 400 + year + i64::from(month <= 2), month, day))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(digits) = self.digits() {
            return f.write_str(digits.as_ref());
        }
        let moment = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{moment:.3}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>().map(|moment| Self(moment.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.digits() {
            Some(digits) => serializer.serialize_str(digits.as_ref()),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(|_| de::Error::custom("a time is RFC 3339, such as 2026-11-22T18:03:53.120Z"))
    }
}

#[cfg(feature = "codegen")]
impl schemars::JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(feature = "openapi")]
crate::openapi::describe!(Timestamp, {
    "type": "string",
    "format": "date-time",
    "description": "RFC 3339, UTC, milliseconds.",
    "examples": ["2026-11-22T18:03:53.120Z"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_utc_with_milliseconds() {
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(1_795_370_633_120).to_string(), "2026-11-22T18:03:53.120Z");
    }

    proptest::proptest! {
        #[test]
        fn prints_what_the_calendar_says(millis in -70_000_000_000_000..260_000_000_000_000_i64) {
            let expected = format!("{:.3}", jiff::Timestamp::from_millisecond(millis).unwrap_or_default());
            if jiff::Timestamp::from_millisecond(millis).is_ok() {
                proptest::prop_assert_eq!(Timestamp::from_millis(millis).to_string(), expected);
            }
        }
    }

    /// Around the days where calendars go wrong.
    #[test]
    fn prints_every_day_of_four_hundred_years() {
        for day in -50_000..150_000 {
            for millis in [day * DAY, day * DAY + DAY - 1] {
                let expected = jiff::Timestamp::from_millisecond(millis).unwrap();
                assert_eq!(Timestamp::from_millis(millis).to_string(), format!("{expected:.3}"));
            }
        }
    }

    #[test]
    fn reads_what_it_prints() {
        let moment = Timestamp::from_millis(1_795_370_633_120);
        assert_eq!(moment.to_string().parse::<Timestamp>().unwrap(), moment);
        assert_eq!("2026-11-22T19:03:53.12+01:00".parse::<Timestamp>().unwrap(), moment);
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
