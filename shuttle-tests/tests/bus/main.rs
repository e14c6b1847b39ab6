//! The scenarios: what users of a bus do beside each other, one promise each.

#![cfg(ringmain_shuttle)]

#[path = "../../../tests/support/books.rs"]
mod books;
mod ends;
mod flow;
mod mailboxes;
mod reliable;
mod subscriptions;
