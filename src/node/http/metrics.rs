//! `/metrics`: what Prometheus reads.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode};

use super::params::Params;
use super::problem::Problem;
use super::{App, answer};
use crate::node::config::settings::METRICS_NAMESPACE;
use crate::node::prometheus::{CONTENT_TYPE, Exposed};

pub(super) async fn expose(State(app): State<App>, request: Request) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let (config, services) = (app.core.config(), app.core.services.list());
    let exposed = Exposed {
        namespace: config.text(&METRICS_NAMESPACE).expect("it has a default"),
        bus: &app.core.bus,
        events: &app.event_metrics,
        services: &services,
        live: Some(app.live.counts()),
    };
    Ok(answer::text(StatusCode::OK, HeaderValue::from_static(CONTENT_TYPE), exposed.text().into_bytes()))
}
