//! What the pages load: the viewers in `src/http/assets`, which has a README, and the few lines that start them.

use std::{io::Read as _, sync::OnceLock};

use axum::{
    body::Bytes,
    extract::Path,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use flate2::read::GzDecoder;
use protocol::ErrorCode;

use super::headers;
use crate::{
    failure::Failure,
    http::negotiate::{accepts_gzip, gzipped, shared},
};

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
/// For files whose path has a version in it: they never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

enum Content {
    /// As it is; may change with every version of the server.
    Own(&'static str),
    /// Compressed with gzip, under a path with the version of its package; and unpacked, once a client has asked for that.
    Vendored(&'static [u8], OnceLock<Bytes>),
}

struct Asset {
    path: &'static str,
    content_type: &'static str,
    content: Content,
}

macro_rules! own {
    ($path:literal, $content_type:ident) => {
        Asset {
            path: $path,
            content_type: $content_type,
            content: Content::Own(include_str!(concat!("../assets/", $path))),
        }
    };
}

macro_rules! vendored {
    ($path:literal, $content_type:ident) => {
        Asset {
            path: $path,
            content_type: $content_type,
            content: Content::Vendored(include_bytes!(concat!("../assets/", $path, ".gz")), OnceLock::new()),
        }
    };
}

static ASSETS: [Asset; 9] = [
    vendored!("swagger-ui-5.35.0/swagger-ui-bundle.js", JAVASCRIPT),
    vendored!("swagger-ui-5.35.0/swagger-ui.css", CSS),
    vendored!("redoc-2.5.4/redoc.standalone.js", JAVASCRIPT),
    vendored!("asyncapi-react-3.2.1/index.js", JAVASCRIPT),
    vendored!("asyncapi-react-3.2.1/default.min.css", CSS),
    own!("pages/docs.js", JAVASCRIPT),
    own!("pages/redoc.js", JAVASCRIPT),
    own!("pages/asyncapi.js", JAVASCRIPT),
    own!("pages/page.css", CSS),
];

/// Serves one of them.
pub(super) async fn serve(Path(path): Path<String>, request: HeaderMap) -> Result<Response, Failure> {
    let asset = ASSETS.iter().find(|asset| asset.path == path).ok_or(ErrorCode::NotFound)?;
    Ok(match &asset.content {
        Content::Own(text) => (headers(asset.content_type, "no-cache"), *text).into_response(),
        Content::Vendored(packed, plain) => {
            let body = if accepts_gzip(&request) {
                gzipped(Bytes::from_static(packed))
            } else {
                shared(plain.get_or_init(|| unpacked(packed)).clone())
            };
            (headers(asset.content_type, FOR_EVER), body).into_response()
        }
    })
}

#[expect(clippy::expect_used, reason = "compiled in, and a test unpacks each")]
fn unpacked(packed: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut plain).expect("a vendored file is gzip");
    plain.shrink_to_fit();
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: [&str; 3] = [
        include_str!("../assets/pages/docs.html"),
        include_str!("../assets/pages/redoc.html"),
        include_str!("../assets/pages/asyncapi.html"),
    ];

    #[test]
    fn the_pages_load_what_there_is_and_nothing_is_there_in_vain() {
        let mut loaded: Vec<&str> = PAGES
            .iter()
            .flat_map(|page| page.split(['"', '\'']))
            .filter_map(|text| text.strip_prefix("/api/assets/"))
            .collect();
        loaded.sort_unstable();
        loaded.dedup();
        let mut served: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        served.sort_unstable();
        assert_eq!(loaded, served);
    }

    #[test]
    fn what_is_vendored_can_be_unpacked() {
        for asset in &ASSETS {
            let Content::Vendored(bytes, _) = asset.content else { continue };
            let mut text = String::new();
            GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
            assert!(text.len() > bytes.len(), "{}", asset.path);
            assert!(!text.contains("cdn.redoc.ly"), "{}", asset.path);
        }
    }
}
