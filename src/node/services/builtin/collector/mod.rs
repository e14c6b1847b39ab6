//! Keeps how a bus has been: samples in short steps for a while, in long steps for long, and counts of events by type.

mod sampler;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

pub(in crate::node) use self::sampler::Sampler;
pub use self::sampler::{LaneSample, MetricsSample, Quantiles};
use super::super::super::health::Health;
use super::super::{Service, ServiceFailure, Work};
use crate::{Bus, Delivery, Outcome, Pattern};

/// Events that are counted at once.
const EVENTS_MAX: usize = 256;

/// How much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorOptions {
    /// The name of the service. Default `metrics_collector`.
    pub name: String,
    /// Time between two samples. Default 1 s.
    pub recent_every: Duration,
    /// Samples that are kept of those. Default 300.
    pub recent_max: usize,
    /// Time between two entries of the history. Default 60 s.
    pub history_every: Duration,
    /// Entries that are kept of the history. Default 1,440: a day.
    pub history_max: usize,
    /// Types of events that are counted apart; those of one more are counted together. Default 1,000.
    pub types_max: usize,
}

impl Default for CollectorOptions {
    fn default() -> Self {
        Self {
            name: "metrics_collector".to_owned(),
            recent_every: Duration::from_secs(1),
            recent_max: 300,
            history_every: Duration::from_secs(60),
            history_max: 1_440,
            types_max: 1_000,
        }
    }
}

/// Events of a type that came by a subscription of the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypeCount {
    /// The type; `None` for all types beyond the limit together.
    pub event_type: Option<String>,
    /// How many.
    pub events: u64,
    /// Bytes of data that they had.
    pub bytes: u64,
    /// When the last of them was made.
    pub last: SystemTime,
}

/// Keeps how a bus has been. Bounded: a sample takes half a KiB, a type its name and 80 bytes.
#[derive(Debug)]
pub struct MetricsCollector {
    bus: Bus,
    options: CollectorOptions,
    kept: Arc<Mutex<Kept>>,
    latest: watch::Sender<Option<Arc<MetricsSample>>>,
    history_every: watch::Sender<Duration>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Kept {
    recent: VecDeque<Arc<MetricsSample>>,
    history: VecDeque<Arc<MetricsSample>>,
    types: HashMap<String, TypeCount>,
    /// Of the types beyond the limit.
    others: Option<TypeCount>,
}

/// Samples of a collector as it takes them: the newest, for whoever does not keep up.
#[derive(Debug, Clone)]
pub struct Samples(watch::Receiver<Option<Arc<MetricsSample>>>);

impl Samples {
    /// Waits for a sample that is newer than what was returned before; `None` once the collector is gone. It can be dropped while it is
    /// awaited.
    pub async fn next(&mut self) -> Option<Arc<MetricsSample>> {
        self.0.changed().await.ok()?;
        self.0.borrow_and_update().clone()
    }
}

fn locked(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // What a panic interrupts is an entry more or less.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push(samples: &mut VecDeque<Arc<MetricsSample>>, sample: Arc<MetricsSample>, max: usize) {
    samples.push_back(sample);
    while samples.len() > max {
        samples.pop_front();
    }
}

impl MetricsCollector {
    /// A collector of this bus. It begins when it is started.
    pub fn new(bus: &Bus, options: CollectorOptions) -> Self {
        let (kept, task) = Default::default();
        let (latest, history_every) = (watch::Sender::new(None), watch::Sender::new(options.history_every));
        Self { bus: bus.clone(), options, kept, latest, history_every, task }
    }

    /// Keeps the history in other steps from now on; not zero.
    pub fn set_history_every(&self, time: Duration) {
        self.history_every.send_if_modified(|every| std::mem::replace(every, time) != time);
    }

    /// The newest sample in short steps; `None` while it does not run.
    pub fn newest(&self) -> Option<Arc<MetricsSample>> {
        let runs = self.task().is_some();
        locked(&self.kept).recent.back().filter(|_| runs).cloned()
    }

    /// Samples in short steps, the oldest first.
    pub fn recent(&self) -> Vec<Arc<MetricsSample>> {
        locked(&self.kept).recent.iter().cloned().collect()
    }

    /// Samples in long steps, the oldest first.
    pub fn history(&self) -> Vec<Arc<MetricsSample>> {
        locked(&self.kept).history.iter().cloned().collect()
    }

    /// Samples as they are taken from now on.
    pub fn samples(&self) -> Samples {
        Samples(self.latest.subscribe())
    }

    /// Events by type, those with the most first.
    pub fn types(&self) -> Vec<TypeCount> {
        let kept = locked(&self.kept);
        let mut types: Vec<_> = kept.types.values().chain(&kept.others).cloned().collect();
        drop(kept);
        types.sort_by(|one, other| other.events.cmp(&one.events).then_with(|| one.event_type.cmp(&other.event_type)));
        types
    }

    fn count(&self, events: &[Delivery<Pattern>]) {
        let mut kept = locked(&self.kept);
        let Kept { types, others, .. } = &mut *kept;
        for event in events {
            let meta = event.meta();
            let none = |event_type| TypeCount { event_type, events: 0, bytes: 0, last: meta.timestamp() };
            let has_room = types.len() < self.options.types_max || types.contains_key(meta.topic());
            let count = if has_room {
                types.entry(meta.topic().to_owned()).or_insert_with_key(|name| none(Some(name.clone())))
            } else {
                others.get_or_insert_with(|| none(None))
            };
            count.events += 1;
            count.bytes += meta.payload().bytes().len() as u64;
            count.last = count.last.max(meta.timestamp());
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MetricsCollector {
    fn drop(&mut self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
    }
}

/// Takes samples until it is aborted.
async fn collect(
    bus: Bus,
    options: CollectorOptions,
    kept: Arc<Mutex<Kept>>,
    latest: watch::Sender<Option<Arc<MetricsSample>>>,
    mut history_every: watch::Receiver<Duration>,
) {
    let every = |period: Duration| {
        let mut interval = interval_at(Instant::now() + period, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let (mut short, mut long) = (every(options.recent_every), every(*history_every.borrow_and_update()));
    let (mut recent, mut history) = (Sampler::new(&bus), Sampler::new(&bus));
    loop {
        tokio::select! {
            _ = short.tick() => {
                let sample = Arc::new(recent.look(&bus));
                push(&mut locked(&kept).recent, Arc::clone(&sample), options.recent_max);
                latest.send_replace(Some(sample));
            }
            _ = long.tick() => {
                let sample = Arc::new(history.look(&bus));
                push(&mut locked(&kept).history, sample, options.history_max);
            }
            Ok(()) = history_every.changed() => long = every(*history_every.borrow_and_update()),
        }
    }
}

impl Service for MetricsCollector {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn kind(&self) -> &str {
        "metrics collector"
    }

    fn start(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async {
            let (bus, options) = (self.bus.clone(), self.options.clone());
            let every = self.history_every.subscribe();
            let work = collect(bus, options, Arc::clone(&self.kept), self.latest.clone(), every);
            *self.task() = Some(tokio::spawn(work));
            Ok(())
        })
    }

    fn stop(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async {
            let task = self.task().take();
            if let Some(task) = task {
                task.abort();
                // Cancelled, as it was to be.
                drop(task.await);
            }
            Ok(())
        })
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async {
            match &*self.task() {
                Some(task) if !task.is_finished() => Health::Healthy,
                _ => Health::Unhealthy("its task has ended".to_owned()),
            }
        })
    }

    fn events_max(&self) -> usize {
        EVENTS_MAX
    }

    fn handle<'s>(&'s self, events: &'s [Delivery<Pattern>]) -> Work<'s, Outcome> {
        Box::pin(async move {
            self.count(events);
            Outcome::Ack
        })
    }
}
