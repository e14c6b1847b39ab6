//! Does a publisher that stands still between claim and commit slow the other lanes?
//!
//! Rounds with and without one take turns, so that what the machine does besides meets each alike. The one that stands still has
//! claimed a slot of the High lane; the events are Normal. With `-- --judge` it fails where less than nine tenths of the rate are left.

mod support;

use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use ringmain::Priority;
use ringmain::internals::ring::stall;
use support::{SMALL, Setup, Words};

/// Of the rate without one.
const RATIO_MIN: f64 = 0.9;

fn main() {
    let setup = Setup::ONE_TO_ONE;
    support::announce(&[setup]);
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let (rounds, events) = if has("--test") { (1, 1_000) } else { (51, 500_000) };
    eprintln!("{rounds} rounds of {events} events each");
    let mut ratios = Vec::with_capacity(rounds);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for nth in 0..rounds {
        // Who comes first has it warmer or colder.
        let first = round(setup, events, nth % 2 == 0);
        let second = round(setup, events, nth % 2 == 1);
        let (stalled, free) = if nth % 2 == 0 { (first, second) } else { (second, first) };
        ratios.push(stalled / free);
        alone.push(free);
        beside.push(stalled);
    }
    let [low, ratio, high] = quartiles(&mut ratios);
    println!("nobody stands still          {:>12.0} events/s", quartiles(&mut alone)[1]);
    println!("one does, in the lane beside {:>12.0} events/s", quartiles(&mut beside)[1]);
    println!(
        "of the rate                  {:>11.1} %, inner half {:.1} to {:.1} %",
        ratio * 1e2,
        low * 1e2,
        high * 1e2
    );
    if has("--judge") {
        assert!(ratio >= RATIO_MIN, "{ratio:.2} of the rate are left beside a publisher that stands still");
    }
}

/// Events a second, from the first publish to the last delivery.
fn round(setup: Setup, events: u64, is_stalled: bool) -> f64 {
    let bus = setup.builder().slot_bytes(128).build().expect("the settings are valid");
    let count = support::read_inline(&bus, SMALL, 0);
    let ((go, gone), (inside, entered)) = (channel::<()>(), channel());
    let stopped = is_stalled.then(|| {
        let bus = bus.clone();
        thread::spawn(move || {
            let mut publisher = bus.publisher().expect("there is a place");
            stall::arm(0, move |_| {
                inside.send(()).expect("the round waits for it");
                gone.recv().expect("the round lets it go");
            });
            publisher.at(Priority::High).publish(SMALL, &Words::new(0)).expect("there is room");
        })
    });
    if is_stalled {
        entered.recv().expect("it comes by");
    }
    let mut publisher = bus.publisher().expect("there is a place");
    let took = support::on_publisher_thread(setup, || {
        let begun = Instant::now();
        for nth in 0..events {
            publisher.publish(SMALL, &Words::new(nth)).expect("the lane drains");
        }
        count.wait(events);
        begun.elapsed()
    });
    if let Some(stopped) = stopped {
        go.send(()).expect("it waits");
        stopped.join().expect("it publishes when it is let go");
    }
    drop(publisher);
    support::finish(&bus);
    events as f64 / took.as_secs_f64()
}

fn quartiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
