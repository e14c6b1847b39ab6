//! Typed topics: read in place, one Rust type a topic, and bytes from outside never trusted.

mod envelope;
mod foreign;
mod shapes;
