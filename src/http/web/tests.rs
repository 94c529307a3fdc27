//! The app as it is served, with a tiny one in its place.

use std::io::Write as _;

use axum::body::to_bytes;
use flate2::{Compression, write::GzEncoder};

use super::{bundle::Source, *};

const SCRIPT: &str = "_expo/static/js/web/entry-0123456789abcdef0123456789abcdef.js";

fn gzip(text: &str) -> &'static [u8] {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap().leak()
}

fn tiny() -> Bundle {
    let file = |path, hash, text| Source { path, hash, gzip: gzip(text) };
    Bundle::new(&[
        file(INDEX, "00000000000000aa", "<!doctype html><title>Club</title>"),
        file(SCRIPT, "00000000000000bb", "console.log(1)"),
        file("favicon.ico", "00000000000000cc", "an icon"),
        file("assets/node_modules/@expo/icons.0123456789abcdef0123456789abcdef.ttf", "00000000000000dd", "a font"),
    ])
}

fn asking(headers: &[(HeaderName, &'static str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
}

fn get(path: &str, headers: &[(HeaderName, &'static str)]) -> Result<Response, Failure> {
    serve(&tiny(), path, &asking(headers), "")
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn every_place_of_the_app_is_its_page_and_what_is_missing_is_not_found() {
    for place in [INDEX, "members", "chats/6b033ff858dd68a2edc96e77", "chats/", "a.b/settings"] {
        let response = get(place, &[]).unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8", "{place}");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache", "{place}");
        assert!(text(response).await.contains("Club"), "{place}");
    }
    for missing in ["nothing.js", "_expo/static/js/web/entry-ffff.js", "../../Cargo.toml", "index.html.gz"] {
        assert_eq!(get(missing, &[]).unwrap_err().code, ErrorCode::NotFound, "{missing}");
    }
}

#[tokio::test]
async fn what_has_a_hash_in_its_name_is_kept_and_compressed_for_who_can_read_it() {
    let plain = get(SCRIPT, &[]).unwrap();
    assert_eq!(plain.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    assert_eq!(plain.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
    assert_eq!(text(plain).await, "console.log(1)");
    let packed = get(SCRIPT, &[(header::ACCEPT_ENCODING, "gzip, br")]).unwrap();
    assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
    assert_eq!(packed.headers()[header::VARY], "accept-encoding");
    let font = get("assets/node_modules/@expo/icons.0123456789abcdef0123456789abcdef.ttf", &[]).unwrap();
    assert_eq!(font.headers()[header::CONTENT_TYPE], "font/ttf");
    assert_eq!(get("favicon.ico", &[]).unwrap().headers()[header::CACHE_CONTROL], "no-cache");
}

#[tokio::test]
async fn what_the_browser_has_is_not_sent_again() {
    let first = get("members", &[]).unwrap();
    assert_eq!(first.headers()[header::ETAG], "W/\"00000000000000aa\"");
    let again = get("", &[(header::IF_NONE_MATCH, "\"x\", W/\"00000000000000aa\"")]).unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(again.headers()[header::ETAG], first.headers()[header::ETAG]);
    assert_eq!(text(again).await, "");
    assert_eq!(get("", &[(header::IF_NONE_MATCH, "\"old\"")]).unwrap().status(), StatusCode::OK);
}

#[test]
fn the_app_talks_to_its_own_server_and_to_nobody_else() {
    let policy = |host: &'static str, public_url| {
        let served = serve(&tiny(), "", &asking(&[(header::HOST, host)]), public_url).unwrap();
        assert_eq!(served.headers()[OPENER_POLICY], "same-origin");
        served.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
    };
    let plain = policy("127.0.0.1:8000", "");
    assert!(plain.starts_with("default-src 'none'; script-src 'self'; "), "{plain}");
    assert!(plain.contains("; connect-src 'self' ws://127.0.0.1:8000 wss://127.0.0.1:8000; "), "{plain}");
    assert!(plain.contains("; img-src 'self' data: blob:; "), "{plain}");
    let public = policy("club.example.com", "https://club.example.com");
    assert!(public.contains("; img-src 'self' data: blob: https://club.example.com; "), "{public}");
    for injected in ["a; script-src *", "a b", "evil.example'", ""] {
        assert!(policy(injected, "").contains("; connect-src 'self'; "), "{injected}");
    }
}

#[test]
fn a_server_without_the_app_says_so() {
    let refused = serve(&Bundle::new(&[]), "members", &HeaderMap::new(), "").unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    assert!(refused.message.contains("without the app"), "{}", refused.message);
}
