//! How hard a subscription tries.

use std::time::Duration;

/// How events are delivered to a subscription.
///
/// ```
/// use ringmain::{Bus, DeliveryMode, Payload, RetryPolicy};
/// use std::time::Duration;
///
/// let bus = Bus::builder().build()?;
/// let retry = RetryPolicy::default().delays(Duration::from_millis(1), Duration::from_millis(10));
/// let mut failures = 2;
/// let _picky = bus.subscribe("orders.*").mode(DeliveryMode::reliable()).retry(retry).handle(move |_, meta| {
///     if failures > 0 {
///         failures -= 1;
///         return Err(format!("attempt {} of {} failed", meta.attempt(), meta.topic()));
///     }
///     Ok(())
/// })?;
/// bus.publish("orders.placed", Payload::json("{}"))?;
/// bus.flush()?;
/// assert_eq!(bus.ledger().subscriptions.delivered, 1, "at the third attempt");
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DeliveryMode {
    /// One attempt: what fails is counted. The default.
    #[default]
    BestEffort,
    /// Every event is tried until it is acknowledged, has had its attempts, or is rejected; then it is a dead letter. An
    /// event may come more than once, with the same id.
    ///
    /// Each event waits in a cell of its subscription's mailbox, which costs a copy; inline handlers get one too.
    Reliable {
        /// How long an attempt may take, 1 ms to a day; [`Duration::MAX`]: as long as the
        /// [bus says](crate::BusBuilder::attempt_timeout). Whoever has not settled an event by then loses it: it counts as a
        /// failed attempt, and what is said of it later changes nothing. An inline handler cannot be interrupted.
        timeout: Duration,
    },
    /// Only the newest event waits: one that comes while an older one waits takes its place, and the older one is
    /// [superseded](crate::Dropped::superseded). So a consumer that is slow finds what holds now, and
    /// [`skipped`](crate::Delivery::skipped) tells how many it missed. What it has taken is not taken away.
    ///
    /// With [`latest_by`](crate::Subscribe::latest_by) the newest event of each key waits. A newer event waits no longer than
    /// the older one would have, nor than its own priority asks for. It needs a mailbox: an inline handler is never behind.
    ///
    /// ```
    /// use ringmain::{Bus, DeliveryMode, Key, Payload};
    ///
    /// let bus = Bus::builder().build()?;
    /// let mut prices = bus.subscribe("price.*").mode(DeliveryMode::LatestOnly).latest_by(Key::Topic).mailbox()?;
    /// for cents in ["101", "102", "103"] {
    ///     bus.publish("price.tea", Payload::plain_text(cents))?;
    /// }
    /// let price = prices.recv()?;
    /// # let price = if price.payload().text() == Some("103") { price } else { drop(price); prices.recv()? };
    /// println!("{:?}, and {} before it are out of date", price.payload().text(), price.skipped());
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    LatestOnly,
}

impl DeliveryMode {
    /// Reliable delivery with the [bus's time for an attempt](crate::BusBuilder::attempt_timeout), 5 s unless it says otherwise.
    pub const fn reliable() -> Self {
        Self::Reliable { timeout: Duration::MAX }
    }

    /// With `attempt_timeout` where it names none.
    pub(crate) fn or_timeout(self, attempt_timeout: Duration) -> Self {
        match self {
            Self::Reliable { timeout: Duration::MAX } => Self::Reliable { timeout: attempt_timeout },
            mode => mode,
        }
    }
}
