//! When a worker rests after a flow, for how long at most, and what ends the rest: asked of a worker turned by hand.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::rest::{DENSE_NS, is_dense};
use super::*;
use crate::bus::{Bus, BusBuilder, Driver};
use crate::clock::Clock;
use crate::{Payload, Priority, Rate, Subscription};

const LIMIT: Duration = Duration::from_micros(10);

/// A bus with one worker and a handler that wants everything.
struct World {
    bus: Bus,
    _made: Subscription,
}

impl World {
    fn new(builder: BusBuilder) -> Self {
        let bus = builder
            .workers(1)
            .turn_max(2_000)
            .blocks([])
            .payload_bytes_max(64)
            .build_manual(Clock::manual())
            .expect("a bus");
        let made = bus.subscribe("**").handle(|_, _| ()).expect("a subscription");
        Self { bus, _made: made }
    }

    fn publish(&self, priority: Priority, events: usize) {
        let mut publisher = self.bus.publisher().expect("a publisher");
        for _ in 0..events {
            publisher.at(priority).publish("a", Payload::raw(b"")).expect("room");
        }
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Worker>> {
        let Driver::Manual(workers) = &self.bus.shared().driver else { panic!("nobody turns them") };
        workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes `events` of each of `priorities` and lets the worker catch up with them. How long it may rest then.
    fn rest_after(&self, priorities: &[Priority], events: usize) -> Duration {
        for &priority in priorities {
            self.publish(priority, events);
        }
        let all = events * priorities.len();
        let mut workers = self.workers();
        assert_eq!(workers[0].turn(), Turn::Worked { events: all, caught_up: true });
        workers[0].rest_after(all, workers[0].moved())
    }

    fn is_called(&self) -> bool {
        self.workers()[0].is_called()
    }
}

#[test]
fn a_rest_grows_with_the_flow_up_to_the_limit() {
    let world = World::new(Bus::builder().coalesce_max(LIMIT));
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        for (events, rest) in [(2, 100), (10, 500), (199, 9_950), (200, 10_000), (201, 10_000), (1_000, 10_000)] {
            assert_eq!(world.rest_after(&[priority], events), Duration::from_nanos(rest), "{events} {priority}");
        }
    }
    assert_eq!(world.workers()[0].rest_after(usize::MAX, 0b0100), LIMIT);
}

#[test]
fn there_is_no_rest_after_a_lone_event_nor_after_critical_ones() {
    let world = World::new(Bus::builder().coalesce_max(LIMIT));
    for priority in Priority::ALL {
        assert_eq!(world.rest_after(&[priority], 1), Duration::ZERO, "{priority}");
    }
    assert_eq!(world.rest_after(&[Priority::Critical], 50), Duration::ZERO);
    assert_eq!(world.rest_after(&[Priority::Low, Priority::Critical], 25), Duration::ZERO, "some of them critical");
    assert_eq!(world.rest_after(&[Priority::Low, Priority::High], 25), Duration::from_nanos(2_500));
}

#[test]
fn a_limit_of_zero_switches_rests_off() {
    let world = World::new(Bus::builder().coalesce_max(Duration::ZERO));
    for priority in Priority::ALL {
        assert_eq!(world.rest_after(&[priority], 100), Duration::ZERO, "{priority}");
    }
}

#[test]
fn only_a_dense_flow_gains_by_a_rest() {
    for events in [2, 100] {
        let longest = Duration::from_nanos(events as u64 * DENSE_NS);
        assert!(is_dense(events, Duration::ZERO) && is_dense(events, longest));
        assert!(!is_dense(events, longest + Duration::from_nanos(1)), "{events}");
    }
    assert!(is_dense(usize::MAX, Duration::from_secs(1)), "no overflow");
}

#[test]
fn a_more_urgent_event_ends_a_rest_and_no_other_does() {
    for (nth, &flow) in Priority::ALL.iter().enumerate().skip(1) {
        for (other, &comes) in Priority::ALL.iter().enumerate() {
            let world = World::new(Bus::builder());
            assert!(world.rest_after(&[flow], 10) > Duration::ZERO && !world.is_called());
            world.publish(comes, 1);
            assert_eq!(world.is_called(), other < nth, "{comes} after {flow}");
        }
    }
}

#[test]
fn a_change_of_subscriptions_ends_a_rest() {
    let world = World::new(Bus::builder().deadline(Duration::ZERO));
    world.rest_after(&[Priority::Normal], 10);
    assert!(!world.is_called());
    // Held, so that nobody adopts the table on the worker's behalf.
    let workers = world.workers();
    world.bus.subscribe("b").handle(|_, _| ()).expect_err("the worker does not answer");
    assert!(workers[0].is_called());
}

#[test]
fn the_end_of_the_bus_ends_a_rest() {
    let world = World::new(Bus::builder());
    world.rest_after(&[Priority::Normal], 10);
    assert!(!world.is_called());
    world.bus.shared().engine.close();
    assert!(world.is_called());
}

#[test]
fn a_worker_that_the_throttle_holds_back_does_not_go_to_sleep_on_a_bus_that_ends() {
    let world = World::new(Bus::builder().throttle(Rate::per_second(0.001)));
    world.publish(Priority::Normal, 3);
    let mut workers = world.workers();
    assert!(matches!(workers[0].turn(), Turn::Worked { events: 1, .. }), "a burst of one");
    assert_eq!((workers[0].turn(), workers[0].is_held_back(), workers[0].has_work()), (Turn::Idle, true, false));
    // As when the end comes between its turn and its announcement of the sleep: then nobody wakes it any more.
    world.bus.shared().engine.close();
    world.bus.shared().engine.set_phase(Phase::Draining);
    assert!(workers[0].has_work());
    assert!(matches!(workers[0].turn(), Turn::Worked { events: 2, .. }));
    assert_eq!(workers[0].turn(), Turn::Finished);
}

#[test]
fn a_worker_that_goes_on_after_a_panic_before_its_sleep_is_woken_by_no_room_that_it_does_not_wait_for() {
    for has_panicked in [false, true] {
        let world = World::new(Bus::builder());
        let mut inbox = world.bus.subscribe("a").capacity(1).mailbox().expect("a mailbox");
        world.publish(Priority::Normal, 2);
        let mut workers = world.workers();
        let worker = &mut workers[0];
        assert!(matches!(worker.turn(), Turn::Worked { events: 1, .. }), "the other one waits for room");
        worker.starve(true);
        if has_panicked {
            assert!(worker.recover());
        }
        // It goes to sleep: as it was about to, or later, when all is done.
        worker.engine.parker.prepare(0);
        inbox.try_recv().expect("one is queued").ack();
        assert_eq!(worker.engine.parker.seems_parked(|| 1), has_panicked);
    }
}
