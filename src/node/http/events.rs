//! `POST /v1/events`: events from outside are published, all of a request or none.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::task::block_in_place;

use super::answer::{self, Answer};
use super::incoming::Incoming;
use super::problem::{Kind, Problem};
use super::tokens::Caller;
use super::{App, Shared};
use crate::node::config::settings::{HTTP_BATCH_MAX, HTTP_BODY_BYTES_MAX};
use crate::node::core::{Core, Known};
use crate::node::ingress::{Ingress, Rules};
use crate::node::passage;
use crate::store::{AppendError, Durability, DurableError};
use crate::{EventId, Frame, PublishError};

/// The source of events that name none.
const SOURCE: &str = "http";
/// Types of this beginning are the node's own: what it says of itself, and its audit trail.
const OWN: &str = "ringmain";
/// A body that is longer is read where others of the same runtime are not kept waiting.
const INLINE_BYTES_MAX: usize = 64 << 10;

pub(super) async fn publish(State(app): State<App>, Extension(caller): Extension<Caller>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let held = app.read_body(&parts.headers, body).await?;
    let read = || app.frames(&caller, &parts.headers, &held.bytes);
    let (ids, frames) = if held.bytes.len() > INLINE_BYTES_MAX { block_in_place(read)? } else { read()? };
    let word = app.core.word();
    keep(&app.core, frames, word).await?;
    let word = app.core.word_told(word).to_string();
    Ok(answer::json(StatusCode::ACCEPTED, &json!({"ids": ids, "durability": word})))
}

impl Shared {
    /// The ids of a request's events as whoever sent them knows them, and the events.
    fn frames(&self, caller: &Caller, headers: &HeaderMap, body: &[u8]) -> Result<(Vec<String>, Vec<Frame>), Problem> {
        let config = self.core.config();
        let number =
            |setting| config.number(setting).and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX);
        // Headers and base64 make an event longer than the body that it came in.
        let rules = Rules {
            source: SOURCE.to_owned(),
            line_bytes_max: number(&HTTP_BODY_BYTES_MAX).saturating_mul(2),
            ..Rules::default()
        };
        let incoming = Incoming::find(headers, body, number(&HTTP_BATCH_MAX))?;
        let events = incoming.read(&rules)?;
        events.iter().try_for_each(|event| may_be_published(caller, event))?;
        let mut framer = self.core.framer();
        let mut made = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        for (index, event) in events.iter().enumerate() {
            let frame = passage::to_frame(&mut framer, event).map_err(|error| not_valid(index, &error))?;
            made.0.push(event.id.as_deref().map_or_else(|| frame.meta().id().to_string(), str::to_owned));
            made.1.push(frame);
        }
        Ok(made)
    }
}

fn may_be_published(caller: &Caller, event: &Ingress<'_>) -> Result<(), Problem> {
    let event_type = &*event.event_type;
    if event_type.strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
        let detail = format!("events of the type {event_type} are the node's own; choose another type");
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    if !caller.may_publish(event_type) {
        return Err(Problem::new(
            Kind::Forbidden,
            format!("this token may not publish events of the type {event_type}"),
        ));
    }
    Ok(())
}

pub(super) fn not_valid(index: usize, error: &PublishError) -> Problem {
    let kind = match error {
        PublishError::TooLarge { .. } | PublishError::NoBlock { .. } => Kind::TooLarge,
        PublishError::ShuttingDown | PublishError::WorkerFailed { .. } => Kind::Unavailable,
        _ => Kind::MalformedEvent,
    };
    Problem::new(kind, format!("event {index}: {error}"))
}

/// Ids that somebody publishes. Told or dropped, it is over.
struct Taken {
    core: Arc<Core>,
    ids: Vec<EventId>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.core.known.end(&self.ids);
    }
}

/// Returns when all events are in the store, of which it leaves out those that are there already. None is published where one has the id of
/// another event.
pub(super) async fn keep(core: &Arc<Core>, frames: Vec<Frame>, word: Durability) -> Result<(), Problem> {
    let mut taken = Taken { core: Arc::clone(core), ids: Vec::with_capacity(frames.len()) };
    let (mut new, mut under_way) = (Vec::with_capacity(frames.len()), Vec::new());
    for frame in frames {
        let id = frame.meta().id();
        match core.known.begin(&frame.meta()) {
            Known::New => {
                taken.ids.push(id);
                new.push(frame);
            }
            Known::Kept => {}
            Known::Taken => {
                let id = frame.meta().original_id().map_or_else(|| id.to_string(), str::to_owned);
                let detail =
                    format!("there is another event of the id {id:?}: its type, source or data differ; send a new id");
                return Err(Problem::new(Kind::Conflict, detail));
            }
            // Twice in one request.
            Known::UnderWay(_) if taken.ids.contains(&id) => {}
            Known::UnderWay(over) => under_way.push((id, over)),
        }
    }
    if !new.is_empty() {
        let pending = core.durable.submit(&new, word).map_err(|error| not_kept(&error))?;
        // Also when whoever asked has gone meanwhile, the ids are known as what they are.
        let heard = tokio::spawn(async move {
            let outcome = pending.await;
            drop(taken);
            outcome
        });
        heard.await.unwrap_or(Err(DurableError::Closed)).map_err(|error| not_kept(&error))?;
    }
    for (id, mut over) in under_way {
        // It ends by being dropped.
        drop(over.changed().await);
        if !core.known.has(id) {
            let detail =
                format!("the event {id} was sent by another request at the same time, which failed; send it again");
            return Err(Problem::unavailable(detail));
        }
    }
    Ok(())
}

fn not_kept(error: &DurableError) -> Problem {
    match error {
        DurableError::Append(append) => match &**append {
            AppendError::TooLong { .. } | AppendError::TooMany { .. } => Problem::new(Kind::TooLarge, append),
            append if append.is_refusal() => Problem::new(Kind::MalformedEvent, append),
            append => Problem::unavailable(append),
        },
        error => Problem::unavailable(error),
    }
}
