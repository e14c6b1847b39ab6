//! What a node tells Prometheus, in the text format 0.0.4.
//!
//! With the namespace `mcp` the four metrics by type of event have the names that other systems gave them:
//! `mcp_events_published_total{event_type}`, `mcp_events_processed_total{event_type, handler, status}`,
//! `mcp_event_processing_duration_seconds{event_type, handler}` and `mcp_event_queue_depth{queue_name}`. Their buckets begin at a
//! millisecond; what is faster is in the quantiles of `event_latency_seconds`, by stage and priority.
//!
//! Labels are bounded: what there is no room for is counted together as `other`.

mod events;
mod expose;
mod text;

pub use self::events::{EventMetrics, OTHER, Timed};
pub use self::expose::{Exposed, SUBSCRIPTIONS_MAX};
pub use self::text::{Exposition, Kind};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
