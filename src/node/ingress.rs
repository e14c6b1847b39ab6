//! One line of JSON in, one event out, borrowed from the line.
//!
//! | the line has | it is read as |
//! |---|---|
//! | `specversion` | a CloudEvent 1.0: `id`, `source` and `type` are required |
//! | none, and [`Rules::type_field`] is set | foreign JSON: the whole line is the data, that field its type |
//! | none | the short form: a CloudEvent of which only `type` is required |
//!
//! Strict throughout: UTF-8, at most [`DEPTH_MAX`] levels, at most [`MEMBERS_MAX`] members, none of
//! them twice, nothing that a parser of the whole value would refuse. A null attribute is an absent one.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

pub use super::ingress_error::{IngressError, NeededBy};
pub use super::json::DEPTH_MAX;
pub use super::members::MEMBERS_MAX;
use super::members::{Known, Members};
use super::{event_type, json, time};
use crate::{Priority, Topic, TopicError};

/// The default limit on a line: 1 MiB of data and 64 KiB around it.
pub const LINE_BYTES_MAX: usize = (1 << 20) + (1 << 16);

/// How lines are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The source of a line that names none. Default `pipe`.
    pub source: String,
    /// The member of foreign JSON that holds its type. Default none: such lines are the short form.
    pub type_field: Option<String>,
    /// The member that holds the priority of every line, instead of a `priority` that may be there.
    pub priority_field: Option<String>,
    /// The longest line in bytes. Default [`LINE_BYTES_MAX`].
    pub line_bytes_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { source: "pipe".to_owned(), type_field: None, priority_field: None, line_bytes_max: LINE_BYTES_MAX }
    }
}

/// An event as it comes in. All text is decoded; absent attributes are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingress<'a> {
    /// Any string that is not empty. Always there in a CloudEvent, never in foreign JSON.
    pub id: Option<Cow<'a, str>>,
    /// A valid type name.
    pub event_type: Cow<'a, str>,
    /// The line's own, or the one of [`Rules::source`].
    pub source: Cow<'a, str>,
    /// `None` where the line says nothing.
    pub priority: Option<Priority>,
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub time_unix_ns: Option<i64>,
    /// `subject`.
    pub subject: Option<Cow<'a, str>>,
    /// `dataschema`.
    pub data_schema: Option<Cow<'a, str>>,
    /// `datacontenttype`; `application/json` where a CloudEvent has `data_base64` and does not say.
    pub content_type: Option<Cow<'a, str>>,
    /// `correlationid`.
    pub correlation_id: Option<Cow<'a, str>>,
    /// `causationid`.
    pub causation_id: Option<Cow<'a, str>>,
    /// `traceparent`.
    pub trace_parent: Option<Cow<'a, str>>,
    /// All other attributes, in the order of the line.
    pub extensions: Vec<(Cow<'a, str>, Attribute<'a>)>,
    /// The payload.
    pub data: DataRef<'a>,
}

/// The value of an extension attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// An integer.
    Integer(i32),
    /// A boolean.
    Boolean(bool),
}

/// The payload of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataRef<'a> {
    /// The line has none.
    Absent,
    /// JSON text as it stands in the line.
    Json(&'a str),
    /// The text of a string whose content type is not JSON.
    Text(Cow<'a, str>),
    /// What `data_base64` holds, decoded.
    Bytes(Vec<u8>),
}

/// Reads one line, with or without its ending.
///
/// # Errors
/// The first fault found; the line is then no event at all.
///
/// # Cost
/// Allocates only for text with escapes, base64, extension attributes, types that had to be changed,
/// and lines of more than 8 extension attributes.
pub fn parse<'a>(line: &'a [u8], rules: &'a Rules) -> Result<Ingress<'a>, IngressError> {
    if line.len() > rules.line_bytes_max {
        let bytes = line.len() as u64;
        return Err(IngressError::TooLong { bytes, line_bytes_max: rules.line_bytes_max });
    }
    let text = std::str::from_utf8(line).map_err(|error| IngressError::NotUtf8 { column: error.valid_up_to() + 1 })?;
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    let mut members = Members::none();
    members.read(text)?;
    match (present(members.known(Known::SpecVersion)), &rules.type_field) {
        (Some(version), _) => {
            let version = required_string("specversion", version)?;
            if version != "1.0" {
                return Err(IngressError::SpecVersion { found: version.into_owned() });
            }
            envelope(&mut members, NeededBy::CloudEvent, rules)
        }
        (None, Some(field)) => foreign(text, &members, field, rules),
        (None, None) => envelope(&mut members, NeededBy::ShortForm, rules),
    }
}

/// Whether `name` may name an extension attribute: lower-case ASCII letters and digits.
pub fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// A CloudEvent or the short form, as `form` says.
fn envelope<'a>(members: &mut Members<'a>, form: NeededBy, rules: &'a Rules) -> Result<Ingress<'a>, IngressError> {
    let cloud_event = form == NeededBy::CloudEvent;
    let missing = |member: &str| IngressError::Missing { member: member.to_owned(), needed_by: form };

    let event_type = attribute("type", members.known(Known::Type))?.ok_or_else(|| missing("type"))?;
    Topic::check(&event_type).map_err(|fault| type_error("type", &event_type, fault))?;
    let id = attribute("id", members.known(Known::Id))?;
    let source = attribute("source", members.known(Known::Source))?;
    if cloud_event && id.is_none() {
        return Err(missing("id"));
    }
    if cloud_event && source.is_none() {
        return Err(missing("source"));
    }
    let time_unix_ns = match attribute("time", members.known(Known::Time))? {
        Some(text) => Some(time::parse(&text).map_err(|what| IngressError::Time { found: text.into_owned(), what })?),
        None => None,
    };
    let mut content_type = attribute("datacontenttype", members.known(Known::DataContentType))?;
    let data = match (members.known(Known::Data), members.known(Known::DataBase64)) {
        (Some(_), Some(_)) => return Err(IngressError::BothData),
        (None, None) => DataRef::Absent,
        (None, Some(raw)) => {
            let text = required_string("data_base64", raw)?;
            let bytes = BASE64.decode(text.as_bytes());
            // The default that CloudEvents implies; without it the bytes would leave as an octet stream.
            if cloud_event && content_type.is_none() {
                content_type = Some(Cow::Borrowed("application/json"));
            }
            DataRef::Bytes(bytes.map_err(|error| IngressError::Base64 { what: error.to_string() })?)
        }
        (Some(raw), None) => match json::string(raw) {
            Some(text) if content_type.as_deref().is_some_and(|content_type| !is_json(content_type)) => {
                DataRef::Text(text)
            }
            _ => DataRef::Json(raw),
        },
    };
    Ok(Ingress {
        id,
        event_type,
        source: source.unwrap_or(Cow::Borrowed(&rules.source)),
        priority: priority(members, rules)?,
        time_unix_ns,
        subject: attribute("subject", members.known(Known::Subject))?,
        data_schema: attribute("dataschema", members.known(Known::DataSchema))?,
        content_type,
        correlation_id: attribute("correlationid", members.known(Known::CorrelationId))?,
        causation_id: attribute("causationid", members.known(Known::CausationId))?,
        trace_parent: attribute("traceparent", members.known(Known::TraceParent))?,
        extensions: extensions(members)?,
        data,
    })
}

/// JSON of any shape: `text` is the data, and only its type, source and priority are looked for.
fn foreign<'a>(
    text: &'a str,
    members: &Members<'a>,
    field: &str,
    rules: &'a Rules,
) -> Result<Ingress<'a>, IngressError> {
    let missing = || IngressError::Missing { member: field.to_owned(), needed_by: NeededBy::TypeField };
    let found = required_string(field, present(members.get(field)).ok_or_else(missing)?)?;
    let event_type = match found {
        Cow::Borrowed(found) => event_type::sanitise(found),
        Cow::Owned(ref found) => event_type::sanitise(found).map(|name| Cow::Owned(name.into_owned())),
    };
    Ok(Ingress {
        id: None,
        event_type: event_type.map_err(|fault| type_error(field, &found, fault))?,
        // Foreign JSON may mean something else by `source`: what cannot be one is only data.
        source: attribute("source", members.known(Known::Source))
            .ok()
            .flatten()
            .unwrap_or(Cow::Borrowed(&rules.source)),
        priority: priority(members, rules)?,
        time_unix_ns: None,
        subject: None,
        data_schema: None,
        content_type: None,
        correlation_id: None,
        causation_id: None,
        trace_parent: None,
        extensions: Vec::new(),
        data: DataRef::Json(text),
    })
}

fn extensions<'a>(members: &mut Members<'a>) -> Result<Vec<(Cow<'a, str>, Attribute<'a>)>, IngressError> {
    let mut extensions = Vec::new();
    for (name, raw) in members.take_others() {
        if !is_attribute_name(&name) {
            return Err(IngressError::AttributeName { member: name.into_owned() });
        }
        let value = match raw {
            "null" => continue,
            "true" => Attribute::Boolean(true),
            "false" => Attribute::Boolean(false),
            raw => match (json::string(raw), raw.parse()) {
                (Some(text), _) => Attribute::Text(printable(&name, text)?),
                (None, Ok(integer)) => Attribute::Integer(integer),
                (None, Err(_)) => {
                    return Err(IngressError::AttributeValue { member: name.into_owned(), found: raw.to_owned() });
                }
            },
        };
        extensions.push((name, value));
    }
    Ok(extensions)
}

fn priority(members: &Members<'_>, rules: &Rules) -> Result<Option<Priority>, IngressError> {
    let (member, raw) = match &rules.priority_field {
        None => ("priority", present(members.known(Known::Priority))),
        Some(field) => {
            let missing = || IngressError::Missing { member: field.clone(), needed_by: NeededBy::PriorityField };
            (field.as_str(), Some(present(members.get(field)).ok_or_else(missing)?))
        }
    };
    let Some(raw) = raw else { return Ok(None) };
    match json::string(raw).and_then(|text| text.parse().ok()) {
        Some(priority) => Ok(Some(priority)),
        None => Err(IngressError::Priority { member: member.to_owned(), found: raw.to_owned() }),
    }
}

/// An attribute that is a string of at least one character, none of them a control character.
fn attribute<'a>(member: &str, raw: Option<&'a str>) -> Result<Option<Cow<'a, str>>, IngressError> {
    let Some(raw) = present(raw) else {
        return Ok(None);
    };
    let text = required_string(member, raw)?;
    if text.is_empty() {
        return Err(IngressError::Empty { member: member.to_owned() });
    }
    printable(member, text).map(Some)
}

fn printable<'a>(member: &str, text: Cow<'a, str>) -> Result<Cow<'a, str>, IngressError> {
    // Most attributes are plain ASCII; without an early exit the compiler looks at many bytes at once.
    if text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte)) {
        return Ok(text);
    }
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(IngressError::Control { member: member.to_owned(), character }),
        None => Ok(text),
    }
}

fn required_string<'a>(member: &str, raw: &'a str) -> Result<Cow<'a, str>, IngressError> {
    json::string(raw).ok_or_else(|| IngressError::NotString { member: member.to_owned(), found: raw.to_owned() })
}

fn present(raw: Option<&str>) -> Option<&str> {
    raw.filter(|raw| *raw != "null")
}

fn type_error(member: &str, found: &str, fault: TopicError) -> IngressError {
    IngressError::Type { member: member.to_owned(), found: found.to_owned(), fault }
}

/// Whether a media type declares JSON: `*/json` or `*/*+json`, parameters aside.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let Some((_, subtype)) = media_type.split_once('/') else {
        return false;
    };
    let suffix = subtype.rsplit('+').next().unwrap_or_default();
    suffix.eq_ignore_ascii_case("json")
}

#[cfg(test)]
mod malformed;
#[cfg(test)]
mod tests;
