//! Lines that go out are CloudEvents, mean what came in, and are lines.

use super::*;
use crate::node::ingress::{DataRef, Ingress, Rules, parse};
use proptest::prelude::*;
use serde_json::{Value, json};

const FULL: Egress<'_> = Egress {
    id: "7",
    source: "/shop",
    event_type: "orders.placed",
    time_unix_ns: Some(1_522_949_460_000_000_001),
    subject: Some("a \"b\""),
    data_schema: Some("urn:s"),
    content_type: None,
    priority: Priority::High,
    subscription: Some("orders.*"),
    position: None,
    correlation_id: Some("c1"),
    causation_id: Some("c0"),
    trace_parent: Some("00-1-2-01"),
    extensions: &[
        (Cow::Borrowed("tenant"), Attribute::Text(Cow::Borrowed("é\n"))),
        (Cow::Borrowed("version"), Attribute::Integer(-2)),
        (Cow::Borrowed("sampled"), Attribute::Boolean(true)),
    ],
    payload: Payload::Json("{\"n\": 1}"),
};

const BARE: Egress<'_> = Egress {
    time_unix_ns: None,
    subject: None,
    data_schema: None,
    subscription: None,
    position: None,
    correlation_id: None,
    causation_id: None,
    trace_parent: None,
    extensions: &[],
    payload: Payload::Absent,
    ..FULL
};

fn line(event: &Egress<'_>) -> String {
    let mut out = Vec::new();
    event.write_line(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

/// What came in as it would go out to one subscription.
fn passed_on<'a>(event: &'a Ingress<'a>) -> Egress<'a> {
    Egress {
        id: event.id.as_deref().unwrap_or("made-by-the-bus"),
        source: &event.source,
        event_type: &event.event_type,
        time_unix_ns: event.time_unix_ns,
        subject: event.subject.as_deref(),
        data_schema: event.data_schema.as_deref(),
        content_type: event.content_type.as_deref(),
        priority: event.priority.unwrap_or_default(),
        subscription: Some("**"),
        position: None,
        correlation_id: event.correlation_id.as_deref(),
        causation_id: event.causation_id.as_deref(),
        trace_parent: event.trace_parent.as_deref(),
        extensions: &event.extensions,
        payload: match &event.data {
            DataRef::Absent => Payload::Absent,
            DataRef::Json(json) => Payload::Json(json),
            DataRef::Text(text) => Payload::Text(text),
            DataRef::Bytes(bytes) => Payload::Bytes(bytes),
        },
    }
}

#[test]
fn a_full_event_is_written_in_the_documented_order() {
    assert_eq!(
        line(&FULL),
        concat!(
            r#"{"specversion":"1.0","id":"7","source":"/shop","type":"orders.placed","#,
            r#""time":"2018-04-05T17:31:00.000000001Z","subject":"a \"b\"","dataschema":"urn:s","#,
            r#""priority":"high","subscription":"orders.*","correlationid":"c1","causationid":"c0","#,
            r#""traceparent":"00-1-2-01","tenant":"é\n","version":-2,"sampled":true,"data":{"n": 1}}"#,
            "\n"
        )
    );
}

#[test]
fn each_payload_form_says_what_it_is() {
    for (payload, tail) in [
        (Payload::Absent, r#""priority":"high"}"#),
        (Payload::Json("[1,\n\r2]"), r#""priority":"high","data":[1,  2]}"#),
        (Payload::Text("a\nb"), r#""datacontenttype":"text/plain","priority":"high","data":"a\nb"}"#),
        (
            Payload::Bytes(&[0, 1, 255]),
            r#""datacontenttype":"application/octet-stream","priority":"high","data_base64":"AAH/"}"#,
        ),
        (
            Payload::Protobuf(&[8]),
            r#""datacontenttype":"application/protobuf","priority":"high","data_base64":"CA=="}"#,
        ),
        (Payload::Rkyv(&[]), r#""datacontenttype":"application/x-rkyv","priority":"high","data_base64":""}"#),
    ] {
        let head = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"orders.placed","#;
        assert_eq!(line(&Egress { payload, ..BARE }), format!("{head}{tail}\n"));
    }
    let event = Egress { payload: Payload::Text("<a/>"), content_type: Some("text/xml"), ..BARE };
    assert!(line(&event).contains(r#""datacontenttype":"text/xml","#), "the event's own content type wins");
}

#[test]
fn lines_are_appended_to_a_buffer_that_is_reused() {
    let mut out = b"before\n".to_vec();
    BARE.write_line(&mut out);
    BARE.write_line(&mut out);
    assert_eq!(out, format!("before\n{0}{0}", line(&BARE)).into_bytes());
    out.clear();
    let room = out.capacity();
    BARE.write_line(&mut out);
    BARE.write_line(&mut out);
    assert_eq!(out.capacity(), room, "what fits allocates nothing");
}

#[test]
fn an_extension_never_takes_the_place_of_an_attribute() {
    let names = ["specversion", "id", "type", "data", "data_base64", "priority", "subscription", "traceparent", "mine"];
    let extensions = names.map(|name| (Cow::Borrowed(name), Attribute::Integer(1)));
    let line = line(&Egress { extensions: &extensions, ..BARE });
    assert_eq!(
        serde_json::from_str::<Value>(&line).expect("JSON"),
        json!({"specversion": "1.0", "id": "7", "source": "/shop", "type": "orders.placed", "priority": "high", "mine": 1})
    );
}

/// A line in any of the forms and what its delivery to `**` must mean.
fn line_and_meaning() -> impl Strategy<Value = (String, Value)> {
    let text = || "[a-z é😀\"\\\\]{1,10}";
    let content = prop_oneof![
        Just(json!({})),
        "\\PC{0,8}".prop_map(|text| json!({"data": {"k": [text, 1.5, null, {"deep": true}]}})),
        any::<u64>().prop_map(|number| json!({"data": number, "datacontenttype": "application/json"})),
        "[\\PC\n\t\u{0}]{0,8}".prop_map(|text| json!({"data": text, "datacontenttype": "text/markdown"})),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
            json!({"data_base64": BASE64.encode(bytes), "datacontenttype": "application/octet-stream"})
        }),
    ];
    (
        any::<bool>(),
        (text(), text(), text(), -9_000_000_000i64..9_000_000_000),
        prop::collection::btree_map(
            "x[a-z0-9]{0,3}",
            prop_oneof![
                text().prop_map(Value::from),
                any::<i32>().prop_map(Value::from),
                any::<bool>().prop_map(Value::from)
            ],
            0..4,
        ),
        prop::sample::select(Priority::ALL.as_slice()),
        content,
    )
        .prop_map(|(pretty, (id, source, subject, second), extensions, level, content)| {
            let mut out = Vec::new();
            time::write(second * 1_000_000_000, &mut out);
            let utc = String::from_utf8(out).expect("ASCII");
            let mut came = json!({
                "specversion": "1.0", "type": "a.b", "id": id, "source": source, "subject": subject,
                "time": utc.replace(".000000000Z", "+00:00"), "correlationid": id, "priority": level.as_str(),
                "subscription": "another hop", "absent": null,
            });
            let came = came.as_object_mut().expect("an object");
            came.extend(extensions);
            came.extend(content.as_object().expect("an object").clone());
            let mut meant = came.clone();
            meant.remove("absent");
            meant.insert("subscription".to_owned(), json!("**"));
            meant.insert("time".to_owned(), json!(utc));
            let came = Value::Object(came.clone());
            (if pretty { format!("{came:#}") } else { came.to_string() }, Value::Object(meant))
        })
}

proptest! {
    #[test]
    fn what_goes_out_means_what_came_in((came, meant) in line_and_meaning()) {
        let rules = Rules::default();
        let event = parse(came.as_bytes(), &rules).expect(&came);
        let went = line(&passed_on(&event));
        prop_assert_eq!(serde_json::from_str::<Value>(&went).expect(&went), meant);
        prop_assert_eq!(went.find(['\n', '\r']), Some(went.len() - 1), "one line, whatever came in: {}", went);
        if !came.contains('\n') {
            prop_assert_eq!(parse(went.as_bytes(), &rules), Ok(event), "a second hop reads the same event");
        }
    }
}
