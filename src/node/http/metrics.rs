//! `/metrics`: what Prometheus reads.

use axum::http::{HeaderValue, StatusCode};

use super::answer::{self, Answer};
use super::extract::Plain;
use crate::node::config::settings::METRICS_NAMESPACE;
use crate::node::prometheus::{CONTENT_TYPE, Exposed};

pub(super) async fn expose(Plain(app): Plain) -> Answer {
    let (config, services) = (app.core.config(), app.core.services.list());
    let exposed = Exposed {
        namespace: config.text(&METRICS_NAMESPACE).expect("it has a default"),
        bus: &app.core.bus,
        events: app.core.builtins.event_metrics(),
        health: app.core.bus.metrics().health_at(app.core.p95_ns()),
        services: &services,
        live: Some(app.live.counts()),
        refused: &app.counts.read(),
    };
    Ok(answer::text(StatusCode::OK, HeaderValue::from_static(CONTENT_TYPE), exposed.text().into_bytes()))
}
