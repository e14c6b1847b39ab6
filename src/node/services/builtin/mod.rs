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

pub mod watcher;

pub use self::watcher::{FilesystemWatcher, WatcherOptions};
