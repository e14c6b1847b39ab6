//! What handlers answer: most of it is JSON.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::problem::Problem;

/// What a handler comes to.
pub(super) type Answer = Result<Response<Body>, Problem>;

/// The media type of what is no event.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What can be written as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    text(status, JSON, serde_json::to_vec(value).expect("its keys are texts"))
}

/// Writes what can be written as JSON.
pub(super) fn write(value: &impl Serialize, into: &mut Vec<u8>) {
    serde_json::to_writer(into, value).expect("its keys are texts");
}

/// What is written already.
pub(super) fn text(status: StatusCode, media_type: HeaderValue, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// That it is done, and there is nothing to say.
pub(super) fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
