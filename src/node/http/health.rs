//! `/health/live` and `/health/ready`: for whoever restarts the process, and for whoever sends it work.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::extract::Plain;
use crate::node::core::NodeState;
use crate::node::health::Health;
use crate::node::services::ServiceState;

/// It answers, so it lives.
pub(super) async fn live(_: Plain) -> Answer {
    Ok(answer::json(StatusCode::OK, &json!({"status": "live"})))
}

/// Whether it takes events, and how well its parts are.
pub(super) async fn ready(Plain(app): Plain) -> Answer {
    let core = &app.core;
    let metrics = core.bus.metrics();
    let (bus, live, state) = (core.bus_health(&metrics), app.live.health(), core.state());
    let services = core.services.list();
    let at_rest = [ServiceState::Registered, ServiceState::Stopped];
    let running = services.iter().filter(|service| !at_rest.contains(&service.state));
    let healths = running.clone().map(|service| service.health.clone());
    let store = core.store_health().await;
    let health = Health::worst([bus.clone(), live.clone(), store.clone()].into_iter().chain(healths));
    let services: Vec<Value> = running
        .map(|service| json!({"name": service.name, "state": service.state.to_string(), "health": service.health.word()}))
        .collect();
    // A bus of which a part is degraded has a store that fails: nothing would be kept.
    let works = [&bus, &store].iter().all(|part| !matches!(part, Health::Unhealthy(_))) && metrics.degraded == 0;
    let is_ready = state == NodeState::Running && works;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": if is_ready { "ready" } else { "not ready" },
        "health": health.word(),
        "reason": health.reason(),
        "node": state.to_string(),
        "bus": {"health": bus.word(), "reason": bus.reason()},
        "store": {"health": store.word(), "reason": store.reason()},
        "live": {"health": live.word(), "reason": live.reason()},
        "services": services,
    });
    Ok(answer::json(status, &body))
}
