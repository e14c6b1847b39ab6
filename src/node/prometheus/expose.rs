//! What is known of a node, as metrics.

use std::collections::BTreeMap;

use super::super::health::Health;
use super::super::live::LiveCounts;
use super::super::services::{ServiceState, ServiceStatus};
use super::events::{EventMetrics, OTHER, seconds};
use super::text::{Exposition, Kind};
use crate::{BreakerRecord, BreakerState, Bus, LatencySummary, Metrics, SubscriptionRecord};

/// Names of subscriptions and services that get series of their own.
pub const SUBSCRIPTIONS_MAX: usize = 500;

/// Where the figures come from.
#[derive(Debug, Clone, Copy)]
pub struct Exposed<'a> {
    /// What names begin with: `ringmain` unless it is configured otherwise.
    pub namespace: &'a str,
    /// The bus.
    pub bus: &'a Bus,
    /// How the bus is.
    pub health: crate::Health,
    /// Counts by type and handler.
    pub events: &'a EventMetrics,
    /// The services.
    pub services: &'a [ServiceStatus],
    /// What came of the clients of live streams.
    pub live: Option<LiveCounts>,
    /// Requests and connections over HTTP that were refused, by reason.
    pub refused: &'a [(&'static str, u64)],
}

impl Exposed<'_> {
    /// The text of all of it.
    ///
    /// # Cost
    /// As [`Bus::metrics`], and some hundred microseconds.
    pub fn text(&self) -> String {
        let metrics = self.bus.metrics();
        let subscriptions = self.bus.subscriptions();
        let mut out = Exposition::new(self.namespace);
        self.events.write(&mut out);
        depths(&mut out, &metrics, &subscriptions);
        bus(&mut out, &metrics, self.health);
        latencies(&mut out, &metrics);
        by_subscription(&mut out, &subscriptions);
        services(&mut out, self.services);
        if let Some(live) = &self.live {
            clients(&mut out, live);
        }
        if !self.refused.is_empty() {
            let help = "Requests and connections over HTTP that were refused, cut or failed, by reason.";
            out.metric("http_refused_total", Kind::Counter, help);
            for (reason, count) in self.refused {
                out.count(&[("reason", reason)], *count);
            }
        }
        out.finish()
    }
}

fn depths(out: &mut Exposition, metrics: &Metrics, subscriptions: &[SubscriptionRecord]) {
    out.metric(
        "event_queue_depth",
        Kind::Gauge,
        "Events that wait, by queue: lanes, the schedule, dead letters, mailboxes.",
    );
    for lane in &metrics.lanes {
        out.count(&[("queue_name", lane.priority.as_str())], lane.depth);
    }
    out.count(&[("queue_name", "scheduled")], metrics.ledger.scheduled);
    out.count(&[("queue_name", "dead_letters")], metrics.dead_letters.held);
    for (name, open) in summed(subscriptions, |record| record.ledger.open()) {
        out.count(&[("queue_name", &format!("mailbox:{name}"))], open);
    }
}

fn bus(out: &mut Exposition, metrics: &Metrics, health: crate::Health) {
    let books = &metrics.ledger.subscriptions;
    for (name, help, value) in [
        ("messages_published_total", "Events accepted.", metrics.messages_published),
        ("messages_delivered_total", "Deliveries that ended well.", metrics.messages_delivered),
        ("messages_failed_total", "Deliveries that failed.", metrics.messages_failed),
        ("messages_retried_total", "Attempts that failed and were followed by another.", books.retried),
        ("messages_unmatched_total", "Events that nobody wanted.", metrics.ledger.unmatched),
        ("dead_letters_total", "Events that were given up after their attempts.", metrics.dead_letters.total),
        ("dead_letters_redriven_total", "Dead letters that were sent again.", metrics.dead_letters.redriven),
        ("worker_restarts_total", "Panics of their own that workers have gone on after.", metrics.worker_restarts),
        ("consumers_gone_total", "Consumers that took their subscription with them.", metrics.consumers_gone),
        ("memory_pressures_total", "Times that Low events began to be refused.", metrics.memory_pressures),
    ] {
        out.metric(name, Kind::Counter, help);
        out.count(&[], value);
    }
    out.metric("messages_dropped_total", Kind::Counter, "Deliveries that were given up, by reason.");
    let dropped = &books.dropped;
    for (reason, count) in [
        ("overflow", dropped.overflow),
        ("expired", dropped.expired),
        ("paused", dropped.paused),
        ("closed", dropped.closed),
        ("duplicate", dropped.duplicate),
        ("superseded", dropped.superseded),
        ("rate_limited", dropped.rate_limited),
        ("lost", dropped.lost),
    ] {
        out.count(&[("reason", reason)], count);
    }
    out.metric("publishes_refused_total", Kind::Counter, "Publishes that were refused, by reason.");
    let refused = &metrics.refused;
    for (reason, count) in [
        ("full", refused.full),
        ("timed_out", refused.timed_out),
        ("shed", refused.shed),
        ("shutting_down", refused.shutting_down),
        ("invalid", refused.invalid),
        ("pool_exhausted", refused.pool_exhausted),
        ("no_publisher", refused.no_publisher),
        ("schedule_full", refused.schedule_full),
        ("rate_limited", refused.rate_limited),
        ("memory_pressure", refused.memory_pressure),
    ] {
        out.count(&[("reason", reason)], count);
    }
    for (name, help, value) in [
        ("queue_limit", "Events that a lane holds.", metrics.max_queue_size as f64),
        ("published_per_second", "Events accepted a second, over the last second.", metrics.throughput),
        ("success_ratio", "Share of deliveries that ended well.", metrics.success_rate),
        ("error_ratio", "Share of deliveries that failed or were given up.", metrics.error_rate),
        ("subscriptions", "Subscriptions.", metrics.subscriptions as f64),
        ("workers_failed", "Workers that stand still.", metrics.workers_failed as f64),
        ("parts_degraded", "Parts that do less than they should, such as a store that fails.", metrics.degraded as f64),
        (
            "memory_reserved_bytes",
            "Bytes reserved for lanes, mailboxes and tables.",
            metrics.memory_reserved_bytes as f64,
        ),
        ("memory_fill_ratio", "How full the fullest lane or the pool of blocks is.", metrics.memory_fill),
        (
            "ledger_balanced",
            "Whether every event is in exactly one place; exact when nothing moves.",
            f64::from(u8::from(metrics.ledger.is_balanced())),
        ),
    ] {
        out.metric(name, Kind::Gauge, help);
        out.sample(&[], value);
    }
    out.metric("health", Kind::Gauge, "1 at what the bus is.");
    for (state, shown) in
        [("healthy", crate::Health::Healthy), ("degraded", crate::Health::Degraded), ("failed", crate::Health::Failed)]
    {
        out.count(&[("state", state)], u64::from(health == shown));
    }
}

fn latencies(out: &mut Exposition, metrics: &Metrics) {
    let help = "How long events take, by stage and priority: queue, route, handler, ack, and total from publish to the end of delivery.";
    out.metric("event_latency_seconds", Kind::Summary, help);
    for lane in &metrics.lanes {
        let stages = &lane.latency;
        for (stage, summary) in [
            ("queue", &stages.queue),
            ("route", &stages.route),
            ("handler", &stages.handler),
            ("ack", &stages.ack),
            ("total", &stages.total),
        ] {
            latency(out, stage, lane.priority.as_str(), summary);
        }
    }
}

fn latency(out: &mut Exposition, stage: &str, priority: &str, summary: &LatencySummary) {
    let labels = [("stage", stage), ("priority", priority)];
    for (quantile, ns) in [
        ("0.5", summary.p50_ns),
        ("0.95", summary.p95_ns),
        ("0.99", summary.p99_ns),
        ("0.999", summary.p999_ns),
        ("1", summary.max_ns),
    ] {
        let value = if summary.count == 0 { f64::NAN } else { seconds(ns) };
        out.part("", &[labels[0], labels[1], ("quantile", quantile)], value);
    }
    out.part("_sum", &labels, summary.mean_ns * summary.count as f64 / 1e9);
    out.part("_count", &labels, summary.count as f64);
}

fn by_subscription(out: &mut Exposition, subscriptions: &[SubscriptionRecord]) {
    out.metric("subscription_events_total", Kind::Counter, "Events of subscriptions, by name and what became of them.");
    type Count = fn(&SubscriptionRecord) -> u64;
    let results: [(&str, Count); 4] = [
        ("delivered", |record| record.ledger.delivered),
        ("failed", |record| record.ledger.failed),
        ("dead_lettered", |record| record.ledger.dead_lettered),
        ("dropped", |record| record.ledger.dropped.total()),
    ];
    let summed_up: Vec<_> = results.iter().map(|(result, count)| (*result, summed(subscriptions, count))).collect();
    for (result, names) in &summed_up {
        for (name, count) in names {
            out.count(&[("subscription", name), ("result", result)], *count);
        }
    }
    let is = |holds: bool| u64::from(holds);
    out.metric("subscription_paused", Kind::Gauge, "Subscriptions that are paused, by name.");
    for (name, paused) in summed(subscriptions, |record| is(record.is_paused)) {
        out.count(&[("subscription", &name)], paused);
    }
    out.metric("breaker_open", Kind::Gauge, "Subscriptions whose breaker is open, by name.");
    let with_breaker: Vec<_> = subscriptions.iter().filter(|record| record.breaker.is_some()).cloned().collect();
    let is_open = |breaker: BreakerRecord| breaker.state == BreakerState::Open;
    for (name, open) in summed(&with_breaker, |record| is(record.breaker.is_some_and(is_open))) {
        out.count(&[("subscription", &name)], open);
    }
}

/// A figure by the name of subscriptions, those that share one together; names beyond the limit together, too.
fn summed(subscriptions: &[SubscriptionRecord], figure: impl Fn(&SubscriptionRecord) -> u64) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    for record in subscriptions {
        let has_room = names.len() < SUBSCRIPTIONS_MAX || names.contains_key(&record.name);
        let name = if has_room { record.name.clone() } else { OTHER.to_owned() };
        *names.entry(name).or_default() += figure(record);
    }
    names
}

fn services(out: &mut Exposition, services: &[ServiceStatus]) {
    let shown = || services.iter().take(SUBSCRIPTIONS_MAX);
    out.metric("service_up", Kind::Gauge, "Whether a service runs.");
    for service in shown() {
        let labels = [("service", &*service.name), ("kind", &*service.kind)];
        out.count(&labels, u64::from(service.state == ServiceState::Running));
    }
    out.metric("service_health", Kind::Gauge, "How a service is: 0 healthy, 1 degraded, 2 unhealthy.");
    for service in shown() {
        let health = match service.health {
            Health::Healthy => 0,
            Health::Degraded(_) => 1,
            Health::Unhealthy(_) => 2,
        };
        out.count(&[("service", &service.name)], health);
    }
    out.metric("service_recoveries", Kind::Gauge, "Times that a service was started again since it was healthy.");
    for service in shown() {
        out.count(&[("service", &service.name)], service.recoveries.into());
    }
}

fn clients(out: &mut Exposition, live: &LiveCounts) {
    out.metric("live_clients", Kind::Gauge, "Clients of live streams.");
    out.count(&[], live.clients);
    for (name, help, value) in [
        ("live_clients_total", "Clients of live streams that there were.", live.clients_total),
        ("live_events_sent_total", "Events handed to clients of live streams.", live.events_sent),
        ("live_events_conflated_total", "Events that slow clients did not get.", live.events_conflated),
        ("live_gaps_total", "Times that a client was told that events are missing.", live.gaps),
        ("live_spills_total", "Times that a slow client read on in the store.", live.spills),
        ("live_commands_refused_total", "Messages of clients that cannot be.", live.commands_refused),
        ("live_store_failures_total", "Times that the store could not be read for clients.", live.store_failures),
    ] {
        out.metric(name, Kind::Counter, help);
        out.count(&[], value);
    }
    out.metric("live_refused_total", Kind::Counter, "Clients that were refused, by reason.");
    for (reason, count) in [("full", live.refused_full), ("malformed", live.refused_malformed)] {
        out.count(&[("reason", reason)], count);
    }
    out.metric("live_closed_total", Kind::Counter, "Clients that were closed, by reason.");
    for (reason, count) in [
        ("slow", live.closed_slow),
        ("silent", live.closed_silent),
        ("oversized", live.closed_oversized),
        ("taken_over", live.closed_taken_over),
    ] {
        out.count(&[("reason", reason)], count);
    }
}
