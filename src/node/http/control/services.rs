//! `/v1/services`: what runs beside the bus, and how it is.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{InPath, blocking, in_path, leases, not_done, time};
use crate::node::core::Core;
use crate::node::http::params::Params;
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::tokens::Caller;
use crate::node::http::{App, answer};
use crate::node::services::{ServiceStatus, ServicesError};
use crate::store::AuditAct;

pub(in super::super) async fn list(State(app): State<App>, request: Request) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let services: Vec<_> = app.core.services.list().iter().map(told).collect();
    Ok(answer::json(StatusCode::OK, &json!({"services": services, "instances": leases::told(&app.core)})))
}

pub(in super::super) async fn show(
    State(app): State<App>,
    name: InPath<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    Ok(answer::json(StatusCode::OK, &told(&found(&app.core, &in_path(name)?)?)))
}

/// Starts, stops or restarts one, and answers when that is done.
pub(in super::super) async fn change(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    path: InPath<(String, String)>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let (name, verb) = in_path(path)?;
    let action = match &*verb {
        "start" => "service.started",
        "stop" => "service.stopped",
        "restart" => "service.restarted",
        _ => return Err(Problem::not_found(format!("a service can start, stop and restart, and not {verb}"))),
    };
    found(&app.core, &name)?;
    let (core, actor, runtime) = (Arc::clone(&app.core), app.core.trail.by(caller.name()), Handle::current());
    blocking(move || {
        let services = &core.services;
        let act = AuditAct::new(action, format!("service {name}"));
        let done = actor.act(act, || match &*verb {
            "start" => runtime.block_on(services.start(&name)),
            "stop" => runtime.block_on(services.stop(&name)),
            _ => runtime.block_on(services.restart(&name)),
        });
        done.map_err(|error| not_done(error, |error| refused(&error)))?;
        Ok(answer::json(StatusCode::OK, &told(&found(&core, &name)?)))
    })
    .await
}

fn found(core: &Core, name: &str) -> Result<ServiceStatus, Problem> {
    core.services.get(name).ok_or_else(|| refused(&ServicesError::Unknown(name.to_owned())))
}

fn refused(error: &ServicesError) -> Problem {
    match error {
        ServicesError::Unknown(_) => Problem::not_found(error),
        ServicesError::Ended => Problem::unavailable(error),
        _ => Problem::new(Kind::Conflict, error),
    }
}

fn told(status: &ServiceStatus) -> Value {
    let history: Vec<_> = status
        .history
        .iter()
        .map(
            |record| json!({"time": time(record.at), "health": record.health.word(), "reason": record.health.reason()}),
        )
        .collect();
    json!({
        "name": status.name,
        "kind": status.kind,
        "needs": status.needs,
        "state": status.state.to_string(),
        "since": time(status.since),
        "health": status.health.word(),
        "reason": status.health.reason(),
        "failure": status.failure,
        "recoveries": status.recoveries,
        "history": history,
    })
}
