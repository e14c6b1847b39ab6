//! Routing: who wants this event.
//!
//! A subscription says what it wants as a [`Pattern`] over topic names. `pattern` holds the grammar and the matcher
//! of one pattern; `trie` answers the question the other way round, which of many patterns match one name; `filter` holds
//! the conditions beyond the name; `table` is what a worker looks an event up in. `rule` says which services get an event, by
//! data that can change at any time, and `condition` is what a rule asks of an event's fields.

#![forbid(unsafe_code)]

mod condition;
mod filter;
mod pattern;
mod rule;
mod table;
mod trie;

pub use condition::{Condition, ConditionParts, OnField, Operand};
pub use filter::Filter;
pub use pattern::{Pattern, PatternError};
pub use rule::{RoutingRule, RuleChange, RuleError, RuleFilter, RuleReason, RuleSet, RuleVerdict};

pub(crate) use filter::{CompiledFilter, Refusal};
pub(crate) use rule::TypeRules;
pub(crate) use table::Table;
pub(crate) use trie::PatternTrie;

#[cfg(test)]
pub(crate) use rule::sample::Sample;
