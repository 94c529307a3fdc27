//! Bodies that are the same for everybody: compressed once, and shared by all answers; and what the client has already.

use std::{
    io::{Read as _, Write as _},
    sync::{LazyLock, OnceLock},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

/// Marks an answer whose body lies in memory anyway, as it is sent: it is neither compressed anew nor charged to the
/// memory budget.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared;

type Compress = Box<dyn FnOnce() -> Option<Bytes> + Send>;

/// A text that never changes while the server runs, in both forms.
pub(super) struct Document {
    plain: Bytes,
    /// Made when the first client takes it.
    gzip: LazyLock<Option<Bytes>, Compress>,
}

impl Document {
    /// A document of this text.
    pub(super) fn new(plain: impl Into<Bytes>) -> Self {
        let plain = plain.into();
        let text = plain.clone();
        Self { plain, gzip: LazyLock::new(Box::new(move || compress(&text))) }
    }

    /// The answer for a client with these headers; its content type and caching are the caller's to add.
    pub(super) fn response(&self, request: &HeaderMap) -> Response {
        let compressed = if accepts_gzip(request) { (*self.gzip).clone() } else { None };
        compressed.map_or_else(|| shared(self.plain.clone()), gzipped)
    }
}

/// A file that is compiled in compressed; unpacked once a client has asked for that.
pub(super) struct Packed {
    gzip: &'static [u8],
    plain: OnceLock<Bytes>,
}

impl Packed {
    /// A file of these bytes, which are gzip.
    pub(super) const fn new(gzip: &'static [u8]) -> Self {
        Self { gzip, plain: OnceLock::new() }
    }

    /// The answer for a client with these headers; its content type and caching are the caller's to add.
    pub(super) fn response(&self, request: &HeaderMap) -> Response {
        if accepts_gzip(request) {
            gzipped(Bytes::from_static(self.gzip))
        } else {
            shared(self.plain.get_or_init(|| unpacked(self.gzip)).clone())
        }
    }
}

#[expect(clippy::expect_used, reason = "compiled in, and tests unpack each")]
fn unpacked(packed: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut plain).expect("what is compiled in is gzip");
    plain.shrink_to_fit();
    plain.into()
}

/// An answer that shares these bytes, which are gzip.
fn gzipped(bytes: Bytes) -> Response {
    let mut response = shared(bytes);
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

/// An answer that shares these bytes. It has another form for other clients.
fn shared(bytes: Bytes) -> Response {
    let mut response = bytes.into_response();
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response.extensions_mut().insert(Shared);
    response
}

/// Writing to memory does not fail; if it did, the plain text would have to do.
fn compress(text: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// Whether `If-None-Match` names this tag (RFC 9110, section 13.1.2).
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Whether the client would rather have a page than JSON (RFC 9110, section 12.5.1): a browser says so, programs do not.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut html, mut json) = (0.0, 0.0);
    for offer in offers.flat_map(|value| value.split(',')) {
        let (range, parameters) = offer.split_once(';').unwrap_or((offer, ""));
        let weight = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
        let weight = weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0));
        match range.trim().to_ascii_lowercase().as_str() {
            "text/html" | "application/xhtml+xml" => html = f32::max(html, weight),
            "application/json" => json = f32::max(json, weight),
            _ => {}
        }
    }
    html > 0.0 && html >= json
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
    use axum::body::to_bytes;

    use super::*;

    fn accepting(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))])
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let accepts = |value| accepts_gzip(&accepting(value));
        assert!(accepts("gzip, deflate, br, zstd") && accepts("br;q=1.0, gzip;q=0.8") && accepts("GZIP"));
        assert!(!accepts("identity") && !accepts("gzip;q=0") && !accepts("br, gzip; q=0.0") && !accepts(""));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn a_browser_gets_a_page_and_a_program_json() {
        let prefers = |value| prefers_html(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]));
        assert!(prefers("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"));
        assert!(prefers("TEXT/HTML; charset=utf-8; q=0.5") && prefers("application/json;q=0.5, text/html"));
        for other in
            ["*/*", "application/json", "text/html;q=0", "text/html;q=0.5, application/json", "text/html;q=x", ""]
        {
            assert!(!prefers(other), "{other}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn what_the_client_has_is_recognised() {
        let has = |value| {
            is_known(&HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]), "\"7\"")
        };
        assert!(has("\"7\"") && has("W/\"7\"") && has("\"6\", \"7\"") && has("*"));
        assert!(!has("\"6\"") && !has("7") && !is_known(&HeaderMap::new(), "\"7\""));
    }

    #[tokio::test]
    async fn every_answer_shares_the_same_bytes_in_either_form() {
        let document = Document::new("a text ".repeat(1000));
        for encoding in ["gzip", "identity"] {
            let bytes =
                async || to_bytes(document.response(&accepting(encoding)).into_body(), usize::MAX).await.unwrap();
            let (one, two) = (bytes().await, bytes().await);
            assert_eq!(one.as_ptr(), two.as_ptr(), "{encoding}");
        }
        let response = document.response(&accepting("gzip"));
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        let packed = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let mut text = String::new();
        GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "a text ".repeat(1000));
    }
}
