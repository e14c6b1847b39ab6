//! `/v1/replays`: past events once more, to those who take replays.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::time;
use crate::node::core::{Core, ReplayStatus};
use crate::node::http::answer::{self, Answer};
use crate::node::http::extract::{Admin, InPath, Plain, Sent, not_done};
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::query;
use crate::node::store::values::place;
use crate::store::{AuditAct, Query, ReplayBuilder, ReplayError};
use crate::{Pattern, Rate};

/// What a replay is asked for with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Asked {
    #[serde(rename = "type")]
    event_type: Option<String>,
    source: Option<String>,
    /// A position or a time.
    from: Option<String>,
    to: Option<String>,
    subscription: Option<String>,
    /// Events a second.
    rate: Option<f64>,
    #[serde(default)]
    dry_run: bool,
}

impl Asked {
    fn builder(&self, core: &Core) -> Result<ReplayBuilder, Problem> {
        let wrong = |name: &str, error: &dyn std::fmt::Display| Problem::malformed(format!("{name}: {error}"));
        let mut query = Query::new();
        if let Some(pattern) = &self.event_type {
            query = query.pattern(Pattern::new(pattern).map_err(|error| wrong("type", &error))?);
        }
        if let Some(source) = &self.source {
            query = query.source(source);
        }
        if let Some(from) = &self.from {
            query = place(from).map_err(|error| wrong("from", &error))?.begin(query);
        }
        if let Some(to) = &self.to {
            query = place(to).map_err(|error| wrong("to", &error))?.end(query);
        }
        let mut replay = core.bus.replay(Arc::clone(&core.store)).query(query);
        if let Some(name) = &self.subscription {
            replay = replay.to_subscription(name);
        }
        if let Some(rate) = self.rate {
            let rate = Rate::per_second(rate);
            rate.check().map_err(|error| wrong("rate", &error))?;
            replay = replay.rate(rate);
        }
        Ok(replay)
    }

    fn told(&self) -> Value {
        let Self { event_type, source, from, to, subscription, rate, .. } = self;
        json!({"type": event_type, "source": source, "from": from, "to": to, "subscription": subscription, "rate": rate})
    }
}

pub(in super::super) async fn begin(admin: Admin, Sent(asked): Sent<Asked>) -> Answer {
    let begun = admin.does(move |core, actor| {
        let builder = asked.builder(core)?;
        if asked.dry_run {
            return estimated(builder).map(|estimate| (StatusCode::OK, estimate));
        }
        let told_of = asked.told();
        let act = AuditAct::new("replay.begun", "replays").after(told_of.to_string());
        let begun = actor.act(act, || {
            core.replays.begin(told_of, || builder.start()).map_err(|error| match error {
                None => Problem::unavailable("as many replays go on as may; wait for one, or cancel one"),
                Some(error) => failed(&error),
            })
        });
        let status = begun.map_err(|error| not_done(error, |problem| problem))?;
        Ok((StatusCode::ACCEPTED, told(&status)))
    });
    let (status, body) = begun.await?;
    Ok(answer::json(status, &body))
}

/// What a replay would come to.
fn estimated(builder: ReplayBuilder) -> Result<Value, Problem> {
    let estimate = builder.dry_run().map_err(|error| failed(&error))?;
    Ok(json!({
        "events": estimate.events,
        "bytes": estimate.bytes,
        "first": estimate.first.map(|position| position.to_string()),
        "last": estimate.last.map(|position| position.to_string()),
        "subscriptions": estimate.subscriptions,
        "seconds": estimate.takes.map(|time| time.as_secs_f64()),
    }))
}

pub(in super::super) async fn list(Plain(app): Plain) -> Answer {
    let replays: Vec<_> = app.core.replays.list().iter().map(told).collect();
    Ok(answer::json(StatusCode::OK, &json!({"replays": replays})))
}

pub(in super::super) async fn show(Plain(app): Plain, InPath(id): InPath<String>) -> Answer {
    Ok(answer::json(StatusCode::OK, &told(&found(&app.core, &id)?)))
}

/// Ends one after the event that it is at.
pub(in super::super) async fn cancel(admin: Admin, InPath(id): InPath<String>) -> Answer {
    let replay = found(&admin.app.core, &id)?.id;
    let act = AuditAct::new("replay.cancelled", format!("replay {replay}"));
    let cancelled = admin.act(act, move |core| {
        core.replays.cancel(replay);
        found(core, &id)
    });
    Ok(answer::json(StatusCode::OK, &told(&cancelled.await?)))
}

fn found(core: &Core, id: &str) -> Result<ReplayStatus, Problem> {
    let not_found = || Problem::not_found(format!("there is no replay {id:?}; list them to see those that there are"));
    id.parse().ok().and_then(|id| core.replays.get(id)).ok_or_else(not_found)
}

fn failed(error: &ReplayError) -> Problem {
    match error {
        ReplayError::Read(error) => query::unreadable(error),
        ReplayError::Subscription { .. } | ReplayError::NotSafe { .. } | ReplayError::Nobody => {
            Problem::new(Kind::Conflict, error)
        }
        _ => Problem::unavailable(error),
    }
}

fn told(status: &ReplayStatus) -> Value {
    let progress = &status.progress;
    let state = match (progress.is_over, progress.is_cancelled, &status.error) {
        (_, _, Some(_)) => "failed",
        (true, true, _) => "cancelled",
        (true, false, _) => "done",
        (false, ..) => "running",
    };
    json!({
        "id": status.id,
        "state": state,
        "asked": status.asked,
        "begun": time(status.begun),
        "published": progress.published,
        "expired": progress.expired,
        "position": progress.position.map(|position| position.to_string()),
        "error": status.error,
    })
}
