//! Values of every alignment and niche, by the ways that keep them a while: tried again, given up and brought back, through a
//! service, asked and answered, stored and told.

use std::num::NonZeroU64;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusBuilder, DeadLetterFilter, DeliveryMode, Mailbox, Publisher, RetryPolicy, ServiceTarget, Topic,
};
use rkyv::{Archive, Deserialize, Serialize};

use super::payloads::{Value, read};
use crate::support::assert_settled;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// The strictest alignment that an archive may ask for.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[rkyv(attr(repr(C, align(16))))]
struct Wide {
    small: u8,
    niche: Option<NonZeroU64>,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
enum Nested {
    Leaf(NonZeroU64),
    Boxed(#[rkyv(with = rkyv::with::Niche)] Option<Box<u128>>, Vec<NonZeroU64>),
}

/// A bus whose slots are as short as they can be, and one with room.
fn builders() -> [BusBuilder; 2] {
    let small = || {
        let builder = Bus::builder().workers(2).max_queue_size(64).prefault(false).types_max(8);
        builder.blocks([(1_024, 16)]).payload_bytes_max(1_024)
    };
    [small().slot_bytes(128), small().slot_bytes(512)]
}

/// One way: the values that are sent into it come out at its end.
pub(crate) fn each<E: Value>(values: &[E], way: impl Fn(&Simulation, Topic<E>, &mut Publisher, &E) -> E) {
    for builder in builders() {
        let simulation = Simulation::new(builder, 1).unwrap();
        let mut publisher = simulation.bus().publisher().unwrap();
        for value in values {
            assert_eq!(way(&simulation, Topic::new("value"), &mut publisher, value), *value);
        }
        assert_settled(simulation.bus());
    }
}

pub(crate) fn next<E: Value>(inbox: &mut Mailbox<Topic<E>>) -> E {
    let delivery = inbox.try_recv().expect("an event waits");
    let value = read::<E>(delivery.event().expect("an archive of its type"));
    delivery.ack();
    value
}

fn reliable<E: Value>(bus: &Bus, topic: Topic<E>, attempts: u8) -> Mailbox<Topic<E>> {
    let retry = RetryPolicy::default().attempts_max(attempts).delays(Duration::ZERO, Duration::ZERO);
    bus.subscribe(topic).mode(DeliveryMode::reliable()).retry(retry).mailbox().unwrap()
}

fn tried_again<E: Value>(simulation: &Simulation, topic: Topic<E>, publisher: &mut Publisher, value: &E) -> E {
    let bus = simulation.bus();
    let mut inbox = reliable(bus, topic, 3);
    let mut calls = 0;
    let (sender, handled) = std::sync::mpsc::channel();
    let inline = bus.subscribe(topic).mode(DeliveryMode::reliable()).handle(move |event, _| {
        calls += 1;
        sender.send(read::<E>(event)).expect("somebody listens");
        if calls < 3 { Err("again") } else { Ok(()) }
    });
    publisher.event().metadata("k", "v").publish(topic, value).unwrap();
    simulation.run();
    for _ in 0..2 {
        let delivery = inbox.try_recv().unwrap();
        assert_eq!(read::<E>(delivery.event().unwrap()), *value);
        delivery.fail("again");
        simulation.advance(MINUTE);
        simulation.run();
    }
    let last = next(&mut inbox);
    assert_eq!(handled.try_iter().collect::<Vec<_>>(), [value.clone(), value.clone(), value.clone()]);
    drop(inline);
    last
}

fn given_up_and_brought_back<E: Value>(
    simulation: &Simulation,
    topic: Topic<E>,
    publisher: &mut Publisher,
    value: &E,
) -> E {
    let bus = simulation.bus();
    let mut inbox = reliable(bus, topic, 1);
    publisher.publish(topic, value).unwrap();
    simulation.run();
    inbox.try_recv().unwrap().fail("down");
    let letters = bus.dead_letters();
    let letter = letters.list(&DeadLetterFilter::new()).remove(0);
    assert_eq!(read::<E>(letter.event::<E>().unwrap()), *value);
    letters.redrive(letter.id()).unwrap();
    simulation.run();
    let delivery = inbox.try_recv().unwrap();
    assert_eq!(read::<E>(delivery.event().unwrap()), *value);
    delivery.reject("still down");
    let letter = letters.list(&DeadLetterFilter::new()).remove(0);
    letters.republish(letter.id(), publisher).unwrap();
    simulation.run();
    assert!(letters.is_empty());
    next(&mut inbox)
}

fn through_a_service<E: Value>(simulation: &Simulation, topic: Topic<E>, publisher: &mut Publisher, value: &E) -> E {
    let bus = simulation.bus();
    let service = bus.service("work").open().unwrap();
    let mut instance = service.instance_of(topic, "a").mailbox().unwrap();
    publisher.event().target(ServiceTarget::from("work")).publish(topic, value).unwrap();
    simulation.run();
    let value = next(&mut instance);
    service.end().unwrap();
    value
}

fn asked_and_answered<E: Value>(simulation: &Simulation, topic: Topic<E>, _: &mut Publisher, value: &E) -> E {
    let bus = simulation.bus();
    let answers = Topic::<E>::new("answer");
    let _responder = bus.subscribe(topic).respond(answers, |query, _| read::<E>(query)).unwrap();
    let requester = bus.requester(topic, answers).unwrap();
    let mut request = Box::pin(requester.request_async(value, MINUTE));
    let mut poll = || request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    simulation.run();
    let Poll::Ready(answer) = poll() else { panic!("there is an answer") };
    read::<E>(answer.unwrap().get())
}

#[cfg(feature = "sourcing")]
fn stored_and_told<E: Value>(simulation: &Simulation, topic: Topic<E>, publisher: &mut Publisher, value: &E) -> E {
    use std::sync::Arc;

    use ringmain::Frame;
    use ringmain::sourcing::Relay;
    use ringmain::store::{Bookmark, Durability, EventStore, ExpectedVersion, MemoryStore, Query};

    let bus = simulation.bus();
    let mut inbox = bus.subscribe(topic).mailbox().unwrap();
    let frame = publisher.event().metadata("k", "v").to_frame(topic, value).unwrap();
    assert_eq!(read::<E>(frame.event::<E>().unwrap()), *value);
    // As it comes from a disk or a wire: at any address.
    let shifted = [&[7], frame.bytes()].concat();
    let frame = Frame::copied_from(&shifted[1..]).unwrap();
    let store = Arc::new(MemoryStore::new());
    store.append(&[frame], ExpectedVersion::Any, Durability::Accepted).unwrap();
    let stored = Query::new().stream(&*store).next().unwrap().unwrap();
    assert_eq!(read::<E>(stored.event::<E>().unwrap()), *value);
    let mut relay = Relay::new(store, publisher.try_clone().unwrap(), Bookmark::START);
    assert_eq!(relay.step().unwrap().published, 1);
    simulation.run();
    next(&mut inbox)
}

fn arrives_by_every_way<E: Value>(values: &[E]) {
    each(values, tried_again);
    each(values, given_up_and_brought_back);
    each(values, through_a_service);
    each(values, asked_and_answered);
    #[cfg(feature = "sourcing")]
    each(values, stored_and_told);
}

#[test]
fn values_with_niches_arrive_by_every_way() {
    arrives_by_every_way(&[NonZeroU64::MIN, NonZeroU64::MAX]);
    arrives_by_every_way(&[None, NonZeroU64::new(7)]);
    arrives_by_every_way(&[None, Some(Box::new(7_u64))]);
    arrives_by_every_way(&[true, false]);
    arrives_by_every_way(&['a', char::MAX]);
    arrives_by_every_way(&[(), ()]);
}

#[test]
fn values_that_ask_for_the_strictest_alignment_arrive_by_every_way() {
    assert_eq!(align_of::<ArchivedWide>(), 16);
    let wide = |niche| Wide { small: 1, niche };
    arrives_by_every_way(&[wide(None), wide(NonZeroU64::new(7))]);
    arrives_by_every_way(&[u128::MAX, 1]);
    arrives_by_every_way(&[[1_u128, 2, 3]]);
}

#[test]
fn values_behind_pointers_arrive_by_every_way() {
    let number = |number| NonZeroU64::new(number).expect("not zero");
    arrives_by_every_way(&[Box::new(7_u128), Box::new(u128::MAX)]);
    arrives_by_every_way(&[
        Nested::Leaf(NonZeroU64::MAX),
        Nested::Boxed(None, vec![]),
        Nested::Boxed(Some(Box::new(u128::MAX)), vec![number(1); 60]),
    ]);
    arrives_by_every_way(&[String::new(), "inlined".to_owned(), "not inlined any more".repeat(40)]);
}
