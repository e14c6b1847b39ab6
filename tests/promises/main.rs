//! The promises of ringmain, one module each, through the public API only. One binary, so that it links once.

mod batch;
mod bounded;
mod dedup;
mod direct_path;
mod envelope;
mod hung;
mod isolation;
mod latest;
mod ledger;
mod names;
mod order;
mod publisher_faults;
mod reliable;
mod reliable_edges;
mod reliable_on_threads;
mod request;
mod rules;
mod runs;
mod services;
mod services_edges;
mod short_way;
mod starvation;
mod support;
mod time;
mod wrap;
