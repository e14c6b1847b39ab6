//! Services that every node can have: where events come from, and what is done with them.
//!
//! | service | takes events | gives events |
//! |---|---|---|
//! | [`FilesystemWatcher`] | - | `filesystem.*` |
//! | [`WebhookIngress`] | - | `external.webhook.*`, by HTTP |
//! | [`TaskQueue`] | `task.created` | `task.queued`, `task.completed`, `task.failed` |
//! | [`Notifier`] | any | - |
//! | [`AuditLogger`] | any | - |
//! | [`MetricsCollector`] | any, counted by type | - |

mod audit;
mod collector;
mod notifier;
mod post;
mod set;
mod signature;
mod tasks;
pub mod watcher;
mod webhook;

pub use self::audit::AuditLogger;
pub(in crate::node) use self::collector::Sampler;
pub use self::collector::{
    CollectorOptions, LaneSample, MetricsCollector, MetricsSample, Quantiles, Samples, TypeCount,
};
pub use self::notifier::{LogLine, Notifier, NotifierOptions, to_stderr};
pub use self::post::{PostError, PostTarget, Poster};
pub use self::set::{Builtins, BuiltinsError};
pub use self::signature::{SIGNATURE_HEADER, Secret};
pub use self::tasks::{Task, TaskOptions, TaskQueue, TaskQueueCounts, TaskWork};
pub use self::watcher::{FilesystemWatcher, WatcherOptions};
pub use self::webhook::{Webhook, WebhookError, WebhookIngress, WebhookOptions};
