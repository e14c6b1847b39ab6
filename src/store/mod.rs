//! The durable store: one log that everything else in it can be rebuilt from.

#![forbid(unsafe_code)]

pub(crate) mod log;
