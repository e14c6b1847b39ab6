//! Promises of the router as an interface: who holds a `dyn EventRouter` routes as the bus does, and ends it in order.

use std::sync::Arc;

use ringmain::{
    Balance, Bus, Error, EventRouter, Payload, PublishError, RoutingRule, RulesError, Service, ServiceError,
    ServiceHealth, SubscribeError,
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
