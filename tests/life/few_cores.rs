//! More workers than cores, pinned or not, and every way to idle: all deliver.

use std::thread;
use std::time::Duration;

use ringmain::{Bus, BusBuilder, IdleStrategy, Payload, Priority};

use crate::support::{PATIENCE, shut_down_clean};

/// Two publishers, and a handler and a mailbox on each worker.
fn delivers(builder: BusBuilder, workers: usize, events: u64) {
    let bus = builder.workers(workers).max_queue_size(1_024).build().unwrap();
    let inline: Vec<_> =
        (0..workers).map(|worker| bus.subscribe("load.*").on_worker(worker).handle(|_, _| {}).unwrap()).collect();
    let consumers: Vec<_> = (0..workers)
        .map(|worker| {
            let mut mailbox = bus.subscribe("load.*").on_worker(worker).capacity(64).mailbox().unwrap();
            thread::spawn(move || mailbox.iter().count() as u64)
        })
        .collect();
    thread::scope(|scope| {
        for nth in 0..2 {
            let mut publisher = bus.publisher().unwrap();
            scope.spawn(move || {
                for event in 0..events {
                    let priority = Priority::ALL[(event % 4) as usize];
                    let topic = if nth == 0 { "load.one" } else { "load.two" };
                    let bytes = event.to_le_bytes();
                    publisher.at(priority).publish_deadline(topic, Payload::raw(&bytes), PATIENCE).unwrap();
                }
            });
        }
    });
    bus.flush_deadline(PATIENCE).unwrap();
    for one in &inline {
        assert_eq!(one.record().delivery_count, 2 * events);
    }
    shut_down_clean(&bus);
    for consumer in consumers {
        assert_eq!(consumer.join().unwrap(), 2 * events);
    }
}

/// `ci/few-cores` runs the whole suite so.
#[cfg(feature = "stall")]
#[test]
fn every_bus_has_as_many_workers_as_the_environment_asks_for() {
    let least = std::env::var("RINGMAIN_WORKERS_MIN").map_or(1, |text| text.parse().unwrap());
    let bus = Bus::builder().workers(1).build().unwrap();
    assert_eq!(bus.metrics().workers.len(), least);
    println!("each bus has {least} workers at least");
    shut_down_clean(&bus);
}

#[test]
fn sixteen_workers_deliver_on_any_number_of_cores() {
    delivers(Bus::builder(), 16, 500);
}

#[test]
fn sixteen_workers_deliver_with_everything_unpinned() {
    delivers(Bus::builder().pin(false), 16, 500);
}

#[test]
fn every_idle_strategy_delivers() {
    for strategy in IdleStrategy::ALL {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
        for pin in [false, true] {
            delivers(Bus::builder().idle(strategy).pin(pin), 2, 400);
        }
    }
    assert!("nap".parse::<IdleStrategy>().unwrap_err().to_string().contains("\"nap\""));
}

#[test]
fn workers_that_rest_as_long_as_they_may_or_never_deliver() {
    for strategy in [IdleStrategy::BusySpin, IdleStrategy::Backoff, IdleStrategy::Adaptive] {
        for limit in [Duration::ZERO, Duration::from_millis(1)] {
            delivers(Bus::builder().idle(strategy).pin(false).coalesce_max(limit), 2, 400);
        }
    }
}

#[test]
fn spinning_workers_deliver_although_they_outnumber_the_cores() {
    delivers(Bus::builder().idle(IdleStrategy::BusySpin).pin(false), 4, 100);
}
