//! A dead letter as it is told: of a store in a folder, and by a node.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A letter, as JSON. The names are the field names, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Told<'a> {
    pub(in super::super) id: u64,
    #[serde(borrow)]
    pub(in super::super) died: Cow<'a, str>,
    #[serde(borrow)]
    pub(in super::super) reason: Cow<'a, str>,
    pub(in super::super) attempts: u32,
    #[serde(borrow)]
    pub(in super::super) first_attempt: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(in super::super) subscription: Cow<'a, str>,
    #[serde(borrow)]
    pub(in super::super) error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(in super::super) event: &'a RawValue,
}

impl Told<'_> {
    /// A line for programs.
    pub(in super::super) fn json(&self) -> String {
        serde_json::to_string(self).expect("it has no map")
    }

    /// A line for people.
    pub(in super::super) fn row(&self) -> String {
        let Self { id, died, reason, attempts, subscription, .. } = self;
        let event: Value = serde_json::from_str(self.event.get()).unwrap_or_default();
        let topic = event["type"].as_str().unwrap_or_default();
        // The first line of what an attempt said.
        let error = self.error.as_deref().and_then(|error| error.lines().next());
        let error = error.map_or_else(String::new, |error| format!(": {error}"));
        format!("{id:>6}  {died}  {topic}  {subscription}  {reason}, attempts {attempts}{error}")
    }

    /// All of it, the event last. `cut` says that the error was longer.
    pub(in super::super) fn text(&self, cut: bool) -> String {
        let Self { id, died, reason, attempts, subscription, .. } = self;
        let mut text =
            format!("letter        {id}\ndied          {died}\nreason        {reason}\nattempts      {attempts}");
        if let Some(first) = &self.first_attempt {
            text += &format!(", the first {first}");
        }
        text += &format!("\nsubscription  {subscription}\n");
        if let Some(error) = &self.error {
            let cut = if cut { " ..." } else { "" };
            text += &format!("error         {}{cut}\n", error.replace('\n', "\n              "));
        }
        text + self.event.get() + "\n"
    }
}
