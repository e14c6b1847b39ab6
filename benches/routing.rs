//! Does publish and delivery get slower with the number of patterns that do not match?

mod support;

use std::time::Duration;

use criterion::{BenchmarkId, Throughput};
use ringmain::Bus;
use ringmain::testing::Simulation;
use support::{SMALL, Words};

const PATTERNS: [usize; 4] = [0, 10, 1_000, 100_000];
/// Events an iteration: published, then delivered in turns of the worker.
const EVENTS: u64 = 64;

fn main() {
    support::announce(&[]);
    let mut criterion = support::criterion();
    let mut group = criterion.benchmark_group("routing");
    group.throughput(Throughput::Elements(EVENTS));
    for patterns in PATTERNS {
        let builder = Bus::builder().workers(1).slot_bytes(128).deadline(Duration::from_secs(60));
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
        let count = support::read_inline(bus, SMALL, 0);
        let mut publisher = bus.publisher().expect("there is a place");
        let mut sent = 0;
        group.bench_function(BenchmarkId::new("patterns_that_do_not_match", patterns), |bencher| {
            bencher.iter(|| {
                for word in 0..EVENTS {
                    publisher.publish(SMALL, &Words::new(word)).expect("there is room");
                }
                sent += EVENTS;
                while count.get() < sent {
                    assert!(simulation.turn(0).is_some_and(|events| events > 0), "an event is lost");
                }
            });
        });
        assert_eq!(count.get(), sent, "every event is delivered once");
        drop(publisher);
        support::finish(bus);
    }
    group.finish();
    criterion.final_summary();
}
