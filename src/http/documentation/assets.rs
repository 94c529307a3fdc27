//! What the pages load: the viewers in `src/http/assets`, which has a README, and the few lines that start them.

use std::io::Read as _;

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use flate2::read::GzDecoder;
use protocol::ErrorCode;

use super::headers;
use crate::failure::Failure;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
/// For files whose path has a version in it: they never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

enum Content {
    /// As it is; may change with every version of the server.
    Own(&'static str),
    /// Compressed with gzip, under a path with the version of its package.
    Vendored(&'static [u8]),
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
            content: Content::Vendored(include_bytes!(concat!("../assets/", $path, ".gz"))),
        }
    };
}

static ASSETS: &[Asset] = &[
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
    let compressed = match asset.content {
        Content::Own(text) => return Ok((headers(asset.content_type, "no-cache"), text).into_response()),
        Content::Vendored(bytes) => bytes,
    };
    let headers =
        (headers(asset.content_type, FOR_EVER), [(header::VARY, HeaderValue::from_static("accept-encoding"))]);
    if accepts_gzip(&request) {
        let encoding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
        return Ok((headers, encoding, compressed).into_response());
    }
    let mut plain = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut plain).map_err(|_| ErrorCode::Internal)?;
    Ok((headers, plain).into_response())
}

/// Whether the client takes gzip (RFC 9110, section 12.5.3). Every browser does.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let gzip = offers.flat_map(|value| value.split(',')).find_map(|offer| {
        let (coding, weight) = offer.split_once(';').unwrap_or((offer, ""));
        coding.trim().eq_ignore_ascii_case("gzip").then(|| weight.trim().trim_start_matches("q=").trim())
    });
    gzip.is_some_and(|weight| weight.is_empty() || weight.parse().is_ok_and(|weight: f32| weight > 0.0))
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
        for asset in ASSETS {
            let Content::Vendored(bytes) = asset.content else { continue };
            let mut text = String::new();
            GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
            assert!(text.len() > bytes.len(), "{}", asset.path);
            assert!(!text.contains("cdn.redoc.ly"), "{}", asset.path);
        }
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let accepts = |value: &'static str| {
            accepts_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(accepts("gzip, deflate, br, zstd") && accepts("br;q=1.0, gzip;q=0.8") && accepts("GZIP"));
        assert!(!accepts("identity") && !accepts("gzip;q=0") && !accepts("br, gzip; q=0.0") && !accepts(""));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
