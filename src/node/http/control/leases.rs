//! `/v1/services` and `/v1/leases` for other processes: each registers a service, and renews its lease for as long as it is there.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{InPath, blocking, in_path, not_done};
use crate::EventId;
use crate::node::core::Core;
use crate::node::discovery::{DirectoryError, LeaseId, Registration};
use crate::node::http::params::Params;
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::tokens::Caller;
use crate::node::http::{App, answer};
use crate::store::AuditAct;

/// What a process says of its service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    address: String,
    health_path: Option<String>,
    lease_s: u64,
}

pub(in super::super) async fn register(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let (parts, body) = request.into_parts();
    let New { name, address, health_path, lease_s } = app.read_json(&parts, body).await?;
    let (core, actor) = (Arc::clone(&app.core), app.core.trail.by(caller.name()));
    blocking(move || {
        // The lease itself is a secret of who has it.
        let act = AuditAct::new("instance.registered", format!("service {name}")).after(address.clone());
        let registration = Registration { name, address, health_path, lease: Duration::from_secs(lease_s) };
        let done = actor.act(act, || core.registrations.register(registration));
        let lease = done.map_err(|error| not_done(error, |error| refused(&error)))?;
        Ok(answer::json(StatusCode::CREATED, &json!({"lease": lease.to_string(), "lease_s": lease_s})))
    })
    .await
}

/// Lets one begin anew.
pub(in super::super) async fn renew(
    State(app): State<App>,
    lease: InPath<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let lease = read(lease)?;
    let left = app.core.registrations.renew(lease).map_err(|error| refused(&error))?;
    Ok(answer::json(StatusCode::OK, &json!({"lease": lease.to_string(), "lease_s": left.as_secs()})))
}

/// Ends one.
pub(in super::super) async fn end(
    State(app): State<App>,
    lease: InPath<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    app.core.registrations.unregister(read(lease)?).map_err(|error| refused(&error))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Those that are registered, for the list of services.
pub(super) fn told(core: &Core) -> Vec<Value> {
    let told = |(instance, left): (crate::node::discovery::Instance, Duration)| {
        let Registration { name, address, health_path, .. } = instance.registration;
        json!({"name": name, "address": address, "health_path": health_path, "left_s": left.as_secs()})
    };
    core.registrations.list().into_iter().map(told).collect()
}

fn read(lease: InPath<String>) -> Result<LeaseId, Problem> {
    let lease = in_path(lease)?;
    lease.parse::<EventId>().map_err(|_| Problem::not_found(format!("there is no lease {lease:?}")))
}

fn refused(error: &DirectoryError) -> Problem {
    match error {
        DirectoryError::Unknown(_) => Problem::not_found(error),
        DirectoryError::TooMany { .. } => Problem::new(Kind::Conflict, error),
        _ => Problem::malformed(error),
    }
}
