//! `/v1/overview`: all that the page shows at one look, in one answer. What is counted is totals: whoever asks twice has rates.

use std::time::SystemTime;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer};
use super::extract::Plain;
use crate::node::store::inspect::rfc3339;
use crate::{BreakerState, LaneMetrics, LatencySummary, Metrics, Pattern, SubscriptionRecord};

/// Streams and subscriptions that are told; what is beyond is said in `left_out`.
const SHOWN_MAX: usize = 200;

pub(super) async fn show(Plain(app): Plain) -> Answer {
    let core = &app.core;
    let (metrics, letters) = (core.bus.metrics(), core.letters.counts());
    let health = core.bus_health(&metrics);
    let alerts: Vec<_> = core
        .builtins
        .alerts()
        .alerts()
        .iter()
        .map(|alert| {
            json!({
                "rule": alert.rule, "subject": alert.subject, "state": alert.state.to_string(),
                "severity": alert.severity.to_string(), "value": alert.value,
            })
        })
        .collect();
    let (live, books) = (app.live.counts(), &metrics.ledger.subscriptions);
    let body = json!({
        "time": rfc3339(SystemTime::now()),
        "version": env!("CARGO_PKG_VERSION"),
        "node": core.state().to_string(),
        "health": health.word(),
        "reason": health.reason(),
        "store": core.found.as_ref().map(|found| &found.figures),
        "durability": core.word_told(core.word()).to_string(),
        "published": metrics.messages_published,
        "delivered": metrics.messages_delivered,
        "failed": metrics.messages_failed,
        "retried": books.retried,
        "dropped": metrics.messages_dropped,
        "refused": metrics.refused.total(),
        "unmatched": metrics.ledger.unmatched,
        "dead_letters": {"held": letters.held, "redriven": letters.redriven, "lost": letters.lost},
        "memory_fill": metrics.memory_fill,
        "clients": live.clients,
        "queue_limit": metrics.max_queue_size,
        "lanes": metrics.lanes.iter().map(lane).collect::<Vec<_>>(),
        "latency": stages(&metrics.delivery_latency),
        "flow": flow(&app, &metrics),
        "alerts": alerts,
    });
    Ok(answer::json(StatusCode::OK, &body))
}

fn lane(lane: &LaneMetrics) -> Value {
    json!({"priority": lane.priority.as_str(), "depth": lane.depth, "latency": stages(&lane.latency)})
}

/// By stage, in nanoseconds.
fn stages(latency: &crate::StageLatency) -> Value {
    json!({
        "queue": summary(&latency.queue),
        "route": summary(&latency.route),
        "handler": summary(&latency.handler),
        "ack": summary(&latency.ack),
        "total": summary(&latency.total),
    })
}

fn summary(latency: &LatencySummary) -> Value {
    json!({
        "count": latency.count,
        "p50": latency.p50_ns,
        "p95": latency.p95_ns,
        "p99": latency.p99_ns,
        "p999": latency.p999_ns,
        "max": latency.max_ns,
    })
}

/// Who sends what to whom: sources with types, and subscriptions with the types that their patterns match.
fn flow(app: &App, metrics: &Metrics) -> Value {
    let mut streams = app.core.flow.streams();
    let subscriptions = app.core.bus.subscriptions();
    let left_out = (streams.len().saturating_sub(SHOWN_MAX), subscriptions.len().saturating_sub(SHOWN_MAX));
    streams.sort_by_key(|stream| std::cmp::Reverse(stream.count));
    streams.truncate(SHOWN_MAX);
    let mut types: Vec<&str> = streams.iter().map(|stream| &*stream.event_type).collect();
    types.sort_unstable();
    types.dedup();
    let subscriptions = subscriptions.iter().take(SHOWN_MAX).map(|record| subscription(record, &types));
    json!({
        "streams": streams.iter().map(|stream| json!({
            "source": stream.source, "type": stream.event_type, "count": stream.count,
        })).collect::<Vec<_>>(),
        "subscriptions": subscriptions.collect::<Vec<_>>(),
        "left_out": {"streams": left_out.0, "subscriptions": left_out.1},
        "balanced": metrics.ledger.is_balanced(),
    })
}

fn subscription(record: &SubscriptionRecord, types: &[&str]) -> Value {
    let ledger = &record.ledger;
    // A pattern that was subscribed to can be read again.
    let pattern = Pattern::new(&record.pattern).ok();
    let matched: Vec<_> =
        types.iter().filter(|topic| pattern.as_ref().is_some_and(|pattern| pattern.matches(topic))).collect();
    let health = match record.breaker.map(|breaker| breaker.state) {
        _ if record.is_paused => "paused",
        Some(BreakerState::Open) => "open",
        Some(BreakerState::HalfOpen) => "half-open",
        _ => "well",
    };
    json!({
        "id": record.id.to_string(),
        "name": record.name,
        "types": matched,
        "filtered": !record.filters.is_empty(),
        "health": health,
        "matched": ledger.matched,
        "failed": ledger.failed,
        "dead_lettered": ledger.dead_lettered,
        "open": ledger.open(),
    })
}
