//! Faults that a review found: each stays mended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, EventId, Payload, PublishError};

use crate::support::{PATIENCE, assert_books};

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the panic's own value panics");
    }
}

#[test]
fn a_panic_whose_value_panics_leaves_the_worker_alive() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let _bombs = bus
        .subscribe("a")
        .handle(move |_, _| {
            if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                std::panic::panic_any(Bomb);
            }
        })
        .unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_books(&bus);
}

#[test]
fn a_change_is_taken_over_between_two_events_of_a_long_backlog() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (entered, enters) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let _slow = bus
        .subscribe("a")
        .handle(move |_, _| {
            entered.send(()).unwrap();
            // Once the test lets go of its end, the rest of the backlog passes at once.
            let _ = released.recv();
        })
        .unwrap();
    for _ in 0..50 {
        bus.publish("a", Payload::raw(b"")).unwrap();
    }
    enters.recv().unwrap();
    let other = bus.clone();
    let subscribed = std::thread::spawn(move || other.subscribe("b").handle(|_, _| ()).map(|made| made.forever()));
    // One event after the other is let through, until the change is done: long before the backlog is.
    let mut let_through = 0;
    while !subscribed.is_finished() {
        release.send(()).unwrap();
        enters.recv_timeout(PATIENCE).unwrap();
        let_through += 1;
        assert!(let_through < 49, "the change waited for the end of the backlog");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    subscribed.join().unwrap().unwrap();
    drop(release);
    bus.flush_deadline(PATIENCE).unwrap();
    assert_books(&bus);
}

#[test]
fn publishers_of_a_simulation_never_make_the_same_id() {
    let simulation = Simulation::new(Bus::builder().workers(1), 3).unwrap();
    let id = || simulation.bus().publisher().unwrap().publish("a", Payload::raw(b"")).unwrap();
    assert_ne!(id(), id(), "one after the other, in the same place, at the same instant");
    assert_books(simulation.bus());
}

#[test]
fn ids_of_a_publisher_do_not_go_back_with_the_wall_clock() {
    let simulation = Simulation::new(Bus::builder().workers(1), 3).unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    let before = publisher.publish("a", Payload::raw(b"")).unwrap();
    simulation.step_wall_clock(1_000_000_000);
    simulation.advance(Duration::from_secs(1));
    let after = publisher.publish("a", Payload::raw(b"")).unwrap();
    let millis = |id: EventId| id.as_bytes()[..6].iter().fold(0, |millis, &byte| millis << 8 | u64::from(byte));
    assert_eq!(millis(after) - millis(before), 1_000, "the time of the id goes on as if nobody had set the clock");
    assert_books(simulation.bus());
}

#[test]
fn what_can_never_fit_is_refused_instead_of_awaited() {
    let bus = Bus::builder().workers(1).blocks([]).payload_bytes_max(150).build().unwrap();
    let _wanted = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let refused = publisher.event().metadata("k", &"v".repeat(100)).publish("a", Payload::raw(&[0; 150]));
    assert!(matches!(refused, Err(PublishError::NoBlock { max: 0, .. })), "{refused:?}");
    assert!(bus.subscribe("a").handle_on("a\0b", |_, _| ()).is_err(), "no thread has such a name");
    assert_books(&bus);
}

#[test]
fn a_handler_that_publishes_goes_with_the_bus() {
    struct Gone(Arc<AtomicU64>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let gone = Arc::new(AtomicU64::new(0));
    let subscribe = |bus: &Bus| {
        let mut publisher = bus.publisher().unwrap();
        let token = Gone(Arc::clone(&gone));
        let made = bus.subscribe("a").handle(move |_, _| {
            let _ = &token;
            publisher.try_publish("b", Payload::raw(b"")).map(drop)
        });
        made.unwrap().forever();
    };
    let bus = Bus::builder().workers(1).build().unwrap();
    subscribe(&bus);
    bus.publish("a", Payload::raw(b"")).unwrap();
    assert_books(&bus);
    drop(bus);
    assert_eq!(gone.load(Ordering::Relaxed), 1, "the handler owned a publisher of its own bus");
    let simulation = Simulation::new(Bus::builder().workers(1), 3).unwrap();
    subscribe(simulation.bus());
    drop(simulation);
    assert_eq!(gone.load(Ordering::Relaxed), 2);
}
