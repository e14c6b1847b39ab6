//! The durable store: what was acknowledged is there, whatever fails, and what is damaged is said.

mod commit;
mod crash;
mod damage;
mod faults;
mod kill;
mod log;
mod support;
