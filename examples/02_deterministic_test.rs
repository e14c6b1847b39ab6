//! How an embedder tests code that runs on the bus: no threads, no sleeps, the same run for the same seed.
//!
//! The reminder below is due in a quarter of an hour. The test moves the clock there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, Error, Payload, Priority};

/// The code under test: counts reminders, and is fed by the bus.
fn remind(bus: &Bus, sent: &Arc<AtomicU32>) -> Result<ringmain::Subscription, Error> {
    let sent = Arc::clone(sent);
    let subscription = bus.subscribe("cart.abandoned").named("reminder").handle(move |_cart, _meta| {
        sent.fetch_add(1, Ordering::Relaxed);
    })?;
    Ok(subscription)
}

fn main() -> Result<(), Error> {
    let simulation = Simulation::new(Bus::builder().workers(2), 42)?;
    let sent = Arc::new(AtomicU32::new(0));
    let _reminder = remind(simulation.bus(), &sent)?;

    let mut shop = simulation.bus().publisher()?;
    shop.event()
        .priority(Priority::Low)
        .not_before(Duration::from_secs(15 * 60))
        .publish("cart.abandoned", Payload::json(r#"{"customer": "ada"}"#))?;

    simulation.advance(Duration::from_secs(14 * 60));
    simulation.run();
    assert_eq!(sent.load(Ordering::Relaxed), 0, "it is too early to remind anyone");

    simulation.advance(Duration::from_secs(60));
    simulation.run();
    assert_eq!(sent.load(Ordering::Relaxed), 1, "now it is time");
    assert!(simulation.bus().ledger().is_balanced());
    println!("one reminder, after a quarter of an hour that took no time");
    Ok(())
}
