//! What does a Critical event wait for when Low ones have filled the bus, and what does draining in order cost?

mod support;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use hdrhistogram::Histogram;
use ringmain::testing::Simulation;
use ringmain::{Bus, Priority, Topic};
use support::{Count, SMALL, Setup, Words};

const FLOOD: Topic<Words<8>> = Topic::new("bench.flood");
/// What handling one Low event takes.
const LOW_WORK: Duration = Duration::from_micros(1);
/// Low events published before each Critical one: more than are handled meanwhile.
const AHEAD: u64 = 64;
/// Events of a drain, and how many of them are Critical.
const DRAINED: u64 = 8_000;
const URGENT: u64 = 800;

fn main() {
    support::announce(&[Setup::ONE_TO_ONE]);
    eprintln!("priority/drain runs on one thread, the worker turned by hand");
    let mut criterion = support::criterion();
    critical_wait(&mut criterion, "idle", 0);
    critical_wait(&mut criterion, "behind_64_low_of_1us", AHEAD);
    drain(&mut criterion, "low_only", 0);
    drain(&mut criterion, "low_and_1_in_10_critical", URGENT);
    criterion.final_summary();
}

/// From the publish of a Critical event until its publisher sees that it was handled.
fn critical_wait(criterion: &mut Criterion, load: &str, ahead: u64) {
    let setup = Setup::ONE_TO_ONE;
    let bus = setup.builder().slot_bytes(128).build().expect("the settings are valid");
    let flood = busy_inline(&bus);
    let (urgent, in_between) = urgent_inline(&bus, flood.clone());
    let mut publisher = bus.publisher().expect("there is a place");
    let (mut sent_urgent, mut sent_low) = (0, 0);
    let mut waits = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 2).expect("the bounds are in order");
    criterion.bench_function(&format!("priority/critical_there_and_back/{load}"), |bencher| {
        bencher.iter_custom(|iterations| {
            support::on_publisher_thread(setup, || {
                let mut waited = Duration::ZERO;
                for _ in 0..iterations {
                    for word in 0..ahead {
                        publisher.at(Priority::Low).publish(FLOOD, &Words::new(word)).expect("the lane drains");
                    }
                    sent_low += ahead;
                    sent_urgent += 1;
                    let begun = Instant::now();
                    publisher.at(Priority::Critical).publish(SMALL, &Words::new(flood.get())).expect("there is room");
                    urgent.wait(sent_urgent);
                    let wait = begun.elapsed();
                    waits.saturating_record(wait.as_nanos() as u64);
                    waited += wait;
                    flood.wait(sent_low);
                }
                waited
            })
        });
    });
    drop(publisher);
    support::finish(&bus);
    if sent_urgent > 0 {
        // Criterion tells the mean, which the time slices of other processes dominate on a busy machine; the events in
        // between do not depend on them: the Low one that is being handled, and no other.
        let mean = in_between.get() as f64 / sent_urgent as f64;
        let (p50, p99) = (waits.value_at_quantile(0.5), waits.value_at_quantile(0.99));
        eprintln!("priority/{load}: p50 {p50} ns, p99 {p99} ns there and back; {mean:.2} Low events in between");
    }
}

/// A handler of Critical events that carry how many Low ones were handled before the publish. Returns the count of its
/// calls, and that of the Low events handled in between.
fn urgent_inline(bus: &Bus, flood: Count) -> (Count, Count) {
    let counts = (Count::default(), Count::default());
    let (urgent, in_between) = counts.clone();
    let handled = bus.subscribe(SMALL).handle(move |event, _| {
        in_between.add(flood.get() - event.words[0].to_native());
        urgent.add_one();
    });
    handled.expect("the bus runs").forever();
    counts
}

/// A handler of the flood that takes its time.
fn busy_inline(bus: &Bus) -> Count {
    let count = Count::default();
    let counted = count.clone();
    let handled = bus.subscribe(FLOOD).handle(move |_, _| {
        let begun = Instant::now();
        while begun.elapsed() < LOW_WORK {
            std::hint::spin_loop();
        }
        counted.add_one();
    });
    handled.expect("the bus runs").forever();
    count
}

/// One worker empties full lanes; publishing is not timed.
fn drain(criterion: &mut Criterion, load: &str, urgent: u64) {
    let builder = Bus::builder().workers(1).slot_bytes(128);
    let simulation = Simulation::new(builder, 1).expect("the settings are valid");
    let bus = simulation.bus();
    let count = support::read_inline(bus, SMALL, 0);
    let mut publisher = bus.publisher().expect("there is a place");
    let mut sent = 0;
    let mut group = criterion.benchmark_group("priority");
    group.throughput(Throughput::Elements(DRAINED));
    group.bench_function(format!("drain/{load}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut drained = Duration::ZERO;
            for _ in 0..iterations {
                for nth in 0..DRAINED {
                    let priority = if nth < DRAINED - urgent { Priority::Low } else { Priority::Critical };
                    publisher.at(priority).publish(SMALL, &Words::new(nth)).expect("there is room");
                }
                sent += DRAINED;
                let begun = Instant::now();
                simulation.run();
                drained += begun.elapsed();
                assert_eq!(count.get(), sent, "every event is delivered once");
            }
            drained
        });
    });
    group.finish();
    drop(publisher);
    support::finish(bus);
}
