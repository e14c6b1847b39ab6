//! What events are published under, and the topic that a publisher spoke of last.

use std::any::TypeId;

use crate::event::{Event, NAME_BYTES_MAX, Payload, RustType, Topic};

/// What an event is published under, with what payload: a [`Topic`] with a reference to its type, or a topic's name
/// with a [`Payload`].
pub trait Subject<P>: Copy {
    #[doc(hidden)]
    fn name(&self) -> &str;

    /// The name for ever, and the Rust type, of a typed topic.
    #[doc(hidden)]
    fn typed(&self) -> Option<(&'static str, RustType)>;

    /// Whether the publisher's latest event had this topic.
    #[doc(hidden)]
    fn is_latest(&self, latest: &Latest) -> bool;

    /// Puts it down as the topic of the latest event.
    #[doc(hidden)]
    fn remember(&self, latest: &mut Latest);
}

/// The topic of a publisher's latest event, so that a stream of one topic is not looked up each time.
#[doc(hidden)]
#[derive(Debug)]
pub struct Latest {
    /// Address and length of a typed topic's name, and its Rust type: together they stand for one topic for ever. A name
    /// from outside has no address; its text is kept.
    at: usize,
    bytes: usize,
    rust: TypeId,
    text: String,
    pub(super) type_id: u32,
}

impl Latest {
    pub(super) fn new() -> Self {
        Self { at: 0, bytes: 0, rust: TypeId::of::<()>(), text: String::with_capacity(NAME_BYTES_MAX), type_id: 0 }
    }

    /// Sends the next event the long way round, whatever its topic.
    pub(super) fn forget(&mut self) {
        // No topic has an empty name.
        self.bytes = 0;
        self.text.clear();
    }
}

impl<E: Event> Subject<&E> for Topic<E> {
    #[inline]
    fn name(&self) -> &str {
        Topic::name(self)
    }

    #[inline]
    fn typed(&self) -> Option<(&'static str, RustType)> {
        Some((Topic::name(self), RustType::of::<E>()))
    }

    #[inline(always)]
    fn is_latest(&self, latest: &Latest) -> bool {
        let name = Topic::name(self);
        latest.at == name.as_ptr() as usize && latest.bytes == name.len() && latest.rust == TypeId::of::<E>()
    }

    #[inline]
    fn remember(&self, latest: &mut Latest) {
        let name = Topic::name(self);
        latest.text.clear();
        (latest.at, latest.bytes, latest.rust) = (name.as_ptr() as usize, name.len(), TypeId::of::<E>());
    }
}

impl<'p> Subject<Payload<'p>> for &str {
    #[inline]
    fn name(&self) -> &str {
        self
    }

    #[inline]
    fn typed(&self) -> Option<(&'static str, RustType)> {
        None
    }

    #[inline(always)]
    fn is_latest(&self, latest: &Latest) -> bool {
        // What was forgotten is empty, and the empty name is none.
        latest.text == *self && !self.is_empty()
    }

    #[inline]
    fn remember(&self, latest: &mut Latest) {
        latest.forget();
        latest.text.push_str(self);
    }
}
