//! Choreography, by the example of the source system: services react to events, and nobody leads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::books::assert_books;
use ringmain::testing::Simulation;
use ringmain::{Bus, Payload, PublishError};

#[test]
fn services_react_to_events_and_nobody_leads_them() {
    let simulation = Simulation::new(Bus::builder().workers(2), 1).unwrap();
    let bus = simulation.bus();

    // The agent service finds an agent for each new task.
    let agents = Mutex::new(bus.publisher().unwrap());
    let agent_service = bus.subscribe("task.created").handle(move |task, meta| {
        let mut agents = agents.lock().unwrap();
        let story = meta.correlation().unwrap_or(meta.id());
        let assigned = agents.event().causation(meta.id()).correlation(story);
        let agent = format!("agent-for-{}", task.text().unwrap_or_default());
        assigned.publish("agent.assigned", Payload::plain_text(&agent)).map(drop)
    });
    // The notification service tells administrators of failures.
    let notified = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&notified);
    let notification_service = bus.subscribe("task.failed").handle(move |task, _| {
        notices.lock().unwrap().push(task.text().unwrap_or_default().to_owned());
    });
    // Analytics counts all.
    let counted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&counted);
    // Relaxed: the test reads it on the thread that runs the workers.
    let analytics = bus.subscribe("*").handle(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let _services = (agent_service.unwrap(), notification_service.unwrap(), analytics.unwrap());

    let mut assigned = bus.subscribe("agent.assigned").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut publish =
        |topic: &str, text: &str| -> Result<_, PublishError> { publisher.publish(topic, Payload::plain_text(text)) };
    let created = publish("task.created", "code").unwrap();
    publish("task.failed", "too hard").unwrap();
    simulation.run();

    let answer = assigned.try_recv().unwrap();
    assert_eq!(answer.payload().text(), Some("agent-for-code"));
    assert_eq!((answer.meta().causation(), answer.meta().correlation()), (Some(created), Some(created)));
    assert_eq!(*notified.lock().unwrap(), ["too hard"]);
    assert_eq!(counted.load(Ordering::Relaxed), 3);
    assert_books(bus);
}
