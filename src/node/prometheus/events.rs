//! Counts and times by type of event and handler, which a bus does not keep.

use std::collections::HashMap;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::text::{Exposition, Kind};
use crate::metrics::SharedCounter;
use crate::{Bus, Context, Handler, HandlerId, Interest, Meta, Outcome, Payload, SubscribeError, Subscription};

/// Where a type or a handler is counted for which there is no room.
pub const OTHER: &str = "other";
/// Bounds of the durations, in seconds: 0.001 doubled 14 times.
const BUCKETS: usize = 15;
const FIRST_NS: u64 = 1_000_000;

/// Counts and times by type of event and handler. Cheap to clone: clones are the same.
#[derive(Debug, Clone)]
pub struct EventMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    series_max: usize,
    published: Mutex<HashMap<Box<str>, Arc<SharedCounter>, ahash::RandomState>>,
    handled: Mutex<HashMap<Pair, Arc<Handled>, ahash::RandomState>>,
}

/// A type of event, and who handles it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Pair {
    event_type: Box<str>,
    handler: Box<str>,
}

#[derive(Debug, Default)]
struct Handled {
    success: SharedCounter,
    error: SharedCounter,
    /// Calls that took at most so long, and no less than the bound before; what took longer is last.
    buckets: [SharedCounter; BUCKETS + 1],
    sum_ns: SharedCounter,
}

impl Handled {
    fn record(&self, is_success: bool, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = (0..BUCKETS).find(|bucket| took_ns <= FIRST_NS << bucket).unwrap_or(BUCKETS);
        self.buckets[bucket].add(1);
        self.sum_ns.add(took_ns);
        if is_success { &self.success } else { &self.error }.add(1);
    }
}

impl Default for EventMetrics {
    fn default() -> Self {
        Self::new(Self::SERIES_MAX)
    }
}

impl EventMetrics {
    /// Series that there are, unless it is said how many.
    pub const SERIES_MAX: usize = 1_000;

    /// At most so many types, and so many pairs of a type and a handler. Types beyond are counted together as `other`.
    pub fn new(series_max: usize) -> Self {
        Self(Arc::new(Inner { series_max, published: Mutex::default(), handled: Mutex::default() }))
    }

    /// Begins to count what is published on a bus, by type, with a handler on a worker.
    ///
    /// # Errors
    /// There is no room for another subscription.
    ///
    /// # Cost
    /// A look into a table for each event.
    pub fn count_published(&self, bus: &Bus) -> Result<Subscription, SubscribeError> {
        let mut known: HashMap<Box<str>, Arc<SharedCounter>, ahash::RandomState> = HashMap::default();
        let metrics = self.clone();
        let count = move |_: Payload<'_>, meta: &Meta<'_>| {
            let topic = meta.topic();
            match known.get(topic) {
                Some(counter) => counter.add(1),
                None => {
                    let counter = metrics.counter_of(topic);
                    counter.add(1);
                    if known.len() < metrics.0.series_max {
                        known.insert(topic.into(), counter);
                    }
                }
            }
        };
        bus.subscribe("*").named("metrics").handle(count)
    }

    /// Counts an event that was handled, and how long that took.
    pub fn handled(&self, event_type: &str, handler: &str, is_success: bool, took: Duration) {
        self.handled_of(event_type, handler).record(is_success, took);
    }

    /// A handler that counts what another one handles, and how long it takes.
    pub fn timed<H>(&self, handler: H) -> Timed<H> {
        Timed { handler, metrics: self.clone(), name: None, known: HashMap::default() }
    }

    /// Writes what was counted.
    pub fn write(&self, out: &mut Exposition) {
        let mut published: Vec<_> =
            self.published().iter().map(|(topic, counter)| (topic.clone(), counter.get())).collect();
        published.sort();
        out.metric("events_published_total", Kind::Counter, "Events published, by type.");
        for (event_type, count) in published {
            out.count(&[("event_type", &event_type)], count);
        }
        let mut handled: Vec<_> =
            self.pairs().iter().map(|(pair, handled)| (pair.clone(), Arc::clone(handled))).collect();
        handled.sort_by(|one, other| one.0.cmp(&other.0));
        out.metric("events_processed_total", Kind::Counter, "Events handled, by type, handler and what came of it.");
        for (Pair { event_type, handler }, handled) in &handled {
            for (status, count) in [("success", &handled.success), ("error", &handled.error)] {
                let labels = [("event_type", &**event_type), ("handler", handler), ("status", status)];
                out.count(&labels, count.get());
            }
        }
        let help = "How long handlers took, by type and handler.";
        out.metric("event_processing_duration_seconds", Kind::Histogram, help);
        for (Pair { event_type, handler }, handled) in &handled {
            let labels = [("event_type", &**event_type), ("handler", &**handler)];
            let mut count = 0;
            for (at, bucket) in handled.buckets.iter().enumerate() {
                count += bucket.get();
                let bound = match at {
                    BUCKETS => "+Inf".to_owned(),
                    at => seconds(FIRST_NS << at).to_string(),
                };
                out.part("_bucket", &[labels[0], labels[1], ("le", &bound)], count as f64);
            }
            out.part("_sum", &labels, seconds(handled.sum_ns.get()));
            out.part("_count", &labels, count as f64);
        }
    }

    fn published(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<SharedCounter>, ahash::RandomState>> {
        self.0.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pairs(&self) -> MutexGuard<'_, HashMap<Pair, Arc<Handled>, ahash::RandomState>> {
        self.0.handled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counter_of(&self, topic: &str) -> Arc<SharedCounter> {
        let mut published = self.published();
        let topic = if published.contains_key(topic) || published.len() < self.0.series_max { topic } else { OTHER };
        Arc::clone(published.entry(topic.into()).or_default())
    }

    fn handled_of(&self, event_type: &str, handler: &str) -> Arc<Handled> {
        let mut pairs = self.pairs();
        let pair = |event_type: &str, handler: &str| Pair { event_type: event_type.into(), handler: handler.into() };
        let max = self.0.series_max;
        // Who comes late is told from others as long as there is room for that.
        let choices = [(pair(event_type, handler), max), (pair(OTHER, handler), 2 * max)];
        let found = choices.into_iter().find(|(pair, max)| pairs.contains_key(pair) || pairs.len() < *max);
        let pair = found.map_or_else(|| pair(OTHER, OTHER), |(pair, _)| pair);
        Arc::clone(pairs.entry(pair).or_default())
    }
}

/// Nanoseconds in seconds.
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A handler that is counted and timed; see [`EventMetrics::timed`].
#[derive(Debug)]
pub struct Timed<H> {
    handler: H,
    metrics: EventMetrics,
    /// Of the handler, once it was asked.
    name: Option<HandlerId>,
    known: HashMap<Box<str>, Arc<Handled>, ahash::RandomState>,
}

impl<I: Interest, H: Handler<I>> Handler<I> for Timed<H> {
    fn handle(&mut self, event: I::View<'_>, meta: &Meta<'_>, context: &Context<'_>) -> Outcome {
        let topic = meta.topic();
        let handled = match self.known.get(topic) {
            Some(handled) => Arc::clone(handled),
            None => {
                let name = self.name.get_or_insert_with(|| self.handler.id());
                let handled = self.metrics.handled_of(topic, name.as_str());
                if self.known.len() < self.metrics.0.series_max {
                    self.known.insert(topic.into(), Arc::clone(&handled));
                }
                handled
            }
        };
        let mut call = Call { handled: &handled, begun: Instant::now(), is_success: false };
        let outcome = self.handler.handle(event, meta, context);
        call.is_success = outcome == Outcome::Ack;
        outcome
    }

    fn id(&self) -> HandlerId {
        self.handler.id()
    }
}

/// Counted when it ends, also by a panic.
struct Call<'a> {
    handled: &'a Handled,
    begun: Instant,
    is_success: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.handled.record(self.is_success, self.begun.elapsed());
    }
}
