//! Replays of a store: what the query means comes in its order, to who takes replays, at the rate, beside live traffic.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ringmain::store::{Durability, EventStore, ExpectedVersion, MemoryStore, Query, ReplayError};
use ringmain::{Bus, Mailbox, Pattern, Payload, Priority, Rate, ReplayPolicy};

use crate::books::{assert_settled, end};
use crate::conformance::Writer;
use crate::log_store::position;

const PATIENCE: Duration = Duration::from_secs(60);

/// So many events, of topics and priorities in turn.
fn history(events: usize) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let mut writer = Writer::new();
    for nth in 0..events {
        let topic = ["orders.placed", "orders.paid", "carts.left"][nth % 3];
        let frame = writer.frame(topic, |event| event.priority(Priority::ALL[nth % 4]));
        store.append(&[frame], ExpectedVersion::Any, Durability::Accepted).unwrap();
    }
    store
}

fn bus() -> Bus {
    Bus::builder().workers(1).max_queue_size(256).build().unwrap()
}

fn safe(bus: &Bus, name: &str) -> Mailbox<Pattern> {
    bus.subscribe("**").named(name).replay(ReplayPolicy::Safe).capacity(4_096).mailbox().unwrap()
}

fn positions(inbox: &mut Mailbox<Pattern>, events: usize) -> Vec<u64> {
    let mut next = || {
        let delivery = inbox.recv_deadline(PATIENCE).unwrap();
        assert!(delivery.meta().is_replay());
        delivery.meta().position().unwrap()
    };
    (0..events).map(|_| next()).collect()
}

#[test]
fn a_range_comes_in_the_order_of_its_positions_to_one_subscription() {
    let bus = bus();
    let store = history(2_000);
    let (mut report, other) = (safe(&bus, "report"), safe(&bus, "other"));
    let query = Query::new().from_position(position(101)).to_position(position(1_900)).limit(300);
    let replay = bus.replay(store).query(query).to_subscription("report").start().unwrap();
    assert_eq!(positions(&mut report, 1_800), (101..=1_900).collect::<Vec<_>>());
    let progress = replay.wait().unwrap();
    assert_eq!((progress.published, progress.position), (1_800, Some(position(1_900))));
    assert!(progress.is_over && !progress.is_cancelled);
    bus.flush_deadline(PATIENCE).unwrap();
    let ledger = bus.subscription(other.id()).unwrap().ledger;
    assert_eq!((ledger.matched, ledger.filtered), (0, 1_800));
    assert_settled(&bus);
    end(&bus);
}

#[test]
fn a_pattern_comes_to_all_who_take_replays_beside_live_events() {
    let bus = bus();
    let store = history(900);
    let (live, heard) = mpsc::channel();
    let never = bus.subscribe("**").handle(move |payload, _| live.send(payload.text().unwrap().to_owned()).unwrap());
    let mut inboxes = [safe(&bus, "one"), safe(&bus, "two")];
    let journal = bus.journal(Arc::clone(&store) as Arc<dyn EventStore>).durability(Durability::Accepted);
    let journal = journal.pattern(Pattern::new("orders.*").unwrap()).start().unwrap();
    let query = Query::new().pattern(Pattern::new("orders.*").unwrap());
    let replay = bus.replay(store.clone()).query(query).start().unwrap();
    for nth in 0..100 {
        bus.publish("live", Payload::plain_text(&nth.to_string())).unwrap();
    }
    assert_eq!(replay.wait().unwrap().published, 600);
    let wanted: Vec<_> = (1..=900).filter(|at| at % 3 != 0).collect();
    for inbox in &mut inboxes {
        let (mut replayed, mut live) = (Vec::new(), Vec::new());
        for _ in 0..700 {
            let delivery = inbox.recv_deadline(PATIENCE).unwrap();
            match delivery.meta().position() {
                Some(at) => replayed.push(at),
                None => live.push(delivery.payload().text().unwrap().to_owned()),
            }
        }
        assert_eq!(replayed, wanted);
        assert_eq!(live.len(), 100);
    }
    let seen: Vec<_> = (0..100).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(seen.iter().enumerate().all(|(nth, text)| *text == nth.to_string()), "live events keep their order");
    bus.flush_deadline(PATIENCE).unwrap();
    assert!(heard.try_recv().is_err());
    assert_eq!(journal.close().unwrap().written, 0, "a replay is not kept again");
    assert_settled(&bus);
    drop(never);
    end(&bus);
}

#[test]
fn a_dry_run_counts_and_publishes_nothing() {
    let bus = bus();
    let store = history(300);
    let inbox = safe(&bus, "report");
    let rate = Rate::per_second(10.0).burst(5);
    let query = Query::new().from_position(position(11)).pattern(Pattern::new("carts.*").unwrap());
    let estimate = bus.replay(store).query(query).rate(rate).dry_run().unwrap();
    assert_eq!((estimate.events, estimate.first, estimate.last), (97, Some(position(12)), Some(position(300))));
    assert!(estimate.bytes > 97 * 64);
    assert_eq!(estimate.takes, Some(Duration::from_millis(9_200)));
    assert_eq!(estimate.subscriptions, ["report"]);
    assert_eq!(bus.ledger().accepted, 0);
    assert!(inbox.is_empty());
    end(&bus);
}

#[test]
fn a_rate_is_kept() {
    let bus = bus();
    let mut inbox = safe(&bus, "report");
    let begun = Instant::now();
    let replay = bus.replay(history(50)).rate(Rate::per_second(500.0).burst(10)).start().unwrap();
    assert_eq!(positions(&mut inbox, 50).len(), 50);
    assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
    assert_eq!(replay.wait().unwrap().published, 50);
    end(&bus);
}

#[test]
fn progress_is_told_and_a_cancelled_replay_stops_where_it_is() {
    let bus = bus();
    let store = history(3_000);
    let mut inbox = safe(&bus, "report");
    let told = Arc::new(Mutex::new(Vec::new()));
    let own = Arc::clone(&told);
    let replay = bus.replay(store.clone()).on_progress(move |progress| own.lock().unwrap().push(*progress)).start();
    let replay = replay.unwrap();
    assert_eq!(positions(&mut inbox, 3_000).len(), 3_000);
    replay.wait().unwrap();
    let told = told.lock().unwrap();
    assert!(told.windows(2).all(|pair| pair[1].published - pair[0].published <= 256), "{told:?}");
    assert!(told.first().unwrap().published == 0 && told.last().unwrap().published == 3_000);
    assert!(told.last().unwrap().is_over);

    let replay = bus.replay(store).rate(Rate::per_second(0.001)).start().unwrap();
    assert_eq!(positions(&mut inbox, 1), [1]);
    replay.cancel();
    let progress = replay.wait().unwrap();
    assert_eq!((progress.published, progress.is_cancelled), (1, true));
    assert_settled(&bus);
    end(&bus);
}

#[test]
fn nobody_is_replayed_to_who_did_not_ask() {
    let bus = bus();
    let store = history(3);
    let _never = bus.subscribe("**").named("mailer").mailbox().unwrap();
    let refused = bus.replay(store.clone()).start().unwrap_err();
    assert!(matches!(refused, ReplayError::Nobody), "{refused}");
    let refused = bus.replay(store.clone()).to_subscription("mailer").dry_run().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "\"mailer\" takes no replays; subscribe with replay(ReplayPolicy::Safe) if it does no harm to handle an event again"
    );
    let refused = bus.replay(store.clone()).to_subscription("nobody").start().unwrap_err();
    assert!(matches!(refused, ReplayError::Subscription { found: 0, .. }), "{refused}");
    let _two = [safe(&bus, "twin"), safe(&bus, "twin")];
    let refused = bus.replay(store.clone()).to_subscription("twin").start().unwrap_err();
    assert!(matches!(refused, ReplayError::Subscription { found: 2, .. }), "{refused}");
    assert!(matches!(bus.replay(store).rate(Rate::per_second(-1.0)).start(), Err(ReplayError::Rate(_))));
    assert_eq!(bus.ledger().accepted, 0);
    end(&bus);
}
