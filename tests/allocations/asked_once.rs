//! A worker reads the payload of an event whose lane waits for a service once, not each turn.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, Condition, Overflow, Payload, RoutingRule};

use crate::books::assert_settled;
use crate::{alone, asked};

#[test]
fn a_payload_is_read_once_for_an_event_whose_lane_waits() {
    alone("asked_once::a_payload_is_read_once_for_an_event_whose_lane_waits", || {
        let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
        let bus = simulation.bus();
        let service = bus.service("one").capacity(1).overflow(Overflow::Block).open().unwrap();
        let mut inbox = service.instance("i").capacity(1).mailbox().unwrap();
        // A text with an escape cannot be compared without an allocation.
        let condition = Condition::payload("a").equals("a tab\t");
        bus.rules().add(RoutingRule::new("r").when(condition).to("one")).unwrap();
        for _ in 0..3 {
            bus.publish("x", Payload::json(r#"{"a":"a tab\t"}"#)).unwrap();
        }
        let before = asked();
        simulation.run();
        assert!(asked() > before, "reading the payload allocates, or this test shows nothing");
        let before = asked();
        for _ in 0..100 {
            assert_eq!(simulation.turn(0), Some(0), "there is room for two");
        }
        assert_eq!(asked(), before, "the third was read again");
        let taken = std::iter::from_fn(|| {
            // What waits at the service is tried again in its time.
            simulation.advance(Duration::from_secs(60));
            simulation.run();
            inbox.try_recv().ok().map(|delivery| delivery.ack())
        });
        assert_eq!(taken.count(), 3);
        assert_settled(bus);
    });
}
