//! One event out: a CloudEvents 1.0 JSON object on one line, written straight into a byte buffer.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::ingress::Attribute;
use super::members::Known;
use super::time;
use crate::Priority;

/// An event as it goes out. Absent attributes are left out of the line.
#[derive(Debug, Clone)]
pub struct Egress<'a> {
    /// `id`: the text that came in, or the UUID in lower case.
    pub id: &'a str,
    /// `source`.
    pub source: &'a str,
    /// `type`.
    pub event_type: &'a str,
    /// `time`, in nanoseconds since 1970-01-01T00:00:00Z.
    pub time_unix_ns: Option<i64>,
    /// `subject`.
    pub subject: Option<&'a str>,
    /// `dataschema`.
    pub data_schema: Option<&'a str>,
    /// `datacontenttype`; if `None`, what the payload's form says of itself.
    pub content_type: Option<&'a str>,
    /// The extension attribute `priority`.
    pub priority: Priority,
    /// The extension attribute `subscription`: who this delivery is for.
    pub subscription: Option<&'a str>,
    /// The extension attribute `position`, a text as other numbers of 64 bits: where it is in the store it comes from.
    pub position: Option<u64>,
    /// The extension attribute `correlationid`.
    pub correlation_id: Option<&'a str>,
    /// The extension attribute `causationid`.
    pub causation_id: Option<&'a str>,
    /// The extension attribute `traceparent`.
    pub trace_parent: Option<&'a str>,
    /// Further extension attributes, names distinct. One whose name is taken by a field above or by
    /// CloudEvents itself is not written.
    pub extensions: &'a [(Cow<'a, str>, Attribute<'a>)],
    /// `data` or `data_base64`.
    pub payload: Payload<'a>,
}

/// The payload by its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// None: neither `data` nor `data_base64`.
    Absent,
    /// Well-formed JSON, spliced into `data` as it stands. Needs no content type.
    Json(&'a str),
    /// Text, a JSON string in `data`. Content type `text/plain` by default.
    Text(&'a str),
    /// Bytes, in `data_base64`. Content type `application/octet-stream` by default.
    Bytes(&'a [u8]),
    /// A protobuf message, in `data_base64`. Content type `application/protobuf` by default.
    Protobuf(&'a [u8]),
    /// An rkyv archive without a registered codec, in `data_base64`. Content type
    /// `application/x-rkyv` by default.
    Rkyv(&'a [u8]),
}

impl Payload<'_> {
    const fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Absent | Self::Json(_) => None,
            Self::Text(_) => Some("text/plain"),
            Self::Bytes(_) => Some("application/octet-stream"),
            Self::Protobuf(_) => Some("application/protobuf"),
            Self::Rkyv(_) => Some("application/x-rkyv"),
        }
    }
}

impl Egress<'_> {
    /// Appends the event and a line feed to `out`. No other line feed or carriage return is written.
    ///
    /// # Cost
    /// Allocates only where `out` has to grow.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"specversion\":\"1.0\"");
        member(out, "id", self.id);
        member(out, "source", self.source);
        member(out, "type", self.event_type);
        if let Some(unix_ns) = self.time_unix_ns {
            out.extend_from_slice(b",\"time\":\"");
            time::write(unix_ns, out);
            out.push(b'"');
        }
        let optional = |out: &mut Vec<u8>, name: &str, value: Option<&str>| {
            if let Some(value) = value {
                member(out, name, value);
            }
        };
        optional(out, "subject", self.subject);
        optional(out, "dataschema", self.data_schema);
        optional(out, "datacontenttype", self.content_type.or_else(|| self.payload.content_type()));
        member(out, "priority", self.priority.as_str());
        optional(out, "subscription", self.subscription);
        if let Some(position) = self.position {
            member(out, "position", &position.to_string());
        }
        optional(out, "correlationid", self.correlation_id);
        optional(out, "causationid", self.causation_id);
        optional(out, "traceparent", self.trace_parent);
        for (name, value) in self.extensions.iter().filter(|(name, _)| Known::of(name).is_none()) {
            match value {
                Attribute::Text(text) => member(out, name, text),
                Attribute::Integer(integer) => bare(out, name, &integer.to_string()),
                Attribute::Boolean(boolean) => bare(out, name, if *boolean { "true" } else { "false" }),
            }
        }
        match self.payload {
            Payload::Absent => {}
            Payload::Json(json) => {
                bare(out, "data", "");
                splice(out, json);
            }
            Payload::Text(text) => member(out, "data", text),
            Payload::Bytes(bytes) | Payload::Protobuf(bytes) | Payload::Rkyv(bytes) => {
                bare(out, "data_base64", "\"");
                base64(out, bytes);
                out.push(b'"');
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

/// `,"name":` and a JSON string.
fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    bare(out, name, "");
    string(out, value);
}

/// `,"name":` and `value` as it is.
fn bare(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b',');
    string(out, name);
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec<u8> takes every write");
}

/// JSON may be laid out over lines; between its tokens a space means the same as a line break, and
/// inside a string a raw line break cannot stand.
fn splice(out: &mut Vec<u8>, json: &str) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    BASE64.encode_slice(bytes, &mut out[start..]).expect("four characters for every three bytes begun");
}

#[cfg(test)]
mod tests;
