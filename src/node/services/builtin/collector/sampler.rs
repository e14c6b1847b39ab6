//! What a bus did between two looks at it: rates from counts, quantiles from histograms that only grow.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::{Bus, Health, Metrics, Priority};

/// Latencies of what was delivered in a stretch of time, in nanoseconds; 0 where nothing was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quantiles {
    /// Deliveries.
    pub count: u64,
    /// The median.
    pub p50_ns: u64,
    /// 95 % were no slower.
    pub p95_ns: u64,
    /// 99 % were no slower.
    pub p99_ns: u64,
    /// The slowest.
    pub max_ns: u64,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        let (p50_ns, p95_ns, p99_ns) = (at(0.5), at(0.95), at(0.99));
        Self { count: histogram.len(), p50_ns, p95_ns, p99_ns, max_ns: histogram.max() }
    }
}

/// A lane in a stretch of time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LaneSample {
    /// Its priority.
    pub priority: Priority,
    /// Events in it at the end.
    pub depth: u64,
    /// That as a share of its limit, from 0.
    pub fill: f64,
    /// Deliveries a second.
    pub delivered: f64,
    /// From publish to the end of delivery.
    pub latency: Quantiles,
}

/// A bus in a stretch of time. Rates are events a second.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MetricsSample {
    /// When it ended.
    pub at: SystemTime,
    /// How long it was.
    pub over: Duration,
    /// Events that were accepted.
    pub published: f64,
    /// Deliveries that ended well.
    pub delivered: f64,
    /// Deliveries that failed.
    pub failed: f64,
    /// Deliveries that were given up.
    pub dropped: f64,
    /// Publishes that were refused.
    pub refused: f64,
    /// From publish to the end of delivery, over all lanes.
    pub latency: Quantiles,
    /// Each lane, most urgent first.
    pub lanes: Vec<LaneSample>,
    /// Dead letters that were kept at the end.
    pub dead_letters: u64,
    /// Dead letters, ever.
    pub dead_letters_total: u64,
    /// Subscriptions at the end.
    pub subscriptions: usize,
    /// How full the fullest lane or the pool of blocks was at the end, from 0 to 1.
    pub memory_fill: f64,
    /// Whether the bus was well, by the deliveries of this time: [`Metrics::health_at`].
    pub health: Health,
}

/// Looks at a bus from time to time.
#[derive(Debug)]
pub(in crate::node) struct Sampler {
    at: Instant,
    metrics: Metrics,
    histograms: Vec<Histogram<u64>>,
}

impl Sampler {
    /// The first look.
    pub(in crate::node) fn new(bus: &Bus) -> Self {
        Self { at: Instant::now(), metrics: bus.metrics(), histograms: histograms(bus) }
    }

    /// What happened since the last look. Some hundred microseconds.
    pub(in crate::node) fn look(&mut self, bus: &Bus) -> MetricsSample {
        let now = Self::new(bus);
        let sample = now.since(self);
        *self = now;
        sample
    }

    fn since(&self, before: &Self) -> MetricsSample {
        let over = self.at - before.at;
        let seconds = over.as_secs_f64().max(1e-9);
        let rate =
            |count: fn(&Metrics) -> u64| count(&self.metrics).saturating_sub(count(&before.metrics)) as f64 / seconds;
        let Metrics { max_queue_size, dead_letters, subscriptions, memory_fill, .. } = self.metrics;
        let mut all = Histogram::new_from(&self.histograms[0]);
        let between = self.histograms.iter().zip(&before.histograms).map(|(now, before)| {
            let mut between = now.clone();
            // What a look missed while counts were moved is in the next one.
            let _ = between.subtract(before);
            between
        });
        let between: Vec<_> = between.collect();
        for lane in &between {
            all.add(lane).expect("all histograms of a bus have the same bounds");
        }
        let lanes = self.metrics.lanes.iter().zip(&between).map(|(lane, latency)| LaneSample {
            priority: lane.priority,
            depth: lane.depth,
            fill: lane.depth as f64 / max_queue_size.max(1) as f64,
            delivered: latency.len() as f64 / seconds,
            latency: Quantiles::of(latency),
        });
        let (lanes, latency): (Vec<_>, _) = (lanes.collect(), Quantiles::of(&all));
        MetricsSample {
            at: SystemTime::now(),
            over,
            published: rate(|metrics| metrics.messages_published),
            delivered: rate(|metrics| metrics.messages_delivered),
            failed: rate(|metrics| metrics.messages_failed),
            dropped: rate(|metrics| metrics.messages_dropped),
            refused: rate(|metrics| metrics.refused.total()),
            latency,
            lanes,
            dead_letters: dead_letters.held,
            dead_letters_total: dead_letters.total,
            subscriptions,
            memory_fill,
            health: self.metrics.health_at(latency.p95_ns),
        }
    }
}

/// One a lane, most urgent first, as `Metrics::lanes`.
fn histograms(bus: &Bus) -> Vec<Histogram<u64>> {
    Priority::ALL.into_iter().map(|priority| bus.latency_histogram(priority)).collect()
}
