//! The services that every node can have, beside a real bus: real files, real HTTP on this machine.

mod alerts;
#[path = "../support/books.rs"]
mod books;
mod builtins;
mod collector;
mod discovery;
#[path = "../support/folder.rs"]
mod folder;
mod handlers;
mod subscriptions;
mod support;
mod tasks;
mod watcher;
mod webhook;
