//! A frame as an event of this bus again, for a mailbox: with the numbers that only this bus knows.

use rkyv::util::AlignedVec;

use super::Frame;
use crate::event::codec::PAYLOAD_ALIGN;
use crate::event::extension::{Fields, Tag};
use crate::event::{Directory, FLAG_OUTBOX, FLAG_STAMPED, Header};

/// An event as it lies in a cell: header, and extension and payload in one.
#[derive(Debug)]
pub(crate) struct CellFrame {
    pub(crate) header: Header,
    pub(crate) rest: AlignedVec<PAYLOAD_ALIGN>,
}

impl Frame {
    /// The event as it lay in a lane of the bus of this directory. Nobody vouches for its payload: typed subscriptions validate it.
    /// When it was published and its deadline are the instants at its [place](Frame::in_lane), if that was written down; else they go by
    /// the wall clock, as the frame's do. `position` is its place in the store that it came from to the lane: then what is written of another
    /// lane is another process's.
    pub(crate) fn to_cell(&self, directory: &Directory, position: Option<u64>) -> CellFrame {
        let (meta, portable) = (self.meta(), &self.0.header);
        let type_id = directory.type_id(meta.topic()).unwrap_or(0);
        let source_id = directory.source_id(meta.source()).unwrap_or(0);
        let clock = &directory.clock;
        let payload = meta.payload();
        let mut rest = AlignedVec::with_capacity(meta.extension().len() + PAYLOAD_ALIGN + payload.bytes().len());
        let mut put = |tag: u8, value: &[u8]| {
            let [low, high] = (value.len() as u16).to_le_bytes();
            rest.extend_from_slice(&[tag, 0, low, high]);
            rest.extend_from_slice(value);
        };
        for (tag, value) in Fields::new(meta.extension()).map_while(Result::ok) {
            let is_known = type_id != 0 && tag == Tag::TypeName as u8 || source_id != 0 && tag == Tag::Source as u8;
            if is_known || tag == Tag::Place as u8 {
                continue;
            }
            match <[u8; 8]>::try_from(value) {
                Ok(unix_ns) if tag == Tag::NotBefore as u8 => {
                    put(tag, &clock.instant_of(u64::from_le_bytes(unix_ns)).to_le_bytes());
                }
                _ => put(tag, value),
            }
        }
        if let Some(position) = position {
            put(Tag::Position as u8, &position.to_le_bytes());
        }
        let extension_bytes = rest.len().next_multiple_of(PAYLOAD_ALIGN);
        rest.resize(extension_bytes, 0);
        rest.extend_from_slice(payload.bytes());
        let place = if position.is_none() { self.place() } else { None };
        let [published, deadline] = match place {
            Some([.., published, deadline]) => [published, deadline],
            None if portable.deadline == 0 => [0, 0],
            None => [0, clock.instant_of(portable.deadline)],
        };
        let header = Header {
            time: if published == 0 { clock.instant_of(portable.time) } else { published },
            deadline,
            type_id,
            source_id,
            extension_bytes: extension_bytes as u16,
            // What it took counts from then on, the time in the store with it.
            flags: portable.flags & !FLAG_OUTBOX | if published == 0 { 0 } else { FLAG_STAMPED },
            ..*portable
        };
        CellFrame { header, rest }
    }
}
