//! Alerts: raised when something is wrong for long enough, over when it is right for long enough, said once each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use ringmain::node::alert::{
    AlertBook, AlertChange, AlertRule, AlertState, Alerts, AlertsOptions, Condition, Facts, Severity,
};
use ringmain::node::health::Health;
use ringmain::node::services::Service;
use ringmain::node::services::builtin::PostTarget;
use ringmain::{BreakerPolicy, Bus, DeliveryMode, Payload, Priority, RetryPolicy};
use serde_json::{Value, json};

use crate::support::{LONG, bus, next_async, server};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rule(id: &str, condition: Condition, lasts: u64, resolves_after: u64) -> AlertRule {
    AlertRule { lasts: s(lasts), resolves_after: s(resolves_after), ..AlertRule::new(id, condition) }
}

fn said(changes: &[AlertChange]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

fn fill(share: f64) -> Facts {
    Facts { fill: vec![(Priority::High, share), (Priority::Low, 0.1)], ..Facts::default() }
}

#[test]
fn an_alert_is_raised_and_over_once_after_the_time_that_its_rule_says() {
    let deep = Condition::Deep { share: 0.8 };
    let mut book = AlertBook::new(vec![AlertRule { severity: Severity::Critical, ..rule("deep", deep, 10, 30) }], 10);
    let mut look = |now, share| said(&book.look(s(now), &fill(share)));
    assert!(look(0, 0.79).is_empty());
    assert!(look(5, 0.8).is_empty(), "pending");
    assert!(look(14, 0.9).is_empty());
    assert_eq!(look(15, 0.85), ["critical: deep firing for high: 85 % full"]);
    assert!(look(16, 0.99).is_empty(), "once");
    assert!(look(20, 0.1).is_empty());
    assert!(look(49, 0.1).is_empty());
    assert!(look(49, 0.95).is_empty(), "and it was not over");
    assert!(look(50, 0.1).is_empty());
    assert!(look(79, 0.1).is_empty());
    assert_eq!(look(80, 0.1), ["critical: deep resolved for high: 95 % full"]);
    assert!(
        look(81, 0.9).is_empty() && look(85, 0.1).is_empty() && look(86, 0.9).is_empty() && look(95, 0.9).is_empty()
    );
    assert_eq!(look(96, 0.9).len(), 1, "a break begins the time anew");
    assert_eq!(
        book.alerts().map(|alert| (alert.state, alert.since)).collect::<Vec<_>>(),
        [(AlertState::Firing, s(96))]
    );
}

#[test]
fn every_condition_has_its_threshold_and_its_subject() {
    let rules = vec![
        rule("unwell", Condition::Unwell { only_unhealthy: false }, 0, 0),
        rule("unhealthy", Condition::Unwell { only_unhealthy: true }, 0, 0),
        rule("breaker", Condition::BreakerOpen, 0, 0),
        rule("letters", Condition::DeadLetters { over: 9, within: s(60) }, 0, 0),
        rule("slow", Condition::Slow { objective: Duration::from_millis(1) }, 0, 0),
        rule("deep", Condition::Deep { share: 0.8 }, 0, 0),
    ];
    let mut book = AlertBook::new(rules, 100);
    let calm = Facts {
        health: vec![("files".to_owned(), Health::Healthy), ("bus".to_owned(), Health::Healthy)],
        dead_letters: 1_000,
        p95: vec![(Priority::Normal, Duration::from_millis(1))],
        ..fill(0.799)
    };
    assert!(book.look(s(0), &calm).is_empty());
    let wrong = Facts {
        health: vec![
            ("files".to_owned(), Health::Degraded("no room".to_owned())),
            ("bus".to_owned(), Health::Unhealthy("it stands still".to_owned())),
        ],
        open_breakers: vec!["billing".to_owned()],
        dead_letters: 1_010,
        p95: vec![(Priority::Normal, Duration::from_micros(1_001))],
        ..fill(0.8)
    };
    assert_eq!(
        said(&book.look(s(59), &wrong)),
        [
            "warning: unwell firing for bus: unhealthy: it stands still",
            "warning: unwell firing for files: degraded: no room",
            "warning: unhealthy firing for bus: unhealthy: it stands still",
            "warning: breaker firing for billing: its circuit breaker is open",
            "warning: letters firing for dead letters: 10 in 60s",
            "warning: slow firing for normal: p95 is 1.001ms, the objective 1ms",
            "warning: deep firing for high: 80 % full",
        ]
    );
    let over = book.look(s(200), &Facts { dead_letters: 1_010, ..calm });
    assert_eq!(over.len(), 7, "{:?}", said(&over));
    assert!(over.iter().all(|change| change.state == AlertState::Resolved) && book.alerts().count() == 0);
}

#[test]
fn dead_letters_are_counted_over_the_time_of_the_rule() {
    let mut book = AlertBook::new(vec![rule("letters", Condition::DeadLetters { over: 9, within: s(60) }, 0, 0)], 10);
    let mut is_firing = |now, dead_letters| {
        book.look(s(now), &Facts { dead_letters, ..Facts::default() });
        book.alerts().count() == 1
    };
    // One in each 10 seconds is never ten in 60, however many there are.
    for now in (0..2_000).step_by(5) {
        assert!(!is_firing(now, 7 + now / 10), "at {now} s");
    }
    assert!(!is_firing(2_000, 207) && is_firing(2_001, 213));
    assert!(is_firing(2_010, 213) && !is_firing(2_040, 213));
}

#[test]
fn there_are_no_more_alerts_than_fit_and_rules_can_be_others() {
    let unwell = |many: usize| Facts {
        health: (0..many).map(|nth| (format!("s{nth}"), Health::Unhealthy("x".to_owned()))).collect(),
        ..Facts::default()
    };
    let kept = rule("kept", Condition::Unwell { only_unhealthy: false }, 0, 0);
    let changed = rule("changed", Condition::Unwell { only_unhealthy: true }, 0, 0);
    let pending = rule("pending", Condition::Unwell { only_unhealthy: true }, 9, 0);
    let mut book = AlertBook::new(vec![kept.clone(), changed.clone(), pending], 3);
    assert_eq!(book.look(s(0), &unwell(5)).len(), 3);
    assert_eq!((book.alerts().count(), book.untracked()), (3, 2 + 5 + 5));
    book.look(s(1), &unwell(5));
    assert_eq!(book.untracked(), 2 + 5 + 5, "they are the same");
    book.look(s(2), &unwell(0));
    assert_eq!((book.alerts().count(), book.untracked()), (0, 0), "there is room again");
    let mut book = AlertBook::new(vec![kept.clone(), changed.clone()], 100);
    book.look(s(0), &unwell(2));
    let changes = book.set_rules(s(1), vec![kept.clone(), AlertRule { lasts: s(5), ..changed }, kept.clone()]);
    assert_eq!(said(&changes).len(), 2, "those of the rule that is another are over");
    assert!(changes.iter().all(|change| (change.rule.as_str(), change.state) == ("changed", AlertState::Resolved)));
    assert_eq!(said(&book.look(s(1), &unwell(2))), [""; 0]);
    assert_eq!(book.alerts().filter(|alert| alert.rule == "kept").count(), 2);
}

/// Whether an alert is firing at the end, from all that there was and the words of the rule: its condition has held for `lasts` without
/// a break, and has not failed to hold for `resolves_after` without a break since.
fn naive(history: &[(u64, bool)], lasts: u64, resolves_after: u64) -> bool {
    let stretch = |from: usize, to: usize, value: bool, length: u64| {
        history[from..=to].iter().all(|(_, holds)| *holds == value) && history[to].0 - history[from].0 >= length
    };
    let ends = 0..history.len();
    ends.clone().any(|raised| {
        let was_raised = (0..=raised).any(|from| stretch(from, raised, true, lasts));
        let is_over = || {
            let ends = raised + 1..history.len();
            ends.clone().any(|to| (raised + 1..=to).any(|from| stretch(from, to, false, resolves_after)))
        };
        was_raised && !is_over()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn an_alert_is_firing_exactly_when_its_rule_says_so(
        steps in proptest::collection::vec((0_u64..5, any::<[bool; 2]>()), 1..60),
        lasts in 0_u64..12,
        resolves_after in 0_u64..12,
    ) {
        let deep = rule("deep", Condition::Deep { share: 0.5 }, lasts, resolves_after);
        let mut book = AlertBook::new(vec![deep], 10);
        let lanes = [Priority::High, Priority::Low];
        let (mut now, mut histories) = (0, [Vec::new(), Vec::new()]);
        let mut told = [false; 2];
        for (wait, holds) in steps {
            now += wait;
            let fill = std::array::from_fn::<_, 2, _>(|lane| (lanes[lane], if holds[lane] { 0.5 } else { 0.49 }));
            for change in book.look(s(now), &Facts { fill: fill.to_vec(), ..Facts::default() }) {
                let lane = lanes.iter().position(|lane| lane.to_string() == change.subject).unwrap();
                let fires = change.state == AlertState::Firing;
                prop_assert_ne!(fires, told[lane], "a change is said once");
                told[lane] = fires;
            }
            for lane in 0..2 {
                histories[lane].push((now, holds[lane]));
                let firing = book.alerts().any(|alert| alert.subject == lanes[lane].to_string() && alert.state == AlertState::Firing);
                prop_assert_eq!(firing, naive(&histories[lane], lasts, resolves_after), "{:?}", histories[lane]);
                prop_assert_eq!(told[lane], firing);
            }
        }
    }
}

/// Alerts that look every second, and what their bus, their log and their URL hear of.
struct Scene {
    bus: Bus,
    alerts: Alerts,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    fn new(bus: Bus, rules: Vec<AlertRule>, webhook: Option<PostTarget>) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&lines);
        let log = Arc::new(move |line: &str| hears.lock().unwrap().push(line.to_owned()));
        let options = AlertsOptions {
            every: Duration::from_millis(20),
            rules,
            log: Some(log),
            webhook,
            ..AlertsOptions::default()
        };
        let alerts = Alerts::new(&bus, None, options).unwrap();
        Self { bus, alerts, lines }
    }
}

#[tokio::test]
async fn a_change_goes_to_the_log_the_bus_and_a_url() {
    let (url, requests) = server(&["200 Ok"]);
    let retry = RetryPolicy::default().attempts_max(1);
    let bus = Bus::builder().workers(1).retry(retry).build().unwrap();
    let mut inbox = bus.subscribe("ringmain.alert.*").mailbox().unwrap();
    let breaker = BreakerPolicy::default().failures_max(1).open_for(Duration::from_secs(3_600));
    let billing = bus.subscribe("bill").named("billing").mode(DeliveryMode::reliable()).breaker(breaker);
    let billing = billing.handle(|_, _| Err::<(), _>("no")).unwrap();
    let rules = vec![rule("breaker", Condition::BreakerOpen, 0, 0)];
    let scene = Scene::new(bus, rules, Some(PostTarget::new(url)));
    scene.alerts.start().await.unwrap();
    scene.bus.publish("bill", Payload::json("1")).unwrap();
    let got = next_async(&mut inbox).await;
    let expected = json!({
        "rule": "breaker", "subject": "billing", "state": "firing", "severity": "warning",
        "value": "its circuit breaker is open",
    });
    assert_eq!((got.topic.as_str(), &got.data), ("ringmain.alert.firing", &expected));
    drop(billing);
    let got = next_async(&mut inbox).await;
    assert_eq!((got.topic.as_str(), &got.data["state"]), ("ringmain.alert.resolved", &json!("resolved")));
    assert_eq!(
        *scene.lines.lock().unwrap(),
        [
            "warning: breaker firing for billing: its circuit breaker is open",
            "warning: breaker resolved for billing: its circuit breaker is open",
        ]
    );
    let posted =
        tokio::task::spawn_blocking(move || [(); 2].map(|()| requests.recv_timeout(LONG).unwrap())).await.unwrap();
    let posted = posted.map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
    assert_eq!((&posted[0], &posted[1]["state"]), (&expected, &json!("resolved")));
    assert_eq!(scene.alerts.health().await, Health::Healthy);
    assert_eq!(scene.alerts.history().len(), 2);
    assert!(scene.alerts.alerts().is_empty());
    scene.alerts.stop().await.unwrap();
    drop(inbox);
    scene.bus.shutdown().unwrap();
}

#[tokio::test]
async fn a_url_that_takes_nothing_shows_in_the_health_and_the_bus_is_told_all_the_same() {
    let (url, requests) = server(&["410 Gone"]);
    let bus = bus();
    let mut inbox = bus.subscribe("ringmain.alert.*").mailbox().unwrap();
    // Nothing is ever this empty.
    let scene = Scene::new(bus, vec![rule("deep", Condition::Deep { share: 0.0 }, 0, 0)], Some(PostTarget::new(url)));
    scene.alerts.start().await.unwrap();
    for _ in 0..4 {
        assert_eq!(next_async(&mut inbox).await.topic, "ringmain.alert.firing");
    }
    tokio::task::spawn_blocking(move || (0..4).for_each(|_| drop(requests.recv_timeout(LONG).unwrap()))).await.unwrap();
    let degraded = async {
        loop {
            match scene.alerts.health().await {
                Health::Degraded(reason) if reason.contains("4 changes") => return reason,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let reason = tokio::time::timeout(LONG, degraded).await.unwrap();
    assert!(reason.contains("status 410"), "{reason}");
    scene.alerts.set_rules(Vec::new());
    for _ in 0..4 {
        assert_eq!(next_async(&mut inbox).await.topic, "ringmain.alert.resolved");
    }
    assert!(scene.alerts.alerts().is_empty());
    assert_eq!(scene.alerts.history().len(), 8, "those that no rule speaks of are over");
    scene.alerts.stop().await.unwrap();
    drop(inbox);
    scene.bus.shutdown().unwrap();
}
