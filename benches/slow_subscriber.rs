//! Does a slow consumer behind a full mailbox slow down a fast inline subscription of the same worker?

mod support;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use ringmain::{Bus, Overflow, SubscriptionId};
use support::{SMALL, Setup, Words};

/// Events an iteration.
const EVENTS: u64 = 1_000;
/// What the slow consumer sleeps for each event: longer than the bus takes for an iteration.
const SLOW_WORK: Duration = Duration::from_millis(1);
/// So small that it is full all the time.
const MAILBOX: usize = 64;

fn main() {
    support::announce(&[Setup::ONE_TO_ONE]);
    eprintln!("the slow consumer has a thread of its own, not pinned, which sleeps");
    let mut criterion = support::criterion();
    bench(&mut criterion, "fast_alone", None);
    bench(&mut criterion, "beside_drop_newest", Some(Overflow::DropNewest));
    bench(&mut criterion, "beside_drop_oldest", Some(Overflow::DropOldest));
    criterion.final_summary();
}

/// From the first publish until the fast subscription has had every event.
fn bench(criterion: &mut Criterion, name: &str, overflow: Option<Overflow>) {
    let setup = Setup::ONE_TO_ONE;
    let bus = setup.builder().slot_bytes(128).build().expect("the settings are valid");
    let fast = support::read_inline(&bus, SMALL, 0);
    let slow = overflow.map(|overflow| slow_consumer(&bus, overflow));
    let mut publisher = bus.publisher().expect("there is a place");
    let mut sent = 0;
    let mut group = criterion.benchmark_group("slow_subscriber");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter_custom(|iterations| {
            sent += iterations * EVENTS;
            support::race(setup, std::slice::from_mut(&mut publisher), |_, publisher| {
                for word in 0..iterations * EVENTS {
                    publisher.publish(SMALL, &Words::new(word)).expect("the lane drains");
                }
                fast.wait(sent);
            })
        });
    });
    group.finish();
    drop(publisher);
    bus.flush().expect("a mailbox is emptied in less than the deadline");
    if let Some(slow) = slow {
        let ledger = bus.subscription(slow).expect("it lives as long as the bus").ledger;
        assert_eq!(ledger.matched, sent, "the mailbox was offered every event");
        assert_eq!(ledger.delivered + ledger.dropped.overflow, sent, "each was handled or dropped, and counted");
    }
    support::finish(&bus);
}

fn slow_consumer(bus: &Bus, overflow: Overflow) -> SubscriptionId {
    let slow = bus.subscribe(SMALL).named("slow").on_worker(0).capacity(MAILBOX).overflow(overflow);
    slow.handle_on("slow", |_, _| std::thread::sleep(SLOW_WORK)).expect("the bus runs").forever()
}
