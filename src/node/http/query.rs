//! `GET /v1/events`: events of the store, a page at a time, and those that are still to come for who waits.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::App;
use super::answer::{self, Answer};
use super::extract::blocking;
use super::listing::Listing;
use super::params::{Params, whole};
use super::problem::{Kind, Problem};
use super::tokens::Caller;
use crate::node::config::settings as names;
use crate::node::core::{Core, NodeState};
use crate::node::passage::{self, LastHop};
use crate::store::{EventStore, Order, Position, Query, ReadError, StoredEvent};
use crate::{EventId, Pattern};

/// The parameters.
pub(super) const PARAMS: [&str; 7] = ["type", "source", "correlation", "after", "limit", "order", "wait"];
/// How long a store is waited for before it is looked whether the node ends.
const PATIENCE: Duration = Duration::from_millis(250);
/// Events that are in memory at a time, beside the page that is made of them.
const FEW: usize = 32;
const BATCH: &str = "application/cloudevents-batch+json";

pub(super) async fn events(State(app): State<App>, Extension(caller): Extension<Caller>, request: Request) -> Answer {
    let config = app.core.config();
    let params = Params::read(request.uri(), &PARAMS)?;
    let (query, pattern) = asked(&params)?;
    if !caller.may_subscribe(&pattern) {
        let detail = format!("this token may not see all events that match {}", pattern.as_str());
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    let wait_max = config.time(&names::HTTP_WAIT_MAX).expect("it has a default");
    let wait =
        params.parse_by("wait", |text| whole(text, 0, wait_max.as_secs()))?.map_or(Duration::ZERO, Duration::from_secs);
    let limit = params.limit(&config)?;
    let (core, bytes_max) = (Arc::clone(&app.core), app.page_bytes_max());
    let (body, next) = if wait.is_zero() {
        app.reads(move || listed(&core, &query, limit, bytes_max)).await?
    } else {
        let full = |_| Problem::unavailable("as many queries wait for events as http.waiting_max; ask without wait");
        let place = Arc::clone(&app.waiting).try_acquire_owned().map_err(full)?;
        // Gone with whoever asked.
        let client = Arc::new(());
        let is_there = Arc::downgrade(&client);
        let waited = blocking(move || {
            let _place = place;
            waited(&core, &query, limit, bytes_max, &Waiting { until: Instant::now() + wait, is_there })
        });
        let waited = waited.await;
        drop(client);
        waited?
    };
    let response = answer::text(StatusCode::OK, media_type(request.headers()), body);
    Ok(params.linked(response, request.uri(), next))
}

/// What the page is to be called: JSON, unless the batch of CloudEvents is asked for by its name, and no less than JSON is.
fn media_type(headers: &HeaderMap) -> HeaderValue {
    match (wanted(headers, BATCH), wanted(headers, "application/json")) {
        (Some(batch), json) if batch > 0.0 && json.is_none_or(|json| json <= batch) => HeaderValue::from_static(BATCH),
        _ => answer::JSON,
    }
}

/// How much a media type is wanted, 0 being not at all; `None` where it is not named.
fn wanted(headers: &HeaderMap, media_type: &str) -> Option<f32> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|ranges| ranges.split(',')).find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_meant = parts.next().is_some_and(|named| named.eq_ignore_ascii_case(media_type));
        let quality = |part: &str| part.strip_prefix(['q', 'Q'])?.strip_prefix('=')?.parse().ok();
        is_meant.then(|| parts.find_map(quality).unwrap_or(1.0))
    })
}

/// What is asked for, and the pattern of it.
fn asked(params: &Params) -> Result<(Query, Pattern), Problem> {
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
    if let Some(after) = params.after()?.and_then(Position::new) {
        query = query.behind(after);
    }
    if params.order()? == Order::NewestFirst {
        query = query.newest_first();
    }
    Ok((query, pattern.unwrap_or_else(all)))
}

/// A page of events as a JSON array, and behind which position to go on.
type Listed = (Vec<u8>, Option<Position>);

fn listed(core: &Core, query: &Query, limit: usize, bytes_max: usize) -> Result<Listed, Problem> {
    let mut listing = Listing::new("[", bytes_max);
    let next = page(&*core.store, query, limit, |event| listing.push(|body| written(&event, body)));
    Ok((listing.end("]"), next.map_err(|error| unreadable(&error))?))
}

/// Whoever waits.
struct Waiting {
    until: Instant,
    /// For as long as they have not gone.
    is_there: Weak<()>,
}

/// The first page that has events, if there is one in time.
fn waited(core: &Core, query: &Query, limit: usize, bytes_max: usize, waiting: &Waiting) -> Result<Listed, Problem> {
    let mut query = query.clone();
    loop {
        let head = core.store.head().map_err(|error| unreadable(&error))?;
        let mut listing = Listing::new("[", bytes_max);
        let next = page(&*core.store, &query, limit, |event| listing.push(|body| written(&event, body)));
        let next = next.map_err(|error| unreadable(&error))?;
        let left = waiting.until.saturating_duration_since(Instant::now());
        let has_ended = left.is_zero()
            || query.order() == Order::NewestFirst
            || core.state() > NodeState::Running
            || waiting.is_there.strong_count() == 0;
        if !listing.is_empty() || has_ended {
            return Ok((listing.end("]"), next));
        }
        match next {
            Some(behind) => query = query.behind(behind),
            None => {
                let waited = core.store.wait_behind(head, left.min(PATIENCE));
                waited.map_err(|error| unreadable(&error))?;
            }
        }
    }
}

/// Gives a page of events away, a few of them in memory at a time, until one is not taken. Returns behind which position to go on.
pub(super) fn page(
    store: &dyn EventStore,
    query: &Query,
    limit: usize,
    mut take: impl FnMut(StoredEvent) -> bool,
) -> Result<Option<Position>, ReadError> {
    let (mut query, mut left, mut last) = (query.clone(), limit, None);
    loop {
        let asked = left.min(FEW);
        let page = match store.query(&query.clone().limit(asked)) {
            Ok(page) => page,
            // What comes then is said to who asks for the next page.
            Err(_) if last.is_some() => return Ok(last),
            Err(error) => return Err(error),
        };
        let is_short = page.events.len() < asked;
        for event in page.events {
            let position = event.position();
            if !take(event) {
                return Ok(last);
            }
            (left, last) = (left - 1, Some(position));
        }
        match page.next {
            Some(behind) if left > 0 && !is_short => query = query.behind(behind),
            next => return Ok(next),
        }
    }
}

fn written(event: &StoredEvent, body: &mut Vec<u8>) {
    passage::write_line(&event.meta(), LastHop::Position(event.position().get()), body);
    // Its line feed.
    body.pop();
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
