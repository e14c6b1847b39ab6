//! Stores: every one passes the same tests; what was acknowledged is there, whatever fails; what is damaged is said.

#[path = "../support/books.rs"]
mod books;
mod causation;
mod commit;
mod conformance;
mod crash;
mod damage;
mod durable;
mod faults;
mod gate;
mod journal;
mod kill;
mod log;
mod log_store;
mod memory;
mod ordeal;
mod replay;
mod states;
mod subscription;
mod support;
mod table;
mod upcasters;
