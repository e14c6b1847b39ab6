//! What travels: topics, ids, sources, the frame of an event and the views that read it in place.
//!
//! ```text
//!   slot   │ stamp 8 │ header 56 │ extension 0.. │ payload │      short events travel whole
//!   slot   │ stamp 8 │ header 56 │ block 8 │                    longer ones leave extension and payload in a block
//!   block  │ extension 0.. │ payload │
//!   frame  │ mark 8  │ header 56 │ extension 16.. │ payload │    outside of the bus: names and dates in place of numbers
//! ```
//!
//! The stamp belongs to the ring. Header and payload start on 16-byte boundaries, so an archived value is read where
//! it lies.

mod codec;
mod directory;
mod extension;
mod frame;
mod id;
mod meta;
mod payload;
mod portable;
mod priority;
mod source;
mod topic;

pub use codec::{DecodeError, Event};
pub use directory::TypeConflict;
pub use extension::{Aggregate, EnvelopeError, ServiceTarget};
pub use frame::{Encoding, FrameError};
pub use id::{EventId, ParseEventIdError};
pub use meta::{Meta, read_frame};
pub use payload::Payload;
pub use portable::{Frame, FrameRef};
pub use priority::{ParsePriorityError, Priority};
pub use source::EventSource;
pub use topic::{Category, Topic, TopicError};

pub use codec::{Check, Destination, Encode, Encoder, KnownAs, Meanwhile};
pub(crate) use codec::{EncodeFault, Trust, read_archived};
pub(crate) use directory::{Directory, RustType};
pub(crate) use extension::{EXTENSION_BYTES_MAX, ExtensionBuffer, Tag};
pub(crate) use frame::{
    FLAG_LOCAL, FLAG_MEASURED, FLAG_OUTBOX, FLAG_REPLAY, FLAG_STAMPED, FLAG_TARGETED, HEADER_BYTES, Header,
};
pub(crate) use id::IdSource;
pub(crate) use portable::CellFrame;
pub(crate) use topic::{NAME_BYTES_MAX, check_name, check_name_bytes};
