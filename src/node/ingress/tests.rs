//! What lines are read as.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

pub(super) fn by_type_field(field: &str) -> Rules {
    Rules { type_field: Some(field.to_owned()), ..Rules::default() }
}

pub(super) fn by_priority_field(field: &str) -> Rules {
    Rules { priority_field: Some(field.to_owned()), ..Rules::default() }
}

/// A short-form event in which everything that may be absent is.
fn bare<'a>(event_type: &'a str, data: DataRef<'a>) -> Ingress<'a> {
    Ingress {
        id: None,
        event_type: event_type.into(),
        source: "pipe".into(),
        priority: None,
        time_unix_ns: None,
        subject: None,
        data_schema: None,
        content_type: None,
        correlation_id: None,
        causation_id: None,
        trace_parent: None,
        extensions: Vec::new(),
        data,
    }
}

#[test]
fn the_short_form_needs_a_type_and_nothing_else() {
    let rules = Rules::default();
    let read = |line: &'static str| parse(line.as_bytes(), &rules).expect(line);
    assert_eq!(read(r#"{"type":"a.b","data":{"n": 1}}"#), bare("a.b", DataRef::Json(r#"{"n": 1}"#)));
    assert_eq!(read(r#"{"data":null,"type":"a"}"#), bare("a", DataRef::Json("null")));
    assert_eq!(read(" {\"type\":\"a\"} \r\n"), bare("a", DataRef::Absent));
    assert_eq!(read(r#"{"type":"a","data":"text"}"#), bare("a", DataRef::Json("\"text\"")));
    assert_eq!(read(r#"{"type":"a","data_base64":"AP8="}"#), bare("a", DataRef::Bytes(vec![0, 255])));
    assert_eq!(read(r#"{"type":"a","specversion":null,"id":null,"source":null,"x":null}"#), bare("a", DataRef::Absent));
    let event = read(r#"{"type":"a","id":"7","source":"web","priority":"low"}"#);
    assert_eq!((event.id.as_deref(), event.source.as_ref(), event.priority), (Some("7"), "web", Some(Priority::Low)));
}

#[test]
fn a_cloud_event_is_read_with_all_its_attributes() {
    let line = r#"{"specversion":"1.0","id":"A234","source":"https://example.com/shop","type":"com.example.placed",
        "time":"2018-04-05T17:31:00.5Z","subject":"order 7","dataschema":"https://example.com/schema",
        "datacontenttype":"application/json","priority":"critical","correlationid":"c-1","causationid":"c-0",
        "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tenant":"caf\u00e9","version":2,
        "schemaversion":"2.1","sampled":true,"gone":null,"subscription":"last hop","sequence":"41","data":[1, 2]}"#;
    let rules = Rules::default();
    assert_eq!(
        parse(line.as_bytes(), &rules),
        Ok(Ingress {
            id: Some("A234".into()),
            event_type: "com.example.placed".into(),
            source: "https://example.com/shop".into(),
            priority: Some(Priority::Critical),
            time_unix_ns: Some(1_522_949_460_500_000_000),
            subject: Some("order 7".into()),
            data_schema: Some("https://example.com/schema".into()),
            content_type: Some("application/json".into()),
            correlation_id: Some("c-1".into()),
            causation_id: Some("c-0".into()),
            trace_parent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            extensions: vec![
                ("tenant".into(), Attribute::Text("café".into())),
                ("version".into(), Attribute::Integer(2)),
                ("schemaversion".into(), Attribute::Text("2.1".into())),
                ("sampled".into(), Attribute::Boolean(true)),
                ("sequence".into(), Attribute::Text("41".into())),
            ],
            data: DataRef::Json("[1, 2]"),
        })
    );
}

#[test]
fn the_content_type_decides_what_a_string_is() {
    let rules = Rules::default();
    for (content_type, is_text) in [
        ("application/json", false),
        ("application/json; charset=utf-8", false),
        ("Text/JSON", false),
        ("application/vnd.acme+json", false),
        ("text/plain", true),
        ("application/xml;a=b/json", true),
        ("application/jsonp", true),
        ("json", true),
    ] {
        let line = format!(r#"{{"type":"a","datacontenttype":"{content_type}","data":"\"1\""}}"#);
        let data = parse(line.as_bytes(), &rules).expect(&line).data;
        let wanted = if is_text { DataRef::Text("\"1\"".into()) } else { DataRef::Json(r#""\"1\"""#) };
        assert_eq!(data, wanted, "{content_type}");
    }
    let line = br#"{"type":"a","datacontenttype":"text/plain","data":{"not":"text"}}"#;
    assert_eq!(parse(line, &rules).expect("odd but legal").data, DataRef::Json(r#"{"not":"text"}"#));
    let line = br#"{"specversion":"1.0","id":"1","source":"s","type":"a","data_base64":"bnVsbA=="}"#;
    let event = parse(line, &rules).expect("legal");
    assert_eq!(event.content_type.as_deref(), Some("application/json"), "CloudEvents implies it");
    assert_eq!(event.data, DataRef::Bytes(b"null".to_vec()));
}

#[test]
fn with_a_type_field_the_whole_line_is_the_data() {
    let rules = by_type_field("event");
    let read = |line: &'static str| parse(line.as_bytes(), &rules).expect(line);
    let line = r#"{"event":"Login failed","user_id":7,"Any Name":{}}"#;
    assert_eq!(read(line), bare("Login-failed", DataRef::Json(line)));
    assert_eq!(read(" {\"event\":\"a\"}\r\n"), bare("a", DataRef::Json("{\"event\":\"a\"}")));
    assert_eq!(read(r#"{"event":"\u00e9/\n"}"#).event_type, "---");
    assert_eq!(read(r#"{"event":""}"#).event_type, "-");
    assert_eq!(read(r#"{"event":"a","source":"web","priority":"high"}"#).source, "web");
    assert_eq!(read(r#"{"event":"a","priority":"high"}"#).priority, Some(Priority::High));
    for line in [r#"{"event":"a","source":{}}"#, r#"{"event":"a","source":""}"#, r#"{"event":"a","source":"\u0000"}"#] {
        assert_eq!(read(line).source, "pipe", "what cannot be a source is only data");
    }
    let cloud_event = r#"{"specversion":"1.0","id":"1","source":"s","type":"t.u","event":"a"}"#;
    assert_eq!(read(cloud_event).event_type, "t.u", "a line with `specversion` is a CloudEvent");
    let rules = by_type_field("type");
    let event = parse(br#"{"type":"a b","data":1}"#, &rules).expect("foreign");
    assert_eq!((event.event_type.as_ref(), event.data), ("a-b", DataRef::Json(r#"{"type":"a b","data":1}"#)));
}

#[test]
fn a_priority_field_takes_the_place_of_the_attribute() {
    let rules = by_priority_field("severity");
    let event = parse(br#"{"type":"a","severity":"low","priority":"nonsense"}"#, &rules).expect("severity counts");
    assert_eq!(event.priority, Some(Priority::Low));
    assert_eq!(event.extensions, [("severity".into(), Attribute::Text("low".into()))]);
    let rules = Rules { type_field: Some("t".to_owned()), ..by_priority_field("p_1") };
    let event = parse(br#"{"t":"a","p_1":"critical"}"#, &rules).expect("foreign");
    assert_eq!(event.priority, Some(Priority::Critical));
}

#[test]
fn a_plain_line_is_borrowed() {
    let rules = Rules::default();
    let line = br#"{"type":"a.b","source":"s","id":"1","subject":"x","data":{}}"#;
    let event = parse(line, &rules).expect("an event");
    let texts = [Some(event.event_type), Some(event.source), event.id, event.subject];
    assert!(texts.iter().all(|text| matches!(text, Some(Cow::Borrowed(_)))), "{texts:?}");
}

/// An event, how it is written, and how it must be read.
#[derive(Debug, Clone)]
struct Sample {
    members: Map<String, Value>,
}

fn sample() -> impl Strategy<Value = Sample> {
    let text = || "[a-zA-Z0-9 /:é😀\"\\\\]{1,12}";
    let json_value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ]
    .prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,4}", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    let content = prop_oneof![
        Just(vec![]),
        json_value.prop_map(|data| vec![("data", data)]),
        text().prop_map(|data| vec![("data", json!(data)), ("datacontenttype", json!("text/plain"))]),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|data| vec![
            ("data_base64", json!(BASE64.encode(data))),
            ("datacontenttype", json!("image/png"))
        ]),
    ];
    let known = prop::sample::subsequence(
        vec!["id", "source", "subject", "dataschema", "correlationid", "causationid", "traceparent"],
        0..=7,
    );
    let extension = prop_oneof![
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-zé\"]{0,8}".prop_map(Value::from),
    ];
    (
        "[a-zA-Z0-9_-]{1,8}(\\.[a-z]{1,4}){0,3}",
        known.prop_flat_map(move |names| (Just(names.clone()), prop::collection::vec(text(), names.len()))),
        prop::option::of(prop::sample::select(Priority::ALL.as_slice())),
        prop::option::of(any::<i64>()),
        prop::collection::btree_map("x[a-z0-9]{0,5}", extension, 0..12),
        content,
    )
        .prop_map(|(event_type, (names, texts), level, time_unix_ns, extensions, content)| {
            let mut members: Map<String, Value> = extensions.into_iter().collect();
            members.insert("type".to_owned(), json!(event_type));
            members.extend(names.iter().zip(texts).map(|(name, text)| ((*name).to_owned(), json!(text))));
            members.extend(content.into_iter().map(|(name, value)| (name.to_owned(), value)));
            if let Some(level) = level {
                members.insert("priority".to_owned(), json!(level.as_str()));
            }
            if let Some(time_unix_ns) = time_unix_ns {
                let mut text = Vec::new();
                time::write(time_unix_ns, &mut text);
                members.insert("time".to_owned(), json!(String::from_utf8(text).expect("ASCII")));
            }
            if members.contains_key("id") && members.contains_key("source") {
                members.insert("specversion".to_owned(), json!("1.0"));
            }
            Sample { members }
        })
}

/// The event as JSON members again, from its fields alone.
fn members_of(event: &Ingress<'_>) -> Map<String, Value> {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| assert_eq!(members.insert(name.to_owned(), value), None, "{name} twice");
    let texts = [
        ("id", event.id.as_deref()),
        ("type", Some(&event.event_type)),
        ("source", Some(&event.source)),
        ("priority", event.priority.map(Priority::as_str)),
        ("subject", event.subject.as_deref()),
        ("dataschema", event.data_schema.as_deref()),
        ("datacontenttype", event.content_type.as_deref()),
        ("correlationid", event.correlation_id.as_deref()),
        ("causationid", event.causation_id.as_deref()),
        ("traceparent", event.trace_parent.as_deref()),
    ];
    texts.iter().filter_map(|(name, text)| Some((name, (*text)?))).for_each(|(name, text)| put(name, json!(text)));
    for (name, value) in &event.extensions {
        put(
            name,
            match value {
                Attribute::Text(text) => json!(text),
                Attribute::Integer(integer) => json!(integer),
                Attribute::Boolean(boolean) => json!(boolean),
            },
        );
    }
    if let Some(time_unix_ns) = event.time_unix_ns {
        let mut text = Vec::new();
        time::write(time_unix_ns, &mut text);
        put("time", json!(String::from_utf8(text).expect("ASCII")));
    }
    match &event.data {
        DataRef::Absent => {}
        DataRef::Json(raw) => put("data", serde_json::from_str(raw).expect("well-formed")),
        DataRef::Text(text) => put("data", json!(text)),
        DataRef::Bytes(bytes) => put("data_base64", json!(BASE64.encode(bytes))),
    }
    members
}

proptest! {
    #[test]
    fn an_event_is_read_as_it_was_written(sample in sample(), spaced: bool) {
        let value = Value::Object(sample.members.clone());
        let line = if spaced { format!("{value:#}") } else { value.to_string() };
        let rules = Rules { source: "the rules' own".to_owned(), ..Rules::default() };
        let event = parse(line.as_bytes(), &rules).expect(&line);
        let mut wanted = sample.members;
        wanted.remove("specversion");
        wanted.entry("source").or_insert_with(|| json!("the rules' own"));
        prop_assert_eq!(members_of(&event), wanted);
    }

    #[test]
    fn no_bytes_panic_and_every_message_is_one_printable_line(
        line in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            sample().prop_map(|sample| Value::Object(sample.members).to_string().into_bytes()),
        ],
        at: prop::sample::Index,
        byte: u8,
        field in prop::option::of("type|data|x"),
    ) {
        let mut line = line;
        if !line.is_empty() {
            let at = at.index(line.len());
            line[at] = byte;
        }
        let rules = Rules { type_field: field.clone(), priority_field: field, ..Rules::default() };
        for rules in [&rules, &Rules::default()] {
            if let Err(error) = parse(&line, rules) {
                prop_assert!(!error.to_string().chars().any(char::is_control), "{:?}", error);
            }
        }
    }
}
