//! What one client wants of the events: its patterns, and what it knows of types already.

use super::super::http::Caller;
use super::window::LiveEvent;
use crate::Pattern;

/// Patterns, of which one is enough.
#[derive(Debug, Clone, Default)]
pub(super) struct Interest {
    patterns: Vec<Pattern>,
    /// By the number of a type: whether it is wanted, once that was looked at.
    known: Vec<Option<bool>>,
}

impl Interest {
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The texts of the patterns, in the order in which they came.
    pub(super) fn texts(&self) -> Vec<String> {
        self.patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
    }

    /// The pattern, where it is the only one.
    pub(super) fn only(&self) -> Option<&Pattern> {
        match &self.patterns[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Adds patterns; those that are there already change nothing.
    ///
    /// # Errors
    /// What is wrong with one, or that they are too many; then none was added.
    pub(super) fn add(&mut self, texts: &[String], patterns_max: usize) -> Result<(), String> {
        let mut patterns = self.patterns.clone();
        for text in texts {
            let pattern = Pattern::new(text).map_err(|error| format!("the pattern {text:?} is wrong: {error}"))?;
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
            if patterns.len() > patterns_max {
                return Err(format!("a client can have {patterns_max} patterns; open another connection"));
            }
        }
        (self.patterns, self.known) = (patterns, Vec::new());
        Ok(())
    }

    /// What is said to a caller who may not see all of it.
    pub(super) fn refused_to(&self, caller: &Caller) -> Option<String> {
        let refused = self.patterns.iter().find(|pattern| !caller.may_subscribe(pattern))?;
        Some(format!("this token may not see all that {:?} matches", refused.as_str()))
    }

    /// Takes patterns away; those that are not there change nothing.
    pub(super) fn remove(&mut self, texts: &[String]) {
        self.patterns.retain(|pattern| !texts.iter().any(|text| text == pattern.as_str()));
        self.known.clear();
    }

    /// Whether an event is wanted.
    ///
    /// # Cost
    /// The patterns are asked once for each type that has a number.
    pub(super) fn wants(&mut self, event: &LiveEvent) -> bool {
        let is_wanted = |patterns: &[Pattern]| {
            let meta = event.stored.meta();
            let topic = meta.topic();
            patterns.iter().any(|pattern| pattern.matches(topic))
        };
        let Some(number) = event.type_number else { return is_wanted(&self.patterns) };
        let number = number as usize;
        if self.known.len() <= number {
            self.known.resize(number + 1, None);
        }
        *self.known[number].get_or_insert_with(|| is_wanted(&self.patterns))
    }
}
