//! Events that outlive the process: published durably, billed at its own pace, replayed to a report that is new.

use std::sync::Arc;
use std::time::Duration;

use ringmain::store::{Durability, DurableSubscription, LogStore, Query};
use ringmain::{Bus, Pattern, Payload, ReplayPolicy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("ringmain-durable-{}", std::process::id()));
    // It keeps events, and cursors beside them: the next process goes on where this one was.
    let store = Arc::new(LogStore::open(&folder)?);

    // The live view is told of each order; a replay would confuse it, and so it is given none.
    let bus = Bus::builder().workers(1).build()?;
    let live = bus.subscribe("orders.*").named("live").handle(|payload, meta| {
        println!("live: {} at {:?}", payload.text().unwrap_or_default(), meta.position());
    })?;

    // Kept first, told then: each order survives the loss of power before anybody hears of it.
    let durable = bus.durable(store.clone(), store.clone()).start()?;
    let mut shop = bus.publisher()?;
    for id in 1..=3 {
        let order = format!(r#"{{"id": {id}}}"#);
        let position =
            shop.event().publish_durable(&durable, Durability::Durable, "orders.placed", Payload::json(&order))?;
        println!("shop: order {id} is durable at position {position}");
    }

    // Billing pulls at its own pace. What it does not acknowledge comes again, also after a restart.
    let orders = Query::new().pattern(Pattern::new("orders.*")?);
    let mut billing =
        DurableSubscription::builder(store.clone(), store.clone(), "billing").query(orders.clone()).open()?;
    while let Some(event) = billing.try_recv()? {
        println!("billing: {}", event.payload().text().unwrap_or_default());
        billing.ack(event.position())?;
    }

    // A report that is new wants to know what has happened so far.
    let mut report = bus.subscribe("orders.*").named("report").replay(ReplayPolicy::Safe).mailbox()?;
    let replay = || bus.replay(store.clone()).query(orders.clone()).to_subscription("report");
    let estimate = replay().dry_run()?;
    println!("replay: {} events of {} bytes, for {:?}", estimate.events, estimate.bytes, estimate.subscriptions);
    replay().start()?.wait()?;
    for _ in 0..estimate.events {
        let event = report.recv_deadline(Duration::from_secs(5))?;
        println!("report: {}, again: {}", event.payload().text().unwrap_or_default(), event.meta().is_replay());
    }

    drop((live, durable));
    bus.shutdown()?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
