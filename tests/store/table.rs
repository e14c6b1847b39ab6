//! The table: a map that survives what the log survives, and stays small.

mod crash;
mod damage;
mod faults;
mod promises;
mod reserve;
mod support;
