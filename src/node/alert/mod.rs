//! Alerts: what is wrong for long enough is said once, and said again when it is over.
//!
//! ```text
//! facts ──► rule by rule, subject by subject:  ok ──breached──► pending ──lasts──► firing ──ok for a while──► resolved
//!                                               ▲                  │
//!                                               └───────ok─────────┘
//! ```
//!
//! The book knows no time: whoever looks says what time it is, by a clock that only goes forward.

mod book;
mod rule;
mod watch;

pub use self::book::{Alert, AlertBook, AlertChange, AlertState};
pub use self::rule::{AlertRule, Condition, Facts, Severity};
pub use self::watch::{Alerts, AlertsOptions};
