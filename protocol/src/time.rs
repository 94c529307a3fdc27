//! The one timestamp of the wire: RFC 3339, UTC, milliseconds.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The earliest moment: the year 0.
const MIN: i64 = -62_167_219_200_000;
/// The latest one: the end of the year 9999, nearly, whatever the time zone.
const MAX: i64 = 253_402_207_200_000;

/// A moment, in milliseconds since the Unix epoch. On the wire `2026-11-22T18:03:53.120Z`.
//
// Always one that can be written so: what is beyond the years 0 to 9999, in a store or from wherever it comes, is the first or the
// last of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(type = "string"))]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(if millis < MIN {
            MIN
        } else if millis > MAX {
            MAX
        } else {
            millis
        })
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

    /// This moment plus a duration, or the latest that there is.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The moment a duration before this one.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long it is from `earlier` until this moment; zero when it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is within what can be written: an error here would be a panic of whoever writes JSON.
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
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
        text.parse::<jiff::Timestamp>().map(|moment| Self::from_millis(moment.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            let is_late = text.starts_with("9999-12-3");
            de::Error::custom(if is_late {
                "a time is at most 9999-12-30T22:00:00.999Z"
            } else {
                "a time is RFC 3339, such as 2026-11-22T18:03:53.120Z"
            })
        })
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

    /// Found from outside: a time that cannot be written ended the server, because whoever writes JSON panics then.
    #[test]
    fn every_moment_can_be_written() {
        for (millis, text) in [
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
            (i64::MAX, "9999-12-30T22:00:00.000Z"),
            (MIN - 1, "0000-01-01T00:00:00.000Z"),
            (MAX + 1, "9999-12-30T22:00:00.000Z"),
        ] {
            let moment = Timestamp::from_millis(millis);
            assert_eq!(moment.to_string(), text);
            assert_eq!(serde_json::to_string(&moment).unwrap(), format!("\"{text}\""));
            assert_eq!(text.parse::<Timestamp>().unwrap(), moment);
        }
        let last = Timestamp::from_millis(MAX);
        assert_eq!(
            (last.after(Duration::MAX), last.since(Timestamp::from_millis(MAX - 5))),
            (last, Duration::from_millis(5))
        );
        assert!("-009999-01-02T01:59:59Z".parse::<Timestamp>().is_ok_and(|moment| moment.as_millis() == MIN));
    }

    #[test]
    fn reads_what_it_prints() {
        let moment = Timestamp::from_millis(1_795_370_633_120);
        assert_eq!(moment.to_string().parse::<Timestamp>().unwrap(), moment);
        assert_eq!("2026-11-22T19:03:53.12+01:00".parse::<Timestamp>().unwrap(), moment);
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
