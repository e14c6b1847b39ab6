//! What exactly is said of lines that cannot be read.

use super::tests::{by_priority_field, by_type_field};
use super::*;

/// The message for a line that must be malformed.
fn message(line: &str, rules: &Rules) -> String {
    match parse(line.as_bytes(), rules) {
        Ok(event) => panic!("{line} was read as {event:?}"),
        Err(error) => error.to_string(),
    }
}

/// Every malformed line below, with the message it must give.
const MALFORMED: [(&str, &str); 54] = [
    ("", "not usable JSON at byte 1: a value is expected"),
    ("hello", "not usable JSON at byte 1: a value is expected"),
    (r#"{"type":"a""#, "not usable JSON at byte 12: `,` or `}` is expected"),
    (r#"{"type":"a"} {}"#, "not usable JSON at byte 14: something stands behind the value"),
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
    (r#"{"type":"a","type":"a"}"#, "`type` stands in the line twice; send it once"),
    (r#"{"type":"a","x":1,"\u0078":1}"#, "`x` stands in the line twice; send it once"),
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
    (r#"{"specversion":"0.3","id":"1"}"#, "`specversion` is \"0.3\"; only \"1.0\" is known"),
    (r#"{"specversion":1.0}"#, "`specversion` is 1.0; it must be a string"),
    (r#"{"type":5}"#, "`type` is 5; it must be a string"),
    (r#"{"type":""}"#, "`type` is empty; give it a value or leave it out"),
    (r#"{"type":"a","id":7}"#, "`id` is 7; it must be a string"),
    (r#"{"type":"a","id":""}"#, "`id` is empty; give it a value or leave it out"),
    (r#"{"type":"a","source":["s"]}"#, "`source` is [\"s\"]; it must be a string"),
    (r#"{"type":"a","source":""}"#, "`source` is empty; give it a value or leave it out"),
    (r#"{"type":"a","source":"a\nb"}"#, "`source` has the control character '\\n'; remove it"),
    ("{\"type\":\"a\",\"subject\":\"\u{7f}\"}", "`subject` has the control character '\\u{7f}'; remove it"),
    (r#"{"type":"a","subject":""}"#, "`subject` is empty; give it a value or leave it out"),
    (r#"{"type":"a","subject":false}"#, "`subject` is false; it must be a string"),
    (r#"{"type":"a","dataschema":1}"#, "`dataschema` is 1; it must be a string"),
    (r#"{"type":"a","datacontenttype":{}}"#, "`datacontenttype` is {}; it must be a string"),
    (r#"{"type":"a","correlationid":1}"#, "`correlationid` is 1; it must be a string"),
    (r#"{"type":"a","causationid":""}"#, "`causationid` is empty; give it a value or leave it out"),
    (r#"{"type":"a","traceparent":"\u0085"}"#, "`traceparent` has the control character '\\u{85}'; remove it"),
    (
        r#"{"type":"a b"}"#,
        "`type` \"a b\" is no type: the topic name has ' ' at byte 1; segments are ASCII letters, digits, `_` and `-`",
    ),
    (r#"{"type":"a..b"}"#, "`type` \"a..b\" is no type: the topic name has an empty segment at byte 2"),
    (
        r#"{"specversion":"1.0","id":"1","source":"s","type":"a/b"}"#,
        "`type` \"a/b\" is no type: the topic name has '/' at byte 1; segments are ASCII letters, digits, `_` and `-`",
    ),
    (r#"{"type":"a","priority":"urgent"}"#, "`priority` is \"urgent\"; use critical, high, normal or low"),
    (r#"{"type":"a","priority":"High"}"#, "`priority` is \"High\"; use critical, high, normal or low"),
    (r#"{"type":"a","priority":3}"#, "`priority` is 3; use critical, high, normal or low"),
    (
        r#"{"type":"a","time":"yesterday"}"#,
        "`time` \"yesterday\" cannot be read: it is not RFC 3339; write it as 2026-01-31T12:00:00.5Z",
    ),
    (
        r#"{"type":"a","time":"9999-12-31T23:59:59Z"}"#,
        "`time` \"9999-12-31T23:59:59Z\" cannot be read: 64-bit nanoseconds reach from 1677-09-21 to 2262-04-11",
    ),
    (r#"{"type":"a","time":1700000000}"#, "`time` is 1700000000; it must be a string"),
    (r#"{"type":"a","data":1,"data_base64":"AA=="}"#, "the line has `data` and `data_base64`; send one of them"),
    (r#"{"type":"a","data_base64":"AA"}"#, "`data_base64` is not base64: Invalid padding"),
    (r#"{"type":"a","data_base64":"A!=="}"#, "`data_base64` is not base64: Invalid symbol 33, offset 1."),
    (r#"{"type":"a","data_base64":1}"#, "`data_base64` is 1; it must be a string"),
    (r#"{"type":"a","data_base64":null}"#, "`data_base64` is null; it must be a string"),
    (
        r#"{"type":"a","user_id":7}"#,
        "`user_id` is no attribute name (lower-case letters and digits); put it into `data`",
    ),
    (r#"{"type":"a","":7}"#, "`` is no attribute name (lower-case letters and digits); put it into `data`"),
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
    (r#"{"type":"a","note":"\u001b[31m"}"#, "`note` has the control character '\\u{1b}'; remove it"),
];

#[test]
fn each_malformed_line_says_what_is_wrong_and_what_to_do() {
    for (line, wanted) in MALFORMED {
        assert_eq!(message(line, &Rules::default()), wanted, "{line}");
    }
}

#[test]
fn each_limit_says_its_number() {
    let rules = Rules { line_bytes_max: 1_200, ..Rules::default() };
    let longest = format!("{:1200}", r#"{"type":"a"}"#);
    assert!(parse(longest.as_bytes(), &rules).is_ok());
    assert_eq!(
        message(&format!("{longest} "), &rules),
        "the line is 1,201 bytes, the limit is 1,200; send less data a line"
    );
    let rules = Rules::default();
    assert_eq!(LINE_BYTES_MAX, 1_114_112);
    assert_eq!(message(&"[".repeat(65), &rules), "the line nests deeper than 64 objects and arrays; flatten it");
    let members: Vec<String> = (0..1_025).map(|n| format!("\"m{n}\":0")).collect();
    assert_eq!(
        message(&format!("{{{}}}", members.join(",")), &rules),
        "the line has more than 1,024 members; nest them in `data`"
    );
    assert_eq!(
        message(&format!(r#"{{"type":"{}"}}"#, "a".repeat(256)), &rules),
        format!("`type` \"{}…\" is no type: the topic name has 256 bytes, the limit is 255", "a".repeat(40))
    );
    assert_eq!(
        message(&format!(r#"{{"type":"{}a"}}"#, "a.".repeat(64)), &rules),
        format!("`type` \"{}…\" is no type: the topic name has 65 segments, the limit is 64", "a.".repeat(20))
    );
}

#[test]
fn what_a_flag_asks_for_is_named_by_the_flag() {
    let kind = by_type_field("kind");
    let level = by_priority_field("level");
    for (line, rules, wanted) in [
        ("{}", &kind, "`kind` is missing; --type asks for this field in every line"),
        (r#"{"kind":null}"#, &kind, "`kind` is missing; --type asks for this field in every line"),
        (r#"{"kind":5}"#, &kind, "`kind` is 5; it must be a string"),
        (r#"{"type":"a"}"#, &level, "`level` is missing; --priority-field asks for this field in every line"),
        (r#"{"type":"a","level":"info"}"#, &level, "`level` is \"info\"; use critical, high, normal or low"),
        (r#"{"type":"a","level":1}"#, &level, "`level` is 1; use critical, high, normal or low"),
    ] {
        assert_eq!(message(line, rules), wanted, "{line}");
    }
    let long = format!(r#"{{"kind":"{}"}}"#, " ".repeat(300));
    assert_eq!(
        message(&long, &kind),
        format!("`kind` \"{}…\" is no type: the topic name has 300 bytes, the limit is 255", " ".repeat(40))
    );
}

#[test]
fn bytes_that_are_no_utf_8_are_refused_where_they_stand() {
    for (line, column) in
        [(&b"{\"type\":\"a\xff\"}"[..], 11), (b"\xc0\xaf", 1), (b"{\"type\":\"a\",\"data\":\"\xed\xa0\x80\"}", 21)]
    {
        let error = parse(line, &Rules::default()).expect_err("not UTF-8");
        assert_eq!(error, IngressError::NotUtf8 { column });
        assert_eq!(error.to_string(), format!("not UTF-8 at byte {column}; send UTF-8, and bytes as `data_base64`"));
    }
}
