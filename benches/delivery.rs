//! What does each delivery mode cost an event, from the worker's read to its end, inline and out of a mailbox?

mod support;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ringmain::testing::Simulation;
use ringmain::{Bus, DeliveryMode, Key, Mailbox, Publisher, RetryPolicy, Topic};
use support::{Count, SMALL, Words};

/// Events of a drain; as many as a mailbox holds.
const EVENTS: u64 = 1_024;
const RELIABLE: DeliveryMode = DeliveryMode::Reliable { timeout: Duration::from_secs(5) };

fn main() {
    support::announce(&[]);
    eprintln!("worker and consumer on one thread, taking turns; publishing is not timed");
    let mut criterion = support::criterion();
    inline(&mut criterion, "best_effort", DeliveryMode::BestEffort);
    inline(&mut criterion, "reliable", RELIABLE);
    inline_retried(&mut criterion);
    mailbox(&mut criterion, "best_effort", DeliveryMode::BestEffort, false);
    mailbox(&mut criterion, "reliable", RELIABLE, false);
    mailbox(&mut criterion, "reliable_ordered", RELIABLE, true);
    mailbox(&mut criterion, "latest_only_of_1024", DeliveryMode::LatestOnly, false);
    criterion.final_summary();
}

fn simulation() -> Simulation {
    Simulation::new(Bus::builder().workers(1).slot_bytes(128), 1).expect("the settings are valid")
}

fn publish(publisher: &mut Publisher, events: u64) {
    for word in 0..events {
        publisher.publish(SMALL, &Words::new(word)).expect("there is room");
    }
}

/// Times the end of `EVENTS` events that are waiting in the lane, by `drain`.
fn measure(criterion: &mut Criterion, form: &str, simulation: &Simulation, mut drain: impl FnMut()) {
    let mut publisher = simulation.bus().publisher().expect("there is a place");
    let mut group = criterion.benchmark_group("delivery");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function(form, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut drained = Duration::ZERO;
            for _ in 0..iterations {
                publish(&mut publisher, EVENTS);
                let begun = Instant::now();
                drain();
                drained += begun.elapsed();
            }
            drained
        });
    });
    group.finish();
    drop(publisher);
    support::finish(simulation.bus());
}

fn inline(criterion: &mut Criterion, form: &str, mode: DeliveryMode) {
    let simulation = simulation();
    let count = Count::default();
    let counted = count.clone();
    let handled = simulation.bus().subscribe(SMALL).mode(mode).handle(move |event, _| {
        std::hint::black_box(event.sum());
        counted.add_one();
    });
    handled.expect("the bus runs").forever();
    let mut expected = 0;
    measure(criterion, &format!("inline/{form}"), &simulation, || {
        simulation.run();
        expected += EVENTS;
        assert_eq!(count.get(), expected, "every event is handled once");
    });
}

/// Each event fails once and is handled at the second attempt, at once.
fn inline_retried(criterion: &mut Criterion) {
    let simulation = simulation();
    let count = Count::default();
    let counted = count.clone();
    let retry = RetryPolicy::default().delays(Duration::ZERO, Duration::ZERO);
    let handled = simulation.bus().subscribe(SMALL).mode(RELIABLE).retry(retry).handle(move |event, meta| {
        std::hint::black_box(event.sum());
        counted.add_one();
        if meta.attempt() == 1 { Err("not at the first attempt") } else { Ok(()) }
    });
    handled.expect("the bus runs").forever();
    let mut expected = 0;
    measure(criterion, "inline/reliable_each_fails_once", &simulation, || {
        simulation.run();
        expected += 2 * EVENTS;
        assert_eq!(count.get(), expected, "every event is tried twice");
    });
}

fn mailbox(criterion: &mut Criterion, form: &str, mode: DeliveryMode, is_ordered: bool) {
    let simulation = simulation();
    let subscribe = simulation.bus().subscribe(SMALL).mode(mode).capacity(EVENTS as usize);
    let subscribe = if is_ordered { subscribe.ordered_by(by_word()) } else { subscribe };
    let mut mailbox: Mailbox<Topic<Words<8>>> = subscribe.mailbox().expect("the bus runs");
    measure(criterion, &format!("mailbox/{form}"), &simulation, || {
        simulation.run();
        let mut taken = 0;
        while let Ok(delivery) = mailbox.try_recv() {
            std::hint::black_box(delivery.event().expect("it is of this type").sum());
            delivery.ack();
            taken += 1;
        }
        let wanted = if mode == DeliveryMode::LatestOnly { 1 } else { EVENTS };
        assert_eq!(taken, wanted, "what was published is in the mailbox");
    });
}

/// A key of its own for each event of a drain.
fn by_word() -> Key {
    Key::by(|meta| meta.payload().bytes().first_chunk().map(|word: &[u8; 8]| u64::from_le_bytes(*word)))
}
