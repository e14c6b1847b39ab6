//! Events for tests: a frame made by hand, without a bus.

use crate::clock::Clock;
use crate::event::{
    Aggregate, Directory, EXTENSION_BYTES_MAX, Encoding, EventId, ExtensionBuffer, Header, Meta, Priority, Tag,
};

/// What an event is made of. Its frame is made each time it is read.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) topic: String,
    pub(crate) source: String,
    pub(crate) priority: Priority,
    pub(crate) encoding: Encoding,
    pub(crate) schema: u16,
    pub(crate) correlation: Option<EventId>,
    pub(crate) aggregate: Option<(String, String, u64)>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) payload: Vec<u8>,
    /// The names of topic and source stand in the directory, as most do, and not in the frame, which is made faster.
    pub(crate) listed: bool,
}

impl Sample {
    pub(crate) fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            source: String::new(),
            priority: Priority::Normal,
            encoding: Encoding::Bytes,
            schema: 1,
            correlation: None,
            aggregate: None,
            metadata: Vec::new(),
            payload: Vec::new(),
            listed: false,
        }
    }

    pub(crate) fn json(mut self, text: &str) -> Self {
        (self.encoding, self.payload) = (Encoding::Json, text.as_bytes().to_vec());
        self
    }

    pub(crate) fn metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Hands the event to `read`.
    pub(crate) fn with<R>(&self, read: impl FnOnce(&Meta<'_>) -> R) -> R {
        let names = if self.listed { 8 } else { 0 };
        let directory = Directory::new(names, names, Clock::manual());
        let mut extension = ExtensionBuffer::default();
        let (type_id, source_id) = match self.source.as_str() {
            "" => (directory.intern_type(&self.topic), 0),
            source => (directory.intern_type(&self.topic), directory.intern_source(source)),
        };
        if type_id == 0 {
            extension.text(Tag::TypeName, "type", &self.topic, EXTENSION_BYTES_MAX);
        }
        if source_id == 0 && !self.source.is_empty() {
            extension.text(Tag::Source, "source", &self.source, EXTENSION_BYTES_MAX);
        }
        if let Some(id) = self.correlation {
            extension.id(Tag::Correlation, id);
        }
        if let Some((kind, id, version)) = &self.aggregate {
            extension.aggregate(Aggregate { kind, id, version: *version });
        }
        for (key, value) in &self.metadata {
            extension.metadata(key, value);
        }
        let mut rest = extension.finish().unwrap().to_vec();
        let header = Header { type_id, source_id, schema: self.schema, priority: self.priority as u8, ..Header::BLANK };
        let header = header.with_payload(rest.len(), self.payload.len(), self.encoding, 0);
        rest.extend_from_slice(&self.payload);
        read(&Meta::new(&header, &rest, 0, &directory).unwrap())
    }
}
