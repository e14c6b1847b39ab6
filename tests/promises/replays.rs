//! Replays: who has not said that they do no harm is never given one, whatever its way of receiving.

use std::sync::{Arc, Mutex};

use ringmain::testing::Simulation;
use ringmain::{Bus, DeliveryMode, Frame, Payload, Publisher, ReplayPolicy};

use super::support::assert_settled;

fn simulation() -> Simulation {
    Simulation::new(Bus::builder().workers(1).max_queue_size(64), 7).unwrap()
}

fn frame(publisher: &mut Publisher, text: &str) -> Frame {
    publisher.event().to_frame("a", Payload::plain_text(text)).unwrap()
}

type Seen = Arc<Mutex<Vec<String>>>;

fn seen() -> (Seen, impl FnMut(Payload<'_>, &ringmain::Meta<'_>) + Send + 'static) {
    let seen = Seen::default();
    let own = Arc::clone(&seen);
    (seen, move |payload: Payload<'_>, _: &ringmain::Meta<'_>| {
        own.lock().unwrap().push(payload.text().unwrap().to_owned())
    })
}

/// Publishes live events and replays in turn.
fn publish(simulation: &Simulation) {
    let mut publisher = simulation.bus().publisher().unwrap();
    for nth in 0..6 {
        let frame = frame(&mut publisher, &nth.to_string());
        match nth % 2 {
            0 => publisher.frame(&frame).try_publish().unwrap(),
            _ => publisher.frame(&frame).as_replay().try_publish().unwrap(),
        };
    }
    simulation.run();
}

#[test]
fn one_handler_that_did_not_ask_sees_no_replay_in_a_row_of_events() {
    let simulation = simulation();
    let (live, handler) = seen();
    let never = simulation.bus().subscribe("a").handle(handler).unwrap();
    publish(&simulation);
    assert_eq!(*live.lock().unwrap(), ["0", "2", "4"]);
    let ledger = never.record().ledger;
    assert_eq!((ledger.matched, ledger.filtered, ledger.delivered), (3, 3, 3));
    assert_eq!(never.record().replay, ReplayPolicy::Never);
    assert_settled(simulation.bus());
}

#[test]
fn of_many_subscriptions_only_those_that_asked_see_replays() {
    let simulation = simulation();
    let bus = simulation.bus();
    let (live, handler) = seen();
    let (all, safe) = seen();
    let (tried, reliable) = seen();
    let kept = [
        bus.subscribe("a").handle(handler).unwrap(),
        bus.subscribe("*").replay(ReplayPolicy::Safe).handle(safe).unwrap(),
        bus.subscribe("a").mode(DeliveryMode::reliable()).handle(reliable).unwrap(),
    ];
    let mut inbox = bus.subscribe("**").mailbox().unwrap();
    publish(&simulation);
    assert_eq!(*live.lock().unwrap(), ["0", "2", "4"]);
    assert_eq!(*tried.lock().unwrap(), ["0", "2", "4"]);
    assert_eq!(*all.lock().unwrap(), ["0", "1", "2", "3", "4", "5"]);
    let pulled: Vec<_> = std::iter::from_fn(|| Some(inbox.try_recv().ok()?.payload().text()?.to_owned())).collect();
    assert_eq!(pulled, ["0", "2", "4"]);
    drop(kept);
    assert_settled(bus);
}

#[test]
fn a_replay_for_one_subscription_goes_to_no_other() {
    let simulation = simulation();
    let bus = simulation.bus();
    let (one, for_one) = seen();
    let (other, for_other) = seen();
    let one_of_two = bus.subscribe("a").replay(ReplayPolicy::Safe).handle(for_one).unwrap();
    let other_of_two = bus.subscribe("a").replay(ReplayPolicy::Safe).handle(for_other).unwrap();
    let (never, for_never) = seen();
    let unsafe_one = bus.subscribe("a").handle(for_never).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let frame = frame(&mut publisher, "x");
    publisher.frame(&frame).as_replay_to(one_of_two.id()).at_position(9).try_publish().unwrap();
    publisher.frame(&frame).as_replay_to(unsafe_one.id()).try_publish().unwrap();
    simulation.run();
    assert_eq!(*one.lock().unwrap(), ["x"]);
    assert!(other.lock().unwrap().is_empty() && never.lock().unwrap().is_empty());
    drop((one_of_two, other_of_two, unsafe_one));
    assert_settled(bus);
}

#[test]
fn position_and_addressee_of_a_replay_are_in_no_frame_of_it() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("a").replay(ReplayPolicy::Safe).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let frame = frame(&mut publisher, "x");
    assert_eq!(frame.meta().position(), None);
    publisher.frame(&frame).as_replay_to(inbox.id()).at_position(9).try_publish().unwrap();
    simulation.run();
    let delivery = inbox.try_recv().unwrap();
    assert_eq!(delivery.meta().position(), Some(9));
    let again = Frame::of(&delivery.meta());
    assert_eq!((again.meta().position(), again.meta().is_replay()), (None, true));
    assert_eq!(Frame::copied_from(again.bytes()).unwrap(), again);
    delivery.ack();
    assert_settled(bus);
}

#[test]
fn a_full_mailbox_does_not_hold_its_lane_up_for_a_replay_that_it_is_not_given() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut full = bus.subscribe("a").capacity(1).mailbox().unwrap();
    let (all, handler) = seen();
    let safe = bus.subscribe("a").replay(ReplayPolicy::Safe).handle(handler).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let frame = frame(&mut publisher, "x");
    publisher.publish_frame(&frame).unwrap();
    publisher.frame(&frame).as_replay().try_publish().unwrap();
    simulation.run();
    assert_eq!(all.lock().unwrap().len(), 2);
    drop(full.try_recv().unwrap());
    drop(safe);
    assert_settled(bus);
}

#[test]
fn a_service_is_given_replays_only_if_it_asked() {
    for policy in [ReplayPolicy::Never, ReplayPolicy::Safe] {
        let simulation = simulation();
        let bus = simulation.bus();
        let service = bus.service("billing").replay(policy).open().unwrap();
        let (seen, handler) = seen();
        let instance = service.instance("one").handle(handler).unwrap();
        let mut publisher = bus.publisher().unwrap();
        let frame = publisher.event().target("billing").to_frame("a", Payload::plain_text("x")).unwrap();
        publisher.publish_frame(&frame).unwrap();
        publisher.frame(&frame).as_replay().try_publish().unwrap();
        simulation.run();
        assert_eq!(seen.lock().unwrap().len(), if policy == ReplayPolicy::Safe { 2 } else { 1 });
        drop(instance);
        assert_settled(bus);
    }
}
