//! What does it cost to measure every event, 1 in 64 or none, and to read the figures?

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use ringmain::{Bus, Priority, StampPolicy};
use support::{SMALL, Setup, Words};

/// Events an iteration.
const EVENTS: u64 = 1_000;

fn main() {
    support::announce(&[Setup::ONE_TO_ONE]);
    let mut criterion = support::criterion();
    // The first event and one in four thousand million: as good as none.
    let none = StampPolicy::OneIn(u32::MAX);
    for (name, policy) in [("every", StampPolicy::Every), ("one_in_64", StampPolicy::OneIn(64)), ("none", none)] {
        stamps(&mut criterion, name, policy);
    }
    reading(&mut criterion);
    criterion.final_summary();
}

/// Throughput of one publisher and one worker under this policy.
fn stamps(criterion: &mut Criterion, name: &str, policy: StampPolicy) {
    let setup = Setup::ONE_TO_ONE;
    let bus = setup.builder().slot_bytes(128).stamps(policy).build().expect("the settings are valid");
    let mut sent = 0;
    let mut group = criterion.benchmark_group("metrics");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function(BenchmarkId::new("stamped", name), {
        let count = support::read_inline(&bus, SMALL, 0);
        let mut publisher = bus.publisher().expect("there is a place");
        let sent = &mut sent;
        move |bencher| {
            bencher.iter_custom(|iterations| {
                *sent += iterations * EVENTS;
                support::race(setup, std::slice::from_mut(&mut publisher), |_, publisher| {
                    for word in 0..iterations * EVENTS {
                        publisher.publish(SMALL, &Words::new(word)).expect("the lane drains");
                    }
                    count.wait(*sent);
                })
            });
        }
    });
    group.finish();
    support::finish(&bus);
    let recorded = bus.metrics().delivery_latency.total.count;
    let promised = match policy {
        StampPolicy::OneIn(every) => sent / u64::from(every),
        _ => sent,
    };
    assert!(recorded >= promised && recorded <= sent, "{recorded} of {sent} events were measured");
}

/// The control plane's side, with the histograms of two workers and four lanes filled.
fn reading(criterion: &mut Criterion) {
    let bus = Bus::builder().workers(2).slot_bytes(128).build().expect("the settings are valid");
    let counts = [0, 1].map(|worker| support::read_inline(&bus, SMALL, worker));
    let mut publisher = bus.publisher().expect("there is a place");
    for priority in Priority::ALL {
        for word in 0..EVENTS {
            publisher.at(priority).publish(SMALL, &Words::new(word)).expect("the lanes drain");
        }
    }
    let published = EVENTS * Priority::ALL.len() as u64;
    counts.iter().for_each(|count| count.wait(published));
    bus.flush().expect("everything is delivered");
    assert_eq!(bus.metrics().messages_delivered, published * 2);
    assert_eq!(bus.latency_histogram(Priority::Normal).len(), EVENTS * 2);

    let mut group = criterion.benchmark_group("metrics");
    group.bench_function("read/metrics", |bencher| bencher.iter(|| black_box(bus.metrics())));
    group.bench_function("read/ledger", |bencher| bencher.iter(|| black_box(bus.ledger())));
    group.bench_function("read/latency_histogram", |bencher| {
        bencher.iter(|| black_box(bus.latency_histogram(Priority::Normal)));
    });
    group.finish();
    drop(publisher);
    support::finish(&bus);
}
