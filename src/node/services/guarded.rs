//! Awaits what a service does: not longer than it may take, and without its panic.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::Work;
use crate::sync::contain::contained;

/// What the work comes to.
///
/// # Errors
/// That it panicked, or took longer than `limit`; it is dropped then.
pub(super) async fn guarded<'w, T>(limit: Duration, begin: impl FnOnce() -> Work<'w, T>) -> Result<T, String> {
    let panicked = || Err("it panicked".to_owned());
    let Some(mut work) = contained(begin) else { return panicked() };
    let work = poll_fn(|context| match contained(|| work.as_mut().poll(context)) {
        Some(polled) => polled.map(Ok),
        None => Poll::Ready(panicked()),
    });
    timeout(limit, work).await.unwrap_or_else(|_| Err(format!("it took longer than {limit:?}")))
}
