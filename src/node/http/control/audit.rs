//! `/v1/audit`: who did what.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{blocking, time};
use crate::node::config::settings::HTTP_PAGE_MAX;
use crate::node::http::params::{Params, whole};
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::{App, answer, query};
use crate::store::{AuditQuery, AuditRecord, EventStore, Position};

/// The parameters.
pub(in super::super) const PARAMS: [&str; 6] = ["actor", "action", "object", "after", "limit", "order"];

pub(in super::super) async fn list(State(app): State<App>, request: Request) -> Result<Response<Body>, Problem> {
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
    match params.get("order") {
        None | Some("oldest") => {}
        Some("newest") => asked = asked.newest_first(),
        Some(_) => return Err(Problem::malformed("the parameter order is oldest or newest")),
    }
    let max = app.core.config().number(&HTTP_PAGE_MAX).unwrap_or(u64::MAX);
    let limit = params.parse_by("limit", |text| whole(text, 1, max))?.unwrap_or(max.min(100));
    let mut asked = asked.to_query().limit(usize::try_from(limit).unwrap_or(usize::MAX));
    if let Some(after) = params.parse_by("after", |text| whole(text, 0, u64::MAX))?.and_then(Position::new) {
        asked = asked.behind(after);
    }
    let store: Arc<dyn EventStore> = Arc::clone(&app.core.store);
    let (records, next) = blocking(move || {
        let page = store.query(&asked).map_err(|error| query::unreadable(&error))?;
        let records: Result<Vec<_>, _> =
            page.events.into_iter().map(|event| AuditRecord::read(event).map(|record| told(&record))).collect();
        Ok((records.map_err(|error| Problem::new(Kind::Failed, error))?, page.next))
    })
    .await?;
    let mut response = answer::json(StatusCode::OK, &json!({"records": records}));
    if let Some(next) = next {
        let link = format!("<{}?{}>; rel=\"next\"", request.uri().path(), params.with("after", next));
        response.headers_mut().insert(header::LINK, HeaderValue::try_from(link).expect("all of it is encoded"));
    }
    Ok(response)
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
