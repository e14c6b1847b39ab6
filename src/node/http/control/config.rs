//! `/v1/config`: every setting with its value and where that comes from, and another configuration.

use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::json;

use crate::node::config::told::told;
use crate::node::config::{Change, ConfigError};
use crate::node::http::answer::{self, Answer};
use crate::node::http::extract::{Admin, Plain, not_done};
use crate::node::http::incoming::MediaType;
use crate::node::http::problem::{Kind, Problem};
use crate::store::AuditAct;

/// What a file that came over HTTP is called where it has faults.
const NAME: &str = "body";

pub(in super::super) async fn show(Plain(app): Plain) -> Answer {
    Ok(answer::json(StatusCode::OK, &told(&app.core.config())))
}

/// Takes a text in the place of the file's, until that is read again.
pub(in super::super) async fn replace(admin: Admin, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    // JSON is YAML, too.
    let is_known = |media_type: &MediaType| media_type.is_json() || media_type.essence.ends_with("yaml");
    let known = "application/yaml or application/json";
    let held = admin.app.read_text(&parts.headers, body, is_known, known).await?;
    let text = String::from_utf8(held.bytes).map_err(|_| Problem::malformed("the body is not UTF-8"))?;
    let changes = admin.does(move |core, actor| {
        let mut act = AuditAct::new("config.replaced", "config");
        // Of the text only what it sets is recorded: nobody knows what else stands in it.
        if let Ok(changes) = core.planned(NAME, &text) {
            let lines = |value: fn(&Change) -> &str| {
                let lines = changes.iter().map(|change| format!("{}: {}", change.path, value(change)));
                lines.collect::<Vec<_>>().join("\n")
            };
            act = act.before(lines(|change| &change.from)).after(lines(|change| &change.to));
        }
        let done = actor.act(act, || core.reload_from(NAME, &text));
        done.map_err(|error| not_done(error, |error| faulty(&error)))
    });
    let changes = changes.await?;
    let changes: Vec<_> =
        changes.iter().map(|change| json!({"setting": change.path, "from": change.from, "to": change.to})).collect();
    Ok(answer::json(StatusCode::OK, &json!({"changes": changes})))
}

fn faulty(error: &ConfigError) -> Problem {
    let faults = error.faults().iter().map(|fault| json!({"detail": fault.to_string()})).collect::<Vec<_>>();
    let detail = format!("{} faults, and so nothing was changed: {error}", faults.len());
    Problem::new(Kind::Faulty, detail).with("errors", faults.into())
}
