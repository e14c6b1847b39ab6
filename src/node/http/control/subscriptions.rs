//! `/v1/subscriptions`: who wants what, and how far they are.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::time;
use crate::node::core::Core;
use crate::node::http::answer::{self, Answer};
use crate::node::http::extract::{Admin, InPath, Plain, not_done};
use crate::node::http::problem::{Kind, Problem};
use crate::{BreakerRecord, BreakerState, EventId, ReplayPolicy, SubscribeError, SubscriptionId, SubscriptionRecord};

pub(in super::super) async fn list(Plain(app): Plain) -> Answer {
    let subscriptions: Vec<_> = app.core.bus.subscriptions().iter().map(told).collect();
    Ok(answer::json(StatusCode::OK, &json!({"subscriptions": subscriptions})))
}

pub(in super::super) async fn show(Plain(app): Plain, InPath(id): InPath<String>) -> Answer {
    Ok(answer::json(StatusCode::OK, &told(&found(&app.core, &id)?)))
}

/// Pauses or resumes one.
pub(in super::super) async fn change(admin: Admin, InPath((id, verb)): InPath<(String, String)>) -> Answer {
    if !matches!(&*verb, "pause" | "resume") {
        return Err(Problem::not_found(format!("a subscription can pause and resume, and not {verb}")));
    }
    let record = found(&admin.app.core, &id)?;
    // Without it nothing would be kept any more.
    if record.handler_id.as_str() == "journal" && verb == "pause" {
        let detail = format!("{} keeps the events of the node; it cannot be paused", record.name);
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let changed = admin.does(move |core, actor| {
        let done = if verb == "pause" { actor.pause(record.id) } else { actor.resume(record.id) };
        done.map_err(|error| not_done(error, |error| refused(&error)))?;
        found(core, &id)
    });
    Ok(answer::json(StatusCode::OK, &told(&changed.await?)))
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
