//! Stores: every one passes the same tests; what was acknowledged is there, whatever fails; what is damaged is said.

mod causation;
mod commit;
mod conformance;
mod crash;
mod damage;
mod faults;
mod kill;
mod log;
mod memory;
mod states;
mod support;
mod upcasters;
