//! Choreography: services react to events of others, and nobody leads them. The store tells afterwards what came of what.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use ringmain::store::{Durability, EventStore, MemoryStore};
use ringmain::{Bus, EventId, Meta, Outgoing, Payload, Publisher, Subscription};

/// Publishes what came of an event: it names the event as its cause, and belongs to the same story.
fn answer<'p>(publisher: &'p mut Publisher, meta: &Meta<'_>) -> Outgoing<'p> {
    let story: EventId = meta.correlation().unwrap_or(meta.id());
    publisher.event().causation(meta.id()).correlation(story)
}

/// A service of its own: it has a publisher, and answers each event of a topic with one of another.
fn service(
    bus: &Bus,
    name: &'static str,
    hears: &'static str,
    says: impl Fn(&str) -> (&'static str, String) + Send + 'static,
) -> Result<Subscription, Box<dyn Error>> {
    let publisher = Mutex::new(bus.publisher()?);
    let subscription = bus.subscribe(hears).named(name).handle(move |event, meta| {
        let (topic, text) = says(event.text().unwrap_or_default());
        println!("{name}: {hears} became {topic} ({text})");
        let mut publisher = publisher.lock().unwrap_or_else(PoisonError::into_inner);
        answer(&mut publisher, meta).publish(topic, Payload::plain_text(&text)).map(drop)
    })?;
    Ok(subscription)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let store = Arc::new(MemoryStore::new());
    let bus = Bus::builder().workers(1).build()?;
    let journal = bus.journal(store.clone()).durability(Durability::Accepted).start()?;
    let services = [
        service(&bus, "agents", "task.created", |task| ("agent.assigned", format!("an agent for {task}")))?,
        service(&bus, "work", "agent.assigned", |agent| match agent.ends_with("cold fusion") {
            true => ("task.failed", format!("{agent} gave up")),
            false => ("task.completed", format!("{agent} has done it")),
        })?,
        service(&bus, "administrators", "task.failed", |why| ("administrator.told", why.to_owned()))?,
    ];
    let mut shop = bus.publisher()?;
    let tasks = ["tea", "cold fusion"].map(|task| (EventId::random(), task));
    for (id, task) in tasks {
        shop.event().id(id).correlation(id).publish("task.created", Payload::plain_text(task))?;
    }
    // Each service answers while the one before it is waited for.
    for _ in 0..=services.len() {
        bus.flush()?;
    }
    for ((story, _), events) in tasks.into_iter().zip([3, 4]) {
        let tree = store.causation(story)?;
        print!("{tree}");
        assert_eq!((tree.nodes().len(), tree.roots().len()), (events, 1), "all that came of one event");
    }
    drop((services, shop));
    bus.shutdown()?;
    journal.close()?;
    Ok(())
}
