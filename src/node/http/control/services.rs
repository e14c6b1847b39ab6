//! `/v1/services`: what runs beside the bus, and how it is.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{leases, time};
use crate::node::core::Core;
use crate::node::http::answer::{self, Answer};
use crate::node::http::extract::{Admin, InPath, Plain};
use crate::node::http::problem::{Kind, Problem};
use crate::node::services::{ServiceStatus, ServicesError};
use crate::store::AuditAct;

pub(in super::super) async fn list(Plain(app): Plain) -> Answer {
    let services: Vec<_> = app.core.services.list().iter().map(told).collect();
    Ok(answer::json(StatusCode::OK, &json!({"services": services, "instances": leases::told(&app.core)})))
}

pub(in super::super) async fn show(Plain(app): Plain, InPath(name): InPath<String>) -> Answer {
    Ok(answer::json(StatusCode::OK, &told(&found(&app.core, &name)?)))
}

/// Starts, stops or restarts one, and answers when that is done.
pub(in super::super) async fn change(admin: Admin, InPath((name, verb)): InPath<(String, String)>) -> Answer {
    let action = match &*verb {
        "start" => "service.started",
        "stop" => "service.stopped",
        "restart" => "service.restarted",
        _ => return Err(Problem::not_found(format!("a service can start, stop and restart, and not {verb}"))),
    };
    found(&admin.app.core, &name)?;
    let (act, runtime) = (AuditAct::new(action, format!("service {name}")), Handle::current());
    let done = admin.act(act, move |core| {
        let done = match &*verb {
            "start" => runtime.block_on(core.services.start(&name)),
            "stop" => runtime.block_on(core.services.stop(&name)),
            _ => runtime.block_on(core.services.restart(&name)),
        };
        done.map_err(|error| refused(&error))?;
        found(core, &name)
    });
    Ok(answer::json(StatusCode::OK, &told(&done.await?)))
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
