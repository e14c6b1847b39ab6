//! Stores: every one passes the same tests; what was acknowledged is there, whatever fails; what is damaged is said.

#[cfg(target_os = "linux")]
#[path = "../support/alone.rs"]
#[allow(dead_code, reason = "faults need the rest")]
mod alone;
mod archive;
mod archived;
mod audit;
mod backup;
#[path = "../support/books.rs"]
mod books;
mod causation;
mod commit;
mod conformance;
mod crash;
mod damage;
#[path = "../support/delegated.rs"]
mod delegated;
mod drops;
mod durable;
mod faults;
#[path = "../support/folder.rs"]
mod folder;
mod gate;
mod handed_over;
mod handled;
mod journal;
mod kill;
#[path = "../support/killed.rs"]
mod killed;
mod lagging;
mod leases;
mod letters;
mod log;
mod log_store;
mod memory;
mod memory_mode;
mod moody;
mod one_store;
mod open_files;
mod ordeal;
#[cfg(feature = "postgres")]
mod postgres;
#[path = "../support/proof.rs"]
mod proof;
mod read_only;
mod readers;
mod reliable;
mod replay;
mod reserve;
mod schedule;
mod spill;
mod states;
mod stored_subscriptions;
mod strace;
mod subscription;
mod support;
mod table;
mod tmpfs;
mod upcasters;
