//! Targets of an event that name no service: counted when it is accepted, and told of.

use crate::delivery::Notice;
use crate::event::{FLAG_TARGETED, Header, Meta};

use super::Publisher;

impl Publisher {
    /// How many targets of an event name no service, of which there may be one later. Tells of each such name once.
    #[inline]
    pub(in crate::bus) fn unknown_targets<'a>(&self, header: &Header, rest: impl FnOnce() -> &'a [u8]) -> u64 {
        if header.has(FLAG_TARGETED) { self.look_at_targets(header, rest()) } else { 0 }
    }

    #[cold]
    fn look_at_targets(&self, header: &Header, rest: &[u8]) -> u64 {
        let engine = &*self.engine;
        let Ok(meta) = Meta::new(header, &rest[..header.rest_bytes()], 0, &engine.directory) else { return 0 };
        let mut unknown = 0;
        for target in meta.targets().filter(|target| !engine.services_known.has(target.id())) {
            unknown += 1;
            if engine.services_known.is_news(target.id()) {
                engine.notice(&Notice::UnknownTarget {
                    target: target.id(),
                    event: header.event_id(),
                    topic: meta.topic(),
                });
            }
        }
        unknown
    }

    /// An event with so many of them was accepted.
    #[inline]
    pub(in crate::bus) fn count_unknown(&self, targets: u64) {
        if targets > 0 {
            self.slot.counts.unknown_targets.add(targets);
        }
    }
}
