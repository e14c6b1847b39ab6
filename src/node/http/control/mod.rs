//! Everything that an admin can see and do: what a handler does here leaves a record in the audit trail before it is done.

pub(super) mod audit;
pub(super) mod config;
pub(super) mod leases;
pub(super) mod letters;
pub(super) mod replays;
pub(super) mod rules;
pub(super) mod services;
pub(super) mod subscriptions;

use std::fmt::Display;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Path, rejection::PathRejection};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;

use super::incoming::MediaType;
use super::problem::{Kind, Problem};
use super::{Shared, body};
use crate::node::store::inspect::rfc3339;
use crate::store::AuditedError;

/// What stands in a path.
type InPath<T> = Result<Path<T>, PathRejection>;

fn in_path<T>(path: InPath<T>) -> Result<T, Problem> {
    path.map(|Path(value)| value).map_err(|error| Problem::not_found(error.body_text()))
}

/// What the store is waited for by is done where that keeps nobody else waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(Problem::new(Kind::Failed, error)))
}

/// Why something that is recorded was not done.
fn not_done<E: Display>(error: AuditedError<E>, failed: impl FnOnce(E) -> Problem) -> Problem {
    match error {
        AuditedError::NotRecorded(error) => {
            Problem::unavailable(format!("nothing was done, for it could not be recorded: {error}"))
        }
        AuditedError::Failed(error) => failed(error),
    }
}

fn time(time: SystemTime) -> String {
    rfc3339(time)
}

impl Shared {
    /// The body of a request as JSON of this shape.
    async fn read_json<T: DeserializeOwned>(&self, parts: &Parts, body: Body) -> Result<T, Problem> {
        let held = self.read_text(parts, body, MediaType::is_json, "application/json").await?;
        serde_json::from_slice(&held.bytes)
            .map_err(|error| Problem::malformed(format!("the body is not what belongs here: {error}")))
    }

    /// The body of a request of a known media type.
    async fn read_text(
        &self,
        parts: &Parts,
        body: Body,
        is_known: impl FnOnce(&MediaType) -> bool,
        known: &str,
    ) -> Result<body::Held, Problem> {
        let media_type = MediaType::of(&parts.headers)?;
        if !media_type.is_some_and(|media_type| is_known(&media_type)) {
            return Err(Problem::new(Kind::MediaType, format!("send {known}, and say so by the header content-type")));
        }
        self.read_body(&parts.headers, body).await
    }
}
