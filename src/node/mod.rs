//! What the `ringmain` command is made of: the flags, and the jobs `serve`, `config`, `pipe`, `store`, `dlq`, `backup`, `restore`,
//! `bench`, and those of a [`client`].
//!
//! ```text
//! stdin ──► lines ──► ingress ──► passage ══ bus ══► passage ──► egress ──► stdout
//!                        │                                      summary ──► stderr
//!                        └ malformed: counted, named by line number
//! ```
//!
//! Every edge speaks CloudEvents 1.0 JSON; [`ingress`] also takes the short form
//! `{"type": .., "data": ..}` and foreign JSON whose type stands in a field.
//! Of these only [`pipe`] holds a bus; the other pieces are plain functions. [`store`] and [`dlq`] read and write the same lines.
//! [`bench`] stands by itself. [`serve`] runs a [`core`], the node, which hosts a bus, a store and services, and answers over `http`;
//! a [`client`] asks one.

#![forbid(unsafe_code)]

pub mod alert;
pub mod args;
pub mod backup;
pub mod bench;
pub mod client;
pub mod config;
pub mod core;
pub mod discovery;
pub mod dlq;
pub mod egress;
pub mod event_type;
pub mod health;
mod http;
pub mod human;
pub mod ingress;
mod ingress_error;
mod json;
pub mod lines;
pub mod live;
mod members;
mod passage;
pub mod pipe;
mod progress;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod rule_form;
pub mod serve;
pub mod services;
pub mod store;
pub mod summary;
pub mod time;
