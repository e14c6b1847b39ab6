//! Promises of services about what an instance leaves when it ends.

use std::thread;
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Balance, Balancer, Bus, DeadLetterFilter, DeadReason, InstanceView, Meta, Overflow, Payload, RetryPolicy,
    SubscribeError,
};

use crate::services::drain;
use crate::support::*;

/// Brings events to the first instance, but those for anybody to another one.
struct FirstOrAnybody;

impl Balancer for FirstOrAnybody {
    fn pick(&mut self, event: &Meta<'_>, instances: &[InstanceView]) -> Option<usize> {
        let first = if event.topic() == "to.anybody" { 1 } else { 0 };
        let last = if first == 0 { 1 } else { instances.len() };
        (first..last).find(|&nth| instances[nth].is_available())
    }
}

#[test]
fn what_an_ended_instance_leaves_goes_on_though_others_are_refused_what_waits() {
    let simulation = Simulation::new(Bus::builder().workers(1).turn_max(2), 7).unwrap();
    let bus = simulation.bus();
    let hours = Duration::from_secs(3_600);
    let patient = RetryPolicy::default().delays(hours, hours);
    let service = bus.service("one").balance(Balance::custom(FirstOrAnybody)).retry(patient).open().unwrap();
    let [mut first, ended, mut other] =
        ["a", "b", "c"].map(|name| service.instance(name).capacity(1).mailbox().unwrap());
    let mut publisher = bus.publisher().unwrap();
    for topic in ["to.first", "to.first", "to.anybody"] {
        publisher.event().target("one").publish(topic, Payload::raw(b"")).unwrap();
        simulation.run();
    }
    assert_eq!((first.len(), ended.len(), other.len(), service.record().waiting), (1, 1, 0, 1));
    drop(ended);
    // Not `run`: that would not come back if the worker had something to do for ever.
    for _ in 0..100 {
        simulation.turn(0);
    }
    assert_eq!(drain(&mut other), 1);
    for _ in 0..2 {
        assert_eq!(drain(&mut first), 1);
        simulation.run();
    }
    assert_settled(bus);
}

#[test]
fn an_event_that_is_with_a_handler_when_its_service_ends_is_a_dead_letter_that_says_so() {
    // Who ends the service does not wait for the worker.
    let simulation = Simulation::new(Bus::builder().workers(1).deadline(Duration::ZERO), 7).unwrap();
    let bus = simulation.bus();
    let service = bus.service("one").capacity(1).overflow(Overflow::DropNewest).open().unwrap();
    let mut ending = Some(service);
    let handler = bus.subscribe("work").handle(move |_, _: &Meta<'_>| {
        if let Some(service) = ending.take() {
            let ended = thread::spawn(|| service.end()).join().unwrap();
            assert_eq!(ended, Err(SubscribeError::WorkerStuck { worker: 0 }));
        }
    });
    let mut publisher = bus.publisher().unwrap();
    // The first fills the service, for want of an instance. Handlers come before services: this one ends while the other event
    // is on its way to it.
    for topic in ["other", "work"] {
        publisher.event().target("one").publish(topic, Payload::raw(b"")).unwrap();
    }
    simulation.run();
    bus.flush_deadline(Duration::from_secs(60)).unwrap();
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason()).collect();
    assert_eq!(reasons, [DeadReason::Closed; 2]);
    assert_eq!(handler.unwrap().ledger().delivered, 1);
    assert_settled(bus);
}
