//! What the pages load: the viewers in `src/http/assets`, which has a README, and the few lines that start them.

use axum::{
    extract::Path,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use protocol::ErrorCode;

use super::headers;
use crate::{failure::Failure, http::negotiate::Packed};

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
/// For files whose path has a version in it: they never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

enum Content {
    /// As it is; may change with every version of the server.
    Own(&'static str),
    /// Compressed with gzip, under a path with the version of its package.
    Vendored(Packed),
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
            content: Content::Vendored(Packed::new(include_bytes!(concat!("../assets/", $path, ".gz")))),
        }
    };
}

static ASSETS: [Asset; 10] = [
    vendored!("swagger-ui-5.35.0/swagger-ui-bundle.js", JAVASCRIPT),
    vendored!("swagger-ui-5.35.0/swagger-ui.css", CSS),
    vendored!("redoc-2.5.4/redoc.standalone.js", JAVASCRIPT),
    vendored!("asyncapi-react-3.2.1/index.js", JAVASCRIPT),
    vendored!("asyncapi-react-3.2.1/default.min.css", CSS),
    own!("pages/docs.js", JAVASCRIPT),
    own!("pages/redoc.js", JAVASCRIPT),
    own!("pages/asyncapi.js", JAVASCRIPT),
    own!("pages/page.css", CSS),
    own!("pages/start.css", CSS),
];

/// Serves one of them.
pub(super) async fn serve(Path(path): Path<String>, request: HeaderMap) -> Result<Response, Failure> {
    let asset = ASSETS.iter().find(|asset| asset.path == path).ok_or(ErrorCode::NotFound)?;
    Ok(match &asset.content {
        Content::Own(text) => (headers(asset.content_type, "no-cache"), *text).into_response(),
        Content::Vendored(packed) => (headers(asset.content_type, FOR_EVER), packed.response(&request)).into_response(),
    })
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, http::header};

    use super::*;

    const PAGES: [&str; 4] = [
        include_str!("../assets/pages/docs.html"),
        include_str!("../assets/pages/redoc.html"),
        include_str!("../assets/pages/asyncapi.html"),
        include_str!("../assets/pages/start.html"),
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

    #[tokio::test]
    async fn what_is_vendored_can_be_unpacked() {
        for asset in &ASSETS {
            let Content::Vendored(packed) = &asset.content else { continue };
            let response = packed.response(&HeaderMap::new());
            assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
            let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let text = std::str::from_utf8(&text).unwrap();
            assert!(text.len() > 1_000 && !text.contains("cdn.redoc.ly"), "{}", asset.path);
        }
    }
}
