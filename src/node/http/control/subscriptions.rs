//! `/v1/subscriptions`: who wants what, and how far they are.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{InPath, blocking, in_path, not_done, time};
use crate::node::core::Core;
use crate::node::http::params::Params;
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::tokens::Caller;
use crate::node::http::{App, answer};
use crate::{BreakerRecord, BreakerState, EventId, ReplayPolicy, SubscribeError, SubscriptionId, SubscriptionRecord};

pub(in super::super) async fn list(State(app): State<App>, request: Request) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let subscriptions: Vec<_> = app.core.bus.subscriptions().iter().map(told).collect();
    Ok(answer::json(StatusCode::OK, &json!({"subscriptions": subscriptions})))
}

pub(in super::super) async fn show(
    State(app): State<App>,
    id: InPath<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    Ok(answer::json(StatusCode::OK, &told(&found(&app.core, &in_path(id)?)?)))
}

/// Pauses or resumes one.
pub(in super::super) async fn change(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    path: InPath<(String, String)>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let (id, verb) = in_path(path)?;
    if !matches!(&*verb, "pause" | "resume") {
        return Err(Problem::not_found(format!("a subscription can pause and resume, and not {verb}")));
    }
    let record = found(&app.core, &id)?;
    // Without it nothing would be kept any more.
    if record.handler_id.as_str() == "journal" && verb == "pause" {
        let detail = format!("{} keeps the events of the node; it cannot be paused", record.name);
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let (core, actor) = (Arc::clone(&app.core), app.core.trail.by(caller.name()));
    blocking(move || {
        let done = if verb == "pause" { actor.pause(record.id) } else { actor.resume(record.id) };
        done.map_err(|error| not_done(error, |error| refused(&error)))?;
        Ok(answer::json(StatusCode::OK, &told(&found(&core, &id)?)))
    })
    .await
}

fn found(core: &Core, id: &str) -> Result<SubscriptionRecord, Problem> {
    let not_found =
        || Problem::not_found(format!("there is no subscription {id:?}; list them to see those that there are"));
    let id: SubscriptionId = id.parse::<EventId>().map_err(|_| not_found())?.into();
    core.bus.subscriptions().into_iter().find(|record| record.id == id).ok_or_else(not_found)
}

fn refused(error: &SubscribeError) -> Problem {
    match error {
        SubscribeError::NotFound(_) => Problem::not_found(error),
        _ => Problem::new(Kind::Conflict, error),
    }
}

fn told(record: &SubscriptionRecord) -> Value {
    let ledger = &record.ledger;
    json!({
        "id": record.id.to_string(),
        "name": record.name,
        "pattern": record.pattern,
        "filters": record.filters,
        "handler": record.handler_id.to_string(),
        "created": time(record.created_at),
        "last_delivered": record.last_delivered.map(time),
        "paused": record.is_paused,
        "breaker": record.breaker.as_ref().map(breaker_told),
        "takes_replays": record.replay == ReplayPolicy::Safe,
        "matched": ledger.matched,
        "open": ledger.open(),
        "delivered": ledger.delivered,
        "failed": ledger.failed,
        "retried": ledger.retried,
        "dead_lettered": ledger.dead_lettered,
        "dropped": ledger.dropped.total(),
    })
}

fn breaker_told(breaker: &BreakerRecord) -> Value {
    json!({
        "state": match breaker.state {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        },
        "failures": breaker.failures,
        "last_failure": breaker.last_failure.map(time),
        "half_opens_at": breaker.half_opens_at.map(time),
    })
}
