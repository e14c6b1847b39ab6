//! Subscriptions that are stored: they are there again at the next start, or it is said why not.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::store::{
    Durability, DurableSubscription, EventStore, ExpectedVersion, LogStore, MemoryStore, StateChange, StateKind,
    StateStore, StoredSubscription, StoredSubscriptions, StoredSubscriptionsError,
};
use ringmain::{
    BreakerPolicy, Bus, Condition, DedupWindow, DeliveryMode, Key, OverLimit, Overflow, Payload, Priority, Rate,
    ReplayPolicy, RetryPolicy, RuleFilter, SubscribeError, SubscriptionId, WhileOpen,
};

use crate::books::Asked;
use crate::conformance::Writer;
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};

/// What handlers were given: their name, and the texts of events.
type Heard = Arc<Mutex<Vec<String>>>;

fn bus() -> Asked {
    Asked(Bus::builder().workers(1).build().unwrap())
}

/// The stored subscriptions of a program that knows the handler `hear`.
fn open(bus: &Bus, state: Arc<dyn StateStore>) -> (StoredSubscriptions, Heard) {
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    let stored = StoredSubscriptions::open("test", bus, state).unwrap().handler("hear", move |wish| {
        let (hears, name) = (Arc::clone(&hears), wish.name().to_owned());
        wish.handle(move |payload, _| {
            hears.lock().unwrap().push(format!("{name} {}", payload.text().unwrap()));
        })
    });
    (stored, heard)
}

/// What is not restored, and why.
fn failures(stored: &StoredSubscriptions) -> Vec<(String, String)> {
    let restored = stored.restore().unwrap().into_iter();
    restored.filter_map(|one| Some((one.name, one.outcome.err()?.to_string()))).collect()
}

fn hear(name: &str, pattern: &str) -> StoredSubscription {
    StoredSubscription::new(name, pattern, "hear")
}

#[test]
fn a_subscription_is_there_again_with_its_name_id_and_conditions() {
    let state = Arc::new(MemoryStore::new());
    let publish = |bus: &Bus| {
        let mut publisher = bus.publisher().unwrap();
        for (country, priority, total) in
            [("de", Priority::High, 7), ("fr", Priority::High, 70), ("de", Priority::Low, 700)]
        {
            let event = publisher.event().metadata("country", country).priority(priority);
            event.publish("orders.placed", Payload::json(&format!(r#"{{"total": {total}}}"#))).unwrap();
        }
        bus.flush().unwrap();
    };
    let urgent = RuleFilter { priorities: vec![Priority::High], ..RuleFilter::default() };
    let large = Condition::payload("total").greater_than(50);
    let or_large = Condition::any([Condition::metadata("country").equals("de"), large.clone()]);
    let ids: Vec<SubscriptionId> = {
        let bus = bus();
        let (stored, heard) = open(&bus, state.clone());
        let wishes = [
            hear("all", "orders.*"),
            hear("german", "orders.*").when(Condition::metadata("country").equals("de")),
            hear("urgent", "orders.*").filter(urgent).when(or_large),
            hear("small", "orders.*").when(!large),
            hear("others", "*").filter(RuleFilter { event_types: vec!["carts.*".into()], ..RuleFilter::default() }),
        ];
        let ids = wishes.into_iter().map(|wish| stored.add(wish).unwrap()).collect();
        publish(&bus);
        assert_eq!(heard.lock().unwrap().len(), 3 + 2 + 2 + 1);
        let again = stored.add(hear("all", "*")).unwrap_err();
        assert!(matches!(again, StoredSubscriptionsError::Exists { .. }), "{again}");
        assert_eq!(bus.subscriptions().len(), 5);
        drop(stored);
        assert!(bus.subscriptions().is_empty(), "they end with it");
        ids
    };
    let bus = bus();
    let (stored, heard) = open(&bus, state);
    assert!(failures(&stored).is_empty());
    for (name, id) in ["all", "german", "urgent", "small", "others"].iter().zip(&ids) {
        assert_eq!(&bus.subscription(*id).unwrap().name, name);
    }
    assert!(failures(&stored).is_empty() && bus.subscriptions().len() == 5, "what is there stays");
    publish(&bus);
    let mut texts = heard.lock().unwrap().clone();
    texts.sort();
    let total = |name: &str, total: u32| format!(r#"{name} {{"total": {total}}}"#);
    let all = [7, 70, 700].map(|one| total("all", one));
    let german = [7, 700].map(|one| total("german", one));
    let urgent = [7, 70].map(|one| total("urgent", one));
    let mut expected = [&all[..], &german, &urgent, &[total("small", 7)]].concat();
    expected.sort();
    assert_eq!(texts, expected);
    assert!(stored.remove("german").unwrap() && !stored.remove("german").unwrap());
    assert_eq!((bus.subscriptions().len(), stored.list().unwrap().len()), (4, 4));
}

#[test]
fn every_setting_is_as_it_was() {
    let (bus, state) = (bus(), Arc::new(MemoryStore::new()));
    let (stored, _) = open(&bus, state.clone());
    let second = Duration::from_secs(1);
    let breaker = BreakerPolicy::default().failures_max(3).share_max(20, 7, 9 * second).open_for(5 * second).probes(2);
    let reliable = hear("reliable", "a.*")
        .mode(DeliveryMode::Reliable { timeout: 3 * second })
        .overflow(Overflow::DropNewest)
        .replay(ReplayPolicy::Safe)
        .suspend_after(4)
        .capacity(16)
        .handler_timeout(2 * second)
        .retry(RetryPolicy::default().attempts_max(9).releases_max(8).delays(second, 6 * second))
        .breaker(breaker.while_open(WhileOpen::DeadLetter))
        .rate_limit(Rate::per_second(100.0).burst(5), OverLimit::Reject)
        .dedup(DedupWindow::default().time(4 * second).keys_max(77))
        .ordered_by(Key::Aggregate)
        .filter(RuleFilter { sources: vec!["here".into()], ..RuleFilter::default() })
        .when(Condition::all([
            Condition::field("attempt").less_than(3),
            Condition::metadata("a").one_of([1.5, 2.5]),
            !Condition::any([Condition::metadata("b").exists(), Condition::metadata("c").contains("x")]),
            Condition::metadata("d").starts_with("y"),
            Condition::metadata("e").not_equals(ringmain::Operand::Null),
            Condition::metadata("f").equals(true),
        ]));
    let wishes = [reliable, hear("plain", "b")];
    for wish in wishes.clone() {
        stored.add(wish).unwrap();
    }
    let texts = |wishes: &mut dyn Iterator<Item = StoredSubscription>| {
        let mut texts: Vec<_> = wishes.map(|wish| format!("{wish:?}")).collect();
        texts.sort();
        texts
    };
    let listed = stored.list().unwrap();
    let found = texts(&mut listed.into_iter().map(|(_, wish)| wish.unwrap()));
    assert_eq!(found, texts(&mut wishes.into_iter()));
}

#[test]
fn what_cannot_be_restored_is_said_and_kept() {
    let state = Arc::new(MemoryStore::new());
    let first = bus();
    {
        let (stored, _) = open(&first, state.clone());
        let stored = stored.handler("gone", |wish| wish.handle(|_, _| ()));
        stored.add(StoredSubscription::new("a", "a", "gone")).unwrap();
        stored.add(hear("b", "b").capacity(1 << 20).mode(DeliveryMode::reliable())).unwrap();
        stored.add(hear("c", "c")).unwrap();
        stored.add(hear("d", "d")).unwrap();
    }
    // What another program left.
    let (kind, from) = (StateKind::SUBSCRIPTION, &[][..]);
    let page = state.list(kind, from, 10).unwrap();
    let (key, value) = &page.entries[2];
    let newer = [&value[..15], b"\x02", &value[16..]].concat();
    state.apply(&[StateChange::Put { kind, key, value: &newer }], Durability::Accepted).unwrap();

    let (stored, _) = open(&first, state.clone());
    let said = failures(&stored);
    assert_eq!(
        said,
        [
            (
                "a".to_owned(),
                "there is no handler \"gone\" for such a subscription; give one before it is restored".to_owned()
            ),
            (
                "c".to_owned(),
                "what is stored is not as it was written, or of a newer program; use that, or remove it".to_owned()
            ),
        ]
    );
    assert_eq!(first.subscriptions().len(), 2);
    assert_eq!(stored.list().unwrap().len(), 4, "nothing is dropped");
    assert_eq!(failures(&stored), said, "and it is said again");
    let again = stored.add(hear("c", "c")).unwrap_err();
    assert!(matches!(again, StoredSubscriptionsError::Exists { .. }), "{again}");
    let stored = stored.handler("gone", |wish| wish.handle(|_, _| ()));
    assert_eq!(failures(&stored).len(), 1, "a handler that is given later is found");
    assert!(stored.remove("c").unwrap());
    assert!(failures(&stored).is_empty());
    // Of an id there is one.
    let (_, id) = first.subscriptions().iter().map(|one| (one.name.clone(), one.id)).next().unwrap();
    let taken = first.subscribe("x").id(id).handle(|_, _| ()).unwrap_err();
    assert_eq!(taken, SubscribeError::IdTaken { id });
}

#[test]
fn what_cannot_be_stored_is_refused_and_not_subscribed_to() {
    let bus = bus();
    let (stored, _) = open(&bus, Arc::new(MemoryStore::new().state_bytes_max(10)));
    let refused = |wish| stored.add(wish).unwrap_err().to_string();
    let by = Key::by(|_| None);
    let code = "its dedup is code, which cannot be stored; take one that is data";
    assert_eq!(refused(hear("a", "a").dedup(DedupWindow::default().by(by.clone()))), code);
    let code = "its ordered_by is code, which cannot be stored; take one that is data";
    assert_eq!(refused(hear("a", "a").mode(DeliveryMode::reliable()).ordered_by(by)), code);
    assert_eq!(refused(hear("", "a")), "the name has 0 bytes, it can have 1 to 255");
    assert!(refused(hear("a", "a.**.b.*.")).contains("pattern"));
    assert!(refused(hear("a", "a").when(Condition::field("nonsense").exists())).contains("nonsense"));
    assert!(refused(hear("a", "a").durable()).starts_with("there is no handler \"hear\""));
    assert!(refused(hear("a", "a").durable().capacity(7)).contains("no capacity"));
    let full = stored.add(hear("a", "a")).unwrap_err();
    assert!(matches!(full, StoredSubscriptionsError::Change(_)), "{full}");
    assert!(bus.subscriptions().is_empty() && stored.list().unwrap().is_empty());
    let lease = StoredSubscriptions::open("other", &bus, Arc::new(MemoryStore::new())).unwrap();
    drop(lease);
}

const THIS: &str = "stored_subscriptions::subscriptions_of_a_killed_process_are_there_in_the_next";

fn store(folder: &Path) -> Arc<LogStore> {
    Arc::new(LogStore::builder(folder).snapshot_state_bytes_max(1_000).open().unwrap())
}

/// As [`open`], with a handler of durable subscriptions that gives them to whoever asks.
fn open_durable(bus: &Bus, store: &Arc<LogStore>) -> (StoredSubscriptions, Arc<Mutex<Vec<DurableSubscription>>>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let takes = Arc::clone(&taken);
    let (stored, _) = open(bus, store.clone());
    (stored.durable_handler("ledger", store.clone(), move |one| takes.lock().unwrap().push(one)), taken)
}

/// Adds subscriptions until it is killed, and acknowledges event after event of a durable one.
fn child(folder: &Path) -> ! {
    let (bus, store) = (bus(), store(folder));
    let (stored, taken) = open_durable(&bus, &store);
    assert!(failures(&stored).is_empty());
    if taken.lock().unwrap().is_empty() {
        stored.add(StoredSubscription::new("durable", "a", "ledger").durable()).unwrap();
    }
    let mut durable = taken.lock().unwrap().pop().unwrap();
    let mut writer = Writer::new();
    let mut stdout = std::io::stdout().lock();
    for nth in stored.list().unwrap().len().. {
        let id = stored.add(hear(&format!("number {nth}"), "a")).unwrap();
        store.append(&writer.frames("a", 1), ExpectedVersion::Any, Durability::Written).unwrap();
        let event = durable.try_recv().unwrap().unwrap();
        durable.ack(event.position()).unwrap();
        writeln!(stdout, "\nadded {nth} {id} {}", event.position()).unwrap();
    }
    unreachable!("it is killed");
}

#[test]
fn subscriptions_of_a_killed_process_are_there_in_the_next() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
    }
    let folder = Folder::new("stored-subscriptions");
    let (mut added, mut acknowledged) = (Vec::new(), 0);
    for kill in 1..=4 {
        kill_after(5 * kill, THIS, &folder.0, |line| {
            let Some(rest) = line.strip_prefix("added ") else { return false };
            let [nth, id, position] = rest.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            added.push((format!("number {nth}"), id.to_owned()));
            acknowledged = position.parse().unwrap();
            true
        });
        let (bus, store) = (bus(), store(&folder.0));
        let (stored, taken) = open_durable(&bus, &store);
        let restored = stored.restore().unwrap();
        for (name, id) in &added {
            let found =
                restored.iter().find(|one| one.name == *name).map(|one| one.outcome.as_ref().unwrap().to_string());
            assert_eq!(found.as_ref(), Some(id), "kill {kill}: {name}");
        }
        assert_eq!(bus.subscriptions().len() + 1, restored.len(), "kill {kill}");
        let durable = taken.lock().unwrap().pop().unwrap();
        assert!(durable.acknowledged().unwrap().get() >= acknowledged, "kill {kill}: it goes on where it was");
        drop((stored, durable));
    }
    assert!(added.len() >= 50, "{}", added.len());
}
