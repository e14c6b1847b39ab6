//! The long prose: read it here, or as Markdown beside the source.

#[doc = include_str!("tour.md")]
pub mod tour {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("delivery.md")]
pub mod delivery {}

#[doc = include_str!("routing.md")]
pub mod routing {}

#[doc = include_str!("limits.md")]
pub mod limits {}

#[cfg(feature = "sourcing")]
#[doc = include_str!("store.md")]
pub mod store {}

#[cfg(feature = "daemon")]
#[doc = include_str!("node.md")]
pub mod node {}

#[cfg(feature = "daemon")]
#[doc = include_str!("services.md")]
pub mod services {}

#[cfg(feature = "daemon")]
#[doc = include_str!("live.md")]
pub mod live {}

#[doc = include_str!("memory_model.md")]
pub mod memory_model {}

#[doc = include_str!("verification.md")]
pub mod verification {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}
