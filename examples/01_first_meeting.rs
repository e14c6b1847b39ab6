//! The quick start of the README: a typed topic, one handler, two events.

use ringmain::{Bus, Priority, Topic};
use rkyv::{Archive, Serialize};

#[derive(Archive, Serialize)]
struct OrderPlaced {
    id: u64,
    cents: u64,
}

const ORDER_PLACED: Topic<OrderPlaced> = Topic::new("orders.placed");

fn main() -> Result<(), ringmain::Error> {
    let bus = Bus::builder().workers(2).build()?;

    // Runs on a worker and reads the event in place: nothing is copied or decoded.
    let _revenue = bus
        .subscribe(ORDER_PLACED)
        .named("revenue")
        .handle(|order, meta| println!("{} {}: {}", meta.sequence(), order.id, order.cents))?;

    let mut publisher = bus.publisher()?;
    publisher.publish(ORDER_PLACED, &OrderPlaced { id: 7, cents: 1_999 })?;
    publisher.at(Priority::Critical).publish(ORDER_PLACED, &OrderPlaced { id: 8, cents: 50 })?;

    bus.shutdown()?; // Delivers what was published, then joins the workers.
    Ok(())
}
