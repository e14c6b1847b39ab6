//! `/v1/dead-letters`: what subscriptions gave up on, to be looked at, tried again or removed.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{InPath, blocking, in_path, not_done, time};
use crate::Pattern;
use crate::node::config::settings::HTTP_PAGE_MAX;
use crate::node::core::Core;
use crate::node::http::params::{Params, whole};
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::tokens::Caller;
use crate::node::http::{App, answer};
use crate::node::passage::{self, LastHop};
use crate::store::{AuditAct, DeadLetterQueueError, StoredLetter};

/// The parameters of a list.
pub(in super::super) const PARAMS: [&str; 4] = ["type", "subscription", "after", "limit"];
/// Those that say which are meant to be redriven or purged together.
pub(in super::super) const WHICH: [&str; 3] = ["type", "subscription", "all"];
/// Letters that are read at once.
const PAGE: usize = 256;

/// Which letters are meant.
#[derive(Debug, Clone)]
struct Which {
    pattern: Option<Pattern>,
    subscription: Option<String>,
}

impl Which {
    fn read(params: &Params) -> Result<Self, Problem> {
        let subscription = params.get("subscription").map(str::to_owned);
        Ok(Self { pattern: params.parse_by("type", Pattern::new)?, subscription })
    }

    /// As [`read`](Self::read), where all of them have to be meant by name.
    fn read_some(params: &Params) -> Result<Self, Problem> {
        let which = Self::read(params)?;
        let is_all = params.parse::<bool>("all")?.unwrap_or(false);
        if !is_all && which.pattern.is_none() && which.subscription.is_none() {
            return Err(Problem::malformed("say which dead letters are meant: type, subscription, or all=true"));
        }
        Ok(which)
    }

    fn means(&self, letter: &StoredLetter) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(letter.frame().meta().topic()))
            && self.subscription.as_ref().is_none_or(|name| name == letter.subscription_name())
    }
}

pub(in super::super) async fn list(State(app): State<App>, request: Request) -> Result<Response<Body>, Problem> {
    let params = Params::read(request.uri(), &PARAMS)?;
    let which = Which::read(&params)?;
    let mut after = params.parse_by("after", |text| whole(text, 0, u64::MAX))?;
    let max = app.core.config().number(&HTTP_PAGE_MAX).unwrap_or(u64::MAX);
    let limit = params.parse_by("limit", |text| whole(text, 1, max))?.unwrap_or(max.min(100)) as usize;
    let core = Arc::clone(&app.core);
    let (letters, next) = blocking(move || {
        let (mut told_of, mut next) = (Vec::new(), None);
        'all: loop {
            let page = core.letters.list(after, PAGE).map_err(|error| failed(&error))?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            for letter in page.iter().filter(|letter| which.means(letter)) {
                if told_of.len() == limit {
                    break 'all;
                }
                told_of.push(told(letter));
                next = Some(letter.id());
            }
        }
        Ok((told_of, next))
    })
    .await?;
    let is_full = letters.len() == limit;
    let mut response = answer::json(StatusCode::OK, &json!({"dead_letters": letters}));
    if let Some(next) = next.filter(|_| is_full) {
        let link = format!("<{}?{}>; rel=\"next\"", request.uri().path(), params.with("after", next));
        response.headers_mut().insert(header::LINK, HeaderValue::try_from(link).expect("all of it is encoded"));
    }
    Ok(response)
}

pub(in super::super) async fn show(
    State(app): State<App>,
    id: InPath<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let (core, id) = (Arc::clone(&app.core), number(id)?);
    blocking(move || {
        let letter = core.letters.get(id).map_err(|error| failed(&error))?;
        let letter = letter.ok_or_else(|| failed(&DeadLetterQueueError::NotFound { id }))?;
        Ok(answer::json(StatusCode::OK, &told(&letter)))
    })
    .await
}

/// Publishes the event of one once more; the letter goes when the event is in the store.
pub(in super::super) async fn redrive(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    id: InPath<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let (core, actor, id) = (Arc::clone(&app.core), app.core.trail.by(caller.name()), number(id)?);
    blocking(move || {
        let act = AuditAct::new("letter.redriven", format!("dead letter {id}"));
        let done = actor.act(act, || redriven(&core, id));
        done.map_err(|error| not_done(error, |error| failed(&error)))?;
        Ok(answer::json(StatusCode::OK, &json!({"redriven": 1})))
    })
    .await
}

pub(in super::super) async fn purge(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    id: InPath<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::read(request.uri(), &[])?;
    let (core, actor, id) = (Arc::clone(&app.core), app.core.trail.by(caller.name()), number(id)?);
    blocking(move || {
        let act = AuditAct::new("letter.purged", format!("dead letter {id}"));
        let done = actor.act(act, || match core.letters.purge(&[id]) {
            Ok(0) => Err(DeadLetterQueueError::NotFound { id }),
            purged => purged,
        });
        done.map_err(|error| not_done(error, |error| failed(&error)))?;
        Ok(answer::json(StatusCode::OK, &json!({"purged": 1})))
    })
    .await
}

/// Publishes the events of those that are meant once more, those that there are when it begins.
pub(in super::super) async fn redrive_all(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    each(app, caller, request, "letters.redriven", "redriven", redriven).await
}

pub(in super::super) async fn purge_all(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let purge = |core: &Core, id| core.letters.purge(&[id]).map(drop);
    each(app, caller, request, "letters.purged", "purged", purge).await
}

/// Does something to each that is meant, and says to how many.
async fn each(
    app: App,
    caller: Caller,
    request: Request,
    action: &'static str,
    done: &'static str,
    does: impl Fn(&Core, u64) -> Result<(), DeadLetterQueueError> + Send + 'static,
) -> Result<Response<Body>, Problem> {
    let params = Params::read(request.uri(), &WHICH)?;
    let which = Which::read_some(&params)?;
    let (core, actor) = (Arc::clone(&app.core), app.core.trail.by(caller.name()));
    let asked = request.uri().query().unwrap_or_default().to_owned();
    blocking(move || {
        // What dies again while it goes on is another letter.
        let meant = meant(&core, &which).map_err(|error| failed(&error))?;
        let act = AuditAct::new(action, "dead letters").before(asked);
        let number = actor.act(act, || {
            let mut number = 0_u64;
            for id in meant {
                match does(&core, id) {
                    Ok(()) => number += 1,
                    // Somebody else was faster.
                    Err(DeadLetterQueueError::NotFound { .. } | DeadLetterQueueError::UnderWay { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(number)
        });
        let number = number.map_err(|error| not_done(error, |error| failed(&error)))?;
        Ok(answer::json(StatusCode::OK, &json!({done: number})))
    })
    .await
}

/// The ids of all that are meant.
fn meant(core: &Core, which: &Which) -> Result<Vec<u64>, DeadLetterQueueError> {
    let (mut after, mut ids) = (None, Vec::new());
    loop {
        let page = core.letters.list(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(ids) };
        after = Some(last.id());
        ids.extend(page.iter().filter(|letter| which.means(letter)).map(StoredLetter::id));
    }
}

fn redriven(core: &Core, id: u64) -> Result<(), DeadLetterQueueError> {
    core.letters.redrive(id, |letter| core.durable.publish(letter.frame(), core.word())).map(drop)
}

fn number(id: InPath<String>) -> Result<u64, Problem> {
    let id = in_path(id)?;
    id.parse().map_err(|_| Problem::not_found(format!("there is no dead letter {id:?}; their ids are numbers")))
}

fn failed(error: &DeadLetterQueueError) -> Problem {
    match error {
        DeadLetterQueueError::NotFound { .. } => Problem::not_found(error),
        DeadLetterQueueError::UnderWay { .. } | DeadLetterQueueError::Publish { .. } => {
            Problem::new(Kind::Conflict, error)
        }
        _ => Problem::new(Kind::Failed, error),
    }
}

fn told(letter: &StoredLetter) -> Value {
    let mut event = Vec::new();
    passage::write_line(&letter.frame().meta(), LastHop::Nothing, &mut event);
    let event: Value = serde_json::from_slice(&event).unwrap_or_default();
    json!({
        "id": letter.id(),
        "died": time(letter.died()),
        "reason": letter.reason().to_string(),
        "attempts": letter.attempts(),
        "first_attempt": letter.first_attempt().map(time),
        "subscription": letter.subscription_name(),
        "error": letter.error(),
        "event": event,
    })
}
