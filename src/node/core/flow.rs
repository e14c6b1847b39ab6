//! What flows through a node: how many events of which type came from which source.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::SharedCounter;
use crate::{Bus, Meta, Payload, SubscribeError, Subscription};

/// Pairs of a source and a type that are told apart; others are counted together.
const PAIRS_MAX: usize = 2_000;
/// What stands for a source or a type for which there was no room.
const OTHER: &str = "other";

/// Counts by type, and then by source.
type Counts = HashMap<Box<str>, HashMap<Box<str>, Arc<SharedCounter>, ahash::RandomState>, ahash::RandomState>;

/// Counts of what was published. Cheap to clone: clones are the same.
#[derive(Clone, Default)]
pub(in super::super) struct Flow(Arc<Mutex<Counts>>);

/// So many events of a type from a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Stream {
    pub(in super::super) source: Box<str>,
    pub(in super::super) event_type: Box<str>,
    pub(in super::super) count: u64,
}

impl Flow {
    /// Counts what a bus publishes from now on, in a handler on a worker: two looks into tables for each event, and a lock for the
    /// first event of each pair.
    pub(super) fn count(&self, bus: &Bus) -> Result<Subscription, SubscribeError> {
        let shared = self.clone();
        let others = shared.counter(OTHER, OTHER);
        let (mut known, mut pairs) = (Counts::default(), 0);
        bus.subscribe("*").named("flow").handle(move |_: Payload<'_>, meta: &Meta<'_>| {
            let (event_type, source) = (meta.topic(), meta.source());
            if let Some(counter) = known.get(event_type).and_then(|sources| sources.get(source)) {
                counter.add(1);
            } else if pairs < PAIRS_MAX {
                let counter = shared.counter(event_type, source);
                counter.add(1);
                known.entry(event_type.into()).or_default().insert(source.into(), counter);
                pairs += 1;
            } else {
                others.add(1);
            }
        })
    }

    fn counter(&self, event_type: &str, source: &str) -> Arc<SharedCounter> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(counts.entry(event_type.into()).or_default().entry(source.into()).or_default())
    }

    /// Every pair that there was, in the order of their names.
    pub(in super::super) fn streams(&self) -> Vec<Stream> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut streams: Vec<_> = counts
            .iter()
            .flat_map(|(event_type, sources)| {
                sources.iter().map(move |(source, counter)| (event_type, source, counter))
            })
            .map(|(event_type, source, counter)| Stream {
                source: source.clone(),
                event_type: event_type.clone(),
                count: counter.get(),
            })
            .filter(|stream| stream.count > 0)
            .collect();
        streams.sort_by(|one, other| (&one.source, &one.event_type).cmp(&(&other.source, &other.event_type)));
        streams
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bus;

    #[test]
    fn each_pair_is_counted_and_what_there_is_no_room_for_together() {
        let bus = Bus::builder().workers(1).build().expect("it builds");
        let flow = Flow::default();
        let counting = flow.count(&bus).expect("there is room");
        let mut publisher = bus.publisher().expect("there is room");
        for number in 0..PAIRS_MAX + 3 {
            let (source, topic) = (format!("s{}", number % 2), format!("t{number}"));
            publisher.event().source(&source).publish(&*topic, Payload::plain_text("x")).expect("it is taken");
        }
        bus.flush().expect("it ends");
        let streams = flow.streams();
        assert_eq!(streams.len(), PAIRS_MAX + 1);
        assert_eq!(streams.iter().map(|stream| stream.count).sum::<u64>(), PAIRS_MAX as u64 + 3);
        let others = streams.iter().find(|stream| &*stream.event_type == OTHER).map(|stream| stream.count);
        assert_eq!(others, Some(3));
        drop(counting);
    }
}
