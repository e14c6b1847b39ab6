//! What does a publish cost when it finds its worker asleep, and when it finds it awake?

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use ringmain::{Bus, BusBuilder, IdleStrategy, StampPolicy};
use support::{SMALL, Setup, Words};

/// How long the publisher leaves the bus alone, so that workers that park do.
const PAUSE: Duration = Duration::from_micros(50);

fn main() {
    support::announce(&[Setup::ONE_TO_ONE]);
    eprintln!("those called parked: idle strategy park; those with 4 workers: not pinned");
    let mut criterion = support::criterion();
    clock_alone(&mut criterion);
    let spinning = || Setup::ONE_TO_ONE.builder();
    bench(&mut criterion, "nobody_subscribed", spinning(), false);
    bench(&mut criterion, "awake", spinning(), true);
    bench(&mut criterion, "parked", spinning().idle(IdleStrategy::Park), true);
    let four = Bus::builder().workers(4).pin(false).idle(IdleStrategy::Park);
    bench(&mut criterion, "parked_one_target_of_4_workers", four, true);
    criterion.final_summary();
}

/// What the others include: two looks at the clock, with nothing between them.
fn clock_alone(criterion: &mut Criterion) {
    criterion.bench_function("wake/clock_alone", |bencher| {
        bencher.iter_custom(|iterations| {
            support::on_publisher_thread(Setup::ONE_TO_ONE, || {
                (0..iterations).map(|_| black_box(Instant::now()).elapsed()).sum()
            })
        });
    });
}

/// Times single publishes, clock reading included; the time between them is not counted.
fn bench(criterion: &mut Criterion, name: &str, builder: BusBuilder, subscribed: bool) {
    // A publish that finds a sleeper stamps its event, the first is stamped too, and no other: so the count of
    // measured events tells how many found the worker asleep.
    let builder = builder.slot_bytes(128).stamps(StampPolicy::OneIn(u32::MAX));
    let bus = builder.build().expect("the settings are valid");
    let count = subscribed.then(|| support::read_inline(&bus, SMALL, 0));
    let mut publisher = bus.publisher().expect("there is a place");
    let mut sent = 0;
    criterion.bench_function(&format!("wake/publish/{name}"), |bencher| {
        bencher.iter_custom(|iterations| {
            support::on_publisher_thread(Setup::ONE_TO_ONE, || {
                let mut publishing = Duration::ZERO;
                for _ in 0..iterations {
                    sent += 1;
                    let begun = Instant::now();
                    publisher.publish(SMALL, &Words::new(sent)).expect("the lane is empty");
                    publishing += begun.elapsed();
                    if let Some(count) = &count {
                        count.wait(sent);
                    }
                    let quiet = Instant::now();
                    while quiet.elapsed() < PAUSE {
                        std::hint::spin_loop();
                    }
                }
                publishing
            })
        });
    });
    drop(publisher);
    support::finish(&bus);
    if subscribed && sent > 0 {
        let woken = bus.metrics().delivery_latency.total.count;
        eprintln!("wake/publish/{name}: {woken} of {sent} events found the worker asleep, or were the first");
    }
}
