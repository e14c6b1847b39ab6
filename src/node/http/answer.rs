//! Answers that are JSON.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// The media type of what is no event.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What can be written as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    text(status, JSON, serde_json::to_vec(value).expect("its keys are texts"))
}

/// What is written already.
pub(super) fn text(status: StatusCode, media_type: HeaderValue, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
