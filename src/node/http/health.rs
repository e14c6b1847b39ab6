//! `/health/live` and `/health/ready`: for whoever restarts the process, and for whoever sends it work.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::params::Params;
use super::problem::Problem;
use super::{App, answer};
use crate::node::core::NodeState;
use crate::node::health::Health;
use crate::node::services::ServiceState;

/// It answers, so it lives.
pub(super) async fn live(request: Request) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    Ok(answer::json(StatusCode::OK, &json!({"status": "live"})))
}

/// Whether it takes events, and how well its parts are.
pub(super) async fn ready(State(app): State<App>, request: Request) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let core = &app.core;
    let (bus, live, state) = (core.bus_health(), app.live.health(), core.state());
    let services = core.services.list();
    let running = services.iter().filter(|service| service.state != ServiceState::Registered);
    let services: Vec<Value> = running
        .map(|service| json!({"name": service.name, "state": service.state.to_string(), "health": service.health.word()}))
        .collect();
    let is_ready = state == NodeState::Running && !matches!(bus, Health::Unhealthy(_));
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": if is_ready { "ready" } else { "not ready" },
        "node": state.to_string(),
        "bus": {"health": bus.word(), "reason": bus.reason()},
        "live": {"health": live.word(), "reason": live.reason()},
        "services": services,
    });
    Ok(answer::json(status, &body))
}
