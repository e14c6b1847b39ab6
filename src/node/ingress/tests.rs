//! What lines are read as, and what exactly is said of those that cannot be.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The message for a line that must be malformed.
fn message(line: &str, rules: &Rules) -> String {
    match parse(line.as_bytes(), rules) {
        Ok(event) => panic!("{line} was read as {event:?}"),
        Err(error) => error.to_string(),
    }
}

fn by_type_field(field: &str) -> Rules {
    Rules {
        type_field: Some(field.to_owned()),
        ..Rules::default()
    }
}

fn by_priority_field(field: &str) -> Rules {
    Rules {
        priority_field: Some(field.to_owned()),
        ..Rules::default()
    }
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
    assert_eq!(
        read(r#"{"type":"a.b","data":{"n": 1}}"#),
        bare("a.b", DataRef::Json(r#"{"n": 1}"#))
    );
    assert_eq!(
        read(r#"{"data":null,"type":"a"}"#),
        bare("a", DataRef::Json("null"))
    );
    assert_eq!(read(" {\"type\":\"a\"} \r\n"), bare("a", DataRef::Absent));
    assert_eq!(
        read(r#"{"type":"a","data":"text"}"#),
        bare("a", DataRef::Json("\"text\""))
    );
    assert_eq!(
        read(r#"{"type":"a","data_base64":"AP8="}"#),
        bare("a", DataRef::Bytes(vec![0, 255]))
    );
    assert_eq!(
        read(r#"{"type":"a","specversion":null,"id":null,"source":null,"x":null}"#),
        bare("a", DataRef::Absent)
    );
    let event = read(r#"{"type":"a","id":"7","source":"web","priority":"low"}"#);
    assert_eq!(
        (event.id.as_deref(), event.source.as_ref(), event.priority),
        (Some("7"), "web", Some(Level::Low))
    );
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
            priority: Some(Level::Critical),
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
        let wanted = if is_text {
            DataRef::Text("\"1\"".into())
        } else {
            DataRef::Json(r#""\"1\"""#)
        };
        assert_eq!(data, wanted, "{content_type}");
    }
    let line = br#"{"type":"a","datacontenttype":"text/plain","data":{"not":"text"}}"#;
    assert_eq!(
        parse(line, &rules).expect("odd but legal").data,
        DataRef::Json(r#"{"not":"text"}"#)
    );
    let line =
        br#"{"specversion":"1.0","id":"1","source":"s","type":"a","data_base64":"bnVsbA=="}"#;
    let event = parse(line, &rules).expect("legal");
    assert_eq!(
        event.content_type.as_deref(),
        Some("application/json"),
        "CloudEvents implies it"
    );
    assert_eq!(event.data, DataRef::Bytes(b"null".to_vec()));
}

#[test]
fn with_a_type_field_the_whole_line_is_the_data() {
    let rules = by_type_field("event");
    let read = |line: &'static str| parse(line.as_bytes(), &rules).expect(line);
    let line = r#"{"event":"Login failed","user_id":7,"Any Name":{}}"#;
    assert_eq!(read(line), bare("Login-failed", DataRef::Json(line)));
    assert_eq!(
        read(" {\"event\":\"a\"}\r\n"),
        bare("a", DataRef::Json("{\"event\":\"a\"}"))
    );
    assert_eq!(read(r#"{"event":"\u00e9/\n"}"#).event_type, "---");
    assert_eq!(read(r#"{"event":""}"#).event_type, "-");
    assert_eq!(
        read(r#"{"event":"a","source":"web","priority":"high"}"#).source,
        "web"
    );
    assert_eq!(
        read(r#"{"event":"a","priority":"high"}"#).priority,
        Some(Level::High)
    );
    for line in [
        r#"{"event":"a","source":{}}"#,
        r#"{"event":"a","source":""}"#,
        r#"{"event":"a","source":"\u0000"}"#,
    ] {
        assert_eq!(
            read(line).source,
            "pipe",
            "what cannot be a source is only data"
        );
    }
    let cloud_event = r#"{"specversion":"1.0","id":"1","source":"s","type":"t.u","event":"a"}"#;
    assert_eq!(
        read(cloud_event).event_type,
        "t.u",
        "a line with `specversion` is a CloudEvent"
    );
    let rules = by_type_field("type");
    let event = parse(br#"{"type":"a b","data":1}"#, &rules).expect("foreign");
    assert_eq!(
        (event.event_type.as_ref(), event.data),
        ("a-b", DataRef::Json(r#"{"type":"a b","data":1}"#))
    );
}

#[test]
fn a_priority_field_takes_the_place_of_the_attribute() {
    let rules = by_priority_field("severity");
    let event = parse(
        br#"{"type":"a","severity":"low","priority":"nonsense"}"#,
        &rules,
    )
    .expect("severity counts");
    assert_eq!(event.priority, Some(Level::Low));
    assert_eq!(
        event.extensions,
        [("severity".into(), Attribute::Text("low".into()))]
    );
    let rules = Rules {
        type_field: Some("t".to_owned()),
        ..by_priority_field("p_1")
    };
    let event = parse(br#"{"t":"a","p_1":"critical"}"#, &rules).expect("foreign");
    assert_eq!(event.priority, Some(Level::Critical));
}

#[test]
fn a_plain_line_is_borrowed() {
    let rules = Rules::default();
    let line = br#"{"type":"a.b","source":"s","id":"1","subject":"x","data":{}}"#;
    let event = parse(line, &rules).expect("an event");
    let texts = [
        Some(event.event_type),
        Some(event.source),
        event.id,
        event.subject,
    ];
    assert!(
        texts
            .iter()
            .all(|text| matches!(text, Some(Cow::Borrowed(_)))),
        "{texts:?}"
    );
}

/// Every malformed line below, with the message it must give.
const MALFORMED: [(&str, &str); 54] = [
    ("", "not usable JSON at byte 1: a value is expected"),
    ("hello", "not usable JSON at byte 1: a value is expected"),
    (
        r#"{"type":"a""#,
        "not usable JSON at byte 12: `,` or `}` is expected",
    ),
    (
        r#"{"type":"a"} {}"#,
        "not usable JSON at byte 14: something stands behind the value",
    ),
    (
        r#"{"type":"a","data":"\ud83d"}"#,
        "not usable JSON at byte 21: an escape is half of a character; write both halves",
    ),
    (
        r#"{"type":"a","data":1e999}"#,
        "not usable JSON at byte 20: a number is beyond the range of a 64-bit float; send it as a string",
    ),
    ("[1,2]", "the line is an array; send one JSON object a line"),
    ("\"a\"", "the line is a string; send one JSON object a line"),
    ("17", "the line is a number; send one JSON object a line"),
    ("null", "the line is null; send one JSON object a line"),
    (
        r#"{"type":"a","type":"a"}"#,
        "`type` stands in the line twice; send it once",
    ),
    (
        r#"{"type":"a","x":1,"\u0078":1}"#,
        "`x` stands in the line twice; send it once",
    ),
    (
        "{}",
        "`type` is missing; send {\"type\": .., \"data\": ..} or a CloudEvent, or name the field that holds the type with --type",
    ),
    (
        r#"{"type":null}"#,
        "`type` is missing; send {\"type\": .., \"data\": ..} or a CloudEvent, or name the field that holds the type with --type",
    ),
    (
        r#"{"specversion":"1.0","id":"1","source":"s"}"#,
        "`type` is missing; a line with `specversion` is a CloudEvent and must have it",
    ),
    (
        r#"{"specversion":"1.0","id":"1","type":"a"}"#,
        "`source` is missing; a line with `specversion` is a CloudEvent and must have it",
    ),
    (
        r#"{"specversion":"1.0","source":"s","type":"a"}"#,
        "`id` is missing; a line with `specversion` is a CloudEvent and must have it",
    ),
    (
        r#"{"specversion":"0.3","id":"1"}"#,
        "`specversion` is \"0.3\"; only \"1.0\" is known",
    ),
    (
        r#"{"specversion":1.0}"#,
        "`specversion` is 1.0; it must be a string",
    ),
    (r#"{"type":5}"#, "`type` is 5; it must be a string"),
    (
        r#"{"type":""}"#,
        "`type` is empty; give it a value or leave it out",
    ),
    (r#"{"type":"a","id":7}"#, "`id` is 7; it must be a string"),
    (
        r#"{"type":"a","id":""}"#,
        "`id` is empty; give it a value or leave it out",
    ),
    (
        r#"{"type":"a","source":["s"]}"#,
        "`source` is [\"s\"]; it must be a string",
    ),
    (
        r#"{"type":"a","source":""}"#,
        "`source` is empty; give it a value or leave it out",
    ),
    (
        r#"{"type":"a","source":"a\nb"}"#,
        "`source` has the control character '\\n'; remove it",
    ),
    (
        "{\"type\":\"a\",\"subject\":\"\u{7f}\"}",
        "`subject` has the control character '\\u{7f}'; remove it",
    ),
    (
        r#"{"type":"a","subject":""}"#,
        "`subject` is empty; give it a value or leave it out",
    ),
    (
        r#"{"type":"a","subject":false}"#,
        "`subject` is false; it must be a string",
    ),
    (
        r#"{"type":"a","dataschema":1}"#,
        "`dataschema` is 1; it must be a string",
    ),
    (
        r#"{"type":"a","datacontenttype":{}}"#,
        "`datacontenttype` is {}; it must be a string",
    ),
    (
        r#"{"type":"a","correlationid":1}"#,
        "`correlationid` is 1; it must be a string",
    ),
    (
        r#"{"type":"a","causationid":""}"#,
        "`causationid` is empty; give it a value or leave it out",
    ),
    (
        r#"{"type":"a","traceparent":"\u0085"}"#,
        "`traceparent` has the control character '\\u{85}'; remove it",
    ),
    (
        r#"{"type":"a b"}"#,
        "`type` \"a b\" has ' ' at byte 2; use letters, digits, `_` and `-` in dotted segments",
    ),
    (
        r#"{"type":"a..b"}"#,
        "`type` \"a..b\" has an empty segment at byte 3; put a name between dots",
    ),
    (
        r#"{"specversion":"1.0","id":"1","source":"s","type":"a/b"}"#,
        "`type` \"a/b\" has '/' at byte 2; use letters, digits, `_` and `-` in dotted segments",
    ),
    (
        r#"{"type":"a","priority":"urgent"}"#,
        "`priority` is \"urgent\"; use critical, high, normal or low",
    ),
    (
        r#"{"type":"a","priority":"High"}"#,
        "`priority` is \"High\"; use critical, high, normal or low",
    ),
    (
        r#"{"type":"a","priority":3}"#,
        "`priority` is 3; use critical, high, normal or low",
    ),
    (
        r#"{"type":"a","time":"yesterday"}"#,
        "`time` \"yesterday\" cannot be read: it is not RFC 3339; write it as 2026-01-31T12:00:00.5Z",
    ),
    (
        r#"{"type":"a","time":"9999-12-31T23:59:59Z"}"#,
        "`time` \"9999-12-31T23:59:59Z\" cannot be read: 64-bit nanoseconds reach from 1677-09-21 to 2262-04-11",
    ),
    (
        r#"{"type":"a","time":1700000000}"#,
        "`time` is 1700000000; it must be a string",
    ),
    (
        r#"{"type":"a","data":1,"data_base64":"AA=="}"#,
        "the line has `data` and `data_base64`; send one of them",
    ),
    (
        r#"{"type":"a","data_base64":"AA"}"#,
        "`data_base64` is not base64: Invalid padding",
    ),
    (
        r#"{"type":"a","data_base64":"A!=="}"#,
        "`data_base64` is not base64: Invalid symbol 33, offset 1.",
    ),
    (
        r#"{"type":"a","data_base64":1}"#,
        "`data_base64` is 1; it must be a string",
    ),
    (
        r#"{"type":"a","data_base64":null}"#,
        "`data_base64` is null; it must be a string",
    ),
    (
        r#"{"type":"a","user_id":7}"#,
        "`user_id` is no attribute name (lower-case letters and digits); put it into `data`",
    ),
    (
        r#"{"type":"a","":7}"#,
        "`` is no attribute name (lower-case letters and digits); put it into `data`",
    ),
    (
        r#"{"type":"a","tags":["x"]}"#,
        "`tags` is [\"x\"]; an attribute is a string, a boolean or a 32-bit integer; put it into `data`",
    ),
    (
        r#"{"type":"a","n":2147483648}"#,
        "`n` is 2147483648; an attribute is a string, a boolean or a 32-bit integer; put it into `data`",
    ),
    (
        r#"{"type":"a","n":1.0}"#,
        "`n` is 1.0; an attribute is a string, a boolean or a 32-bit integer; put it into `data`",
    ),
    (
        r#"{"type":"a","note":"\u001b[31m"}"#,
        "`note` has the control character '\\u{1b}'; remove it",
    ),
];

#[test]
fn each_malformed_line_says_what_is_wrong_and_what_to_do() {
    for (line, wanted) in MALFORMED {
        assert_eq!(message(line, &Rules::default()), wanted, "{line}");
    }
}

#[test]
fn each_limit_says_its_number() {
    let rules = Rules {
        line_bytes_max: 1_200,
        ..Rules::default()
    };
    let longest = format!("{:1200}", r#"{"type":"a"}"#);
    assert!(parse(longest.as_bytes(), &rules).is_ok());
    assert_eq!(
        message(&format!("{longest} "), &rules),
        "the line is 1,201 bytes, the limit is 1,200; send less data a line"
    );
    let rules = Rules::default();
    assert_eq!(LINE_BYTES_MAX, 1_114_112);
    assert_eq!(
        message(&"[".repeat(65), &rules),
        "the line nests deeper than 64 objects and arrays; flatten it"
    );
    let members: Vec<String> = (0..1_025).map(|n| format!("\"m{n}\":0")).collect();
    assert_eq!(
        message(&format!("{{{}}}", members.join(",")), &rules),
        "the line has more than 1,024 members; nest them in `data`"
    );
    assert_eq!(
        message(&format!(r#"{{"type":"{}"}}"#, "a".repeat(256)), &rules),
        format!(
            "`type` \"{}…\" is 256 bytes, the limit is 255; shorten it",
            "a".repeat(40)
        )
    );
    assert_eq!(
        message(&format!(r#"{{"type":"{}a"}}"#, "a.".repeat(64)), &rules),
        format!(
            "`type` \"{}…\" has 65 segments, the limit is 64; use fewer dots",
            "a.".repeat(20)
        )
    );
}

#[test]
fn what_a_flag_asks_for_is_named_by_the_flag() {
    let kind = by_type_field("kind");
    let level = by_priority_field("level");
    for (line, rules, wanted) in [
        (
            "{}",
            &kind,
            "`kind` is missing; --type asks for this field in every line",
        ),
        (
            r#"{"kind":null}"#,
            &kind,
            "`kind` is missing; --type asks for this field in every line",
        ),
        (r#"{"kind":5}"#, &kind, "`kind` is 5; it must be a string"),
        (
            r#"{"type":"a"}"#,
            &level,
            "`level` is missing; --priority-field asks for this field in every line",
        ),
        (
            r#"{"type":"a","level":"info"}"#,
            &level,
            "`level` is \"info\"; use critical, high, normal or low",
        ),
        (
            r#"{"type":"a","level":1}"#,
            &level,
            "`level` is 1; use critical, high, normal or low",
        ),
    ] {
        assert_eq!(message(line, rules), wanted, "{line}");
    }
    let long = format!(r#"{{"kind":"{}"}}"#, " ".repeat(300));
    assert_eq!(
        message(&long, &kind),
        format!(
            "`kind` \"{}…\" is 300 bytes, the limit is 255; shorten it",
            " ".repeat(40)
        )
    );
}

#[test]
fn bytes_that_are_no_utf_8_are_refused_where_they_stand() {
    for (line, column) in [
        (&b"{\"type\":\"a\xff\"}"[..], 11),
        (b"\xc0\xaf", 1),
        (b"{\"type\":\"a\",\"data\":\"\xed\xa0\x80\"}", 21),
    ] {
        let error = parse(line, &Rules::default()).expect_err("not UTF-8");
        assert_eq!(error, IngressError::NotUtf8 { column });
        assert_eq!(
            error.to_string(),
            format!("not UTF-8 at byte {column}; send UTF-8, and bytes as `data_base64`")
        );
    }
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
            prop::collection::btree_map("\\PC{0,4}", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    let content = prop_oneof![
        Just(vec![]),
        json_value.prop_map(|data| vec![("data", data)]),
        text().prop_map(|data| vec![
            ("data", json!(data)),
            ("datacontenttype", json!("text/plain"))
        ]),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|data| vec![
            ("data_base64", json!(BASE64.encode(data))),
            ("datacontenttype", json!("image/png"))
        ]),
    ];
    let known = prop::sample::subsequence(
        vec![
            "id",
            "source",
            "subject",
            "dataschema",
            "correlationid",
            "causationid",
            "traceparent",
        ],
        0..=7,
    );
    let extension = prop_oneof![
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-zé\"]{0,8}".prop_map(Value::from),
    ];
    (
        "[a-zA-Z0-9_-]{1,8}(\\.[a-z]{1,4}){0,3}",
        known.prop_flat_map(move |names| {
            (
                Just(names.clone()),
                prop::collection::vec(text(), names.len()),
            )
        }),
        prop::option::of(prop::sample::select(Level::ALL.as_slice())),
        prop::option::of(any::<i64>()),
        prop::collection::btree_map("x[a-z0-9]{0,5}", extension, 0..12),
        content,
    )
        .prop_map(
            |(event_type, (names, texts), level, time_unix_ns, extensions, content)| {
                let mut members: Map<String, Value> = extensions.into_iter().collect();
                members.insert("type".to_owned(), json!(event_type));
                members.extend(
                    names
                        .iter()
                        .zip(texts)
                        .map(|(name, text)| ((*name).to_owned(), json!(text))),
                );
                members.extend(
                    content
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value)),
                );
                if let Some(level) = level {
                    members.insert("priority".to_owned(), json!(level.as_str()));
                }
                if let Some(time_unix_ns) = time_unix_ns {
                    let mut text = Vec::new();
                    time::write(time_unix_ns, &mut text);
                    members.insert(
                        "time".to_owned(),
                        json!(String::from_utf8(text).expect("ASCII")),
                    );
                }
                if members.contains_key("id") && members.contains_key("source") {
                    members.insert("specversion".to_owned(), json!("1.0"));
                }
                Sample { members }
            },
        )
}

/// The event as JSON members again, from its fields alone.
fn members_of(event: &Ingress<'_>) -> Map<String, Value> {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| {
        assert_eq!(members.insert(name.to_owned(), value), None, "{name} twice")
    };
    let texts = [
        ("id", event.id.as_deref()),
        ("type", Some(&event.event_type)),
        ("source", Some(&event.source)),
        ("priority", event.priority.map(Level::as_str)),
        ("subject", event.subject.as_deref()),
        ("dataschema", event.data_schema.as_deref()),
        ("datacontenttype", event.content_type.as_deref()),
        ("correlationid", event.correlation_id.as_deref()),
        ("causationid", event.causation_id.as_deref()),
        ("traceparent", event.trace_parent.as_deref()),
    ];
    texts
        .iter()
        .filter_map(|(name, text)| Some((name, (*text)?)))
        .for_each(|(name, text)| put(name, json!(text)));
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
