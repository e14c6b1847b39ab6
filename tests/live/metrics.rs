//! What Prometheus is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ringmain::node::prometheus::{EventMetrics, Exposed, Exposition};
use ringmain::node::services::{Services, ServicesOptions};
use ringmain::{Bus, Context, Handler, HandlerId, Meta, Outcome, Pattern, Payload};

use crate::books::end;
use crate::support::{Node, options};

#[test]
fn events_by_type_have_the_names_that_other_systems_gave_them() {
    let metrics = EventMetrics::default();
    let ms = Duration::from_millis;
    for took in [Duration::from_micros(3), ms(1), ms(3), ms(20_000)] {
        metrics.handled("task.created", "billing", took < ms(3), took);
    }
    let mut out = Exposition::new("mcp");
    metrics.write(&mut out);
    let expected = r#"# HELP mcp_events_published_total Events published, by type.
# TYPE mcp_events_published_total counter
# HELP mcp_events_processed_total Events handled, by type, handler and what came of it.
# TYPE mcp_events_processed_total counter
mcp_events_processed_total{event_type="task.created",handler="billing",status="success"} 2
mcp_events_processed_total{event_type="task.created",handler="billing",status="error"} 2
# HELP mcp_event_processing_duration_seconds How long handlers took, by type and handler.
# TYPE mcp_event_processing_duration_seconds histogram
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.001"} 2
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.002"} 2
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.004"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.008"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.016"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.032"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.064"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.128"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.256"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="0.512"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="1.024"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="2.048"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="4.096"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="8.192"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="16.384"} 3
mcp_event_processing_duration_seconds_bucket{event_type="task.created",handler="billing",le="+Inf"} 4
mcp_event_processing_duration_seconds_sum{event_type="task.created",handler="billing"} 20.004003
mcp_event_processing_duration_seconds_count{event_type="task.created",handler="billing"} 4
"#;
    assert_eq!(out.finish(), expected);
}

#[test]
fn types_and_handlers_without_room_are_counted_together() {
    let metrics = EventMetrics::new(3);
    let took = Duration::ZERO;
    for number in 0..10 {
        metrics.handled(&format!("type.{number}"), &format!("handler-{}", number % 5), true, took);
    }
    let bus = Bus::builder().workers(1).build().expect("a bus");
    let counting = metrics.count_published(&bus).expect("a subscription");
    for number in 0..10 {
        bus.publish(format!("type.{number}").as_str(), Payload::json("1")).expect("there is room");
    }
    bus.flush().expect("it moves");
    let mut out = Exposition::new("a");
    metrics.write(&mut out);
    let text = out.finish();
    let samples = samples(&text);
    let of = |name: &'static str| {
        samples.iter().filter(move |(sample, _)| sample.starts_with(name)).map(|(_, value)| *value)
    };
    assert_eq!(of("a_events_published_total").sum::<f64>(), 10.0);
    assert_eq!(of("a_events_published_total").count(), 4);
    assert_eq!(samples["a_events_published_total{event_type=\"other\"}"], 7.0);
    assert_eq!(of("a_events_processed_total").sum::<f64>(), 10.0);
    // Three as they are, three with their handler, and all others.
    assert_eq!(of("a_event_processing_duration_seconds_count").count(), 7);
    drop(counting);
    end(&bus);
}

/// Fails with every third event.
struct Billing(u64);

impl Handler<Pattern> for Billing {
    fn handle(&mut self, _: Payload<'_>, _: &Meta<'_>, _: &Context<'_>) -> Outcome {
        self.0 += 1;
        if self.0.is_multiple_of(3) { Outcome::Failed("no bill".to_owned()) } else { Outcome::Ack }
    }

    fn id(&self) -> HandlerId {
        HandlerId::new("billing")
    }
}

/// Everything that a node exports, with something in all of it.
async fn everything(namespace: &str) -> String {
    let node = Node::start(options()).await;
    let client = node.connect().await;
    let bus = Bus::builder().workers(1).build().expect("a bus");
    let events = EventMetrics::default();
    let counting = events.count_published(&bus).expect("a subscription");
    let billing = bus.subscribe("orders.*").named("bill\"ing\n").handler(events.timed(Billing(0))).expect("a handler");
    for _ in 0..30 {
        bus.publish("orders.placed", Payload::json("1")).expect("there is room");
    }
    bus.flush().expect("it moves");
    let services = Services::supervise(ServicesOptions::default(), |_| {});
    let text = Exposed {
        namespace,
        bus: &bus,
        health: bus.metrics().health(),
        events: &events,
        services: &services.list(),
        live: Some(node.hub.counts()),
        refused: &[("not-found", 3), ("connections-full", 0)],
    }
    .text();
    drop((counting, billing, client));
    bus.shutdown().expect("it ends");
    node.end().await;
    text
}

/// Samples by their name and labels. None is there twice.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value = value.parse().expect("a number");
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} is there twice");
    }
    samples
}

/// Names of metrics that a text declares.
fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(names.insert(name.to_owned()), "{name} is declared twice");
            if kind == "histogram" || kind == "summary" {
                names.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
            }
        }
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bus_did_is_exported_once_and_declared_before() {
    let text = everything("mcp").await;
    let (samples, names) = (samples(&text), names(&text));
    for (series, value) in [
        ("mcp_events_published_total{event_type=\"orders.placed\"}", 30.0),
        ("mcp_events_processed_total{event_type=\"orders.placed\",handler=\"billing\",status=\"success\"}", 20.0),
        ("mcp_events_processed_total{event_type=\"orders.placed\",handler=\"billing\",status=\"error\"}", 10.0),
        ("mcp_event_processing_duration_seconds_count{event_type=\"orders.placed\",handler=\"billing\"}", 30.0),
        ("mcp_event_queue_depth{queue_name=\"critical\"}", 0.0),
        ("mcp_messages_published_total", 30.0),
        ("mcp_subscription_events_total{subscription=\"bill\\\"ing\\n\",result=\"failed\"}", 10.0),
        ("mcp_event_latency_seconds_count{stage=\"handler\",priority=\"normal\"}", 60.0),
        ("mcp_ledger_balanced", 1.0),
        ("mcp_live_clients", 1.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}\n{text}");
    }
    let median = samples["mcp_event_latency_seconds{stage=\"total\",priority=\"normal\",quantile=\"0.5\"}"];
    assert!(median > 0.0 && median < 1.0, "in seconds: {median}");
    for series in samples.keys() {
        let name = series.split('{').next().expect("a name");
        assert!(names.contains(name), "{series} is not declared");
        assert!(name.starts_with("mcp_"));
    }
}

/// Runs promtool over a text; `None` where there is no promtool.
fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let tool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else {
        println!("SKIP: promtool is not there, {arguments:?} was not run");
        return None;
    };
    tool.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = tool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong() {
    for namespace in ["mcp", "ringmain"] {
        let text = everything(namespace).await;
        if let Some((is_clean, said)) = promtool(&["check", "metrics"], &text) {
            assert!(is_clean && said.is_empty(), "{said}");
        }
    }
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/alerts.yml");
    if let Some((is_clean, said)) = promtool(&["check", "rules", rules], "") {
        assert!(is_clean, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_rules_ask_for_what_is_exported() {
    let exported = names(&everything("ringmain").await);
    for file in ["ops/grafana.json", "ops/alerts.yml"] {
        let text = fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).expect("it is there");
        let mut asked = BTreeSet::new();
        for (at, _) in text.match_indices("ringmain_") {
            let name: String = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(exported.contains(&name), "{file} asks for {name}");
            asked.insert(name);
        }
        assert!(asked.len() >= 10, "{file}: {asked:?}");
        if file.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON");
        }
    }
}
