//! The bus as a struct of settings, for those who configure from data.

use std::time::Duration;

use crate::delivery::RetryPolicy;

use super::{BuildError, Bus, BusBuilder, FullPolicy};

/// Settings of a bus. `Default` is what [`Bus::builder`] starts from, and builds the same bus.
///
/// ```
/// use ringmain::{EventBusConfig, create_event_bus_with_config};
/// let bus = create_event_bus_with_config(EventBusConfig { max_queue_size: 20_000, ..EventBusConfig::default() })?;
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBusConfig {
    /// Events of one priority that may wait before publishers are refused. Default 10,000.
    pub max_queue_size: usize,
    /// How long a publish waits at a full lane, an attempt of a reliable subscription may take unless it says so itself, and flush and
    /// shutdown wait for their work; 1 ms to a day. Default 5 s.
    pub delivery_timeout: Duration,
    /// Attempts of a reliable subscription at an event, the first among them, 1 to 100. Default 3.
    pub max_retry_attempts: u8,
    /// Dead letters kept. Default 5,000.
    pub dead_letter_queue_size: usize,
    /// How often metrics are sampled. Default 5 s. Takes effect with the node.
    pub metrics_interval: Duration,
    /// A handler that takes longer is reported. Default 50 ms.
    pub slow_handler_threshold: Duration,
    /// How long a handler may have an event, unless its subscription says so itself. Default 30 s.
    pub handler_timeout: Duration,
}

impl Default for EventBusConfig {
    fn default() -> Self {
        Self {
            max_queue_size: 10_000,
            delivery_timeout: Duration::from_secs(5),
            max_retry_attempts: 3,
            dead_letter_queue_size: 5_000,
            metrics_interval: Duration::from_secs(5),
            slow_handler_threshold: Duration::from_millis(50),
            handler_timeout: Duration::from_secs(30),
        }
    }
}

impl From<EventBusConfig> for BusBuilder {
    fn from(config: EventBusConfig) -> Self {
        Bus::builder()
            .max_queue_size(config.max_queue_size)
            .deadline(config.delivery_timeout)
            .when_full(FullPolicy::wait(config.delivery_timeout))
            .slow_handler_threshold(config.slow_handler_threshold)
            .handler_timeout(config.handler_timeout)
            .attempt_timeout(config.delivery_timeout)
            .retry(RetryPolicy::default().attempts_max(config.max_retry_attempts))
            .dead_letters_max(config.dead_letter_queue_size)
    }
}

/// A bus with all defaults.
///
/// # Errors
/// As [`BusBuilder::build`].
pub fn create_event_bus() -> Result<Bus, BuildError> {
    create_event_bus_with_config(EventBusConfig::default())
}

/// A bus with these settings.
///
/// # Errors
/// As [`BusBuilder::build`].
pub fn create_event_bus_with_config(config: EventBusConfig) -> Result<Bus, BuildError> {
    BusBuilder::from(config).build()
}
