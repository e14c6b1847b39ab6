//! Stores: every one passes the same tests; what was acknowledged is there, whatever fails; what is damaged is said.

mod archive;
mod causation;
mod commit;
mod conformance;
mod crash;
mod damage;
mod faults;
mod gate;
mod kill;
mod log;
mod log_store;
mod memory;
mod ordeal;
#[cfg(feature = "postgres")]
mod postgres;
mod states;
mod support;
mod table;
mod upcasters;
