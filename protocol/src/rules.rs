//! Rules of single fields of REST bodies. An empty text is "not given": only [`given`] objects to it.

use crate::{PhotoName, limits};

pub(crate) fn given(value: &str, (): &()) -> garde::Result {
    if value.is_empty() { Err(garde::Error::new("required")) } else { Ok(()) }
}

/// For fields that have no empty value of their own. An optional field is validated only through this.
pub(crate) fn some<T>(value: &Option<T>, (): &()) -> garde::Result {
    if value.is_none() { Err(garde::Error::new("required")) } else { Ok(()) }
}

pub(crate) fn name(value: &str, (): &()) -> garde::Result {
    match value.trim().chars().count() {
        0 if value.is_empty() => Ok(()),
        1..=limits::NAME_MAX_CHARS if !value.chars().any(char::is_control) => Ok(()),
        _ => Err(garde::Error::new("1 to 100 characters, none of them a control character")),
    }
}

pub(crate) fn email(value: &str, (): &()) -> garde::Result {
    let value = value.trim();
    let too_long = value.chars().count() > limits::EMAIL_MAX_CHARS;
    if !value.is_empty() && (too_long || garde::rules::email::parse_email(value).is_err()) {
        return Err(garde::Error::new("an e-mail address of at most 254 characters"));
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

/// An address anywhere, or the path of a photo here, which a client that sends back what it read has.
pub(crate) fn image_url(value: &str, (): &()) -> garde::Result {
    if PhotoName::from_path(value).is_some() {
        return Ok(());
    }
    let http = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let well_formed = http.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && !value.chars().any(|c| c.is_whitespace() || c.is_control());
    if well_formed && value.chars().count() <= limits::URL_MAX_CHARS {
        Ok(())
    } else {
        Err(garde::Error::new("an http or https URL of at most 2,048 characters"))
    }
}

pub(crate) fn search(value: &str, (): &()) -> garde::Result {
    let long = value.chars().count() > limits::SEARCH_MAX_CHARS;
    if !value.is_empty() && (long || !value.chars().any(char::is_alphanumeric)) {
        return Err(garde::Error::new("1 to 100 characters with at least one letter or digit"));
    }
    Ok(())
}
