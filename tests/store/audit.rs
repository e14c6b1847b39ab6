//! The audit trail: no change without its record, one record a change, and none that can be changed.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use ringmain::store::{
    AuditAct, AuditError, AuditGranularity, AuditQuery, AuditRecord, AuditTrail, AuditedError, Durability, EventStore,
    ExpectedVersion, LogStore, MemoryStore, Query, Retention, Snapshot, StateChange, StateKind, StateStore,
};
use ringmain::{
    Aggregate, Bus, DeadLetterFilter, DeliveryMode, Notice, Outcome, Pattern, Payload, Rate, RateLimit, RoutingRule,
    RuleSet, RulesError, ServiceHealth,
};

use crate::books::Asked;
use crate::conformance::Writer;
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};

fn bus() -> Asked {
    Asked(Bus::builder().workers(1).build().unwrap())
}

fn records(store: &dyn EventStore, query: AuditQuery) -> Vec<AuditRecord> {
    query.stream(store).map(Result::unwrap).collect()
}

fn rule(id: &str, target: &str) -> RoutingRule {
    RoutingRule::new(id).to(target)
}

/// Does all that an actor can do, each once.
fn do_everything(bus: &Bus, trail: &AuditTrail, store: &LogStore) {
    let ada = trail.by("ada");
    ada.add_rule(rule("a", "one")).unwrap();
    ada.change_rule(rule("a", "two")).unwrap();
    ada.disable_rule("a").unwrap();
    ada.enable_rule("a").unwrap();
    ada.replace_rules(RuleSet::new([rule("a", "two"), rule("b", "three")]).unwrap()).unwrap();
    ada.remove_rule("a").unwrap();
    assert_eq!(bus.rules().list(), [rule("b", "three")]);
    ada.set_rate_limits([RateLimit::of_type("a", Rate::per_second(7.0))]).unwrap();
    assert_eq!(bus.rate_limits().len(), 1);
    ada.set_rate_limits([]).unwrap();

    let bob = trail.by("bob");
    let wish = bus.subscribe("a").named("bank").mode(DeliveryMode::reliable());
    let bank = bob.subscribe(wish, |wish| wish.handle(|_, _| Outcome::Reject("no".to_owned()))).unwrap();
    for _ in 0..3 {
        bus.publish("a", Payload::json("1")).unwrap();
    }
    bus.flush().unwrap();
    assert_eq!(bus.dead_letters().len(), 3);
    bob.redrive(1).unwrap();
    bus.flush().unwrap();
    bob.redrive_all(&DeadLetterFilter::new().limit(1), Duration::ZERO).unwrap().wait();
    bus.flush().unwrap();
    assert_eq!(bob.purge(&DeadLetterFilter::new()).unwrap(), 3);
    bob.pause(bank.id()).unwrap();
    bob.resume(bank.id()).unwrap();
    bob.unsubscribe(bank.id()).unwrap();
    assert!(bus.subscriptions().is_empty());

    let service = bus.service("freight").open().unwrap();
    let _truck = service.instance("truck").mailbox().unwrap();
    bob.update_service_health("freight", "truck", ServiceHealth::Unhealthy).unwrap();
    bob.keep(store, Retention::forever()).unwrap();
    bob.act(AuditAct::new("configured", "greeting").before("hi").after("hello"), || Ok::<_, RulesError>(())).unwrap();
}

#[test]
fn each_action_leaves_one_record_which_the_next_process_finds() {
    let folder = Folder::new("audit");
    let bus = bus();
    let begun = SystemTime::now();
    let open = || Arc::new(LogStore::builder(&folder.0).snapshot_state_bytes_max(1_000).open().unwrap());
    {
        let store = open();
        let trail = AuditTrail::over(&bus, store.clone()).unwrap();
        do_everything(&bus, &trail, &store);
        assert_eq!((trail.counts().recorded, trail.counts().refused, trail.counts().failed), (18, 0, 0));
    }
    let store = open();
    let all = records(&*store, AuditQuery::new());
    let found: Vec<_> = all
        .iter()
        .map(|one| {
            (one.actor(), one.action(), one.object(), one.version(), one.before().is_some(), one.after().is_some())
        })
        .collect();
    let found: Vec<_> =
        found.iter().map(|(a, b, c, d, e, f)| (a.as_str(), b.as_str(), c.as_str(), *d, *e, *f)).collect();
    assert_eq!(
        found,
        [
            ("ada", "rule.added", "rule a", 1, false, true),
            ("ada", "rule.changed", "rule a", 2, true, true),
            ("ada", "rule.disabled", "rule a", 3, true, true),
            ("ada", "rule.enabled", "rule a", 4, true, true),
            ("ada", "rules.replaced", "rules", 1, true, true),
            ("ada", "rule.removed", "rule a", 5, true, false),
            ("ada", "limits.set", "rate limits", 1, true, true),
            ("ada", "limits.set", "rate limits", 2, true, true),
            ("bob", "subscription.added", "subscription bank", 1, false, true),
            ("bob", "letter.redriven", "dead letter 1", 1, true, false),
            ("bob", "letters.redriven", "dead letters", 1, true, false),
            ("bob", "letters.purged", "dead letters", 2, true, false),
            ("bob", "subscription.paused", "subscription bank", 2, true, true),
            ("bob", "subscription.resumed", "subscription bank", 3, true, true),
            ("bob", "subscription.ended", "subscription bank", 4, true, false),
            ("bob", "health.set", "service freight", 1, true, true),
            ("bob", "retention.applied", "store", 1, false, true),
            ("bob", "configured", "greeting", 1, true, true),
        ]
    );
    let changed = &all[1];
    assert_eq!(changed.before(), Some(format!("{:?}", rule("a", "one")).as_str()));
    assert_eq!(changed.after(), Some(format!("{:?}", rule("a", "two")).as_str()));
    assert!(all[3].before().unwrap().contains("enabled: false") && all[3].after().unwrap().contains("enabled: true"));
    assert_eq!((all[4].before(), all[4].after()), (Some("[]"), Some(format!("[{:?}]", rule("b", "three")).as_str())));
    assert_eq!((all[6].before(), all[7].after()), (Some(""), Some("")));
    assert_eq!(all[6].after(), all[7].before());
    assert!(all[8].after().unwrap().contains("pattern: \"a\""), "{}", all[8]);
    assert!(all[11].before().unwrap().starts_with("3 letters: "), "{}", all[11]);
    assert_eq!((all[12].before(), all[12].after()), (Some("running"), Some("paused")));

    let count = |query| records(&*store, query).len();
    assert_eq!((count(AuditQuery::new().actor("ada")), count(AuditQuery::new().actor("bob"))), (8, 10));
    assert_eq!(count(AuditQuery::new().action("rule.*").unwrap()), 5);
    assert_eq!(count(AuditQuery::new().action("rule.added").unwrap().actor("bob")), 0);
    assert_eq!(count(AuditQuery::new().object("rule a")), 5);
    assert_eq!(count(AuditQuery::new().from(begun)), 18);
    assert_eq!(count(AuditQuery::new().before(begun)), 0);
    assert_eq!(count(AuditQuery::new().from(all[9].time()).before(all[12].time())), 3);
    let newest = records(&*store, AuditQuery::new().newest_first());
    assert!(newest.iter().rev().map(AuditRecord::id).eq(all.iter().map(AuditRecord::id)));
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    trail.by("eve").add_rule(rule("a", "one")).unwrap();
    assert_eq!(records(&*store, AuditQuery::new().actor("eve"))[0].version(), 6, "it goes on");
}

#[test]
fn what_cannot_be_recorded_is_not_done_and_what_fails_is_recorded_as_failed() {
    let (bus, store) = (bus(), Arc::new(MemoryStore::new().events_max(3)));
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    let ada = trail.by("ada");
    ada.add_rule(rule("a", "one")).unwrap();
    let twice = ada.add_rule(rule("a", "one")).unwrap_err();
    assert!(matches!(twice, AuditedError::Failed(RulesError::Rule(_))), "{twice}");
    let all = records(&*store, AuditQuery::new());
    assert_eq!(
        all.iter().map(AuditRecord::action).collect::<Vec<_>>(),
        ["rule.added", "rule.added", "rule.added.failed"]
    );
    assert_eq!((all[2].cause(), all[2].after()), (Some(all[1].id()), Some(twice.to_string().as_str())));

    // The store is full.
    let refused = ada.remove_rule("a").unwrap_err();
    assert!(matches!(refused, AuditedError::NotRecorded(AuditError::Append(_))), "{refused}");
    assert!(refused.to_string().starts_with("nothing was done, for it could not be recorded: "), "{refused}");
    assert_eq!(bus.rules().list(), [rule("a", "one")], "it was not done");
    let counts = trail.counts();
    assert_eq!((counts.recorded, counts.refused, counts.failed, counts.unsaid), (3, 1, 1, 0));
}

#[test]
fn a_failure_that_cannot_be_recorded_is_counted_and_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let observer = move |notice: &Notice<'_>| {
        if let Notice::StorageDropped { event, reason, .. } = notice {
            hears.lock().unwrap().push((*event, (*reason).to_owned()));
        }
    };
    let bus = Asked(Bus::builder().workers(1).observer(observer).build().unwrap());
    let store = Arc::new(MemoryStore::new().events_max(1));
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    let failed = trail.by("ada").remove_rule("a").unwrap_err();
    assert!(matches!(failed, AuditedError::Failed(_)), "{failed}");
    assert_eq!((trail.counts().failed, trail.counts().unsaid), (1, 1));
    let told = told.lock().unwrap();
    assert_eq!(told[0].0, records(&*store, AuditQuery::new())[0].id());
    assert!(told[0].1.starts_with("that rule.removed failed is not recorded: "), "{}", told[0].1);
}

#[test]
fn who_write_at_once_leave_one_record_each_and_no_gap() {
    const WRITERS: usize = 4;
    const ACTS: usize = 50;
    let (bus, store) = (bus(), Arc::new(MemoryStore::new()));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            // Each a trail of its own, as processes have.
            let trail = AuditTrail::over(&bus, store.clone()).unwrap();
            scope.spawn(move || {
                let actor = trail.by(format!("writer {writer}"));
                for nth in 0..ACTS {
                    actor.record(AuditAct::new("written", "book").after(nth.to_string())).unwrap();
                }
            });
        }
    });
    let all = records(&*store, AuditQuery::new().object("book"));
    let versions: Vec<_> = all.iter().map(AuditRecord::version).collect();
    assert_eq!(versions, (1..=(WRITERS * ACTS) as u64).collect::<Vec<_>>());
    for writer in 0..WRITERS {
        let own = records(&*store, AuditQuery::new().actor(format!("writer {writer}")));
        assert!(own.iter().map(|one| one.after().unwrap().to_owned()).eq((0..ACTS).map(|nth| nth.to_string())));
    }
}

#[test]
fn nothing_that_can_be_done_to_a_store_changes_or_removes_a_record() {
    let folder = Folder::new("audit-fixed");
    let (bus, mut writer) = (bus(), Writer::new());
    let store = Arc::new(LogStore::builder(&folder.0).snapshot_state_bytes_max(1_000).open().unwrap());
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    trail.by("ada").add_rule(rule("a", "one")).unwrap();
    let record = records(&*store, AuditQuery::new()).remove(0);
    let id = record.id();
    // Another event of the same id, topic, aggregate and version.
    let of = |version| Aggregate { kind: "ringmain.audit", id: "rule a", version };
    let forged = |payload, version, writer: &mut Writer| {
        writer
            .frame_of("ringmain.audit.rule.added", Payload::json(payload), |event| event.id(id).aggregate(of(version)))
    };
    let expected = store.append(&[forged("{}", 1, &mut writer)], ExpectedVersion::New, Durability::Durable);
    assert!(expected.unwrap_err().is_conflict());
    store.append(&[forged("[]", 1, &mut writer)], ExpectedVersion::Any, Durability::Durable).unwrap();
    store.save_snapshot(&Snapshot::new("ringmain.audit", "rule a", 1, Payload::json("{}"))).unwrap();
    for kind in [StateKind::CURSOR, StateKind::OUTBOX, StateKind::own(1)] {
        let key = b"rule a".as_slice();
        store.apply(&[StateChange::Remove { kind, key }], Durability::Durable).unwrap();
    }
    store.keep(Retention::forever().archive_after(Duration::ZERO)).unwrap();
    let mut found = AuditQuery::new().stream(&*store);
    let first = found.next().unwrap().unwrap();
    assert_eq!(first.event().frame(), record.event().frame(), "it is as it was");
    // What was forged is told apart.
    assert!(matches!(found.next(), Some(Err(AuditError::Malformed { position: 2 }))));
    drop(found);
    let kept: Vec<_> =
        AuditQuery::new().to_query().stream(&*store).map(|event| event.unwrap().position().get()).collect();
    assert_eq!(kept, [1, 2]);
}

const THIS: &str = "audit::no_change_of_a_killed_process_is_without_its_record";

/// Adds rules until it is killed, and says each.
fn child(folder: &Path) -> ! {
    let store = Arc::new(LogStore::builder(folder).snapshot_state_bytes_max(1_000).open().unwrap());
    let bus = bus();
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    let ada = trail.by("ada");
    let from = records(&*store, AuditQuery::new()).len();
    for nth in from.. {
        ada.act(AuditAct::new("counted", "number").after(nth.to_string()), || {
            writeln!(std::io::stdout(), "\ndone {nth}")
        })
        .unwrap();
    }
    unreachable!("it is killed");
}

#[test]
fn no_change_of_a_killed_process_is_without_its_record() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
    }
    let folder = Folder::new("audit-kill");
    let mut done = Vec::new();
    for kill in 0..5 {
        kill_after(1 + 7 * kill, THIS, &folder.0, |line| {
            let nth = line.strip_prefix("done ").and_then(|nth| nth.parse::<u64>().ok());
            done.extend(nth);
            nth.is_some()
        });
        let store = LogStore::builder(&folder.0).snapshot_state_bytes_max(1_000).open().unwrap();
        let all = records(&store, AuditQuery::new().actor("ada").object("number"));
        let numbers: Vec<u64> = all.iter().map(|one| one.after().unwrap().parse().unwrap()).collect();
        assert_eq!(numbers, (0..all.len() as u64).collect::<Vec<_>>(), "kill {kill}: each once");
        assert!(all.iter().map(AuditRecord::version).eq(1..=all.len() as u64), "kill {kill}: no gap");
        assert!(done.iter().all(|nth| numbers.contains(nth)), "kill {kill}: what was done is recorded");
    }
    assert!(done.len() > 70, "{}", done.len());
}

#[test]
fn who_publishes_is_recorded_event_by_event_or_counted() {
    let (bus, store) = (bus(), Arc::new(MemoryStore::new()));
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    let each = trail.publishing(Pattern::new("pay.*").unwrap(), AuditGranularity::Each).unwrap();
    let every = Duration::from_secs(3_600);
    let counted = trail.publishing(Pattern::new("tick.*").unwrap(), AuditGranularity::Counted { every }).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut paid = Vec::new();
    for nth in 0..300 {
        let (source, topic) = [("desk 1", "pay.in"), ("desk 2", "pay.in"), ("desk 1", "pay.out")][nth % 3];
        paid.push(publisher.event().source(source).publish(topic, Payload::json("1")).unwrap());
        publisher.event().source("clock").publish("tick.second", Payload::json("1")).unwrap();
        publisher.publish("other", Payload::json("1")).unwrap();
    }
    bus.flush().unwrap();
    let of = |query: AuditQuery| records(&*store, query.action("event.published").unwrap());
    assert_eq!(of(AuditQuery::new().object("topic pay.in")).len(), 200, "a flush waits for the records");
    assert_eq!(of(AuditQuery::new().actor("desk 1")).len(), 200);
    let mut causes: Vec<_> = of(AuditQuery::new()).iter().map(|one| one.cause().unwrap()).collect();
    causes.sort();
    paid.sort();
    assert_eq!(causes, paid, "each once");
    assert_eq!((each.counts().recorded, each.counts().unrecorded), (300, 0));
    let counts = counted.end();
    assert_eq!((counts.recorded, counts.unrecorded), (300, 0));
    let ticks = of(AuditQuery::new().actor("clock"));
    assert_eq!((ticks.len(), ticks[0].object().as_str()), (1, "topic tick.second"));
    assert!(ticks[0].after().unwrap().starts_with("300 events, "), "{}", ticks[0]);
}

#[test]
fn events_that_could_not_be_recorded_are_counted_and_told() {
    let told = Arc::new(Mutex::new((0, Vec::new())));
    let hears = Arc::clone(&told);
    let observer = move |notice: &Notice<'_>| match notice {
        Notice::StorageFailed { .. } => hears.lock().unwrap().0 += 1,
        Notice::StorageDropped { event, .. } => hears.lock().unwrap().1.push(*event),
        _ => {}
    };
    let bus = Asked(Bus::builder().workers(1).observer(observer).build().unwrap());
    let store = Arc::new(MemoryStore::new().events_max(1));
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    let each = trail.publishing(Pattern::new("pay.*").unwrap(), AuditGranularity::Each).unwrap();
    bus.publish("pay.in", Payload::json("1")).unwrap();
    bus.flush().unwrap();
    let event = bus.publish("pay.out", Payload::json("1")).unwrap();
    while told.lock().unwrap().0 == 0 {
        thread::yield_now();
    }
    let counts = each.end();
    assert_eq!((counts.recorded, counts.unrecorded), (1, 1));
    assert_eq!(*told.lock().unwrap(), (1, vec![event]));
}

#[test]
fn what_a_store_removes_by_its_retention_is_recorded() {
    let folder = Folder::new("audit-retention");
    let bus = bus();
    let builder = LogStore::builder(&folder.0).snapshot_state_bytes_max(1_000).retention(Retention::forever());
    let store = Arc::new(builder.segment_bytes(4_096).event_bytes_max(2_048).open().unwrap());
    let frames = Writer::new().frames("a", 100);
    for frame in &frames {
        store.append(std::slice::from_ref(frame), ExpectedVersion::Any, Durability::Written).unwrap();
    }
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    // Before anybody asked to be told.
    let first = store.keep(Retention::forever().bytes_max(12_000)).unwrap();
    let watch = trail.retention(&store, "orders").unwrap();
    drop(watch);
    let watch = trail.retention(&store, "orders").unwrap();
    let ada = trail.by("ada");
    let second = ada.keep(&store, Retention::forever().bytes_max(4_096)).unwrap();
    assert!(first.removed_events > 0 && second.removed_events > 0);
    drop(watch);
    let removed = records(&*store, AuditQuery::new().action("store.removed").unwrap());
    let said: Vec<_> =
        removed.iter().map(|one| (one.actor(), one.object(), one.before().unwrap().to_owned())).collect();
    let expected = |upkeep: &ringmain::store::Upkeep| {
        let to = upkeep.removed_to.unwrap();
        let before =
            format!("{} events, up to position {to}, in {} segments", upkeep.removed_events, upkeep.removed_segments);
        ("ringmain".to_owned(), "store orders".to_owned(), before)
    };
    assert_eq!(said, [expected(&first), expected(&second)]);
    let oldest = Query::new().limit(1).stream(&*store).next().unwrap().unwrap();
    assert_eq!(oldest.position().get(), second.removed_to.unwrap().get() + 1);
    assert_eq!(records(&*store, AuditQuery::new().actor("ada")).len(), 1);
}
