//! The page: files built into the program.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use selvedge_dashboard::Asset;

use crate::error::Problem;

/// Nothing from elsewhere, no script in the page itself, embedded by nobody.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn serve(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let tag = HeaderValue::from_static(asset.tag());
    if headers.get(header::IF_NONE_MATCH) == Some(&tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let fixed = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        // Always asked for, and answered with 304 while it is the same: a new version shows at once.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
        (header::ETAG, tag),
    ];
    let packed = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|part| part.trim().starts_with("gzip")));
    match asset.gzip().filter(|_| packed) {
        Some(bytes) => (fixed, [(header::CONTENT_ENCODING, "gzip")], bytes).into_response(),
        None => (fixed, asset.bytes).into_response(),
    }
}

/// `GET /`
pub(super) async fn index(headers: HeaderMap) -> Result<Response, Problem> {
    selvedge_dashboard::asset("index.html")
        .map(|asset| serve(asset, &headers))
        .ok_or_else(|| Problem::not_found("this program was built without the page"))
}

/// `GET /app/...`
pub(super) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    selvedge_dashboard::asset(&path)
        .map(|asset| serve(asset, &headers))
        .ok_or_else(|| Problem::not_found("the page has no such file"))
}
