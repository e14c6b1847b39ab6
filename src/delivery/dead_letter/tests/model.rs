//! The store against lists that do the same, slowly and by the book.

use std::time::Duration;

use proptest::prelude::*;

use super::super::intake::{DUE, DUE_SHARE};
use super::super::store::RELIEF;
use super::super::{DeadLetter, DeadLetterCounts, DeadLetterFilter, DeadLetterLimits, DeadReason, TakenLetter};
use super::{Desk, NAME};
use crate::routing::Pattern;

const TOPICS: [&str; 3] = ["a.x", "a.y", "b.x"];
const REASONS: [DeadReason; 3] = [DeadReason::Rejected, DeadReason::TimedOut, DeadReason::Closed];

#[derive(Debug, Clone, Copy)]
struct Wish {
    topics: Option<&'static str>,
    reason: Option<DeadReason>,
    died_from_ms: Option<u64>,
    died_before_ms: Option<u64>,
    newest_first: bool,
    after: Option<u64>,
    limit: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Put {
        times: usize,
        bytes: usize,
        topic: usize,
        reason: usize,
    },
    List(Wish),
    /// The letter that was brought so many before the last.
    Get(u64),
    Purge(Wish),
    /// As `Get`.
    Take(u64),
    PutBack(usize),
    Send(usize),
    Advance {
        ms: u64,
    },
    Count,
}

fn wish() -> impl Strategy<Value = Wish> {
    (
        proptest::option::of(proptest::sample::select(&["a.*", "**.x", "b.x", "c"][..])),
        proptest::option::weighted(0.3, proptest::sample::select(&REASONS[..])),
        proptest::option::weighted(0.2, 0..60_u64),
        proptest::option::weighted(0.2, 0..60_u64),
        any::<bool>(),
        proptest::option::weighted(0.3, 0..30_u64),
        proptest::option::of(0..4_usize),
    )
        .prop_map(|(topics, reason, died_from_ms, died_before_ms, newest_first, after, limit)| Wish {
            topics,
            reason,
            died_from_ms,
            died_before_ms,
            newest_first,
            after,
            limit,
        })
}

fn operation() -> impl Strategy<Value = Operation> {
    let times = prop_oneof![30 => 1..4_usize, 1 => 250..600_usize];
    prop_oneof![
        8 => (times, 0..400_usize, 0..3_usize, 0..3_usize)
            .prop_map(|(times, bytes, topic, reason)| Operation::Put { times, bytes, topic, reason }),
        2 => wish().prop_map(Operation::List),
        1 => (0..10_u64).prop_map(Operation::Get),
        1 => wish().prop_map(Operation::Purge),
        3 => (0..10_u64).prop_map(Operation::Take),
        2 => (0..4_usize).prop_map(Operation::PutBack),
        1 => (0..4_usize).prop_map(Operation::Send),
        2 => (0..15_u64).prop_map(|ms| Operation::Advance { ms }),
        1 => Just(Operation::Count),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    id: u64,
    bytes: usize,
    died_ms: u64,
    topic: usize,
    reason: usize,
}

/// Lists in the order of ids.
struct Model {
    limits: DeadLetterLimits,
    now_ms: u64,
    intake: Vec<Entry>,
    kept: Vec<Entry>,
    in_hand: Vec<Entry>,
    counts: DeadLetterCounts,
}

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.bytes).sum()
}

impl Model {
    fn put(&mut self, bytes: usize, topic: usize, reason: usize) -> u64 {
        self.counts.total += 1;
        let id = self.counts.total;
        let bytes = size_of::<DeadLetter>() + NAME.len() + bytes;
        if self.limits.events == 0 || bytes > self.limits.bytes {
            self.counts.discarded += 1;
            return id;
        }
        self.intake.push(Entry { id, bytes, died_ms: self.now_ms, topic, reason });
        if self.intake.len() >= DUE || bytes_of(&self.intake) > self.limits.bytes / DUE_SHARE {
            self.sort_in(RELIEF);
        }
        while self.intake.len() > self.limits.events || bytes_of(&self.intake) > self.limits.bytes {
            self.intake.remove(0);
            self.counts.discarded += 1;
        }
        id
    }

    fn is_expired(&self, entry: &Entry) -> bool {
        let age = Duration::from_millis(self.now_ms - entry.died_ms);
        self.limits.expiry.is_some_and(|expiry| age >= expiry)
    }

    fn sort_in(&mut self, at_most: usize) {
        // Letters die in the order of their numbers.
        let expired = self.kept.iter().take(at_most).take_while(|entry| self.is_expired(entry)).count();
        self.kept.drain(..expired);
        self.counts.expired += expired as u64;
        for entry in self.intake.drain(..at_most.min(self.intake.len())).collect::<Vec<_>>() {
            let fits_alone =
                self.in_hand.len() < self.limits.events && bytes_of(&self.in_hand) + entry.bytes <= self.limits.bytes;
            if self.is_expired(&entry) {
                self.counts.expired += 1;
            } else if !fits_alone {
                self.counts.discarded += 1;
            } else {
                self.kept.push(entry);
                while self.kept.len() + self.in_hand.len() > self.limits.events
                    || bytes_of(&self.kept) + bytes_of(&self.in_hand) > self.limits.bytes
                {
                    self.kept.remove(0);
                    self.counts.discarded += 1;
                }
            }
        }
    }

    fn select(&mut self, wish: &Wish) -> Vec<u64> {
        self.sort_in(usize::MAX);
        let mut meant = self.kept.to_vec();
        if wish.newest_first {
            meant.reverse();
        }
        if let Some(after) = wish.after {
            meant.retain(|entry| if wish.newest_first { entry.id < after } else { entry.id > after });
        }
        meant.retain(|entry| {
            let topic = TOPICS[entry.topic];
            let topic_fits = match wish.topics {
                Some("a.*") => topic.starts_with("a."),
                Some("**.x") => topic.ends_with(".x"),
                Some(other) => topic == other,
                None => true,
            };
            topic_fits
                && wish.reason.is_none_or(|reason| REASONS[entry.reason] == reason)
                && wish.died_from_ms.is_none_or(|ms| entry.died_ms >= ms)
                && wish.died_before_ms.is_none_or(|ms| entry.died_ms < ms)
        });
        meant.truncate(wish.limit.unwrap_or(meant.len()));
        meant.iter().map(|entry| entry.id).collect()
    }

    fn take(&mut self, id: u64) -> bool {
        self.sort_in(usize::MAX);
        let Some(at) = self.kept.iter().position(|entry| entry.id == id) else { return false };
        self.in_hand.push(self.kept.remove(at));
        true
    }

    fn counts(&self) -> DeadLetterCounts {
        let held = [&self.intake[..], &self.kept, &self.in_hand];
        DeadLetterCounts {
            held: held.iter().map(|entries| entries.len() as u64).sum(),
            bytes: held.iter().map(|entries| bytes_of(entries) as u64).sum(),
            ..self.counts
        }
    }
}

fn filter(wish: &Wish, desk: &Desk) -> DeadLetterFilter {
    // The manual clock begins at 1 ns.
    let time = |ms: u64| desk.clock.system_time(1 + ms * 1_000_000);
    let mut filter = DeadLetterFilter::new();
    if let Some(topics) = wish.topics {
        filter = filter.topic(Pattern::new(topics).expect("a pattern"));
    }
    if let Some(reason) = wish.reason {
        filter = filter.reason(reason);
    }
    if let Some(ms) = wish.died_from_ms {
        filter = filter.died_from(time(ms));
    }
    if let Some(ms) = wish.died_before_ms {
        filter = filter.died_before(time(ms));
    }
    if let Some(after) = wish.after {
        filter = filter.after(after);
    }
    if let Some(limit) = wish.limit {
        filter = filter.limit(limit);
    }
    if wish.newest_first { filter.newest_first() } else { filter }
}

fn limits() -> impl Strategy<Value = DeadLetterLimits> {
    let bytes = prop_oneof![300..6_000_usize, Just(1 << 20)];
    (0..8_usize, bytes, proptest::option::of(1..20_u64)).prop_map(|(events, bytes, expiry_ms)| DeadLetterLimits {
        events,
        bytes,
        expiry: expiry_ms.map(Duration::from_millis),
        waiting: 1_024,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1_000 }))]

    #[test]
    fn the_store_does_as_the_model(limits in limits(), operations in proptest::collection::vec(operation(), 1..60)) {
        let desk = Desk::new(limits);
        let mut model = Model {
            limits, now_ms: 0, intake: vec![], kept: vec![], in_hand: vec![], counts: DeadLetterCounts::default(),
        };
        let mut in_hand: Vec<TakenLetter> = Vec::new();
        for operation in operations {
            match operation {
                Operation::Put { times, bytes, topic, reason } => {
                    for _ in 0..times {
                        let id = desk.put(TOPICS[topic], &vec![0; bytes], REASONS[reason]);
                        prop_assert_eq!(id, model.put(bytes, topic, reason));
                    }
                }
                Operation::List(wish) => prop_assert_eq!(desk.ids(&filter(&wish, &desk)), model.select(&wish)),
                Operation::Get(back) => {
                    let id = model.counts.total.wrapping_sub(back);
                    model.sort_in(usize::MAX);
                    let found = desk.store.get(id).map(|letter| letter.id());
                    prop_assert_eq!(found, model.kept.iter().map(|entry| entry.id).find(|&kept| kept == id));
                }
                Operation::Purge(wish) => {
                    let purged = model.select(&wish);
                    model.kept.retain(|entry| !purged.contains(&entry.id));
                    model.counts.purged += purged.len() as u64;
                    prop_assert_eq!(desk.store.purge(&filter(&wish, &desk)), purged.len());
                }
                Operation::Take(back) => {
                    let id = model.counts.total.wrapping_sub(back);
                    let taken = desk.store.take(id);
                    prop_assert_eq!(taken.is_some(), model.take(id));
                    in_hand.extend(taken);
                }
                Operation::PutBack(nth) if nth < in_hand.len() => {
                    drop(in_hand.remove(nth));
                    let back = model.in_hand.remove(nth);
                    let at = model.kept.partition_point(|entry| entry.id < back.id);
                    model.kept.insert(at, back);
                }
                Operation::Send(nth) if nth < in_hand.len() => {
                    in_hand.remove(nth).sent();
                    model.in_hand.remove(nth);
                    model.counts.redriven += 1;
                }
                Operation::PutBack(_) | Operation::Send(_) => {}
                Operation::Advance { ms } => {
                    desk.clock.advance(Duration::from_millis(ms));
                    model.now_ms += ms;
                }
                Operation::Count => {
                    model.sort_in(usize::MAX);
                    let counts = desk.store.counts();
                    prop_assert!(counts.held <= limits.events as u64 && counts.bytes <= limits.bytes as u64);
                }
            }
            let counts = desk.store.tally();
            prop_assert!(counts.is_balanced());
            prop_assert_eq!(counts, model.counts());
        }
        drop(in_hand);
    }
}
