//! Random conditions, rules and events over few words, so that they often meet.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{ENCODINGS, Json, PRIORITIES, Plain, Spec, SpecEvent, SpecRule, Test};
use crate::event::{Encoding, Priority};
use crate::routing::Sample;

const TEXTS: [&str; 9] = ["", "a", "ab", "b", "1", "0.5", "true", "null", "high"];
const NUMBERS: [f64; 6] = [-2.0, -0.5, 0.0, 0.5, 1.0, 2.0];

fn operands() -> impl Strategy<Value = Plain> {
    prop_oneof![
        1 => Just(Plain::Null),
        1 => any::<bool>().prop_map(Plain::Bool),
        3 => select(&NUMBERS[..]).prop_map(Plain::Number),
        4 => select(&TEXTS[..]).prop_map(|text| Plain::Text(text.to_owned())),
    ]
}

fn tests(operand: impl Strategy<Value = Plain> + Clone + 'static) -> impl Strategy<Value = Test> {
    prop_oneof![
        1 => operand.clone().prop_map(Test::Equals),
        1 => operand.clone().prop_map(Test::NotEquals),
        1 => operand.clone().prop_map(Test::Less),
        1 => operand.clone().prop_map(Test::Greater),
        2 => operands().prop_map(Test::Contains),
        1 => select(&TEXTS[..]).prop_map(|text| Test::Starts(text.to_owned())),
        1 => Just(Test::Exists),
        1 => vec(operand, 0..4).prop_map(Test::OneOf),
    ]
}

fn texts(of: &'static [&'static str]) -> impl Strategy<Value = Plain> + Clone {
    select(of).prop_map(|text| Plain::Text(text.to_owned()))
}

fn leaves() -> impl Strategy<Value = Spec> {
    const HEADER: [&str; 9] = [
        "type",
        "category",
        "source",
        "schema",
        "aggregate.kind",
        "aggregate.version",
        "metadata.a",
        "metadata.b",
        "metadata.a.b",
    ];
    const PAYLOAD: [&str; 9] = [
        "payload",
        "payload.a",
        "payload.a",
        "payload.a",
        "payload.b",
        "payload.a.a",
        "payload.a.0",
        "payload.b.1.a",
        "payload.a.01",
    ];
    const ENCODING_NAMES: [&str; 3] = ["bytes", "json", "text"];
    let payload = if cfg!(feature = "json") { &PAYLOAD[..] } else { &HEADER[..] };
    let leaf = |(field, test)| Spec::Leaf(field, test);
    prop_oneof![
        3 => (select(&HEADER[..]), tests(operands().boxed())).prop_map(leaf),
        4 => (select(payload), tests(operands().boxed())).prop_map(leaf),
        1 => (Just("priority"), tests(texts(&PRIORITIES))).prop_map(leaf),
        1 => (Just("encoding"), tests(texts(&ENCODING_NAMES))).prop_map(leaf),
    ]
}

pub(super) fn conditions() -> impl Strategy<Value = Spec> {
    leaves().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Spec::All),
            vec(inner.clone(), 0..4).prop_map(Spec::Any),
            inner.prop_map(|one| Spec::Not(Box::new(one))),
        ]
    })
}

const SOURCES: [&str; 3] = ["a", "b:1", "b:2"];

pub(super) fn rules() -> impl Strategy<Value = SpecRule> {
    const PATTERNS: [&str; 9] = ["a", "b", "a.*", "*.b", "**", "*", "a.b", "**.b.**", "b.**"];
    let lists =
        (vec(select(&PATTERNS[..]), 0..3), vec(select(&SOURCES[..]), 0..3), vec(select(&Priority::ALL[..]), 0..4));
    (lists, vec(conditions(), 0..3), -1..2_i32, prop::bool::weighted(0.8)).prop_map(
        |((types, sources, priorities), conditions, priority, enabled)| SpecRule {
            types,
            sources,
            priorities,
            conditions,
            priority,
            enabled,
        },
    )
}

fn payloads() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::Bool),
        2 => select(&NUMBERS[..]).prop_map(Json::Number),
        4 => (select(&TEXTS[..]), any::<bool>()).prop_map(|(text, escaped)| Json::Text(text.to_owned(), escaped)),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::Array),
            vec((select(&["a", "b", "0", "01"][..]), any::<bool>(), inner), 0..4).prop_map(Json::Object),
        ]
    });
    vec((select(&["a", "a", "b"][..]), any::<bool>(), value), 0..4).prop_map(Json::Object)
}

pub(super) fn events() -> impl Strategy<Value = SpecEvent> {
    const TOPICS: [&str; 7] = ["a", "a.b", "a.b.c", "b", "b.a", "ab", "c.b"];
    let metadata = vec((select(&["a", "b", "a.b"][..]), select(&TEXTS[..])), 0..4);
    let header = (select(&TOPICS[..]), select(&["", "a", "b:1", "b:2"][..]), select(&Priority::ALL[..]), 1..3_u16);
    let aggregate = prop::option::of((select(&TEXTS[..]), 0..3_u64));
    let payload = (payloads(), select(&[1, 0, 1, 1, 2][..]), prop::option::weighted(0.1, any::<prop::sample::Index>()));
    (header, metadata, aggregate, payload, any::<bool>()).prop_map(|(header, metadata, aggregate, payload, listed)| {
        let (json, encoding, cut) = payload;
        let mut text = json.written();
        if let Some(cut) = cut {
            // An object without its end is none.
            text.truncate(cut.index(text.len()));
        }
        let mut sample = Sample::new(header.0).json(&text);
        (sample.source, sample.priority, sample.schema) = (header.1.to_owned(), header.2, header.3);
        sample.encoding = ENCODINGS[encoding];
        sample.aggregate = aggregate.map(|(kind, version)| (kind.to_owned(), "7".to_owned(), version));
        sample.metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        sample.listed = listed;
        let json = (cut.is_none() && sample.encoding == Encoding::Json).then_some(json);
        SpecEvent { sample, json }
    })
}
