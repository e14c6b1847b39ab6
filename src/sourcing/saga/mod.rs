//! Sagas: steps that are undone in reverse order when one of them fails, whatever dies meanwhile.
//!
//! ```text
//!            persist: step n is begun, its compensation registered      persist: done, step n + 1 is begun
//!   start ──► ─────────────────────────────────────────────────► execute ─────────────────────────────► ... ──► Completed
//!                                                                   │ failed, or not done in time
//!                                                                   ▼ persist
//!   Compensated ◄── ... ◄── compensate n - 1 ◄── persist ◄── compensate n ──► failed too often: Stuck, until `retry`
//! ```
//!
//! A process may die anywhere. The step under way is then run again with the same [key](StepRun::key), so a step whose
//! effects are told apart by it has them once. A step that failed is compensated as well, for nobody knows how far it came:
//! compensating what did not happen must do nothing.

mod definition;
mod error;
mod record;
mod runner;
mod turn;

pub use definition::{Executed, Heard, Saga, Step, StepRun};
pub use error::SagaError;
pub use record::{SagaPhase, SagaStatus};
pub use runner::{Ran, Sagas, Told};
