//! The atomic types every floor uses.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
