//! An event that is published once more under its own topic, with its payload as it travelled.

use rkyv::ser::allocator::Arena;

use crate::event::{Encode, EncodeFault, Encoding, Meta, Payload, RustType};

use super::subject::{Latest, Subject};
use super::{Outgoing, Publisher};

/// The payload of an event of this bus. Readers trust it as they trusted it the first time.
#[derive(Debug, Clone, Copy)]
pub(in crate::bus) struct Again<'a> {
    pub(in crate::bus) payload: Payload<'a>,
    /// `FLAG_LOCAL` only of what this process encoded, for this bus and topic, from the topic's Rust type; `FLAG_REPLAY`.
    pub(in crate::bus) flags: u8,
}

impl Encode for Again<'_> {
    fn encoding(&self) -> Encoding {
        self.payload.encoding()
    }

    fn flags(&self) -> u8 {
        self.flags
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        Some(self.payload.bytes())
    }

    fn encode(&self, out: &mut [u8], arena: &mut Arena) -> Result<usize, EncodeFault> {
        self.payload.encode(out, arena)
    }
}

/// The topic of such an event.
#[derive(Debug, Clone, Copy)]
pub(in crate::bus) struct SameTopic<'a>(pub(in crate::bus) &'a str);

impl Subject<Again<'_>> for SameTopic<'_> {
    fn name(&self) -> &str {
        self.0
    }

    fn typed(&self) -> Option<(&'static str, RustType)> {
        None
    }

    fn is_latest(&self, latest: &Latest) -> bool {
        self.0.is_latest(latest)
    }

    fn remember(&self, latest: &mut Latest) {
        self.0.remember(latest);
    }
}

impl Publisher {
    /// Begins an event with the envelope of another: all of it but id, times, deadline, cause and attempt.
    pub(in crate::bus) fn event_like(&mut self, meta: &Meta<'_>) -> Outgoing<'_> {
        let mut event =
            self.event().priority(meta.priority()).source(meta.source()).schema_version(meta.schema_version());
        if let Some(correlation) = meta.correlation() {
            event = event.correlation(correlation);
        }
        if let Some(aggregate) = meta.aggregate() {
            event = event.aggregate(aggregate);
        }
        if let Some(version) = meta.schema_text() {
            event = event.schema_text(version);
        }
        if let Some(traceparent) = meta.trace_parent() {
            event = event.trace_parent(traceparent);
        }
        let event = meta.targets().fold(event, Outgoing::target);
        meta.metadata().fold(event, |event, (key, value)| event.metadata(key, value))
    }
}
