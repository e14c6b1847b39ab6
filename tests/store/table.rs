//! The table: a map that survives what the log survives, and stays small.

mod crash;
mod promises;
mod support;
