//! What waits for its time comes then, in whichever cell of a large mailbox it is.

use ringmain::EventBusConfig;

use super::super::support::assert_settled;
use super::*;

#[test]
fn what_waits_in_any_cell_of_a_large_mailbox_comes_when_it_is_due() {
    const CELLS: u64 = 300;
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("a").mode(DeliveryMode::reliable()).capacity(CELLS as usize).mailbox().unwrap();
    // The nth cell comes again after so many milliseconds: early and late ones stand next to each other.
    let due = |nth: u64| 1 + nth * 7 % CELLS;
    for nth in 0..CELLS {
        bus.publish("a", Payload::plain_text(&nth.to_string())).unwrap();
        simulation.run();
        inbox.try_recv().unwrap().retry_after(Duration::from_millis(due(nth)));
    }
    let mut came = 0;
    for elapsed in 1..=CELLS + 1 {
        simulation.advance(MS);
        simulation.run();
        while let Ok(delivery) = inbox.try_recv() {
            let nth: u64 = delivery.payload().text().unwrap().parse().unwrap();
            let late = elapsed - due(nth);
            assert!(late <= 1, "the event of cell {nth} came {late} ms late");
            assert_eq!(delivery.meta().attempt(), 2);
            delivery.ack();
            came += 1;
        }
    }
    assert_eq!(came, CELLS);
    assert_settled(bus);
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The time that a process was suspended, by a clock that counts it, in days.
const SUSPENSIONS: [u32; 8] = [1, 11, 13, 20, 26, 27, 60, 90];

#[test]
fn after_a_suspension_of_weeks_what_waited_comes_at_once() {
    for days in SUSPENSIONS {
        let simulation = simulation();
        let mut inbox = reliable_mailbox(simulation.bus(), RetryPolicy::default().delays(100 * MS, 100 * MS));
        publish(simulation.bus(), 1);
        simulation.run();
        inbox.try_recv().unwrap().fail("not yet");
        simulation.run();
        simulation.advance(DAY * days);
        simulation.run();
        let again = inbox.try_recv().unwrap_or_else(|none| panic!("after {days} days: {none}"));
        assert_eq!(again.meta().attempt(), 2);
        // What waits now waits as long as it is to.
        again.retry_after(10 * DAY);
        simulation.advance(10 * DAY - MS);
        simulation.run();
        assert_empty(&mut inbox);
        simulation.advance(MS);
        simulation.run();
        inbox.try_recv().unwrap().ack();
        assert_settled(simulation.bus());
    }
}

#[test]
fn after_a_suspension_of_weeks_an_attempt_is_over() {
    for days in SUSPENSIONS {
        let simulation = simulation();
        let mut inbox = reliable_mailbox(simulation.bus(), at_once(2));
        publish(simulation.bus(), 1);
        simulation.run();
        let held = inbox.try_recv().unwrap();
        simulation.advance(DAY * days);
        simulation.run();
        assert_eq!(ledger(simulation.bus()).timed_out, 1, "after {days} days");
        simulation.advance(MS);
        simulation.run();
        let again = inbox.try_recv().unwrap();
        assert_eq!((held.ack(), again.ack()), (Settled::TooLate, Settled::Counted));
        assert_settled(simulation.bus());
    }
}

#[test]
fn an_attempt_takes_as_long_as_the_bus_says_where_its_subscription_does_not() {
    let long = Duration::from_secs(10);
    let of_config = BusBuilder::from(EventBusConfig { delivery_timeout: long, ..EventBusConfig::default() }).workers(1);
    for builder in [small().attempt_timeout(long), of_config] {
        let simulation = Simulation::new(builder, 7).unwrap();
        let mut inbox = reliable_mailbox(simulation.bus(), RetryPolicy::default());
        let own = DeliveryMode::Reliable { timeout: 2 * long };
        let mut patient = simulation.bus().subscribe("a").mode(own).mailbox().unwrap();
        publish(simulation.bus(), 1);
        simulation.run();
        let (held, kept) = (inbox.try_recv().unwrap(), patient.try_recv().unwrap());
        for (passed, timed_out) in [(TIMEOUT + MS, 0), (TIMEOUT, 1), (long, 2)] {
            simulation.advance(passed);
            simulation.run();
            assert_eq!(ledger(simulation.bus()).timed_out, timed_out);
        }
        assert_eq!([held, kept].map(|late| late.ack()), [Settled::TooLate; 2]);
        assert_books(simulation.bus());
    }
    for (wrong, ms) in [(Duration::ZERO, 0), (DAY + MS, 86_400_001)] {
        let refused = small().attempt_timeout(wrong).build().unwrap_err().to_string();
        assert!(refused.contains("attempt_timeout in ms") && refused.contains(&ms.to_string()), "{refused}");
    }
}

#[test]
fn the_longest_wait_is_none_that_is_over_wherever_in_a_tick_it_begins() {
    for ns in [1, 131_072, 262_142, 262_143] {
        let simulation = simulation();
        simulation.advance(Duration::from_nanos(ns));
        let mut inbox = reliable_mailbox(simulation.bus(), at_once(2));
        publish(simulation.bus(), 1);
        simulation.run();
        let held = inbox.try_recv().unwrap();
        assert!(held.extend(20 * DAY), "cut to ten days");
        simulation.advance(10 * DAY);
        simulation.run();
        assert!(held.is_current(), "begun {ns} ns into a tick");
        simulation.advance(MS);
        simulation.run();
        assert!(!held.is_current());
        assert_books(simulation.bus());
    }
}
