//! Event sourcing: a thing is what has happened to it. Its events are kept in a [store](crate::store), its state is made of
//! them.
//!
//! ```text
//!            load: snapshot, then later events                execute                    save
//!   store ───────────────────────────────────► Root<A> ◄──── command ───► events ───► append, version expected ──► store
//!     ▲                                      state, version   decide                   │ conflict: load, decide again
//!     └──────────── Relay: publishes what was appended, in order ──► bus ◄─────────────┘
//! ```
//!
//! * An [`Aggregate`] decides: a command becomes events, or is refused; events change the state.
//! * A [`Root`] is one of them: id, version, state, and events that are not saved yet.
//! * A [`Repository`] loads and saves them. Saving is one append, so a thing and its events cannot disagree.
//! * A [`Relay`] brings what was appended to a bus, in the order of the store, each event at least once.
//! * A [`Projection`] makes a [`View`] of events, and a [`Projector`] keeps it up to date or rebuilds it beside the live one.
//! * A [`Saga`] has steps and undoes them when one fails; [`Sagas`] run them, and go on where a process died.
//! * A [`ProcessManager`] brings events together by a key and says what happens next; [`Processes`] run it, and append what
//!   goes out.
//!
//! ```
//! use std::error::Error;
//! use std::sync::Arc;
//!
//! use ringmain::sourcing::{Aggregate, Repository};
//! use ringmain::store::MemoryStore;
//! use ringmain::{Bus, Frame, Outgoing, Payload, PublishError};
//!
//! #[derive(Default)]
//! struct Account { cents: u64 }
//!
//! enum Command { Deposit(u64), Withdraw(u64) }
//!
//! #[derive(Debug)]
//! enum Moved { In(u64), Out(u64) }
//!
//! impl Aggregate for Account {
//!     const KIND: &'static str = "account";
//!     type Command = Command;
//!     type Event = Moved;
//!     type Refusal = &'static str;
//!
//!     fn decide(&self, command: &Command) -> Result<Vec<Moved>, &'static str> {
//!         match *command {
//!             Command::Deposit(cents) => Ok(vec![Moved::In(cents)]),
//!             Command::Withdraw(cents) if cents > self.cents => Err("not enough money"),
//!             Command::Withdraw(cents) => Ok(vec![Moved::Out(cents)]),
//!         }
//!     }
//!
//!     fn apply(&mut self, event: &Moved) {
//!         match event {
//!             Moved::In(cents) => self.cents += cents,
//!             Moved::Out(cents) => self.cents -= cents,
//!         }
//!     }
//!
//!     fn to_frame(event: &Moved, outgoing: Outgoing<'_>) -> Result<Frame, PublishError> {
//!         let (topic, cents) = match event {
//!             Moved::In(cents) => ("account.deposited", cents),
//!             Moved::Out(cents) => ("account.withdrawn", cents),
//!         };
//!         outgoing.to_frame(topic, Payload::plain_text(&cents.to_string()))
//!     }
//!
//!     fn of_frame(frame: &Frame) -> Result<Moved, Box<dyn Error + Send + Sync>> {
//!         let cents = frame.payload().text().ok_or("no text")?.parse()?;
//!         match frame.meta().topic() {
//!             "account.deposited" => Ok(Moved::In(cents)),
//!             "account.withdrawn" => Ok(Moved::Out(cents)),
//!             _ => Err("no event of an account".into()),
//!         }
//!     }
//! }
//!
//! let bus = Bus::builder().build()?;
//! let mut accounts = Repository::<Account>::new(Arc::new(MemoryStore::new()), bus.publisher()?);
//! accounts.execute("ada", &Command::Deposit(500))?;
//! let account = accounts.execute("ada", &Command::Withdraw(120))?;
//! assert_eq!((account.version(), account.state().cents), (2, 380));
//! assert!(accounts.execute("ada", &Command::Withdraw(1_000)).is_err());
//! # bus.shutdown()?;
//! # Ok::<(), Box<dyn Error>>(())
//! ```
//!
//! Aggregates are tested without a store: see [`Given`](crate::testing::Given).

#![forbid(unsafe_code)]

mod aggregate;
mod persist;
mod process;
mod projection;
mod relay;
mod repository;
mod saga;
mod view;

pub use aggregate::{Aggregate, CreateError, Root};
pub use persist::Persist;
pub use process::{Outputs, ProcessError, ProcessManager, Processed, Processes, Reaction};
pub use projection::{Progress, Projected, Projection, ProjectionError, Projector, ReadModel, ViewPage};
pub use relay::{Relay, RelayError, Relayed};
pub use repository::{ExecuteError, LoadError, Repository, SaveError, Saved};
pub use saga::{Executed, Heard, Ran, Saga, SagaError, SagaPhase, SagaStatus, Sagas, Step, StepRun, Told};
pub use view::View;
