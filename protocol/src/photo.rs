//! The names of the photos that members upload.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{InvalidId, serde_as_string};

/// The folder of all photos, below the address of the API.
const FOLDER: &str = "/api/photos/";
/// What the name of a file ends with: every photo is served as a JPEG.
const SUFFIX: &str = ".jpg";

/// The name of a photo: a hash over its member and its content, so a name stands for one content for ever, and no two
/// members share one. 64 lower-case hexadecimal digits and `.jpg` on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhotoName([u8; 32]);

serde_as_string!(PhotoName, |name| name.to_string());

impl PhotoName {
    /// Wraps a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The path that it is served at.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{FOLDER}{self}")
    }

    /// The photo that is served at a path.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        path.strip_prefix(FOLDER)?.parse().ok()
    }

    /// The photo that an address leads to, if that is one of this API, wherever it is reached.
    #[must_use]
    pub fn from_url(url: &str) -> Option<Self> {
        Self::from_path(url.get(url.find(FOLDER)?..)?)
    }
}

impl fmt::Display for PhotoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0_u8; 64];
        // Cannot fail: the target has exactly twice the length of the source.
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)?;
        f.write_str(SUFFIX)
    }
}

impl fmt::Debug for PhotoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PhotoName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let problem = InvalidId::new("the name of a photo is 64 lower-case hexadecimal digits and .jpg");
        let digits = text.strip_suffix(SUFFIX).filter(|digits| !digits.contains(|c: char| c.is_ascii_uppercase()));
        let mut bytes = [0; 32];
        match digits.map(|digits| hex::decode_to_slice(digits, &mut bytes)) {
            Some(Ok(())) => Ok(Self(bytes)),
            _ => Err(problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_out_of_the_addresses_it_is_served_at_and_no_others() {
        let name = PhotoName::from_bytes([0xab; 32]);
        let path = format!("/api/photos/{}.jpg", "ab".repeat(32));
        assert_eq!(name.path(), path);
        for url in [path.clone(), format!("https://api.example.com{path}"), format!("http://localhost:8000{path}")] {
            assert_eq!(PhotoName::from_url(&url), Some(name), "{url}");
        }
        for url in [
            format!("https://api.example.com{path}?x"),
            format!("https://api.example.com{}", path.to_uppercase()),
            path.replace("ab", "AB"),
            path.replace("ab", "zz"),
            path.replace(".jpg", ".png"),
            path.replace("abab", "ab"),
            format!("/api/photos/../{}", &path[1..]),
        ] {
            assert_eq!(PhotoName::from_url(&url), None, "{url}");
        }
    }
}
