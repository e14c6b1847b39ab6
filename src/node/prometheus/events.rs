//! Counts and times by type of event and handler, which a bus does not keep.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
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
    published: Series<Box<str>, SharedCounter>,
    /// Where types beyond the limit are counted.
    others: SharedCounter,
    handled: Series<Pair, Handled>,
    /// Where handlers beyond it are.
    handled_by_others: Handled,
}

/// What is counted by key: places that are taken one after the other, and never given back. Nobody waits for anybody, unless two take
/// the same place at one time.
#[derive(Debug)]
struct Series<K, V>(Box<[Place<K, V>]>);

/// Empty, or a key and what is counted of it.
type Place<K, V> = OnceLock<Box<(K, V)>>;

impl<K: PartialEq, V: Default> Series<K, V> {
    fn new(max: usize) -> Self {
        Self((0..max).map(|_| OnceLock::new()).collect())
    }

    fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        // Behind an empty place all are.
        self.0.iter().map_while(|place| place.get().map(|entry| &**entry))
    }

    /// The place of a key among the first so many, taken for it if need be; `None` where all are others'.
    fn place(&self, key: impl Fn(&K) -> bool, make: impl Fn() -> K, max: usize) -> Option<usize> {
        let taken = |place: &Place<K, V>| key(&place.get_or_init(|| Box::new((make(), V::default()))).0);
        self.0[..max.min(self.0.len())].iter().position(taken)
    }

    fn at(&self, place: usize) -> Option<&V> {
        self.0.get(place)?.get().map(|entry| &entry.1)
    }
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

    fn has_any(&self) -> bool {
        self.success.get() + self.error.get() > 0
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
        let (others, handled_by_others) = Default::default();
        // Handlers whose types have no room are told from each other as long as there is room for that.
        let handled = Series::new(series_max.saturating_mul(2));
        Self(Arc::new(Inner { series_max, published: Series::new(series_max), others, handled, handled_by_others }))
    }

    /// Begins to count what is published on a bus, by type, with a handler on a worker.
    ///
    /// # Errors
    /// There is no room for another subscription.
    ///
    /// # Cost
    /// A look into a table for each event, without a lock; the first of a type also passes over all types that there are.
    pub fn count_published(&self, bus: &Bus) -> Result<Subscription, SubscribeError> {
        let mut known: HashMap<Box<str>, usize, ahash::RandomState> = HashMap::default();
        let inner = Arc::clone(&self.0);
        let count = move |_: Payload<'_>, meta: &Meta<'_>| {
            let topic = meta.topic();
            let place = match known.get(topic) {
                Some(place) => Some(*place),
                // All places are taken, and by those that are known.
                None if known.len() >= inner.series_max => None,
                None => {
                    let place = inner.published.place(|taken| **taken == *topic, || topic.into(), inner.series_max);
                    known.extend(place.map(|place| (topic.into(), place)));
                    place
                }
            };
            place.and_then(|place| inner.published.at(place)).unwrap_or(&inner.others).add(1);
        };
        bus.subscribe("*").named("metrics").handle(count)
    }

    /// Counts an event that was handled, and how long that took.
    pub fn handled(&self, event_type: &str, handler: &str, is_success: bool, took: Duration) {
        self.0.handled(self.0.place_of(event_type, handler)).record(is_success, took);
    }

    /// A handler that counts what another one handles, and how long it takes.
    pub fn timed<H>(&self, handler: H) -> Timed<H> {
        Timed { handler, metrics: self.clone(), name: None, known: HashMap::default(), others: None }
    }

    /// Writes what was counted.
    pub fn write(&self, out: &mut Exposition) {
        let mut published: Vec<_> = self.0.published.iter().map(|(topic, counter)| (&**topic, counter.get())).collect();
        let others = self.0.others.get();
        published.extend((others > 0).then_some((OTHER, others)));
        published.sort();
        out.metric("events_published_total", Kind::Counter, "Events published, by type.");
        for (event_type, count) in published {
            out.count(&[("event_type", event_type)], count);
        }
        let others = Pair { event_type: OTHER.into(), handler: OTHER.into() };
        let mut handled: Vec<_> = self.0.handled.iter().map(|(pair, handled)| (pair, handled)).collect();
        handled.extend(self.0.handled_by_others.has_any().then_some((&others, &self.0.handled_by_others)));
        handled.sort_by(|one, other| one.0.cmp(other.0));
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
}

impl Inner {
    /// Where a handler's events of a type are counted.
    fn place_of(&self, event_type: &str, handler: &str) -> Option<usize> {
        let own = self.place(event_type, handler, self.series_max);
        own.or_else(|| self.place_of_others(handler))
    }

    /// Where those are of types that have no room.
    fn place_of_others(&self, handler: &str) -> Option<usize> {
        self.place(OTHER, handler, self.series_max.saturating_mul(2))
    }

    fn place(&self, event_type: &str, handler: &str, max: usize) -> Option<usize> {
        let is_it = |pair: &Pair| *pair.event_type == *event_type && *pair.handler == *handler;
        let make = || Pair { event_type: event_type.into(), handler: handler.into() };
        self.handled.place(is_it, make, max)
    }

    fn handled(&self, place: Option<usize>) -> &Handled {
        place.and_then(|place| self.handled.at(place)).unwrap_or(&self.handled_by_others)
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
    known: HashMap<Box<str>, Option<usize>, ahash::RandomState>,
    /// Where types are counted that are not known, when there is no room for more.
    others: Option<Option<usize>>,
}

impl<I: Interest, H: Handler<I>> Handler<I> for Timed<H> {
    fn handle(&mut self, event: I::View<'_>, meta: &Meta<'_>, context: &Context<'_>) -> Outcome {
        let topic = meta.topic();
        let inner = &self.metrics.0;
        let place = match self.known.get(topic) {
            Some(place) => *place,
            None => {
                let name = self.name.get_or_insert_with(|| self.handler.id()).as_str();
                if self.known.len() < inner.series_max {
                    let place = inner.place_of(topic, name);
                    self.known.insert(topic.into(), place);
                    place
                } else {
                    *self.others.get_or_insert_with(|| inner.place_of_others(name))
                }
            }
        };
        let mut call = Call { handled: inner.handled(place), begun: Instant::now(), is_success: false };
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
