//! Do patterns that do not match make a publish or a delivery slower?

use std::hint::black_box;
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, Publisher, Topic};

use super::{Job, Outcome, Publishers};
use crate::event::{Draft, SMALL, Urgency};
use crate::machine::Clock;

/// How many do not match.
const PATTERNS: u64 = 100_000;
/// Events published before the worker is turned.
const BURST: u64 = 64;
/// Bursts that are timed in one piece.
const BURSTS: u64 = 200;
/// Pieces timed of either bus, in turn.
const PIECES: usize = 41;

const TOPIC: Topic<[u64; SMALL]> = Topic::new("rivals.wanted");

/// A bus on this thread, its worker turned by hand.
struct Side {
    publisher: Publisher,
    simulation: Simulation,
    sequence: u64,
}

impl Side {
    fn open(publishers: Publishers, patterns: u64) -> Self {
        let builder = Bus::builder().workers(1).slot_bytes(128).deadline(Duration::from_secs(60));
        let builder = match publishers {
            Publishers::One => builder.single_publisher(),
            Publishers::Many => builder,
        };
        let simulation = Simulation::new(builder, 1).expect("the settings are valid");
        let bus = simulation.bus();
        for nth in 0..patterns {
            // A third each: no wildcard, one at the end, one in the middle.
            let pattern = match nth % 3 {
                0 => format!("orders.region-{nth}.placed"),
                1 => format!("orders.region-{nth}.*"),
                _ => format!("orders.**.item-{nth}"),
            };
            bus.subscribe(pattern.as_str()).handle(|_, _| ()).expect("the pattern is valid").forever();
        }
        let read = bus.subscribe(TOPIC).handle(|event, _| {
            black_box(event.iter().fold(0u64, |sum, word| sum.wrapping_add(word.to_native())));
        });
        read.expect("the topic is valid").forever();
        let publisher = bus.publisher().expect("it is the first");
        Self { publisher, simulation, sequence: 0 }
    }

    /// Ticks from the first publish to the last handler's end.
    fn piece(&mut self, clock: &Clock) -> u64 {
        let start = clock.ticks();
        for _ in 0..BURSTS {
            for _ in 0..BURST {
                let mut event = [0u64; SMALL];
                let draft = Draft { publisher: 0, urgency: Urgency::Ordinary, sequence: self.sequence, stamp: 0 };
                draft.write_payload(&mut event);
                self.publisher.try_publish(TOPIC, &event).expect("the lane has room for a burst");
                self.sequence += 1;
            }
            let passed = self.simulation.run();
            assert!(passed as u64 == BURST, "each event is delivered once");
        }
        clock.ticks() - start
    }
}

/// The quotient of two medians, taken of two buses in turn on one thread.
pub(super) fn run(job: &Job<'_>) -> Outcome {
    let patterns = job.scaled(PATTERNS);
    let mut alone = Side::open(job.class.publishers, 0);
    let mut beside = Side::open(job.class.publishers, patterns);
    let clock = &job.machine.clock;
    let mut ticks: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
    let pieces = if job.smoke { 3 } else { PIECES };
    for _ in 0..pieces {
        ticks[0].push(alone.piece(clock));
        ticks[1].push(beside.piece(clock));
    }
    let [without, with] = ticks.map(|mut ticks| {
        ticks.sort_unstable();
        ticks[ticks.len() / 2] as f64
    });
    Outcome::one(job.question, with / without, None)
}
