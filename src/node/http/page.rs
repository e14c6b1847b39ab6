//! `/`: the page, whose files are in the program: it needs no other host, and no build.

use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};

use super::answer::{self, Answer};
use super::extract::Plain;
use super::problem::Problem;

/// Path, media type and text of each file.
const FILES: [(&str, &str, &str); 10] = [
    ("/", "text/html; charset=utf-8", include_str!("../page/index.html")),
    ("/page/page.css", "text/css; charset=utf-8", include_str!("../page/page.css")),
    ("/page/page.js", JAVASCRIPT, include_str!("../page/page.js")),
    ("/page/node.js", JAVASCRIPT, include_str!("../page/node.js")),
    ("/page/make.js", JAVASCRIPT, include_str!("../page/make.js")),
    ("/page/charts.js", JAVASCRIPT, include_str!("../page/charts.js")),
    ("/page/overview.js", JAVASCRIPT, include_str!("../page/overview.js")),
    ("/page/flow.js", JAVASCRIPT, include_str!("../page/flow.js")),
    ("/page/events.js", JAVASCRIPT, include_str!("../page/events.js")),
    ("/page/control.js", JAVASCRIPT, include_str!("../page/control.js")),
];
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// Nothing of anybody else is run, shown or sent to.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Paths of the page.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().map(|(path, ..)| path)
}

pub(super) async fn show(_: Plain, uri: Uri) -> Answer {
    let path = uri.path();
    let file = FILES.into_iter().find(|(known, ..)| *known == path);
    let (_, media_type, text) = file.ok_or_else(|| Problem::not_found(format!("there is no file {path}")))?;
    let mut response = answer::text(StatusCode::OK, HeaderValue::from_static(media_type), text.into());
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the program has another page.
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}
