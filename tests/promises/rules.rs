//! Promises of routing rules on a bus.
