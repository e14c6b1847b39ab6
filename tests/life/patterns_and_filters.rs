//! Patterns and filters: who gets what, and why.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringmain::{Bus, EventSource, Filter, Notice, Payload, Priority, SubscribeError, Verdict};

use crate::support::{Notices, Seen, assert_books, shut_down_clean, simulate};

const NOTHING: Payload<'static> = Payload::raw(b"");

#[test]
fn each_pattern_gets_the_topics_its_grammar_says() {
    let simulation = simulate(Bus::builder().workers(2));
    let bus = simulation.bus();
    let expected: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("*", &["a", "a.b", "a.b.c", "x.b"][..]),
        ("**", &["a", "a.b", "a.b.c", "x.b"]),
        ("a.b", &["a.b"]),
        ("a.*", &["a.b"]),
        ("*.b", &["a.b", "x.b"]),
        ("*.*", &["a.b", "x.b"]),
        ("a.**", &["a", "a.b", "a.b.c"]),
        ("**.c", &["a.b.c"]),
        ("a.**.c", &["a.b.c"]),
        ("nobody", &[]),
    ]);
    let seen: Seen<(&str, String)> = Seen::default();
    let made: Vec<_> = expected
        .keys()
        .map(|&pattern| {
            let seen = seen.clone();
            bus.subscribe(pattern).handle(move |_, meta| seen.push((pattern, meta.topic().to_owned()))).unwrap()
        })
        .collect();
    let mut publisher = bus.publisher().unwrap();
    // Names that are new to the bus, and so routed after the wildcards were compiled.
    for topic in ["a", "a.b", "a.b.c", "x.b"] {
        publisher.publish(topic, NOTHING).unwrap();
    }
    simulation.run();
    let mut got: BTreeMap<&str, Vec<String>> = expected.keys().map(|&pattern| (pattern, Vec::new())).collect();
    for (pattern, topic) in seen.take() {
        got.get_mut(pattern).unwrap().push(topic);
    }
    for (pattern, topics) in expected {
        assert_eq!(got[pattern], topics, "{pattern}");
    }
    drop(made);
    assert_books(bus);
}

#[test]
fn topics_that_appear_later_reach_the_wildcards_of_every_worker() {
    const TOPICS: usize = 300;
    let simulation = simulate(Bus::builder().workers(3));
    let bus = simulation.bus();
    let made: Vec<_> =
        (0..6).map(|nth| bus.subscribe("late.*").on_worker(nth % 3).handle(|_, _| {}).unwrap()).collect();
    let exact = bus.subscribe("late.n299").handle(|_, _| {}).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for topic in 0..TOPICS {
        publisher.publish(format!("late.n{topic}").as_str(), NOTHING).unwrap();
        if topic % 7 == 0 {
            simulation.run();
        }
    }
    simulation.run();
    for made in &made {
        assert_eq!(made.record().delivery_count, TOPICS as u64);
    }
    assert_eq!(exact.record().delivery_count, 1);
    assert_books(bus);
}

#[test]
fn a_topic_that_several_publishers_name_first_is_routed_for_all_of_them() {
    const THREADS: usize = 4;
    const TOPICS: usize = 300;
    let bus = Bus::builder().workers(2).build().unwrap();
    let made = bus.subscribe("fresh.*").handle(|_, _| {}).unwrap();
    let topics: Vec<String> = (0..TOPICS).map(|nth| format!("fresh.n{nth}")).collect();
    let together = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut publisher = bus.publisher().unwrap();
                for topic in &topics {
                    together.wait();
                    publisher.publish(topic.as_str(), NOTHING).unwrap();
                }
            });
        }
    });
    bus.flush().unwrap();
    assert_eq!((made.record().delivery_count, bus.ledger().unmatched), ((THREADS * TOPICS) as u64, 0));
    shut_down_clean(&bus);
}

#[test]
fn topics_beyond_types_max_are_matched_by_name() {
    let simulation = simulate(Bus::builder().workers(2).types_max(2));
    let bus = simulation.bus();
    let early = bus.subscribe("n3").handle(|_, _| {}).unwrap();
    let wild = bus.subscribe("*").handle(|_, _| {}).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for topic in ["n0", "n1", "n2", "n3", "n4"] {
        publisher.publish(topic, NOTHING).unwrap();
    }
    let late = bus.subscribe("n4").handle(|_, _| {}).unwrap();
    let category = bus.subscribe("**").filter(Filter::all().categories(["n2"])).handle(|_, _| {}).unwrap();
    for topic in ["n2", "n3", "n4"] {
        publisher.publish(topic, NOTHING).unwrap();
    }
    simulation.run();
    let counts = [&early, &wild, &late, &category].map(|made| made.record().delivery_count);
    assert_eq!(counts, [2, 8, 1, 1]);
    assert!(bus.metrics().matched_by_name > 0);
    assert_books(bus);
}

/// The sequence numbers (as payload texts) that a filter lets through, out of a fixed set of events.
fn passing(filter: Filter) -> Vec<&'static str> {
    passing_all([filter])
}

fn passing_all(filters: impl IntoIterator<Item = Filter>) -> Vec<&'static str> {
    const EVENTS: [(&str, &str, &str, Priority); 5] = [
        ("0", "filesystem.created", "filesystem:one", Priority::Low),
        ("1", "filesystem.deleted", "filesystem:two", Priority::Normal),
        ("2", "orders.created", "service:shop", Priority::High),
        ("3", "filesystem", "filesystem:one", Priority::Critical),
        ("4", "orders.created", "filesystem:one", Priority::Critical),
    ];
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let seen = Seen::default();
    let subscribe = filters.into_iter().fold(bus.subscribe("**"), |subscribe, filter| subscribe.filter(filter));
    let made = subscribe.handle({
        let seen = seen.clone();
        move |payload, _| seen.push(payload.text().unwrap().to_owned())
    });
    let mut publisher = bus.publisher().unwrap();
    for (text, topic, source, priority) in EVENTS {
        publisher.at(priority).source(source).publish(topic, Payload::plain_text(text)).unwrap();
    }
    simulation.run();
    assert_books(bus);
    drop(made.unwrap());
    let seen = seen.take();
    EVENTS.iter().map(|(text, ..)| *text).filter(|text| seen.iter().any(|one| one == text)).collect()
}

#[test]
fn each_condition_of_a_filter_lets_through_what_it_names() {
    assert_eq!(passing(Filter::all()), ["0", "1", "2", "3", "4"]);
    assert_eq!(passing(Filter::all().types(["orders.created", "filesystem"])), ["2", "3", "4"]);
    assert_eq!(passing(Filter::all().types(["orders"])), [""; 0], "types are exact names");
    assert_eq!(passing(Filter::all().categories(["filesystem"])), ["0", "1", "3"]);
    assert_eq!(passing(Filter::all().sources(["filesystem:one"])), ["0", "3", "4"]);
    assert_eq!(passing(Filter::all().sources(["filesystem"])), [""; 0], "sources are exact texts");
    assert_eq!(passing(Filter::all().priority_min(Priority::Low)), ["0", "1", "2", "3", "4"]);
    assert_eq!(passing(Filter::all().priority_min(Priority::High)), ["2", "3", "4"]);
    assert_eq!(passing(Filter::all().priorities([Priority::Low, Priority::High])), ["0", "2"]);
    assert_eq!(passing(Filter::all().priorities([])), [""; 0]);
    assert_eq!(passing(Filter::all().matching(|meta| meta.payload().bytes() > &b"2"[..])), ["3", "4"]);
}

#[test]
fn conditions_and_filters_must_all_hold() {
    let files = || Filter::all().categories(["filesystem"]);
    let one = || Filter::all().sources(["filesystem:one"]);
    assert_eq!(passing(files().sources(["filesystem:one"]).priority_min(Priority::High)), ["3"]);
    assert_eq!(passing(files().types(["filesystem.created"]).matching(|meta| meta.topic().len() > 10)), ["0"]);
    assert_eq!(passing_all([files(), one(), Filter::all().priorities([Priority::Low])]), ["0"]);
    assert_eq!(passing_all([files(), Filter::all().categories(["orders"])]), [""; 0]);
    assert_eq!(passing_all([one(), Filter::all().sources(["filesystem:two"])]), [""; 0]);
    assert_eq!(passing(one().sources(["filesystem:two"])), ["0", "1", "3", "4"], "a second list adds to the first");
    assert_eq!(
        passing(Filter::all().priority_min(Priority::Normal).priorities([Priority::Low, Priority::Normal])),
        ["1"]
    );
}

#[test]
fn a_predicate_that_panics_refuses_the_event_and_is_observed() {
    let notices = Notices::default();
    let panics = Seen::default();
    let simulation = simulate(Bus::builder().workers(1).observer(notices.clone()).observer({
        let panics = panics.clone();
        move |notice: &Notice<'_>| {
            if let Notice::HandlerPanicked { name, event, .. } = notice {
                panics.push((name.to_string(), *event));
            }
        }
    }));
    let bus = simulation.bus();
    let made = bus
        .subscribe("a")
        .named("picky")
        .filter(Filter::all().matching(|meta| meta.payload().bytes()[0] == 1))
        .handle(|_, _| {})
        .unwrap();
    let mut publisher = bus.publisher().unwrap();
    let fatal = publisher.publish("a", NOTHING).unwrap();
    publisher.publish("a", Payload::raw(&[1])).unwrap();
    publisher.publish("a", Payload::raw(&[0])).unwrap();
    simulation.run();
    assert_eq!(panics.take(), [("picky".to_owned(), fatal)]);
    let ledger = made.record().ledger;
    assert_eq!((ledger.filtered, ledger.delivered), (2, 1));
    assert_books(bus);
}

#[test]
fn sources_beyond_sources_max_are_compared_by_text() {
    let simulation = simulate(Bus::builder().workers(1).sources_max(1));
    let bus = simulation.bus();
    let seen = Seen::default();
    let made = bus.subscribe("**").filter(Filter::all().sources(["b", "d"])).handle({
        let seen = seen.clone();
        move |_, meta| seen.push(meta.source().to_owned())
    });
    let mut publisher = bus.publisher().unwrap();
    for source in ["a", "b", "c", "d"] {
        publisher.set_source(source).unwrap();
        publisher.publish("x", NOTHING).unwrap();
    }
    simulation.run();
    assert_eq!(seen.take(), ["b", "d"]);
    drop(made.unwrap());
    assert_books(bus);
}

#[test]
fn explain_says_why_for_each_subscription() {
    let simulation = simulate(Bus::builder().workers(2));
    let bus = simulation.bus();
    let subscribe = |name: &str, pattern: &str, filter: Filter| {
        bus.subscribe(pattern).named(name).on_worker(1).filter(filter).handle(|_, _| {}).unwrap()
    };
    let made = [
        subscribe("gets", "orders.*", Filter::all()),
        subscribe("pattern", "orders", Filter::all()),
        subscribe("type", "orders.*", Filter::all().types(["orders.paid"])),
        subscribe("category", "**", Filter::all().categories(["stock"])),
        subscribe("priority", "**", Filter::all().priority_min(Priority::High)),
        subscribe("source", "**", Filter::all().sources(["service:other"])),
        subscribe("predicate", "**", Filter::all().matching(|_| true)),
        subscribe("paused", "**", Filter::all()),
    ];
    bus.pause(made[7].id()).unwrap();
    let explained = bus.explain("orders.placed", "service:shop", Priority::Normal);
    let verdicts: Vec<_> = explained.iter().map(|one| (one.name.as_str(), one.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            ("gets", Verdict::Matches { conditionally: false }),
            ("pattern", Verdict::Pattern),
            ("type", Verdict::Type),
            ("category", Verdict::Type),
            ("priority", Verdict::Priority),
            ("source", Verdict::Source),
            ("predicate", Verdict::Matches { conditionally: true }),
            ("paused", Verdict::Paused),
        ]
    );
    for (one, made) in explained.iter().zip(&made) {
        assert_eq!((one.subscription, one.worker), (made.id(), 1));
    }
    assert_eq!(explained[1].to_string(), "pattern (orders) on worker 1: its pattern does not match the topic");
    assert_books(bus);
}

fn words() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn topics() -> impl Strategy<Value = String> {
    prop::collection::vec(words(), 1..4).prop_map(|words| words.join("."))
}

fn patterns() -> impl Strategy<Value = String> {
    let segment = prop_oneof![2 => words(), 1 => Just("*"), 1 => Just("**")];
    prop::collection::vec(segment, 1..4).prop_map(|segments| segments.join("."))
}

fn sources() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["s:1", "s:2", "s:3"])
}

fn priorities() -> impl Strategy<Value = Priority> {
    prop::sample::select(Priority::ALL.to_vec())
}

fn filters() -> impl Strategy<Value = Filter> {
    let lists = (
        prop::collection::vec(topics(), 0..3),
        prop::collection::vec(words(), 0..2),
        prop::collection::vec(sources(), 0..3),
        prop::option::of(prop::collection::vec(priorities(), 0..4)),
        prop::option::of(priorities()),
    );
    lists.prop_map(|(types, categories, sources, only, least)| {
        let filter = Filter::all().types(types).categories(categories).sources(sources);
        let filter = only.map_or(filter.clone(), |only| filter.priorities(only));
        least.map_or(filter.clone(), |least| filter.priority_min(least))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// One description, two readings of it: what `explain` says, and what the tables of the workers do.
    #[test]
    fn explain_agrees_with_what_is_delivered(
        subscriptions in prop::collection::vec(
            (patterns(), prop::collection::vec(filters(), 0..3), any::<bool>()), 1..8),
        events in prop::collection::vec((topics(), sources(), priorities()), 1..20),
        types_max in prop::sample::select(vec![1_usize, 3, 1_000]),
        sources_max in prop::sample::select(vec![1_usize, 1_000]),
    ) {
        // Small rings, so that many buses can be built.
        let builder = Bus::builder().workers(3).max_queue_size(64).batch_max(64).blocks([(1 << 20, 1)]);
        let simulation = simulate(builder.types_max(types_max).sources_max(sources_max));
        let bus = simulation.bus();
        let seen: Seen<(usize, usize)> = Seen::default();
        let mut publisher = bus.publisher().unwrap();
        let mut made = Vec::new();
        let mut expected = Vec::new();
        let mut publish = |round: usize| {
            for (nth, (topic, source, priority)) in events.iter().enumerate() {
                for (who, one) in bus.explain(topic, source, *priority).iter().enumerate() {
                    if one.verdict == (Verdict::Matches { conditionally: false }) {
                        expected.push((who, round * 100 + nth));
                    }
                }
                let text = (round * 100 + nth).to_string();
                let outgoing = publisher.at(*priority).source(source);
                outgoing.publish(topic.as_str(), Payload::plain_text(&text)).unwrap();
            }
        };
        for (who, (pattern, filters, _)) in subscriptions.iter().enumerate() {
            if who == 1 {
                // Some topics are older than the subscriptions, some younger.
                publish(0);
            }
            let subscribe = filters.iter().fold(bus.subscribe(pattern.as_str()), |it, one| it.filter(one.clone()));
            let seen = seen.clone();
            made.push(subscribe.handle(move |payload, _| {
                seen.push((who, payload.text().unwrap().parse().unwrap()));
            }).unwrap());
        }
        for (made, (_, _, paused)) in made.iter().zip(&subscriptions) {
            if *paused {
                simulation.run();
                bus.pause(made.id()).unwrap();
            }
        }
        publish(1);
        simulation.run();
        let mut seen = seen.take();
        seen.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(seen, expected);
        assert_books(bus);
    }
}

#[test]
fn a_filter_for_a_source_that_no_publisher_can_have_is_refused() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let before = bus.memory();
    let max = EventSource::BYTES_MAX;
    for bytes in [max + 1, 10 << 20] {
        let sources = Filter::all().sources(["service:a".to_owned(), "s".repeat(bytes)]);
        let refused = [
            bus.subscribe("a").filter(sources.clone()).handle(|_, _| ()).unwrap_err(),
            bus.subscribe("a").filter(Filter::all()).filter(sources).mailbox().unwrap_err(),
        ];
        assert_eq!(
            refused,
            [SubscribeError::SourceTooLong { bytes, max }, SubscribeError::SourceTooLong { bytes, max }]
        );
    }
    assert_eq!(bus.memory(), before, "the bus keeps none of them");
    let seen = Seen::default();
    let handler = seen.clone();
    let longest = "s".repeat(max);
    let filter = Filter::all().sources([longest.as_str()]);
    let _made = bus.subscribe("a").filter(filter).handle(move |_, meta| handler.push(meta.source().len())).unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("a", NOTHING).unwrap();
    publisher.set_source(longest.as_str()).unwrap().publish("a", NOTHING).unwrap();
    simulation.run();
    assert_eq!(seen.take(), [max]);
    assert_books(bus);
}
