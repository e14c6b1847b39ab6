//! `/v1/dead-letters`: what subscriptions gave up on, to be looked at, tried again or removed.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::time;
use crate::Pattern;
use crate::node::core::Core;
use crate::node::http::App;
use crate::node::http::answer::{self, Answer};
use crate::node::http::extract::{Admin, InPath, Plain, not_done};
use crate::node::http::params::Params;
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::tokens::Caller;
use crate::node::passage::{self, LastHop};
use crate::store::{AuditAct, DeadLetterQueueError, StoredLetter};

/// The parameters of a list.
pub(in super::super) const PARAMS: [&str; 4] = ["type", "subscription", "after", "limit"];
/// Those that say which are meant to be redriven or purged together.
pub(in super::super) const WHICH: [&str; 3] = ["type", "subscription", "all"];
/// Letters that are read at once.
const PAGE: usize = 32;

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

pub(in super::super) async fn list(State(app): State<App>, request: Request) -> Answer {
    let params = Params::read(request.uri(), &PARAMS)?;
    let which = Which::read(&params)?;
    let (after, mut left) = (params.after()?, params.limit(&app.core.config())?);
    let (mut listing, core) = (app.listing("{\"dead_letters\":["), Arc::clone(&app.core));
    let read = app.reads(move || {
        let (mut behind, mut last) = (after, None);
        loop {
            let page = core.letters.list(behind, PAGE).map_err(|error| failed(&error))?;
            let Some(end) = page.last() else { return Ok((listing.end("]}"), None)) };
            behind = Some(end.id());
            for letter in page.iter().filter(|letter| which.means(letter)) {
                if left == 0 || !listing.push(|body| told(letter, body)) {
                    return Ok((listing.end("]}"), last));
                }
                (left, last) = (left - 1, Some(letter.id()));
            }
        }
    });
    let (body, next) = read.await?;
    Ok(params.linked(answer::text(StatusCode::OK, answer::JSON, body), request.uri(), next))
}

pub(in super::super) async fn show(Plain(app): Plain, InPath(id): InPath<String>) -> Answer {
    let id = number(&id)?;
    let core = Arc::clone(&app.core);
    let letter = app.reads(move || {
        let letter = core.letters.get(id).map_err(|error| failed(&error))?;
        let letter = letter.ok_or_else(|| failed(&DeadLetterQueueError::NotFound { id }))?;
        let mut body = Vec::new();
        told(&letter, &mut body);
        Ok(body)
    });
    Ok(answer::text(StatusCode::OK, answer::JSON, letter.await?))
}

/// Publishes the event of one once more; the letter goes when the event is in the store.
pub(in super::super) async fn redrive(admin: Admin, InPath(id): InPath<String>) -> Answer {
    let id = number(&id)?;
    let act = AuditAct::new("letter.redriven", format!("dead letter {id}"));
    admin.act(act, move |core| redriven(core, id).map_err(|error| failed(&error))).await?;
    Ok(answer::json(StatusCode::OK, &json!({"redriven": 1})))
}

pub(in super::super) async fn purge(admin: Admin, InPath(id): InPath<String>) -> Answer {
    let id = number(&id)?;
    let act = AuditAct::new("letter.purged", format!("dead letter {id}"));
    let purged = admin.act(act, move |core| match core.letters.purge(&[id]) {
        Ok(0) => Err(failed(&DeadLetterQueueError::NotFound { id })),
        purged => purged.map_err(|error| failed(&error)),
    });
    purged.await?;
    Ok(answer::json(StatusCode::OK, &json!({"purged": 1})))
}

/// Publishes the events of those that are meant once more, those that there are when it begins.
pub(in super::super) async fn redrive_all(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer {
    each(Admin::of(app, &caller), request, "letters.redriven", "redriven", redriven).await
}

pub(in super::super) async fn purge_all(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer {
    let purge = |core: &Core, id| core.letters.purge(&[id]).map(drop);
    each(Admin::of(app, &caller), request, "letters.purged", "purged", purge).await
}

/// Does something to each that is meant, and says to how many.
async fn each(
    admin: Admin,
    request: Request,
    action: &'static str,
    done: &'static str,
    does: impl Fn(&Core, u64) -> Result<(), DeadLetterQueueError> + Send + 'static,
) -> Answer {
    let which = Which::read_some(&Params::read(request.uri(), &WHICH)?)?;
    let asked = request.uri().query().unwrap_or_default().to_owned();
    let number = admin.does(move |core, actor| {
        // What dies again while it goes on is another letter.
        let meant = meant(core, &which).map_err(|error| failed(&error))?;
        let number = actor.act(AuditAct::new(action, "dead letters").before(asked), || {
            let mut number = 0_u64;
            for id in meant {
                match does(core, id) {
                    Ok(()) => number += 1,
                    // Somebody else was faster.
                    Err(DeadLetterQueueError::NotFound { .. } | DeadLetterQueueError::UnderWay { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(number)
        });
        number.map_err(|error| not_done(error, |error| failed(&error)))
    });
    Ok(answer::json(StatusCode::OK, &json!({done: number.await?})))
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

fn number(id: &str) -> Result<u64, Problem> {
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

fn told(letter: &StoredLetter, body: &mut Vec<u8>) {
    let mut event = Vec::new();
    passage::write_line(&letter.frame().meta(), LastHop::Nothing, &mut event);
    let event: Value = serde_json::from_slice(&event).unwrap_or_default();
    let told = json!({
        "id": letter.id(),
        "died": time(letter.died()),
        "reason": letter.reason().to_string(),
        "attempts": letter.attempts(),
        "first_attempt": letter.first_attempt().map(time),
        "subscription": letter.subscription_name(),
        "error": letter.error(),
        "event": event,
    });
    answer::write(&told, body);
}
