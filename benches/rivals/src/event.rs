//! The event that every subject carries: a header-like 64 bytes, then a payload of 64 bytes or 1 KiB.
//!
//! The payload says all that the consumer checks, so that a subject with a header of its own (ringmain) carries only
//! the payload. Word 0 is the tag (publisher and sequence), word 1 the stamp, the rest follows from the tag:
//!
//! ```text
//! word   0                                 1                        2 .. WORDS
//!        publisher << 56 | sequence        clock ticks, 0 = none    seed(tag) + index
//! ```

use crate::subject::Sink;

/// Payload words of the 128-byte event.
pub(crate) const SMALL: usize = 8;
/// Payload words of the 1 KiB payload.
pub(crate) const LARGE: usize = 128;
/// Most publishers that one run tells apart by tag: a power of two.
pub(crate) const PUBLISHERS_MAX: usize = 4;

const PUBLISHER_SHIFT: u32 = 56;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// How pressing an event is, for a subject with priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Whatever the subject takes for ordinary: all events but those of `critical-flood`.
    Ordinary,
    /// Its highest priority.
    Critical,
    /// Its lowest.
    Low,
}

/// One word of a payload, in whatever form a subject keeps it: all are the same eight bytes.
pub(crate) trait Word: Copy {
    /// Puts a number into the form.
    fn of(number: u64) -> Self;
    /// The number in it.
    fn number(self) -> u64;
}

impl Word for u64 {
    #[inline]
    fn of(number: u64) -> Self {
        number
    }

    #[inline]
    fn number(self) -> u64 {
        self
    }
}

impl Word for [u8; 8] {
    #[inline]
    fn of(number: u64) -> Self {
        number.to_ne_bytes()
    }

    #[inline]
    fn number(self) -> u64 {
        u64::from_ne_bytes(self)
    }
}

/// What the harness wants published; the subject writes the event out, in place where it can.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    /// Who says it, below [`PUBLISHERS_MAX`]. Sequences are counted per publisher.
    pub(crate) publisher: u8,
    /// A subject without priorities treats all alike.
    pub(crate) urgency: Urgency,
    /// From 0, without gaps.
    pub(crate) sequence: u64,
    /// Clock ticks ([`crate::machine::Clock`]) at which the publisher meant to publish, 0 when not stamped.
    pub(crate) stamp: u64,
}

impl Draft {
    fn tag(&self) -> u64 {
        tag(usize::from(self.publisher), self.sequence)
    }

    /// Writes the payload words.
    #[inline(always)]
    pub(crate) fn write_payload<W: Word, const WORDS: usize>(&self, payload: &mut [W; WORDS]) {
        let tag = self.tag();
        let seed = tag.wrapping_mul(SEED);
        payload[0] = W::of(tag);
        payload[1] = W::of(self.stamp);
        for (word, index) in payload[2..].iter_mut().zip(0u64..) {
            *word = W::of(seed.wrapping_add(index));
        }
    }
}

/// The tag of a publisher's event.
pub(crate) const fn tag(publisher: usize, sequence: u64) -> u64 {
    ((publisher as u64) << PUBLISHER_SHIFT) | sequence
}

/// Splits a tag into publisher (not yet checked against [`PUBLISHERS_MAX`]) and sequence.
#[inline]
pub(crate) fn split_tag(tag: u64) -> (usize, u64) {
    ((tag >> PUBLISHER_SHIFT) as usize, tag & ((1 << PUBLISHER_SHIFT) - 1))
}

/// The sum over the words from 2 on of the first `events` events of `publisher`: what the consumer must arrive at.
pub(crate) fn expected_checksum(words: usize, publisher: u8, events: u64) -> u64 {
    let filled = words as u64 - 2;
    let sequences = (u128::from(events) * u128::from(events.saturating_sub(1)) / 2) as u64;
    let tags = tag(usize::from(publisher), 0).wrapping_mul(events).wrapping_add(sequences);
    let indices = (filled * (filled - 1) / 2).wrapping_mul(events);
    tags.wrapping_mul(SEED).wrapping_mul(filled).wrapping_add(indices)
}

/// What a bus puts before a payload: 64 bytes of the kind ringmain's own header holds.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Header {
    sequence: u64,
    id: [u64; 2],
    time: u64,
    deadline: u64,
    kind: u32,
    source: u32,
    length: u32,
    extension_length: u16,
    schema: u16,
    priority: u32,
    check: u32,
}

/// A whole event as the rivals carry it: 128 bytes with [`SMALL`], 1,088 with [`LARGE`].
///
/// Aligned as its words are: a queue that keeps a stamp of its own in each slot stays compact. A ring of bare events
/// puts it in a [`Line`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Event<const WORDS: usize> {
    header: Header,
    payload: [u64; WORDS],
}

impl<const WORDS: usize> Default for Event<WORDS> {
    fn default() -> Self {
        Self { header: Header::default(), payload: [0; WORDS] }
    }
}

impl<const WORDS: usize> Event<WORDS> {
    /// A new event, for a channel that takes it by value.
    #[inline(always)]
    pub(crate) fn new(draft: &Draft) -> Self {
        let mut event = Self::default();
        event.fill(draft);
        event
    }

    /// Writes each byte of the event in place.
    #[inline(always)]
    pub(crate) fn fill(&mut self, draft: &Draft) {
        draft.write_payload(&mut self.payload);
        self.header = Header {
            sequence: draft.sequence,
            id: [draft.tag(), SEED],
            time: draft.stamp,
            deadline: u64::MAX,
            kind: 7,
            source: u32::from(draft.publisher),
            length: size_of::<[u64; WORDS]>() as u32,
            extension_length: 0,
            schema: 1,
            priority: draft.urgency as u32,
            check: draft.sequence as u32,
        };
    }

    /// Who published it.
    #[inline]
    pub(crate) fn publisher(&self) -> usize {
        self.header.source as usize
    }

    /// Hands the event to the consumer, header line read too: one whose halves disagree is torn, and counts as lost.
    #[inline(always)]
    pub(crate) fn deliver(&self, sink: &mut impl Sink) {
        let torn = self.header.id[0] != self.payload[0] || self.header.sequence as u32 != self.header.check;
        if torn {
            sink.torn();
        } else {
            sink.event(&self.payload);
        }
    }
}

/// An event at the start of a cache line, for rings that hold nothing else in a slot.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Line<const WORDS: usize>(pub(crate) Event<WORDS>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_stated_size() {
        assert_eq!(size_of::<Header>(), 64);
        assert_eq!(size_of::<Line<SMALL>>(), 128);
        assert_eq!(size_of::<Event<LARGE>>(), 64 + 1_024);
    }

    #[test]
    fn checksum_formula_agrees_with_the_words_written() {
        for publisher in 0..PUBLISHERS_MAX as u8 {
            for events in [0, 1, 2, 777] {
                let mut sum = 0u64;
                for sequence in 0..events {
                    let event =
                        Event::<SMALL>::new(&Draft { publisher, urgency: Urgency::Ordinary, sequence, stamp: 5 });
                    assert_eq!(split_tag(event.payload[0]), (usize::from(publisher), sequence));
                    sum = event.payload[2..].iter().fold(sum, |sum, word| sum.wrapping_add(*word));
                }
                assert_eq!(sum, expected_checksum(SMALL, publisher, events));
            }
        }
    }
}
