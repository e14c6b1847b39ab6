//! What is recorded: an action, what it was done to, what was before and after.

use super::change;

/// What somebody does. A value: nothing is recorded by making it.
///
/// ```
/// use ringmain::store::AuditAct;
/// let act = AuditAct::new("user.locked", "user 4711").before("active").after("locked: three wrong passwords");
/// # let _ = act;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is recorded by making it"]
pub struct AuditAct {
    action: String,
    object: String,
    before: Option<String>,
    after: Option<String>,
}

impl AuditAct {
    /// An action, as the end of a topic: words joined by dots. And what it is done to, by any name that stays the same: its records are
    /// found by it, and numbered.
    pub fn new(action: impl Into<String>, object: impl Into<String>) -> Self {
        Self { action: action.into(), object: object.into(), before: None, after: None }
    }

    /// What was before, as text.
    pub fn before(self, text: impl Into<String>) -> Self {
        Self { before: Some(text.into()), ..self }
    }

    /// What is after, as text.
    pub fn after(self, text: impl Into<String>) -> Self {
        Self { after: Some(text.into()), ..self }
    }

    /// The same where there was, or is, nothing.
    pub(super) fn changing(self, before: Option<String>, after: Option<String>) -> Self {
        Self { before, after, ..self }
    }

    /// That it failed.
    pub(super) fn failed(&self, error: String) -> Self {
        Self::new(format!("{}.failed", self.action), self.object.clone()).after(error)
    }

    pub(super) fn action(&self) -> &str {
        &self.action
    }

    pub(super) fn object(&self) -> &str {
        &self.object
    }

    pub(super) fn change(&self) -> String {
        change::write(self.before.as_deref(), self.after.as_deref())
    }
}
