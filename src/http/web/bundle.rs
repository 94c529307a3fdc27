//! The files of the web app that are in the binary: `src/http/assets/app`, which `update-app.sh` beside it makes.

use std::{collections::HashMap, sync::LazyLock};

use crate::http::negotiate::Packed;

/// What is served at `/app/`; nothing, if the server was built without the app.
pub(super) static APP: LazyLock<Bundle> = LazyLock::new(|| Bundle::new(FILES));

/// The page that every address of the app begins with.
pub(super) const INDEX: &str = "index.html";

/// The fewest hexadecimal digits that count as the hash of a file in its name.
const HASH_MIN: usize = 16;

/// A file as the manifest has it.
pub(super) struct Source {
    /// Where it is below `/app/`.
    pub(super) path: &'static str,
    /// The beginning of the SHA-256 of its content, in hexadecimal digits.
    pub(super) hash: &'static str,
    /// Its content, compressed with gzip.
    pub(super) gzip: &'static [u8],
}

#[allow(unused_macros, reason = "the manifest is empty in a checkout without the app")]
macro_rules! file {
    ($path:literal, $hash:literal) => {
        Source {
            path: $path,
            hash: $hash,
            gzip: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/assets/app/files/", $hash, ".gz")),
        }
    };
}

static FILES: &[Source] = &include!("../assets/app/manifest.inc");

/// A file that is served.
pub(super) struct File {
    /// Its content.
    pub(super) content: Packed,
    /// What it is.
    pub(super) content_type: &'static str,
    /// Its entity tag.
    pub(super) tag: String,
    /// Whether its name has a hash: another content would have another name.
    pub(super) is_immutable: bool,
}

/// The files by their paths.
pub(super) struct Bundle(HashMap<&'static str, File>);

impl Bundle {
    /// A bundle of these files.
    pub(super) fn new(sources: &[Source]) -> Self {
        let file = |source: &Source| File {
            content: Packed::new(source.gzip),
            content_type: content_type(source.path),
            tag: format!("\"{}\"", source.hash),
            is_immutable: has_hash(source.path),
        };
        Self(sources.iter().map(|source| (source.path, file(source))).collect())
    }

    /// Whether there is an app at all.
    pub(super) fn is_there(&self) -> bool {
        self.0.contains_key(INDEX)
    }

    /// What a path below `/app/` leads to: a file, or the page of the app where the path looks like a place within it.
    pub(super) fn find(&self, path: &str) -> Option<&File> {
        let is_place = !path.rsplit('/').next().unwrap_or_default().contains('.');
        self.0.get(path).or_else(|| self.0.get(INDEX).filter(|_| is_place))
    }
}

/// Whether the name of a file has a hash in it, as `entry-5f0c1a…e2.js`: a part of nothing but hexadecimal digits.
fn has_hash(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_hash = |part: &str| part.len() >= HASH_MIN && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split(['-', '.', '_']).any(is_hash)
}

/// The content type of a file, by the end of its name.
fn content_type(path: &str) -> &'static str {
    let (_, end) = path.rsplit_once('.').unwrap_or_default();
    match end.to_ascii_lowercase().as_str() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "ico" => "image/x-icon",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _, fs, io::Read as _, path::Path};

    use flate2::read::GzDecoder;
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn a_hash_in_the_name_is_recognised() {
        for with in [
            "_expo/static/js/web/entry-5f0c1a3b5f0c1a3b5f0c1a3b5f0c1a3b.js",
            "assets/icons/back.35ba0eaec5a4f5ed12ca16fabeae451d.png",
            "_expo/static/css/web_5f0c1a3b5f0c1a3b.css",
        ] {
            assert!(has_hash(with), "{with}");
        }
        for without in ["index.html", "favicon.ico", "metadata.json", "5f0c1a3b5f0c1a3b5f0c1a3b/x.js", "deadbeef.js"] {
            assert!(!has_hash(without), "{without}");
        }
    }

    #[test]
    fn what_the_app_is_made_of_has_a_content_type() {
        for source in FILES {
            let unknown = content_type(source.path) == "application/octet-stream";
            assert!(!unknown, "{}: add its content type, or leave it out in update-app.sh", source.path);
        }
        assert_eq!(content_type("a/ICON.PNG"), "image/png");
    }

    /// What `update-app.sh` has made is whole: nothing is missing, changed or left over.
    #[test]
    fn the_files_are_those_of_the_manifest() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/assets/app/files");
        let there: BTreeSet<String> = fs::read_dir(folder)
            .map(|files| files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        let listed: BTreeSet<String> = FILES.iter().map(|source| format!("{}.gz", source.hash)).collect();
        assert_eq!(there, listed);
        for source in FILES {
            let mut content = Vec::new();
            GzDecoder::new(source.gzip).read_to_end(&mut content).unwrap();
            let hash = Sha256::digest(&content).iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
            assert!(source.hash.len() >= HASH_MIN && hash.starts_with(source.hash), "{}", source.path);
            assert!(!source.path.starts_with('/') && !source.path.ends_with(".map"), "{}", source.path);
        }
        assert!(FILES.is_empty() || APP.is_there(), "an app has a page to begin with");
    }
}
