//! From which length on does a batch beat the same events published one by one?

mod support;

use criterion::{BenchmarkId, Criterion, Throughput};
use ringmain::{Priority, Publisher};
use support::{SMALL, Setup, Words};

const LENGTHS: [u64; 4] = [1, 10, 100, 1_000];
/// Events an iteration, in batches or one by one.
const EVENTS: u64 = 1_000;

fn main() {
    support::announce(&[Setup::ONE_TO_ONE]);
    let mut criterion = support::criterion();
    bench(&mut criterion, "one_by_one", |publisher, first| {
        for word in first..first + EVENTS {
            publisher.publish(SMALL, &Words::new(word)).expect("the lane drains");
        }
    });
    for length in LENGTHS {
        bench(&mut criterion, &format!("batches_of_{length}"), move |publisher, first| {
            for _ in 0..EVENTS / length {
                let mut batch = publisher.batch(Priority::Normal);
                for word in first..first + length {
                    batch.add(SMALL, &Words::new(word)).expect("the batch is short enough");
                }
                let ids = batch.publish().expect("the lane drains");
                assert_eq!(ids.len() as u64, length);
            }
        });
    }
    criterion.final_summary();
}

/// Publishes by `publish`, which is given the first word of its events, and waits until all are delivered.
fn bench(criterion: &mut Criterion, form: &str, publish: impl Fn(&mut Publisher, u64) + Sync) {
    let setup = Setup::ONE_TO_ONE;
    let bus = setup.builder().slot_bytes(128).build().expect("the settings are valid");
    let count = support::read_inline(&bus, SMALL, 0);
    let mut publisher = bus.publisher().expect("there is a place");
    let mut sent = 0;
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function(BenchmarkId::from_parameter(form), |bencher| {
        bencher.iter_custom(|iterations| {
            sent += iterations * EVENTS;
            support::race(setup, std::slice::from_mut(&mut publisher), |_, publisher| {
                for nth in 0..iterations {
                    publish(publisher, nth * EVENTS);
                }
                count.wait(sent);
            })
        });
    });
    group.finish();
    drop(publisher);
    support::finish(&bus);
}
