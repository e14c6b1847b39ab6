//! Who published: a kind and a name in one text.

use std::fmt;

/// The agent, module or service that an event comes from, as `kind:id` or any other text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventSource(String);

impl EventSource {
    /// The longest source, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Something that watches files: `filesystem:id`.
    pub fn filesystem(id: &str) -> Self {
        Self(format!("filesystem:{id}"))
    }

    /// A service: `service:id`.
    pub fn service(id: &str) -> Self {
        Self(format!("service:{id}"))
    }

    /// The system itself: `system:id`.
    pub fn system(id: &str) -> Self {
        Self(format!("system:{id}"))
    }

    /// Any text, such as a CloudEvents source.
    pub fn named(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first colon, if there is one.
    pub fn kind(&self) -> Option<&str> {
        self.0.split_once(':').map(|(kind, _)| kind)
    }
}

impl fmt::Display for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for EventSource {
    fn from(text: &str) -> Self {
        Self::named(text)
    }
}
