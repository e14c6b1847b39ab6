//! How long does one event take from the publish on one thread to the inline handler on another, both spinning?

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ringmain::{Bus, Publisher, Topic};
use support::{SMALL, Setup, Words};

const PING: Topic<Words<8>> = Topic::new("bench.ping");
const PONG: Topic<Words<8>> = Topic::new("bench.pong");
/// Request and answer go between two workers; the thread that starts them sleeps.
const TWO_WORKERS: Setup = Setup { publishers: 0, workers: 2 };

fn main() {
    support::announce(&[TWO_WORKERS, Setup::ONE_TO_ONE]);
    let mut criterion = support::criterion();
    request_and_answer(&mut criterion);
    publish_to_handler_and_back(&mut criterion);
    criterion.final_summary();
}

/// Two workers answer each other over two topics, one event in flight: an iteration is one event, half a round trip.
fn request_and_answer(criterion: &mut Criterion) {
    let bus = TWO_WORKERS.builder().slot_bytes(128).build().expect("the settings are valid");
    let (done, ended) = mpsc::channel();
    for (worker, from, to) in [(0, PING, PONG), (1, PONG, PING)] {
        answer(&bus, worker, from, to, done.clone());
    }
    let mut publisher = bus.publisher().expect("there is a place");

    let mut group = criterion.benchmark_group("handoff");
    group.throughput(Throughput::Elements(1));
    group.bench_function("request_answer/two_workers", |bencher| {
        bencher.iter_custom(|iterations| {
            let begun = Instant::now();
            publisher.publish(PING, &Words::new(iterations)).expect("the lane is empty");
            let end = ended.recv_timeout(Duration::from_secs(30)).expect("no event is lost");
            end - begun
        });
    });
    group.finish();
    drop(publisher);
    support::finish(&bus);
}

/// Answers an event that carries `n` with one that carries `n - 1`; 1 is the last.
fn answer(bus: &Bus, worker: usize, from: Topic<Words<8>>, to: Topic<Words<8>>, done: mpsc::Sender<Instant>) {
    let mut publisher: Publisher = bus.publisher().expect("there is a place");
    let handled = bus.subscribe(from).on_worker(worker).handle(move |event, _| match event.words[0].to_native() {
        0 | 1 => done.send(Instant::now()).map_err(|gone| gone.to_string()),
        left => publisher.try_publish(to, &Words::new(left - 1)).map(drop).map_err(|error| error.to_string()),
    });
    handled.expect("the bus runs").forever();
}

/// A publisher sends one event, and sees by a plain store that its handler has run: a whole round trip, half of it bus.
fn publish_to_handler_and_back(criterion: &mut Criterion) {
    let setup = Setup::ONE_TO_ONE;
    let mut group = criterion.benchmark_group("handoff");
    group.throughput(Throughput::Elements(1));
    for (form, single) in [("many_publishers", false), ("single_publisher", true)] {
        let builder = setup.builder().slot_bytes(128);
        let builder = if single { builder.single_publisher() } else { builder };
        let bus = builder.build().expect("the settings are valid");
        let count = support::read_inline(&bus, SMALL, 0);
        let mut publisher = bus.publisher().expect("there is a place");
        let mut sent = 0;
        group.bench_function(format!("publish_to_handler_and_back/{form}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let first = sent;
                sent += iterations;
                support::race(setup, std::slice::from_mut(&mut publisher), |_, publisher| {
                    for nth in first..first + iterations {
                        publisher.publish(SMALL, &Words::new(nth)).expect("the lane is empty");
                        count.wait(nth + 1);
                    }
                })
            });
        });
        drop(publisher);
        support::finish(&bus);
    }
    group.finish();
}
