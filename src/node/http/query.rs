//! `GET /v1/events`: events of the store, a page at a time, and those that are still to come for who waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::App;
use super::answer;
use super::params::{Params, whole};
use super::problem::{Kind, Problem};
use super::tokens::Caller;
use crate::node::config::settings as names;
use crate::node::core::{Core, NodeState};
use crate::node::passage::{self, LastHop};
use crate::store::{Order, Page, Position, Query, ReadError};
use crate::{EventId, Pattern};

/// The parameters.
pub(super) const PARAMS: [&str; 7] = ["type", "source", "correlation", "after", "limit", "order", "wait"];
/// Events of an answer, unless it is asked for another number.
const LIMIT: u64 = 100;
/// How long a store is waited for before it is looked whether the node ends.
const PATIENCE: Duration = Duration::from_millis(250);
const BATCH: &str = "application/cloudevents-batch+json";

pub(super) async fn events(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let config = app.core.config();
    let params = Params::read(request.uri(), &PARAMS)?;
    let (query, pattern) = asked(&params, config.number(&names::HTTP_PAGE_MAX).unwrap_or(u64::MAX))?;
    if !caller.may_subscribe(&pattern) {
        let detail = format!("this token may not see all events that match {}", pattern.as_str());
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    let wait_max = config.time(&names::HTTP_WAIT_MAX).expect("it has a default");
    let wait =
        params.parse_by("wait", |text| whole(text, 0, wait_max.as_secs()))?.map_or(Duration::ZERO, Duration::from_secs);
    let _place = if wait.is_zero() {
        None
    } else {
        let full = |_| Problem::unavailable("as many queries wait for events as http.waiting_max; ask without wait");
        Some(app.waiting.try_acquire().map_err(full)?)
    };
    let bytes_max = config.number(&names::HTTP_PAGE_BYTES_MAX).map_or(usize::MAX, |max| max as usize);
    let core = Arc::clone(&app.core);
    let read = move || read(&core, &query, wait).map(|page| written(&page, bytes_max));
    let read = spawn_blocking(read).await.map_err(|error| Problem::new(Kind::Failed, error))?;
    let (body, next) = read.map_err(|error| unreadable(&error))?;
    let mut response = answer::text(StatusCode::OK, media_type(request.headers()), body);
    if let Some(next) = next {
        let link = format!("<{}?{}>; rel=\"next\"", request.uri().path(), params.with("after", next));
        let link = HeaderValue::try_from(link).expect("all of it is encoded");
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

fn media_type(headers: &HeaderMap) -> HeaderValue {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains(BATCH) { HeaderValue::from_static(BATCH) } else { answer::JSON }
}

/// What is asked for, and the pattern of it.
fn asked(params: &Params, limit_max: u64) -> Result<(Query, Pattern), Problem> {
    let pattern = params.parse_by("type", Pattern::new)?;
    let all = || Pattern::new("**").expect("it is a pattern");
    let mut query = Query::new();
    if let Some(pattern) = &pattern {
        query = query.pattern(pattern.clone());
    }
    if let Some(source) = params.get("source") {
        query = query.source(source);
    }
    if let Some(correlation) = params.parse::<EventId>("correlation")? {
        query = query.correlation(correlation);
    }
    if let Some(after) = params.parse_by("after", |text| whole(text, 0, u64::MAX))?.and_then(Position::new) {
        query = query.behind(after);
    }
    let order = params.parse_by("order", |text| match text {
        "oldest" => Ok(Order::OldestFirst),
        "newest" => Ok(Order::NewestFirst),
        _ => Err("it is oldest or newest"),
    })?;
    if order == Some(Order::NewestFirst) {
        query = query.newest_first();
    }
    let limit = params.parse_by("limit", |text| whole(text, 1, limit_max))?.unwrap_or(LIMIT.min(limit_max));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(Query::EVENTS_MAX);
    Ok((query.limit(limit), pattern.unwrap_or_else(all)))
}

/// A page, or, where it would have no events, the first that has some until the time is over.
fn read(core: &Core, query: &Query, wait: Duration) -> Result<Page, ReadError> {
    let until = Instant::now() + wait;
    let mut query = query.clone();
    loop {
        let head = core.store.head()?;
        let page = core.store.query(&query)?;
        let left = until.saturating_duration_since(Instant::now());
        let has_ended = left.is_zero() || query.order() == Order::NewestFirst || core.state() > NodeState::Running;
        if !page.events.is_empty() || has_ended {
            return Ok(page);
        }
        match page.next {
            Some(behind) => query = query.behind(behind),
            None => drop(core.store.wait_behind(head, left.min(PATIENCE))?),
        }
    }
}

/// The events as a JSON array, as many as there is room for, and where to go on.
fn written(page: &Page, bytes_max: usize) -> (Vec<u8>, Option<Position>) {
    let mut body = vec![b'['];
    let mut next = page.next;
    for (nth, event) in page.events.iter().enumerate() {
        let before = body.len();
        if nth > 0 {
            body.push(b',');
        }
        passage::write_line(&event.meta(), LastHop::Position(event.position().get()), &mut body);
        // Its line feed.
        body.pop();
        if nth > 0 && body.len() > bytes_max {
            body.truncate(before);
            next = Some(page.events[nth - 1].position());
            break;
        }
    }
    body.push(b']');
    (body, next)
}

pub(super) fn unreadable(error: &ReadError) -> Problem {
    let problem = match error {
        ReadError::Removed { first, .. } => {
            return Problem::new(Kind::Gone, error).with("first", json!(first.get().to_string()));
        }
        error => Problem::new(Kind::Failed, error),
    };
    match error.missing() {
        Some(missing) => {
            let [first, last] = [missing.start(), missing.end()].map(|position| position.get().to_string());
            problem.with("missing", json!({"first": first, "last": last}))
        }
        None => problem,
    }
}
