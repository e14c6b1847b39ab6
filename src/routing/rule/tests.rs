//! What rules promise.

use super::sample::Sample;
use super::*;
use crate::routing::{Operand, PatternError};

fn ids(rules: &RuleSet, sample: &Sample) -> Vec<String> {
    sample.with(|meta| rules.evaluate(meta).map(|rule| rule.id.clone()).collect())
}

fn set(rules: impl IntoIterator<Item = RoutingRule>) -> RuleSet {
    RuleSet::new(rules).unwrap()
}

fn to_a(id: &str) -> RoutingRule {
    RoutingRule::new(id).to("a")
}

fn holds(condition: Condition, sample: &Sample) -> bool {
    !ids(&set([to_a("r").when(condition)]), sample).is_empty()
}

/// What is wrong with the rule.
fn fault(rule: RoutingRule) -> RuleError {
    RuleSet::new([rule]).unwrap_err()
}

#[test]
fn higher_priorities_come_first_and_ties_go_by_id() {
    let rules = set([("b", 0), ("a", 0), ("z", 5), ("low", i32::MIN), ("top", i32::MAX)]
        .map(|(id, priority)| to_a(id).priority(priority)));
    assert_eq!(ids(&rules, &Sample::new("x")), ["top", "z", "a", "b", "low"]);
}

#[test]
fn one_word_is_a_category_and_more_are_a_pattern() {
    let rules = set([
        to_a("category").types([crate::Category::Filesystem]),
        to_a("exact").types(["filesystem.created"]),
        to_a("star").types(["filesystem.*"]),
        to_a("all").types(["*"]),
    ]);
    assert_eq!(ids(&rules, &Sample::new("filesystem.created")), ["all", "category", "exact", "star"]);
    assert_eq!(ids(&rules, &Sample::new("filesystem.file.created")), ["all", "category"]);
    assert_eq!(ids(&rules, &Sample::new("filesystem")), ["all", "category"]);
    assert_eq!(ids(&rules, &Sample::new("filesystems.created")), ["all"]);
}

#[test]
fn a_type_without_a_rule_has_an_empty_route() {
    let rules = set([
        to_a("files").types(["filesystem"]).priorities([Priority::Low]),
        RoutingRule::new("other").to("b"),
        to_a("off").enabled(false),
    ]);
    let here = |target: &str| (target == "a").then_some(7);
    let route = rules.for_type(Some("filesystem.created"), here);
    assert_eq!((route.is_empty(), route.lanes()), (false, 1 << Priority::Low.lane()));
    assert!(rules.for_type(Some("orders.placed"), here).is_empty(), "its only rules go elsewhere or are off");
    assert!(!set([to_a("files").types(["filesystem"])]).applies_to_type("orders.placed"));
    assert!(set([]).for_type(None, here).is_empty());
}

#[test]
fn a_field_that_is_missing_fails_each_comparison_and_not_turns_that_round() {
    let sample = Sample::new("x");
    for name in
        ["source", "metadata.k", "correlation", "aggregate.id", "aggregate.version", "schema_text", "original_id"]
    {
        let field = || Condition::field(name);
        assert!(!holds(field().exists(), &sample), "{name}");
        assert!(!holds(field().not_equals(1), &sample), "{name}");
        assert!(!holds(field().equals(Operand::Null), &sample), "{name}");
        assert!(holds(!field().equals(1), &sample), "{name}");
        assert!(holds(!!!field().exists(), &sample), "{name}");
    }
}

#[test]
fn header_fields_compare_as_what_they_are() {
    let id = crate::EventId::from_bytes([0xAB; 16]);
    let mut sample = Sample::new("orders.placed").metadata("retries", "10");
    (sample.source, sample.priority, sample.schema) = ("service:shop".into(), Priority::High, 3);
    (sample.correlation, sample.aggregate) = (Some(id), Some(("order".into(), "7".into(), u64::MAX)));
    sample.payload = vec![0; 100];
    for condition in [
        Condition::field("type").starts_with("orders."),
        Condition::field("category").equals("orders"),
        Condition::field("source").contains("shop"),
        Condition::field("priority").equals(Priority::High),
        Condition::field("priority").greater_than(Priority::Normal),
        Condition::field("priority").less_than("critical"),
        Condition::field("priority").starts_with("hi"),
        Condition::field("encoding").equals(crate::Encoding::Bytes),
        Condition::field("encoding").one_of(["json", "bytes"]),
        Condition::field("schema").greater_than(2.5),
        Condition::field("attempt").equals(1),
        Condition::field("payload_bytes").less_than(101),
        Condition::field("correlation").equals(id),
        Condition::field("correlation").starts_with("abababab-"),
        Condition::field("aggregate.kind").equals("order"),
        Condition::field("aggregate.version").equals(u64::MAX),
        Condition::metadata("retries").greater_than(9),
        Condition::metadata("retries").less_than("9"),
        Condition::field("id").equals("00000000-0000-0000-0000-000000000000"),
    ] {
        assert!(holds(condition.clone(), &sample), "{condition}");
        assert!(!holds(!condition.clone(), &sample), "not {condition}");
    }
}

#[test]
#[cfg(feature = "json")]
fn payload_fields_are_found_by_path() {
    let sample = Sample::new("x").json(
        r#" {"order": {"total": 12.5, "items": [{"sku": "a\n"}, null], "total2": 9007199254740993},
            "a.b": 1, "dup": 1, "dup": "last", "esc\u0061ped": true, "big": 1e999} "#,
    );
    for (path, value) in [
        ("order.total", Operand::Float(12.5)),
        ("order.total2", 9_007_199_254_740_993_i64.into()),
        ("order.items.0.sku", "a\n".into()),
        ("order.items.1", Operand::Null),
        ("dup", "last".into()),
        ("escaped", true.into()),
    ] {
        assert!(holds(Condition::payload(path).equals(value.clone()), &sample), "{path} {value}");
    }
    for path in ["order.items.2", "order.items.00", "order.items.x", "order.total.x", "a.b", "nothing", "big.x"] {
        assert!(!holds(Condition::payload(path).exists(), &sample), "{path}");
    }
    assert!(holds(Condition::payload("").exists(), &sample));
    assert!(holds(Condition::payload("big").not_equals(1), &sample), "beyond a float, and there");
    assert!(!holds(Condition::payload("order.total2").equals(9_007_199_254_740_992_i64), &sample), "not by rounding");
}

#[test]
#[cfg(feature = "json")]
fn an_array_contains_its_elements_and_a_text_its_parts() {
    let sample =
        Sample::new("x").json(r#"{"tags": ["new", "l\u0061rge", 7, null, ["deep"]], "text": "large\n", "none": []}"#);
    let contains = |path, value: Operand| holds(Condition::payload(path).contains(value), &sample);
    let elements: [Operand; 5] = ["new".into(), "large".into(), 7.into(), 7.0.into(), Operand::Null];
    assert!(elements.into_iter().all(|value| contains("tags", value)));
    let others: [Operand; 4] = ["ne".into(), "deep".into(), 8.into(), true.into()];
    assert!(!others.into_iter().any(|value| contains("tags", value)));
    assert!(contains("text", "rge\n".into()) && !contains("text", 7.into()) && !contains("none", Operand::Null));
}

#[test]
#[cfg(feature = "json")]
fn a_payload_that_is_no_json_has_no_fields() {
    let there = || Condition::payload("a").exists();
    assert!(holds(there(), &Sample::new("x").json(r#"{"a": 1}"#)));
    for text in
        ["", "{", r#"{"a": 1"#, r#"{"a": 1} x"#, r#"{"a": 1, "b": nul}"#, "a", "[", r#"{"a": tru}"#, "\u{feff}{}"]
    {
        assert!(!holds(there(), &Sample::new("x").json(text)), "{text}");
    }
    let depth = if cfg!(miri) { 1_000 } else { 100_000 };
    let deep = format!(r#"{{"b": {}{}, "a": 1}}"#, "[".repeat(depth), "]".repeat(depth));
    let rules = set([to_a("r").when(there())]).reading_at_most(deep.len());
    assert_eq!(ids(&rules, &Sample::new("x").json(&deep)), ["r"], "what is passed by may be as deep as it likes");
    let mut bytes = Sample::new("x").json(r#"{"a": "x"}"#);
    bytes.payload[7] = 0xFF;
    assert!(!holds(there(), &bytes), "not UTF-8");
    let mut text = Sample::new("x").json(r#"{"a": 1}"#);
    text.encoding = crate::Encoding::Text;
    assert!(!holds(there(), &text), "JSON by chance, not by its encoding");
}

#[test]
#[cfg(not(feature = "json"))]
fn a_condition_on_the_payload_says_which_feature_it_needs() {
    let error = fault(to_a("r").when(Condition::payload("order.total").exists()));
    assert_eq!(error, RuleError::NoJson { rule: "r".into(), field: "payload.order.total".into() });
    assert!(error.to_string().contains("the feature `json`"), "{error}");
}

#[test]
fn explain_names_the_first_thing_that_fails_and_what_was_seen() {
    let one_of_two = Condition::any([Condition::field("schema").equals(2), Condition::metadata("k").exists()]);
    let rules = set([
        to_a("1 matches").to("b"),
        to_a("2 off").enabled(false),
        to_a("3 type").types(["y"]),
        to_a("4 priority").priorities([Priority::Low]),
        to_a("5 source").sources(["there"]),
        to_a("6 both").when(Condition::all([
            Condition::field("schema").equals(1),
            Condition::all([Condition::metadata("t").greater_than(7)]),
        ])),
        to_a("7 any").when(one_of_two),
        to_a("8 not").when(!Condition::field("type").starts_with("x")),
    ]);
    let mut sample = Sample::new("x").metadata("t", "7");
    sample.source = "here".into();
    let verdicts = sample.with(|meta| rules.explain(meta));
    let said: Vec<String> = verdicts.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "1 matches: matches, to a, b",
            "2 off: is not enabled",
            "3 type: its event types do not match x",
            "4 priority: its priorities leave out normal",
            r#"5 source: its sources leave out "here""#,
            "6 both: fails at: metadata.t is greater than 7; metadata.t is 7",
            "7 any: fails at: any of (schema equals 2, metadata.k exists); schema is 1, metadata.k is missing",
            r#"8 not: fails at: not (type starts with "x"); type is x"#,
        ]
    );
    assert!(verdicts[0].matches() && verdicts.iter().skip(1).all(|verdict| !verdict.matches()));
}

#[test]
fn explain_cuts_long_values() {
    let rules = set([to_a("r").when(Condition::metadata("k").equals("é".repeat(200)))]);
    let verdicts = Sample::new("x").metadata("k", &"ß".repeat(1_000)).with(|meta| rules.explain(meta));
    let RuleReason::Condition { condition, seen } = &verdicts[0].reason else { panic!("{verdicts:?}") };
    assert_eq!(*condition, format!("metadata.k equals \"{}…\"", "é".repeat(64)));
    assert_eq!(*seen, [("metadata.k".to_owned(), Some(format!("{}…", "ß".repeat(64))))]);
}

#[test]
fn diff_names_the_samples_that_go_elsewhere() {
    let rules = set([to_a("files").types(["filesystem"]), to_a("also").types(["filesystem"]).to("b")]);
    let changed = rules.with(to_a("files").types(["filesystem"]).to("c").priority(1)).unwrap();
    let sample = |topic: &str| Sample::new(topic);
    sample("orders.placed").with(|order| {
        sample("filesystem.created").with(|file| {
            let samples = [*order, *file];
            let changes = rules.diff(&changed, samples);
            assert_eq!(changes.len(), 1);
            assert_eq!((changes[0].sample, changes[0].event), (1, file.id()));
            assert_eq!(changes[0].before, ["a", "b"]);
            assert_eq!(changes[0].after, ["a", "c", "b"], "each once, in the order of the rules");
            assert_eq!(rules.diff(&rules, samples), []);
            let gone = changed.without("files").unwrap().without("also").unwrap();
            assert_eq!(rules.diff(&gone, samples)[0].after, [] as [&str; 0]);
        });
    });
}

#[test]
fn a_change_leaves_the_set_before_it_as_it_was() {
    let rules = set([to_a("r")]);
    let off = rules.with_enabled("r", false).unwrap();
    let sample = Sample::new("x");
    assert_eq!((ids(&rules, &sample).len(), ids(&off, &sample).len()), (1, 0));
    assert!(!off.get("r").unwrap().enabled && rules.get("r").unwrap().enabled);
    assert_eq!(off.with(to_a("r").named("again")).unwrap().get("r").unwrap().name, "again");
    assert_eq!(rules.without("s").unwrap_err(), RuleError::Unknown { rule: "s".into() });
    assert_eq!(rules.with_enabled("s", true).unwrap_err(), RuleError::Unknown { rule: "s".into() });
}

#[test]
fn each_fault_of_a_rule_is_named() {
    let rule = || "r".to_owned();
    assert_eq!(RuleSet::new([to_a("r"), to_a("s"), to_a("r")]).unwrap_err(), RuleError::DuplicateId { rule: rule() });
    assert_eq!(fault(RoutingRule::new("r")), RuleError::NoTargets { rule: rule() });
    assert_eq!(fault(to_a("").named("n")), RuleError::Empty { rule: "n".into(), what: "id" });
    assert_eq!(fault(to_a("r").to("")), RuleError::Empty { rule: rule(), what: "target" });
    assert_eq!(
        fault(to_a("r").types(["a", "ord*"])),
        RuleError::Pattern {
            rule: rule(),
            pattern: "ord*".into(),
            error: PatternError::PartialWildcard { segment: "ord*".into(), offset: 0 },
        }
    );
    let unknown = Condition::any([Condition::field("type").exists(), !Condition::field("prority").equals("high")]);
    assert_eq!(fault(to_a("r").when(unknown)), RuleError::UnknownField { rule: rule(), field: "prority".into() });
    let empty = RuleError::EmptySegment { rule: rule(), field: "payload.a..b".into() };
    assert_eq!(fault(to_a("r").when(Condition::payload("a..b").exists())), empty);
    let never = fault(to_a("r").when(Condition::field("priority").one_of(["high", "hihg"])));
    assert_eq!(never.to_string(), r#"rule "r": priority is never "hihg"; it is one of critical, high, normal, low"#);
    assert!(matches!(fault(to_a("r").when(Condition::field("encoding").equals(1))), RuleError::Value { .. }));
}

#[test]
fn limits_hold_to_the_last() {
    let bytes = |count| "a".repeat(count);
    let named = |id, name, target, source| {
        RoutingRule::new(bytes(id)).named(bytes(name)).to(bytes(target)).sources([bytes(source)])
    };
    let equals = |count| Condition::metadata("k").equals(bytes(count));
    let one_of = |count| Condition::metadata("k").one_of(0..count);
    let key = |count| Condition::metadata(&bytes(count)).exists();
    let chain = |levels| (1..levels).fold(Condition::field("type").exists(), |inner, _| Condition::all([inner]));
    let conditions = |count| (0..count).fold(to_a("r"), |rule, _| rule.when(Condition::field("type").exists()));
    let group = |count: usize| to_a("r").when(Condition::any(vec![Condition::field("type").exists(); count]));
    let targets = |count| (0..count).fold(RoutingRule::new("r"), |rule, at| rule.to(format!("s{at}")));
    for (fits, breaks, limit) in [
        (named(255, 0, 1, 1), named(256, 0, 1, 1), 255),
        (named(1, 255, 1, 1), named(1, 256, 1, 1), 255),
        (named(1, 1, 255, 1), named(1, 1, 256, 1), 255),
        (named(1, 1, 1, 255), named(1, 1, 1, 256), 255),
        (targets(16), targets(17), 16),
        (to_a("r").types(vec!["a"; 64]), to_a("r").types(vec!["a"; 65]), 64),
        (to_a("r").sources(vec!["a"; 64]), to_a("r").sources(vec!["a"; 65]), 64),
        (conditions(64), conditions(65), 64),
        (group(63), group(64), 64),
        (to_a("r").when(one_of(64)), to_a("r").when(one_of(65)), 64),
        (to_a("r").when(equals(1_024)), to_a("r").when(equals(1_025)), 1_024),
        (to_a("r").when(key(512 - 9)), to_a("r").when(key(513 - 9)), 512),
        (to_a("r").when(chain(8)), to_a("r").when(chain(9)), 8),
    ] {
        assert!(RuleSet::new([fits.clone()]).is_ok(), "{fits:?}");
        let error = fault(breaks);
        let (RuleError::TooLong { max, .. }
        | RuleError::TooMany { max, .. }
        | RuleError::TooDeep { depth_max: max, .. }) = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(max, limit, "{error}");
        assert!(error.to_string().contains(&format!("{limit}")), "{error}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "a thousand rules, which Miri needs minutes for")]
fn a_full_set_takes_no_rule_more_and_lets_one_change() {
    let full = set((0..RuleSet::RULES_MAX).map(|id| to_a(&id.to_string())));
    assert_eq!(full.with(to_a("new")).unwrap_err(), RuleError::TooManyRules { count: 1_025, max: 1_024 });
    assert!(full.with(to_a("7").named("changed")).is_ok());
}

#[test]
#[cfg(feature = "json")]
fn payload_conditions_are_asked_last_and_leave_the_rule_as_it_was_written() {
    let rule = to_a("r").when(Condition::payload("a").exists()).when(Condition::field("schema").equals(2));
    let rules = set([rule.clone()]);
    assert_eq!(rules.get("r"), Some(&rule));
    let verdicts = Sample::new("x").with(|meta| rules.explain(meta));
    assert!(verdicts[0].to_string().contains("schema equals 2"), "{}", verdicts[0]);
}

#[test]
#[cfg(feature = "json")]
fn what_the_rules_of_a_type_ask_of_a_payload_is_read_at_once_as_each_would_alone() {
    const PATHS: [&str; 14] =
        ["", "a", "a.b", "a.b.c", "a.0", "a.1", "a.10", "a.2", "a.2.b", "a.01", "b", "b.a", "\u{e9}", "z.0.0"];
    let mut conditions = Vec::new();
    for path in PATHS {
        conditions.push(Condition::payload(path).exists());
        conditions.extend([1, 2].map(|value| Condition::payload(path).equals(value)));
        conditions.push(Condition::payload(path).contains(1));
    }
    // More than are remembered without an allocation, and some of which one ends where another goes on.
    conditions.extend((0..40).map(|nth| Condition::payload(&format!("many.k{nth}")).equals(nth)));
    let rules = conditions.into_iter().enumerate().map(|(nth, condition)| to_a(&format!("r{nth:03}")).when(condition));
    let rules = set(rules);
    let route = rules.for_type(Some("x"), |target| Some(target.to_owned()));
    let many: Vec<String> = (0..40).rev().map(|nth| format!(r#""k{nth}": {nth}"#)).collect();
    for (text, count) in [
        (r#"{"a": 1, "b": {"a": 2}}"#.to_owned(), 6),
        (r#"{"a": {"b": {"c": 1}}, "a": {"b": 2}}"#.to_owned(), 4),
        (r#"{"a": {"b": 2}, "a": 1}"#.to_owned(), 3),
        (r#"{"a": [1, 2, {"b": 1}, 3, 4, 5, 6, 7, 8, 9, 2]}"#.to_owned(), 12),
        (r#"{"\u0061": [1], "\u00e9": 1, "b": {"\ud800": 1, "a": 1}, "z": [[1]]}"#.to_owned(), 10),
        (format!(r#"{{"many": {{{}}}, "a": 1e999}}"#, many.join(", ")), 42),
        (r#"{"a": 1, "b": tru}"#.to_owned(), 0),
        ("[1, 1]".to_owned(), 2),
        ("1".to_owned(), 2),
    ] {
        Sample::new("x").json(&text).with(|meta| {
            let alone: Vec<_> = rules.evaluate(meta).map(|rule| &rule.id).collect();
            let event = route.reading(meta);
            let at_once: Vec<_> = route.evaluate(&event).map(|(rule, _)| &rule.id).collect();
            assert_eq!(at_once, alone, "{text}");
            assert_eq!(at_once.len(), count, "{text}: {at_once:?}");
        });
    }
}
