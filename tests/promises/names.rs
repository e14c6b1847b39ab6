//! More topics and sources than the bus has numbers for: they are matched, shown and checked by name.

use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, EventSource, Filter, FullPolicy, Payload, Priority, Topic};
use rkyv::{Archive, Serialize};

use super::support::{Log, assert_settled, observed, watched};

const BODY: Payload<'static> = Payload::plain_text("x");

fn few(types: usize, sources: usize) -> BusBuilder {
    Bus::builder().workers(1).types_max(types).sources_max(sources).when_full(FullPolicy::REJECT)
}

#[test]
fn topics_beyond_the_limit_are_matched_by_name_and_counted() {
    let simulation = Simulation::new(few(2, 10), 1).unwrap();
    let bus = simulation.bus();
    let before = bus.subscribe("late.*").mailbox();
    let mut before = before.unwrap();
    let mut publisher = bus.publisher().unwrap();
    // Two names take the places; those that follow have none.
    publisher.publish("early.one", BODY).unwrap();
    publisher.publish("early.two", BODY).unwrap();
    let mut after = bus.subscribe("late.b").mailbox().unwrap();
    let mut not_b = bus.subscribe("late.**").filter(Filter::all().types(["late.a", "late.c"])).mailbox().unwrap();
    for topic in ["late.a", "late.b", "late.c", "other", "early.one"] {
        publisher.publish(topic, Payload::plain_text(topic)).unwrap();
        let mut loan = publisher.loan(300).unwrap();
        loan.bytes_mut().fill(1);
        loan.publish(Priority::Normal, topic).unwrap();
    }
    simulation.run();
    let topics = |mailbox: &mut ringmain::Mailbox<_>| {
        let mut names = Vec::new();
        while let Ok(delivery) = mailbox.try_recv() {
            let payload: Payload<'_> = delivery.payload();
            assert!(payload.text().is_none_or(|text| text == delivery.meta().topic()));
            names.push(delivery.meta().topic().to_owned());
        }
        names.dedup();
        names
    };
    assert_eq!(topics(&mut before), ["late.a", "late.b", "late.c"]);
    assert_eq!(topics(&mut after), ["late.b"]);
    assert_eq!(topics(&mut not_b), ["late.a", "late.c"]);
    assert_eq!(bus.metrics().matched_by_name, 8, "two events of each of four topics without a number");
    drop((before, after, not_b));
    publisher.publish("late.a", BODY).unwrap();
    assert_settled(bus);
    assert_eq!(bus.ledger().unmatched, 5, "without a subscription nothing takes a slot");
}

#[derive(Archive, Serialize)]
struct Short {
    id: u8,
}

#[derive(Archive, Serialize)]
struct Long {
    words: [u64; 6],
    text: String,
}

const SHORT: Topic<Short> = Topic::new("late.typed");
const LONG: Topic<Long> = Topic::new("late.typed");

#[test]
fn typed_topics_beyond_the_limit_are_validated_not_trusted() {
    watched(|| {
        let (builder, notices) = observed(few(1, 10));
        let bus = builder.build().unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.publish("early", BODY).unwrap();
        let log = Log::new();
        let (inline, threaded) = (log.clone(), log.clone());
        let read = |long: &ArchivedLong| (long.words[5].to_native(), long.text.as_str().to_owned());
        let _inline = bus.subscribe(LONG).named("inline").handle(move |long, _| inline.add(read(long))).unwrap();
        let _threaded =
            bus.subscribe(LONG).named("threaded").handle_on("reader", move |long, _| threaded.add(read(long))).unwrap();
        let mut mailbox = bus.subscribe(LONG).mailbox().unwrap();
        let long = Long { words: [1, 2, 3, 4, 5, 6], text: "a text too long to be stored inline".to_owned() };
        publisher.publish(LONG, &long).unwrap();
        // No number, so no Rust type is known for the topic: the other type under the same name is not caught here.
        publisher.publish(SHORT, &Short { id: 255 }).unwrap();
        let first = mailbox.recv().unwrap();
        assert_eq!(read(first.event().unwrap()), (6, long.text.clone()));
        assert!(mailbox.recv().unwrap().event().is_err(), "one byte is no archive of a Long");
        drop(first);
        assert_settled(&bus);
        assert_eq!(log.take(), vec![(6, long.text.clone()); 2]);
        let undecodable = notices.take().into_iter().filter(|notice| notice.starts_with("Undecodable")).count();
        assert_eq!(undecodable, 2, "the handler and the thread each say that they could not read it");
        assert_eq!(bus.ledger().subscriptions.failed, 2);
    });
}

#[test]
fn sources_beyond_the_limit_are_shown_and_filtered_by_name() {
    let simulation = Simulation::new(few(10, 1).name("main"), 1).unwrap();
    let bus = simulation.bus();
    // The bus's own source has the only place.
    let mut own = bus.publisher().unwrap();
    let mut all = bus.subscribe("a").mailbox().unwrap();
    let mut wanted = bus.subscribe("a").filter(Filter::all().sources(["service:late"])).mailbox().unwrap();
    let mut late = bus.publisher().unwrap();
    late.set_source(EventSource::service("late")).unwrap();

    own.publish("a", BODY).unwrap();
    late.publish("a", BODY).unwrap();
    late.loan(300).unwrap().publish(Priority::Normal, "a").unwrap();
    late.publish_batch("a", [BODY]).unwrap();
    late.event().source("service:guest").publish("a", BODY).unwrap();
    late.event().source("service:main").publish("a", BODY).unwrap();
    own.event().source("service:late").publish("a", BODY).unwrap();
    simulation.run();

    let sources = |mailbox: &mut ringmain::Mailbox<_>| {
        let mut sources = Vec::new();
        while let Ok(delivery) = mailbox.try_recv() {
            sources.push(ringmain::Delivery::<ringmain::Pattern>::meta(&delivery).source().to_owned());
        }
        sources
    };
    let late = "service:late";
    assert_eq!(sources(&mut all), ["service:main", late, late, late, "service:guest", "service:main", late]);
    assert_eq!(sources(&mut wanted), [late; 4]);
    assert_settled(bus);
}
