//! Rules of single fields of REST bodies. An empty text is "not given": only [`given`] objects to it.

use std::fmt::Display;

use crate::{
    PhotoName, limits,
    rest::{
        PUSH_ADDRESS_MAX_CHARS, PUSH_TOKEN_MAX_CHARS, QuietHours,
        auth::{ATTEMPT_MAX_CHARS, ATTEMPT_MIN_CHARS},
    },
    shown,
};

/// A length in characters.
pub(crate) fn chars(least: usize, most: usize) -> impl FnOnce(&str, &()) -> garde::Result {
    move |value, ()| match (least..=most).contains(&value.chars().count()) {
        true => Ok(()),
        false if least == 0 => Err(garde::Error::new(format!("at most {most} characters"))),
        false => Err(garde::Error::new(format!("{least} to {most} characters"))),
    }
}

/// What a client calls the exchange of a refresh token: random, so not shorter than it takes that nobody guesses it.
pub(crate) fn attempt(value: &str, (): &()) -> garde::Result {
    let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    if (ATTEMPT_MIN_CHARS..=ATTEMPT_MAX_CHARS).contains(&value.len()) && value.chars().all(allowed) {
        return Ok(());
    }
    Err(garde::Error::new(format!("{ATTEMPT_MIN_CHARS} to {ATTEMPT_MAX_CHARS} of A to Z, a to z, 0 to 9, - and _")))
}

/// A whole number within bounds.
pub(crate) fn whole<T: PartialOrd + Display>(least: T, most: T) -> impl FnOnce(&T, &()) -> garde::Result {
    move |value, ()| {
        if (&least..=&most).contains(&value) { Ok(()) } else { Err(garde::Error::new(not_whole(least, most))) }
    }
}

/// What is said of what is no [`whole`] number.
pub(crate) fn not_whole(least: impl Display, most: impl Display) -> String {
    format!("must be a whole number from {least} to {most}")
}

pub(crate) fn given(value: &str, (): &()) -> garde::Result {
    if value.is_empty() { Err(garde::Error::new("required")) } else { Ok(()) }
}

/// For fields that have no empty value of their own. An optional field is validated only through this.
pub(crate) fn some<T>(value: &Option<T>, (): &()) -> garde::Result {
    if value.is_none() { Err(garde::Error::new("required")) } else { Ok(()) }
}

/// For the e-mail address where it cannot be changed.
pub(crate) fn email_elsewhere<T>(value: &Option<T>, (): &()) -> garde::Result {
    match value {
        None => Ok(()),
        Some(_) => Err(garde::Error::new(
            "is not changed here: its member changes it with POST /api/members/me/email, whoever runs the server with `admin set-email`",
        )),
    }
}

/// How long a name is.
const NAME_CHARS: &str = "1 to 100 characters";

/// For a name that may be left out, unlike one that has to be [`given`].
pub(crate) fn not_empty_name(value: &str, (): &()) -> garde::Result {
    if value.is_empty() { Err(garde::Error::new(NAME_CHARS)) } else { Ok(()) }
}

pub(crate) fn name(value: &str, (): &()) -> garde::Result {
    if value.is_empty() {
        return Ok(());
    }
    let name = shown::normalized(value.trim());
    if !(1..=limits::NAME_MAX_CHARS).contains(&name.chars().count()) {
        return Err(garde::Error::new(NAME_CHARS));
    }
    if shown::is_reserved(&name) {
        return Err(garde::Error::new("this name is reserved for members who have left"));
    }
    shown(&name, &())
}

/// Text that other members are shown.
pub(crate) fn shown(value: &str, (): &()) -> garde::Result {
    shown::check(value).map_err(garde::Error::new)
}

/// What a device is called. An empty name is one that was given.
pub(crate) fn device_name(value: &str, (): &()) -> garde::Result {
    let name = shown::normalized(value.trim());
    chars(1, limits::DEVICE_NAME_MAX_CHARS)(&name, &())?;
    shown(&name, &())
}

pub(crate) fn email(value: &str, (): &()) -> garde::Result {
    let value = value.trim();
    let too_long = value.chars().count() > limits::EMAIL_MAX_CHARS;
    if !value.is_empty() && (too_long || garde::rules::email::parse_email(value).is_err()) {
        return Err(garde::Error::new("an e-mail address of at most 254 characters"));
    }
    if shown::is_of_former_member(value) {
        return Err(garde::Error::new("addresses of this domain are reserved for members who have left"));
    }
    Ok(())
}

pub(crate) fn password(value: &str, (): &()) -> garde::Result {
    if value.is_empty() {
        Ok(())
    } else if value.chars().count() < limits::PASSWORD_MIN_CHARS {
        Err(garde::Error::new("at least 8 characters"))
    } else if value.len() > limits::PASSWORD_MAX_BYTES {
        Err(garde::Error::new("at most 71 bytes of UTF-8"))
    } else {
        Ok(())
    }
}

/// The path or the whole address of a photo. Whether it is one of this server, the server knows.
pub(crate) fn image_url(value: &str, (): &()) -> garde::Result {
    let http = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let well_formed =
        PhotoName::from_path(value).is_some() || http.is_some_and(|rest| PhotoName::from_url(rest).is_some());
    if well_formed && value.chars().count() <= limits::URL_MAX_CHARS {
        Ok(())
    } else {
        Err(garde::Error::new("the path or the address of a photo that was uploaded here"))
    }
}

pub(crate) fn search(value: &str, (): &()) -> garde::Result {
    let long = value.chars().count() > limits::SEARCH_MAX_CHARS;
    if !value.is_empty() && (long || !value.chars().any(char::is_alphanumeric)) {
        return Err(garde::Error::new("1 to 100 characters with at least one letter or digit"));
    }
    Ok(())
}

/// A token of Expo.
pub(crate) fn push_token(value: &str, (): &()) -> garde::Result {
    let is_one = value.len() <= PUSH_TOKEN_MAX_CHARS && is_expo_token(value);
    if is_one { Ok(()) } else { Err(garde::Error::new("must be ExponentPushToken[…], as Expo gives it")) }
}

/// Where a browser has its pushes sent, as far as its form tells: whether anything is sent there is the server's to decide. On this machine it
/// may be plain, for tests.
pub(crate) fn push_endpoint(value: &str, (): &()) -> garde::Result {
    let begins = |with: &str| value.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    let is_one = value.len() <= PUSH_ADDRESS_MAX_CHARS && (begins("https://") || begins("http://127.0.0.1:"));
    if is_one { Ok(()) } else { Err(garde::Error::new("must be an https URL of at most 1,024 characters")) }
}

/// The public key of a browser, as far as its length tells.
pub(crate) fn push_point(value: &str, (): &()) -> garde::Result {
    let is_one = base64url(value) == Some(65);
    if is_one { Ok(()) } else { Err(garde::Error::new("must be 65 bytes in base64url")) }
}

/// The secret of a subscription.
pub(crate) fn push_secret(value: &str, (): &()) -> garde::Result {
    let is_one = base64url(value) == Some(16);
    if is_one { Ok(()) } else { Err(garde::Error::new("must be 16 bytes in base64url")) }
}

fn is_expo_token(token: &str) -> bool {
    let inner = token.strip_prefix("ExponentPushToken[").or_else(|| token.strip_prefix("ExpoPushToken["));
    let inner = inner.and_then(|rest| rest.strip_suffix(']'));
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_:".contains(char);
    inner.is_some_and(|inner| (1..=256).contains(&inner.len()) && inner.chars().all(is_plain))
}

/// How many bytes a text in base64url stands for, with or without padding; nothing if it is none.
fn base64url(text: &str) -> Option<usize> {
    let text = text.trim_end_matches('=');
    let is_one = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (is_one && text.len() % 4 != 1).then(|| text.len() * 3 / 4)
}

/// A time of day, as `HH:MM`.
pub(crate) fn time_of_day(value: &str, (): &()) -> garde::Result {
    let is_one = value.split_once(':').is_some_and(|(hours, minutes)| {
        let below = |text: &str, end: u8| {
            text.len() == 2
                && text.bytes().all(|byte| byte.is_ascii_digit())
                && text.parse::<u8>().is_ok_and(|number| number < end)
        };
        below(hours, 24) && below(minutes, 60)
    });
    if is_one { Ok(()) } else { Err(garde::Error::new("must be HH:MM, from 00:00 to 23:59")) }
}

/// The name of a time zone, as far as its form tells.
pub(crate) fn time_zone(value: &str, (): &()) -> garde::Result {
    let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '/' | '_' | '-' | '+');
    if (1..=64).contains(&value.len()) && value.chars().all(allowed) {
        return Ok(());
    }
    Err(garde::Error::new("must be the name of a time zone, such as Europe/Lisbon"))
}

/// Hours of quiet that may be taken away.
pub(crate) fn quiet_hours(value: &Option<Option<QuietHours>>, (): &()) -> garde::Result {
    let Some(Some(QuietHours { from, until, time_zone: zone })) = value else { return Ok(()) };
    time_of_day(from, &())?;
    time_of_day(until, &())?;
    time_zone(zone, &())?;
    if from == until { Err(garde::Error::new("from and until must differ")) } else { Ok(()) }
}
