//! What can be subscribed to.

use crate::delivery::Interest;
use crate::event::{Event, RustType, Topic};
use crate::routing::{Pattern, PatternError};

/// A pattern, and for a typed topic its name and Rust type.
pub(super) type Wanted = (Pattern, Option<(&'static str, RustType)>);

/// What can be subscribed to: a [`Topic`], or a pattern as text or [`Pattern`].
pub trait IntoInterest {
    /// What handlers see the event through.
    type Interest: Interest;

    #[doc(hidden)]
    fn into_parts(self) -> Result<Wanted, PatternError>;
}

impl<E: Event> IntoInterest for Topic<E> {
    type Interest = Topic<E>;

    fn into_parts(self) -> Result<Wanted, PatternError> {
        Ok((Pattern::new(self.name())?, Some((self.name(), RustType::of::<E>()))))
    }
}

impl IntoInterest for Pattern {
    type Interest = Pattern;

    fn into_parts(self) -> Result<Wanted, PatternError> {
        Ok((self, None))
    }
}

impl IntoInterest for &str {
    type Interest = Pattern;

    fn into_parts(self) -> Result<Wanted, PatternError> {
        Ok((Pattern::new(self)?, None))
    }
}
