//! Promises of services about what an instance leaves when it ends.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Balance, Balancer, Bus, InstanceView, Meta, Payload, RetryPolicy};

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
