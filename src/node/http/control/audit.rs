//! `/v1/audit`: who did what.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::time;
use crate::node::http::answer::{self, Answer};
use crate::node::http::params::Params;
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::{App, query};
use crate::store::{AuditQuery, AuditRecord, Order, Position};

/// The parameters.
pub(in super::super) const PARAMS: [&str; 6] = ["actor", "action", "object", "after", "limit", "order"];

pub(in super::super) async fn list(State(app): State<App>, request: Request) -> Answer {
    let params = Params::read(request.uri(), &PARAMS)?;
    let mut asked = AuditQuery::new();
    if let Some(actor) = params.get("actor") {
        asked = asked.actor(actor);
    }
    if let Some(action) = params.get("action") {
        asked = asked.action(action).map_err(|error| Problem::malformed(format!("the parameter action: {error}")))?;
    }
    if let Some(object) = params.get("object") {
        asked = asked.object(object);
    }
    if params.order()? == Order::NewestFirst {
        asked = asked.newest_first();
    }
    let mut asked = asked.to_query();
    if let Some(after) = params.after()?.and_then(Position::new) {
        asked = asked.behind(after);
    }
    let limit = params.limit(&app.core.config())?;
    let (mut listing, core) = (app.listing("{\"records\":["), Arc::clone(&app.core));
    let read = app.reads(move || {
        let mut unread = None;
        let next = query::page(&*core.store, &asked, limit, |event| match AuditRecord::read(event) {
            Ok(record) => listing.push(|body| answer::write(&told(&record), body)),
            Err(error) => {
                unread = Some(error);
                false
            }
        });
        let next = next.map_err(|error| query::unreadable(&error))?;
        match unread {
            Some(error) => Err(Problem::new(Kind::Failed, error)),
            None => Ok((listing.end("]}"), next)),
        }
    });
    let (body, next) = read.await?;
    Ok(params.linked(answer::text(StatusCode::OK, answer::JSON, body), request.uri(), next))
}

fn told(record: &AuditRecord) -> Value {
    json!({
        "position": record.event().position().to_string(),
        "id": record.id().to_string(),
        "time": time(record.time()),
        "actor": record.actor(),
        "action": record.action(),
        "object": record.object(),
        "version": record.version(),
        "before": record.before(),
        "after": record.after(),
        "cause": record.cause().map(|cause| cause.to_string()),
    })
}
