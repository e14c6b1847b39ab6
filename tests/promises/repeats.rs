//! A simulation repeats: all that a test can see of a run comes from its seed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, Context, DeliveryMode, EventId, Handler, Meta, Outcome, Pattern, Payload, RetryPolicy};
use ringmain::{SubscriptionId, SubscriptionLedger};

use super::support::assert_books;

/// Steps so far, and what was seen: after how many of them, who got which event, in which attempt.
#[derive(Default)]
struct Seen {
    steps: u32,
    calls: Vec<Call>,
}

/// Handles events at the third attempt.
struct Witness(Arc<Mutex<Seen>>);

impl Handler<Pattern> for Witness {
    fn handle(&mut self, _: Payload<'_>, meta: &Meta<'_>, context: &Context<'_>) -> Outcome {
        let mut seen = self.0.lock().unwrap();
        let call = (seen.steps, context.subscription(), meta.id(), meta.attempt());
        seen.calls.push(call);
        if meta.attempt() < 3 { Outcome::Failed("not yet".to_owned()) } else { Outcome::Ack }
    }
}

/// Which handler saw which event, at which attempt.
type Call = (u32, SubscriptionId, EventId, u8);
/// A subscription, its worker and its books.
type Books = (SubscriptionId, usize, SubscriptionLedger);

/// Three subscriptions on two workers, one of which ends for another one, and events that come to each three times.
fn run(seed: u64) -> (Vec<Call>, Vec<Books>) {
    let simulation = Simulation::new(Bus::builder().workers(2), seed).unwrap();
    let (bus, seen) = (simulation.bus(), Arc::new(Mutex::new(Seen::default())));
    let retry = RetryPolicy::default().delays(Duration::from_millis(2), Duration::from_secs(1));
    let subscribe = || {
        let wish = bus.subscribe("**").mode(DeliveryMode::reliable()).retry(retry);
        wish.handler(Witness(Arc::clone(&seen))).unwrap()
    };
    let mut made = vec![subscribe(), subscribe(), subscribe()];
    let mut publisher = bus.publisher().unwrap();
    for round in 0..4 {
        publisher.publish("repeats", Payload::plain_text("x")).unwrap();
        for _ in 0..40 {
            seen.lock().unwrap().steps += 1;
            simulation.advance(Duration::from_micros(300));
            simulation.step();
        }
        if round == 1 {
            made.remove(0).unsubscribe().unwrap();
            made.push(subscribe());
        }
    }
    assert_books(bus);
    let records = bus.subscriptions().into_iter().map(|record| (record.id, record.worker, record.ledger)).collect();
    let calls = std::mem::take(&mut seen.lock().unwrap().calls);
    (calls, records)
}

#[test]
fn a_seed_is_a_run_with_all_its_ids_and_delays() {
    let (calls, records) = run(7);
    assert_eq!((calls, records), run(7), "all of it again");

    let (calls, records) = run(7);
    let mut ids: Vec<_> = calls.iter().map(|(_, subscription, ..)| *subscription).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each subscription has an id of its own, the one that came later too");
    assert!(calls.iter().any(|&(.., attempt)| attempt == 3), "{calls:?}");

    let (others, other_records) = run(8);
    assert!(records.iter().all(|(id, ..)| other_records.iter().all(|(other, ..)| id != other)));
    let when = |calls: &[(u32, SubscriptionId, EventId, u8)]| calls.iter().map(|call| call.0).collect::<Vec<_>>();
    assert_ne!(when(&calls), when(&others), "another seed, other delays");
}
