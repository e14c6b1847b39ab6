//! `/v1/rules`: which services get which events; changed, explained, and tried before they are changed.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::node::config::settings::HTTP_PAGE_MAX;
use crate::node::core::Core;
use crate::node::http::answer::{self, Answer};
use crate::node::http::extract::{Admin, InPath, Plain, Sent, not_done};
use crate::node::http::problem::{Kind, Problem};
use crate::node::http::{incoming, query};
use crate::node::ingress::{self, Rules as Reading};
use crate::node::passage;
use crate::node::rule_form::RuleForm;
use crate::store::{AuditActor, AuditedError, Query};
use crate::{Frame, Pattern, RoutingRule, RuleError, RuleSet, RulesError};

/// All rules, in the order of their evaluation.
pub(in super::super) async fn list(Plain(app): Plain) -> Answer {
    Ok(answer::json(StatusCode::OK, &told(&app.core)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct All {
    rules: Vec<RuleForm>,
}

impl All {
    fn set(self) -> Result<RuleSet, Problem> {
        let rules = self.rules.into_iter().map(RuleForm::rule).collect::<Result<Vec<_>, _>>();
        RuleSet::new(rules.map_err(Problem::malformed)?).map_err(|error| invalid(&error))
    }
}

/// Puts other rules in the place of all there are.
pub(in super::super) async fn replace(admin: Admin, Sent(all): Sent<All>) -> Answer {
    let (set, app) = (all.set()?, admin.app.clone());
    changed(admin, |actor| actor.replace_rules(set)).await?;
    Ok(answer::json(StatusCode::OK, &told(&app.core)))
}

/// Adds one.
pub(in super::super) async fn add(admin: Admin, uri: Uri, Sent(form): Sent<RuleForm>) -> Answer {
    let (rule, app) = (form.rule().map_err(Problem::malformed)?, admin.app.clone());
    let id = rule.id.clone();
    changed(admin, |actor| actor.add_rule(rule)).await?;
    let mut response = answer::json(StatusCode::CREATED, &found(&app.core, &id)?);
    let path = format!("{}/{}", uri.path(), utf8_percent_encode(&id, NON_ALPHANUMERIC));
    response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(path).expect("all of it is encoded"));
    Ok(response)
}

pub(in super::super) async fn show(Plain(app): Plain, InPath(id): InPath<String>) -> Answer {
    Ok(answer::json(StatusCode::OK, &found(&app.core, &id)?))
}

/// Puts one in the place of the one of its id.
pub(in super::super) async fn change(admin: Admin, InPath(id): InPath<String>, Sent(form): Sent<RuleForm>) -> Answer {
    let (rule, app) = (form.rule().map_err(Problem::malformed)?, admin.app.clone());
    if rule.id != id {
        return Err(Problem::malformed(format!("the path says {id:?}, the rule {:?}; an id does not change", rule.id)));
    }
    changed(admin, |actor| actor.change_rule(rule)).await?;
    Ok(answer::json(StatusCode::OK, &found(&app.core, &id)?))
}

pub(in super::super) async fn remove(admin: Admin, InPath(id): InPath<String>) -> Answer {
    changed(admin, move |actor| actor.remove_rule(&id)).await?;
    Ok(answer::nothing())
}

/// Says for each rule and each subscription why an event would go there or not. The event is not published.
pub(in super::super) async fn explain(Plain(app): Plain, Sent(event): Sent<Box<RawValue>>) -> Answer {
    let frame = frame(&app.core, &event)?;
    let meta = frame.meta();
    let rules: Vec<_> = app.core.bus.rules().explain(&meta);
    let rules: Vec<_> = rules
        .iter()
        .map(|verdict| {
            // The id stands before the reason.
            let text = verdict.to_string();
            let reason = text.strip_prefix(&format!("{}: ", verdict.rule)).unwrap_or(&text);
            json!({"rule": verdict.rule, "name": verdict.name, "matches": verdict.matches(), "reason": reason})
        })
        .collect();
    let subscriptions = app.core.bus.explain(meta.topic(), meta.source(), meta.priority());
    let subscriptions: Vec<_> = subscriptions
        .iter()
        .map(|explanation| {
            json!({
                "id": explanation.subscription.to_string(),
                "name": explanation.name,
                "pattern": explanation.pattern,
                "says": explanation.to_string(),
            })
        })
        .collect();
    Ok(answer::json(StatusCode::OK, &json!({"rules": rules, "subscriptions": subscriptions})))
}

/// Other rules, and the events to try them with: these, or the latest of the store.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Other {
    rules: Vec<RuleForm>,
    events: Option<Vec<Box<RawValue>>>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    limit: Option<usize>,
}

/// Which events would go to other services by other rules. Nothing is changed.
pub(in super::super) async fn diff(Plain(app): Plain, Sent(other): Sent<Other>) -> Answer {
    let Other { rules, events, event_type, limit } = other;
    let set = All { rules }.set()?;
    let core = Arc::clone(&app.core);
    let compared = app.reads(move || {
        let samples = match events {
            Some(events) => events.iter().map(|event| frame(&core, event)).collect::<Result<Vec<_>, _>>()?,
            None => {
                let mut query = Query::new().newest_first();
                if let Some(pattern) = event_type {
                    let pattern =
                        Pattern::new(&pattern).map_err(|error| Problem::malformed(format!("type: {error}")))?;
                    query = query.pattern(pattern);
                }
                let max = core.config().number(&HTTP_PAGE_MAX).map_or(usize::MAX, |max| max as usize);
                let limit = limit.unwrap_or(100).clamp(1, max.min(Query::EVENTS_MAX));
                let page = core.store.query(&query.limit(limit)).map_err(|error| query::unreadable(&error))?;
                page.events.iter().map(|event| event.frame().clone()).collect()
            }
        };
        let changes = core.bus.rules().diff(&set, samples.iter().map(Frame::meta));
        let changes: Vec<_> = changes
            .iter()
            .map(|change| {
                let meta = samples[change.sample].meta();
                let id = meta.original_id().map_or_else(|| change.event.to_string(), str::to_owned);
                json!({"event": id, "type": meta.topic(), "before": change.before, "after": change.after})
            })
            .collect();
        Ok(json!({"samples": samples.len(), "changes": changes}))
    });
    Ok(answer::json(StatusCode::OK, &compared.await?))
}

/// An event that is not published.
fn frame(core: &Core, event: &RawValue) -> Result<Frame, Problem> {
    let malformed = |detail: String| Problem::new(Kind::MalformedEvent, detail);
    let rules = Reading::default();
    let event = ingress::parse(event.get().as_bytes(), &rules).map_err(|error| malformed(incoming::said(&error)))?;
    passage::to_frame(&mut core.framer(), &event).map_err(|error| malformed(error.to_string()))
}

/// Changes rules, recorded, and keeps them as they are then.
async fn changed(
    admin: Admin,
    change: impl FnOnce(&AuditActor) -> Result<(), AuditedError<RulesError>> + Send + 'static,
) -> Result<(), Problem> {
    let changed = admin.does(|core, actor| {
        change(actor).map_err(|error| {
            not_done(error, |error| match &error {
                RulesError::Rule(error) => invalid(error),
                _ => Problem::unavailable(error),
            })
        })?;
        core.keep_rules().map_err(Problem::unavailable)
    });
    changed.await
}

fn invalid(error: &RuleError) -> Problem {
    match error {
        RuleError::Unknown { .. } => Problem::not_found(error),
        RuleError::DuplicateId { .. } => Problem::new(Kind::Conflict, error),
        _ => Problem::malformed(error),
    }
}

fn found(core: &Core, id: &str) -> Result<RuleForm, Problem> {
    let rules = core.bus.rules().set();
    let unknown = || invalid(&RuleError::Unknown { rule: id.to_owned() });
    rules.get(id).map(RuleForm::from).ok_or_else(unknown)
}

fn told(core: &Core) -> Value {
    let rules: Vec<_> = core.bus.rules().list().iter().map(|rule: &RoutingRule| RuleForm::from(rule)).collect();
    json!({"rules": rules})
}
