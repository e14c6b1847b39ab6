//! `/v1/config`: every setting with its value and where that comes from, and another configuration.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{blocking, not_done};
use crate::node::config::settings::Reload;
use crate::node::config::{Config, ConfigError};
use crate::node::http::incoming::MediaType;
use crate::node::http::params::Params;
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::tokens::Caller;
use crate::node::http::{App, answer};
use crate::store::AuditAct;

/// What a file that came over HTTP is called where it has faults.
const NAME: &str = "body";

pub(in super::super) async fn show(State(app): State<App>, request: Request) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    Ok(answer::json(StatusCode::OK, &told(&app.core.config())))
}

/// Takes a text in the place of the file's, until that is read again.
pub(in super::super) async fn replace(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let (parts, body) = request.into_parts();
    // JSON is YAML, too.
    let is_known = |media_type: &MediaType| media_type.is_json() || media_type.essence.ends_with("yaml");
    let held = app.read_text(&parts, body, is_known, "application/yaml or application/json").await?;
    let text = String::from_utf8(held.bytes).map_err(|_| Problem::malformed("the body is not UTF-8"))?;
    let (core, actor) = (Arc::clone(&app.core), app.core.trail.by(caller.name()));
    blocking(move || {
        let act = AuditAct::new("config.replaced", "config").after(text.clone());
        let taken = actor.act(act, || core.reload_from(NAME, &text));
        let changes = taken.map_err(|error| not_done(error, |error| faulty(&error)))?;
        let changes: Vec<_> = changes
            .iter()
            .map(|change| json!({"setting": change.path, "from": change.from, "to": change.to}))
            .collect();
        Ok(answer::json(StatusCode::OK, &json!({"changes": changes})))
    })
    .await
}

fn faulty(error: &ConfigError) -> Problem {
    let faults = error.faults().iter().map(|fault| json!({"detail": fault.to_string()})).collect::<Vec<_>>();
    let detail = format!("{} faults, and so nothing was changed: {error}", faults.len());
    Problem::new(Kind::Faulty, detail).with("errors", faults.into())
}

fn told(config: &Config) -> Value {
    let settings: Vec<_> = config
        .settings()
        .map(|(setting, value, origin)| {
            json!({
                "name": setting.path,
                "value": value.to_string(),
                "origin": origin.to_string(),
                "default": setting.default,
                "takes": setting.kind.to_string(),
                "live": setting.reload == Reload::Live,
                "help": setting.help.trim(),
            })
        })
        .collect();
    json!({"settings": settings, "watch": config.watch()})
}
