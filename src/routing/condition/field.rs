//! The fields that conditions compare: their names, and how each is read from an event.

use super::Seen;
use crate::event::{Encoding, EventId, Meta};

/// A field of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Type,
    Category,
    Source,
    Priority,
    Encoding,
    Schema,
    SchemaText,
    Attempt,
    PayloadBytes,
    Id,
    OriginalId,
    Correlation,
    Causation,
    TraceParent,
    AggregateKind,
    AggregateId,
    AggregateVersion,
    /// By its key.
    Metadata(Box<str>),
    /// By the path to it; empty is the whole payload.
    Payload(Box<[Box<str>]>),
}

/// Why a name names no field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldFault {
    Unknown,
    /// Nothing between two dots of a path, or behind the last.
    EmptySegment,
}

const PRIORITIES: &[&str] = &["critical", "high", "normal", "low"];
const ENCODINGS: &[&str] = &["bytes", "rkyv", "json", "text", "protobuf"];

pub(super) const fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Bytes => "bytes",
        Encoding::Rkyv => "rkyv",
        Encoding::Json => "json",
        Encoding::Text => "text",
        Encoding::Protobuf => "protobuf",
    }
}

impl Field {
    pub(super) fn parse(name: &str) -> Result<Self, FieldFault> {
        if let Some(key) = name.strip_prefix("metadata.") {
            return if key.is_empty() { Err(FieldFault::EmptySegment) } else { Ok(Self::Metadata(key.into())) };
        }
        if let Some(path) = name.strip_prefix("payload.") {
            let segment = |segment: &str| if segment.is_empty() { None } else { Some(segment.into()) };
            return path
                .split('.')
                .map(segment)
                .collect::<Option<_>>()
                .map(Self::Payload)
                .ok_or(FieldFault::EmptySegment);
        }
        Ok(match name {
            "type" => Self::Type,
            "category" => Self::Category,
            "source" => Self::Source,
            "priority" => Self::Priority,
            "encoding" => Self::Encoding,
            "schema" => Self::Schema,
            "schema_text" => Self::SchemaText,
            "attempt" => Self::Attempt,
            "payload_bytes" => Self::PayloadBytes,
            "id" => Self::Id,
            "original_id" => Self::OriginalId,
            "correlation" => Self::Correlation,
            "causation" => Self::Causation,
            "trace_parent" => Self::TraceParent,
            "aggregate.kind" => Self::AggregateKind,
            "aggregate.id" => Self::AggregateId,
            "aggregate.version" => Self::AggregateVersion,
            "payload" => Self::Payload(Box::default()),
            _ => return Err(FieldFault::Unknown),
        })
    }

    /// The only values the field can have, where they are few.
    pub(super) fn values(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::Priority => Some(PRIORITIES),
            Self::Encoding => Some(ENCODINGS),
            _ => None,
        }
    }

    /// Hands the field's value to `see`. None when the event has no such field. The payload is not read here.
    pub(super) fn read<R>(&self, meta: &Meta<'_>, see: impl FnOnce(Seen<'_>) -> R) -> Option<R> {
        let integer = |value: usize| Some(Seen::Integer(value as i128));
        let seen = match self {
            Self::Type => Some(Seen::Text(meta.topic())),
            Self::Category => meta.topic().split('.').next().map(Seen::Text),
            // Nobody set a source: there is none.
            Self::Source => Some(meta.source()).filter(|source| !source.is_empty()).map(Seen::Text),
            Self::Priority => Some(Seen::Priority(meta.priority())),
            Self::Encoding => meta.encoding().map(|encoding| Seen::Text(encoding_name(encoding))),
            Self::Schema => integer(meta.schema_version().into()),
            Self::SchemaText => meta.schema_text().map(Seen::Text),
            Self::Attempt => integer(meta.attempt().into()),
            Self::PayloadBytes => integer(meta.payload().bytes().len()),
            Self::Id => return Some(with_text_of(meta.id(), see)),
            Self::OriginalId => meta.original_id().map(Seen::Text),
            Self::Correlation => return meta.correlation().map(|id| with_text_of(id, see)),
            Self::Causation => return meta.causation().map(|id| with_text_of(id, see)),
            Self::TraceParent => meta.trace_parent().map(Seen::Text),
            Self::AggregateKind => meta.aggregate().map(|aggregate| Seen::Text(aggregate.kind)),
            Self::AggregateId => meta.aggregate().map(|aggregate| Seen::Text(aggregate.id)),
            Self::AggregateVersion => meta.aggregate().map(|aggregate| Seen::Integer(aggregate.version.into())),
            Self::Metadata(key) => meta.get(key).map(Seen::Untyped),
            Self::Payload(_) => None,
        };
        seen.map(see)
    }
}

/// The id as a text, on the stack.
fn with_text_of<R>(id: EventId, see: impl FnOnce(Seen<'_>) -> R) -> R {
    let mut text = [0; 36];
    see(Seen::Text(uuid::Uuid::from_bytes(*id.as_bytes()).as_hyphenated().encode_lower(&mut text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Priority;

    #[test]
    fn the_lists_of_values_are_all_there_are() {
        assert_eq!(Priority::ALL.map(Priority::as_str), PRIORITIES);
        for tag in 0..=u8::MAX {
            let name = Encoding::from_tag(tag).map(encoding_name);
            assert_eq!(name, ENCODINGS.get(usize::from(tag)).copied());
        }
    }

    #[test]
    fn a_path_is_cut_at_its_dots_and_has_no_empty_parts() {
        let path = |parts: &[&str]| Ok(Field::Payload(parts.iter().map(|&part| part.into()).collect()));
        assert_eq!(Field::parse("payload"), path(&[]));
        assert_eq!(Field::parse("payload.a.0.b"), path(&["a", "0", "b"]));
        assert_eq!(Field::parse("metadata.a.b"), Ok(Field::Metadata("a.b".into())));
        for name in ["payload.", "payload.a.", "payload..a", "metadata."] {
            assert_eq!(Field::parse(name), Err(FieldFault::EmptySegment), "{name}");
        }
        for name in ["", "metadata", "prority", "Type", "payloads", "aggregate"] {
            assert_eq!(Field::parse(name), Err(FieldFault::Unknown), "{name}");
        }
    }
}
