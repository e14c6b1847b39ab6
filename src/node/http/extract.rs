//! What handlers take out of a request before they begin.

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;

use super::App;
use super::incoming::MediaType;
use super::params::Params;
use super::problem::{Kind, Problem};
use super::tokens::Caller;
use crate::node::core::Core;
use crate::store::{AuditAct, AuditActor, AuditedError};

/// A request that has no parameters.
pub(super) struct Plain(pub(super) App);

impl FromRequestParts<App> for Plain {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Params::read(&parts.uri, &[])?;
        Ok(Self(app.clone()))
    }
}

/// A request of somebody who changes something. It has no parameters, unless it is made by [`of`](Self::of).
pub(super) struct Admin {
    pub(super) app: App,
    actor: AuditActor,
}

impl Admin {
    pub(super) fn of(app: App, caller: &Caller) -> Self {
        let actor = app.core.trail.by(caller.name());
        Self { app, actor }
    }

    /// Does what leaves a record in the audit trail by itself, where that keeps nobody else waiting.
    pub(super) async fn does<T: Send + 'static>(
        self,
        work: impl FnOnce(&Core, &AuditActor) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        blocking(move || work(&self.app.core, &self.actor)).await
    }

    /// Records what is to be done, then does it.
    pub(super) async fn act<T: Send + 'static>(
        self,
        act: AuditAct,
        work: impl FnOnce(&Core) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.does(|core, actor| actor.act(act, || work(core)).map_err(|error| not_done(error, |problem| problem))).await
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Params::read(&parts.uri, &[])?;
        // The guard has let in somebody.
        let nobody = || Problem::new(Kind::Unauthorized, "a token is needed");
        let caller = parts.extensions.get::<Caller>().ok_or_else(nobody)?;
        Ok(Self::of(app.clone(), caller))
    }
}

/// Why something that is recorded was not done.
pub(super) fn not_done<E>(error: AuditedError<E>, failed: impl FnOnce(E) -> Problem) -> Problem {
    match error {
        AuditedError::NotRecorded(error) => {
            Problem::unavailable(format!("nothing was done, for it could not be recorded: {error}"))
        }
        AuditedError::Failed(error) => failed(error),
    }
}

/// What stands in the path.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, app).await;
        path.map(|Path(value)| Self(value)).map_err(|error| Problem::not_found(error.body_text()))
    }
}

/// The body, as JSON of this shape.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let held = app.read_text(&parts.headers, body, MediaType::is_json, "application/json").await?;
        let read = serde_json::from_slice(&held.bytes);
        read.map(Self).map_err(|error| Problem::malformed(format!("the body is not what belongs here: {error}")))
    }
}

/// What the store is waited for by is done where that keeps nobody else waiting.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(Problem::new(Kind::Failed, error)))
}
