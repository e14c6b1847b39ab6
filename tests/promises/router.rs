//! Promises of the router as an interface: who holds a `dyn EventRouter` routes as the bus does, and ends it in order.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ringmain::testing::Simulation;
use ringmain::{
    Balance, Bus, Error, EventRouter, Payload, PublishError, RoutingRule, RulesError, Service, ServiceError,
    ServiceHealth, Settled, SubscribeError,
};

use crate::services::{boxes, drain, simulation};
use crate::support::assert_balanced;
use crate::support::*;

fn register(router: &dyn EventRouter, name: &str) -> Service {
    router.register_service(name, Balance::RoundRobin).unwrap()
}

#[test]
fn events_go_by_rules_targets_and_health_through_the_interface() {
    let simulation = simulation();
    let router: Arc<dyn EventRouter> = Arc::new(simulation.bus().clone());
    router.start().unwrap();
    let service = register(&*router, "billing");
    let mut inboxes = boxes(&service, &["a", "b"]);
    let mut observer = simulation.bus().subscribe("orders.*").mailbox().unwrap();
    router.add_routing_rule(RoutingRule::new("orders").types(["orders.*"]).to("billing")).unwrap();
    router.update_service_health("billing", "b", ServiceHealth::Unhealthy).unwrap();
    let id = router.route_event("orders.placed", Payload::json("{}"), &|event| event).unwrap();
    router.route_event("refund", Payload::raw(b"7"), &|event| event.target("billing").metadata("who", "ada")).unwrap();
    router.route_event("refund", Payload::raw(b"7"), &|event| event).unwrap();
    simulation.run();
    let seen = observer.try_recv().unwrap();
    assert_eq!(seen.meta().id(), id);
    seen.ack();
    let first = inboxes[0].try_recv().unwrap();
    assert_eq!(first.meta().id(), id);
    first.ack();
    let second = inboxes[0].try_recv().unwrap();
    assert_eq!((second.meta().topic(), second.meta().get("who")), ("refund", Some("ada")));
    second.ack();
    assert_eq!(drain(&mut inboxes[1]), 0, "it is not well");
    let metrics = router.metrics();
    assert_eq!((metrics.messages_published, metrics.ledger.unmatched), (3, 1));
    assert_settled(simulation.bus());
}

#[test]
fn what_is_wrong_is_said_as_the_bus_says_it() {
    let bus = Bus::builder().build().unwrap();
    let router: &dyn EventRouter = &bus;
    register(router, "billing");
    let exists = SubscribeError::Service(ServiceError::Exists { name: "billing".to_owned() });
    assert_eq!(router.register_service("billing", Balance::RoundRobin).unwrap_err(), Error::Subscribe(exists));
    let unknown = router.update_service_health("nobody", "a", ServiceHealth::Healthy).unwrap_err();
    assert_eq!(unknown, Error::Service(ServiceError::NotFound { name: "nobody".to_owned() }));
    router.add_routing_rule(RoutingRule::new("one").to("billing")).unwrap();
    let twice = router.add_routing_rule(RoutingRule::new("one").to("billing")).unwrap_err();
    assert!(matches!(twice, Error::Rules(RulesError::Rule(_))), "{twice}");
    let invalid = router.route_event("", Payload::raw(b""), &|event| event).unwrap_err();
    assert!(matches!(invalid, Error::Publish(PublishError::Topic(_))), "{invalid}");
    assert_balanced(&bus);
}

#[test]
fn a_stop_delivers_what_was_routed_and_there_is_no_second_start() {
    watched(|| {
        let bus = Bus::builder().build().unwrap();
        let router: &dyn EventRouter = &bus;
        let service = register(router, "billing");
        let _a = service.instance("a").handle_on("a", |_, _| ()).unwrap();
        for _ in 0..100 {
            router.route_event("refund", Payload::raw(b""), &|event| event.target("billing")).unwrap();
        }
        let report = router.stop().unwrap();
        assert_eq!((report.is_clean(), report.delivered), (true, 100));
        assert_eq!(router.start(), Err(Error::Publish(PublishError::ShuttingDown)));
        let late = router.route_event("refund", Payload::raw(b""), &|event| event);
        assert_eq!(late, Err(Error::Publish(PublishError::ShuttingDown)));
        assert_books(&bus);
    });
}

fn is_send<T: Send>(value: T) -> T {
    value
}

#[test]
fn in_async_code_it_awaits_room_and_blocks_nobody() {
    let simulation = Simulation::new(Bus::builder().workers(1).max_queue_size(2), 7).unwrap();
    let router: Arc<dyn EventRouter> = Arc::new(simulation.bus().clone());
    let mut inbox = simulation.bus().subscribe("work").mailbox().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let route =
        || is_send(router.route_event_async("work", Payload::plain_text("x"), &|event| event.metadata("by", "ada")));
    for _ in 0..2 {
        assert!(matches!(route().as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    }
    let (mut routed, mut dropped) = (route(), route());
    assert!(routed.as_mut().poll(&mut context).is_pending(), "the lane is full");
    assert!(dropped.as_mut().poll(&mut context).is_pending());
    drop((dropped, route()));
    simulation.run();
    let Poll::Ready(Ok(id)) = routed.as_mut().poll(&mut context) else { panic!("there is room") };
    drop(routed);
    simulation.run();
    let came: Vec<_> = std::iter::from_fn(|| inbox.try_recv().ok()).collect();
    assert_eq!((came.len(), came[2].meta().id(), came[2].meta().get("by")), (3, id, Some("ada")));
    for delivery in came {
        assert_eq!(delivery.ack(), Settled::Counted);
    }
    assert_settled(simulation.bus());
}
