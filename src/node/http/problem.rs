//! What is wrong with a request, as RFC 9457 has it: one shape for every error.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

/// Kinds of problems: the end of `type`, a status, and a title that is always the same.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident: $status:ident, $word:literal, $title:literal;)+) => {
        /// What is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in super::super) enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them, for the description of the interface.
            pub(super) const ALL: &[Self] = &[$(Self::$kind),+];

            pub(super) const fn status(self) -> StatusCode {
                match self {
                    $(Self::$kind => StatusCode::$status,)+
                }
            }

            pub(super) const fn word(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                }
            }

            const fn title(self) -> &'static str {
                match self {
                    $(Self::$kind => $title,)+
                }
            }
        }
    };
}

kinds! {
    /// The request cannot be read.
    Malformed: BAD_REQUEST, "malformed-request", "The request cannot be read";
    /// What was sent is no event.
    MalformedEvent: BAD_REQUEST, "malformed-event", "What was sent is no event";
    /// A configuration with faults.
    Faulty: BAD_REQUEST, "faulty-configuration", "The configuration has faults";
    /// There is no token, or a wrong one.
    Unauthorized: UNAUTHORIZED, "unauthorized", "A token is needed";
    /// It comes from a page of somebody else.
    Foreign: FORBIDDEN, "foreign-origin", "Pages of others may not come in";
    /// It is not allowed.
    Forbidden: FORBIDDEN, "forbidden", "This is not allowed";
    /// There is nothing.
    NotFound: NOT_FOUND, "not-found", "There is nothing of this name";
    /// Not with this method.
    Method: METHOD_NOT_ALLOWED, "method-not-allowed", "The method does not fit";
    /// The request did not come to its end.
    Timeout: REQUEST_TIMEOUT, "timeout", "The request took too long";
    /// It does not fit what is there.
    Conflict: CONFLICT, "conflict", "It does not fit what is there";
    /// It was there once.
    Gone: GONE, "gone", "It is not there any more";
    /// More than is taken at once.
    TooLarge: PAYLOAD_TOO_LARGE, "too-large", "It is more than is taken at once";
    /// Something else than is understood.
    MediaType: UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The media type is not known here";
    /// Too often.
    TooMany: TOO_MANY_REQUESTS, "too-many-requests", "Requests come too fast";
    /// Something failed.
    Failed: INTERNAL_SERVER_ERROR, "failed", "Something failed";
    /// Not now.
    Unavailable: SERVICE_UNAVAILABLE, "unavailable", "It cannot be done now";
}

/// Begins the type of each problem.
const TYPES: &str = "urn:ringmain:problem:";
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An error of a request, on its way out.
#[derive(Debug)]
pub(in super::super) struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(in super::super) fn new(kind: Kind, detail: impl ToString) -> Self {
        let (members, headers) = Default::default();
        Self(Box::new(Inner { kind, detail: detail.to_string(), members, headers }))
    }

    pub(super) fn malformed(detail: impl ToString) -> Self {
        Self::new(Kind::Malformed, detail)
    }

    pub(super) fn not_found(detail: impl ToString) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// Something that may be there in a moment.
    pub(super) fn unavailable(detail: impl ToString) -> Self {
        Self::new(Kind::Unavailable, detail)
    }

    /// With another member.
    pub(super) fn with(mut self, name: &str, value: Value) -> Self {
        self.0.members.insert(name.to_owned(), value);
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let Inner { kind, detail, members, headers } = *self.0;
        let status = kind.status();
        let mut body = json!({
            "type": format!("{TYPES}{}", kind.word()),
            "title": kind.title(),
            "status": status.as_u16(),
            "detail": detail,
        });
        if let Some(body) = body.as_object_mut() {
            body.extend(members);
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if kind == Kind::Unavailable {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.headers_mut().extend(headers);
        // For who counts.
        response.extensions_mut().insert(kind);
        response
    }
}
