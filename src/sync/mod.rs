//! The only doors to atomics.

pub(crate) mod primitive;
