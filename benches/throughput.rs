//! How many events a second go from publishers through workers to an inline handler on each worker?

mod support;

use criterion::{BenchmarkId, Criterion, Throughput};
use ringmain::{BusBuilder, Publisher, Topic};
use support::{LARGE, SMALL, Setup, Words};

/// Events an iteration, over all publishers.
const EVENTS: u64 = 1_000;
const SETUPS: [Setup; 4] = [
    Setup { publishers: 1, workers: 1 },
    Setup { publishers: 1, workers: 2 },
    Setup { publishers: 2, workers: 1 },
    Setup { publishers: 2, workers: 2 },
];

fn main() {
    support::announce(&SETUPS);
    let mut criterion = support::criterion();
    for setup in SETUPS {
        throughput(&mut criterion, setup, "many_publishers", SMALL, |builder| builder);
        throughput(&mut criterion, setup, "many_publishers", LARGE, |builder| builder);
        if setup.publishers == 1 {
            throughput(&mut criterion, setup, "single_publisher", SMALL, BusBuilder::single_publisher);
            throughput(&mut criterion, setup, "single_publisher", LARGE, BusBuilder::single_publisher);
        }
    }
    criterion.final_summary();
}

fn throughput<const N: usize>(
    criterion: &mut Criterion,
    setup: Setup,
    form: &str,
    topic: Topic<Words<N>>,
    with: impl FnOnce(BusBuilder) -> BusBuilder,
) {
    let payload_bytes = size_of::<Words<N>>();
    let builder = setup.builder().slot_bytes(support::slot_bytes(payload_bytes));
    let bus = with(builder).build().expect("the settings are valid");
    let counts: Vec<_> = (0..setup.workers).map(|worker| support::read_inline(&bus, topic, worker)).collect();
    let publisher = |_| bus.publisher().expect("there is a place for each publisher");
    let mut publishers: Vec<Publisher> = (0..setup.publishers).map(publisher).collect();
    let mut sent = 0;

    let mut group = criterion.benchmark_group("throughput");
    group.throughput(Throughput::Elements(EVENTS));
    let id = BenchmarkId::new(form, format!("{}to{}/{payload_bytes}B", setup.publishers, setup.workers));
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|iterations| {
            let share = iterations * EVENTS / setup.publishers as u64;
            sent += share * setup.publishers as u64;
            support::race(setup, &mut publishers, |_, publisher| {
                for word in 0..share {
                    publisher.publish(topic, &Words::new(word)).expect("the lane drains");
                }
                counts.iter().for_each(|count| count.wait(sent));
            })
        });
    });
    group.finish();
    drop(publishers);
    support::finish(&bus);
}
