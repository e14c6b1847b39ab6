//! Every setting of a node that is one value: its names, what it can be, its default, and what it is for.
//!
//! One table serves reading, `ringmain config show`, the guide and hot reload. A setting `a.b_c` is also `RINGMAIN_A_B_C` in
//! the environment; names that other systems gave it stand beside it, and win over earlier ones in the order given.

use std::time::Duration;

use super::value::{Kind, Unit};

/// A setting that is one value.
#[derive(Debug)]
pub struct Setting {
    /// Its name in a file, dots between the levels.
    pub path: &'static str,
    /// Its names in the environment, the strongest first.
    pub environment: &'static [&'static str],
    /// What it can be.
    pub kind: Kind,
    /// What it is when nobody sets it.
    pub default: &'static str,
    /// Whether a running node can take a new value.
    pub reload: Reload,
    /// What it is for.
    pub help: &'static str,
}

/// Whether a running node can take a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// At once, without a restart.
    Live,
    /// Only a restart takes it; a reload that changes it is refused as a whole.
    Restart,
}

macro_rules! settings {
    ($($(#[doc = $help:literal])+ $name:ident: $path:literal, [$($env:literal),*], $kind:expr, $default:literal, $reload:ident;)+) => {
        $(
            $(#[doc = $help])+
            pub static $name: Setting = Setting {
                path: $path,
                environment: &[$($env),*],
                kind: $kind,
                default: $default,
                reload: Reload::$reload,
                help: concat!($($help),+),
            };
        )+

        /// All of them, in the order in which they are shown.
        pub static ALL: &[&Setting] = &[$(&$name),+];
    };
}

const fn whole(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Bytes { min, max }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Time { unit: Unit::Seconds, min: Duration::from_secs(min), max: Duration::from_secs(max) }
}

const fn from_a_millisecond(unit: Unit, max_seconds: u64) -> Kind {
    Kind::Time { unit, min: Duration::from_millis(1), max: Duration::from_secs(max_seconds) }
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

settings! {
    /// Where the event bus is: in this process.
    BUS_TYPE: "events.bus.type", ["EVENT_BUS_TYPE"], Kind::Choice(&["memory"]), "memory", Restart;
    /// Events that each priority holds before a publish waits or is refused.
    BUS_BUFFER_SIZE: "events.bus.buffer_size", ["EVENT_BUS_BUFFER_SIZE", "SKELLY_EVENT_BUS_QUEUE_SIZE"],
        whole(1, 1_000_000), "10000", Restart;
    /// Worker threads; auto takes one for each allowed core, at most 4.
    BUS_WORKERS: "events.bus.workers", ["EVENT_BUS_WORKERS", "SKELLY_EVENT_BUS_WORKERS"],
        Kind::OrAuto(&whole(1, 16)), "auto", Restart;
    /// What a worker does while it has nothing to do.
    BUS_IDLE: "events.bus.idle", [], Kind::Choice(&["busy-spin", "yield", "adaptive", "park"]), "park", Restart;
    /// How long publishing and flushing wait at most, and an attempt of a reliable subscription takes that names no time of its own.
    BUS_DEADLINE: "events.bus.deadline", ["SKELLY_EVENT_BUS_TIMEOUT"], from_a_millisecond(Unit::Seconds, DAY), "5s", Restart;
    /// Bytes that the data of one event has at most.
    BUS_PAYLOAD_BYTES_MAX: "events.bus.payload_bytes_max", [], bytes(1 << 10, 1 << 20), "1MiB", Restart;
    /// A handler that takes longer is named in the log.
    BUS_SLOW_HANDLER: "events.bus.slow_handler_threshold", [], from_a_millisecond(Unit::Milliseconds, HOUR), "50ms", Restart;

    /// Events that a worker takes in one turn.
    PROCESSING_BATCH_SIZE: "events.processing.batch_size", ["EVENT_PROCESSING_BATCH_SIZE"], whole(1, 10_000), "100", Restart;
    /// How long a handler may take.
    PROCESSING_TIMEOUT: "events.processing.timeout", ["EVENT_PROCESSING_TIMEOUT"],
        from_a_millisecond(Unit::Seconds, DAY), "30s", Restart;
    /// How often an event is tried before it is a dead letter.
    RETRY_ATTEMPTS: "events.processing.retry.max_attempts", [], whole(1, 100), "3", Restart;
    /// The longest wait before the second attempt; it doubles with each one.
    RETRY_BACKOFF: "events.processing.retry.backoff", [], from_a_millisecond(Unit::Milliseconds, HOUR), "100ms", Restart;
    /// Dead letters that are kept; beyond it the oldest goes, counted.
    DEAD_LETTERS_MAX: "events.processing.dead_letters_max", [], whole(1, 1_000_000), "5000", Restart;

    /// Where events are kept: in files, in PostgreSQL (feature postgres), or nowhere, which a restart forgets.
    STORE_TYPE: "events.store.type", ["EVENT_STORE_TYPE"], Kind::Choice(&["log", "memory", "postgres"]), "log", Restart;
    /// A file whose text is the URL of the PostgreSQL database; none takes the environment's DATABASE_URL.
    STORE_URL_FILE: "events.store.url_file", [], Kind::OrNone(&Kind::Path), "none", Restart;
    /// The schema of the PostgreSQL database that has the store of this node, and of no other.
    STORE_SCHEMA: "events.store.schema", [], Kind::Text, "ringmain", Restart;
    /// The folder of the store.
    STORE_DATA: "events.store.data", [], Kind::Path, "./ringmain-data", Restart;
    /// Keep room for one more file of state, 32 MiB, so that cursors, dead letters and timers go on where the disk is full.
    STORE_STATE_RESERVE: "events.store.state_reserve", [], Kind::Switch, "true", Restart;
    /// What a publish over the network has when it is answered: written survives a kill of the process, durable a power cut.
    STORE_DURABILITY: "events.store.durability", [], Kind::Choice(&["written", "durable"]), "durable", Live;
    /// Versions of an aggregate between two snapshots, of the program that the node is part of.
    STORE_SNAPSHOTS: "events.store.snapshot_frequency", ["EVENT_STORE_SNAPSHOT_FREQUENCY"], whole(1, 1_000_000), "10", Restart;
    /// Events that are older are compressed into archives, which can still be read.
    STORE_RETENTION: "events.store.retention_days", ["EVENT_STORE_RETENTION_DAYS"],
        Kind::Time { unit: Unit::Days, min: Duration::from_secs(DAY), max: Duration::from_secs(36_500 * DAY) }, "90d", Restart;

    /// Services that can be registered.
    SERVICES_MAX: "core.max_services", [], whole(1, 10_000), "100", Restart;
    /// Time between two checks of a service's health.
    HEALTH_INTERVAL: "core.health_check_interval_s", [], seconds(1, DAY), "30s", Live;
    /// Time between two entries of the metrics' history.
    METRICS_INTERVAL: "core.metrics_interval_s", [], seconds(1, DAY), "60s", Live;
    /// Start a service again that has failed.
    AUTO_RECOVERY: "core.enable_auto_recovery", [], Kind::Switch, "true", Live;
    /// How often a service is started again before it is given up.
    RECOVERY_ATTEMPTS_MAX: "core.max_recovery_attempts", [], whole(0, 1_000), "3", Live;
    /// Say more about what happens inside.
    DEBUG: "core.enable_debug", [], Kind::Switch, "false", Restart;

    /// Where the node listens; port 0 takes a free one.
    HTTP_LISTEN: "http.listen", [], Kind::Address, "127.0.0.1:8080", Restart;
    /// Bytes that the body of a request has at most.
    HTTP_BODY_BYTES_MAX: "http.body_bytes_max", [], bytes(1 << 10, 1 << 30), "4MiB", Restart;
    /// How long the headers of a request may take.
    HTTP_HEADER_TIMEOUT: "http.header_timeout", [], from_a_millisecond(Unit::Seconds, HOUR), "10s", Restart;
    /// How long a client may take nothing of what it is sent, before its connection is closed.
    HTTP_WRITE_TIMEOUT: "http.write_timeout", [], from_a_millisecond(Unit::Seconds, HOUR), "30s", Restart;
    /// How long the body of a request may take.
    HTTP_BODY_TIMEOUT: "http.body_timeout", [], from_a_millisecond(Unit::Seconds, HOUR), "30s", Restart;
    /// Bytes that the bodies of all requests have at one time; those that webhooks are sent may have a quarter as much beside them.
    HTTP_BODIES_BYTES_MAX: "http.bodies_bytes_max", [], bytes(1 << 20, 1 << 40), "64MiB", Restart;
    /// Events that one request publishes at most.
    HTTP_BATCH_MAX: "http.batch_max", [], whole(1, 1_024), "1024", Live;
    /// Requests that one address makes in a second, twice as many at once; further ones are refused.
    HTTP_RATE_MAX: "http.requests_per_second_max", [], Kind::OrNone(&whole(1, 1_000_000)), "none", Live;
    /// Connections at one time.
    HTTP_CONNECTIONS_MAX: "http.connections_max", [], whole(1, 100_000), "2048", Restart;
    /// Events, dead letters or audit records that a page has at most.
    HTTP_PAGE_MAX: "http.page_max", [], whole(1, 100_000), "1000", Live;
    /// Bytes that a page of events, dead letters or audit records has at most, unless a single one has more.
    HTTP_PAGE_BYTES_MAX: "http.page_bytes_max", [], bytes(1 << 10, 1 << 30), "8MiB", Live;
    /// How long a query waits at most for events that are still to come.
    HTTP_WAIT_MAX: "http.wait_max", [], from_a_millisecond(Unit::Seconds, HOUR), "60s", Live;
    /// Queries that wait for events at one time.
    HTTP_WAITING_MAX: "http.waiting_max", [], whole(1, 256), "64", Restart;
    /// Queries that read in the store at one time; one more waits for its turn.
    HTTP_QUERIES_MAX: "http.queries_max", [], whole(1, 128), "16", Restart;
    /// Ids of the latest events that are remembered, so that an event which is sent again is not published again.
    HTTP_KNOWN_IDS_MAX: "http.known_ids_max", [], whole(1, 10_000_000), "65536", Restart;
    /// A file of tokens, one a line; without it whoever can connect may do everything.
    HTTP_TOKEN_FILE: "http.token_file", [], Kind::OrNone(&Kind::Path), "none", Restart;
    /// How long a shutdown waits for what has been accepted.
    SHUTDOWN_DEADLINE: "http.shutdown_deadline", [], from_a_millisecond(Unit::Seconds, HOUR), "10s", Live;

    /// A file with the URL that notifications and alerts are posted to, as JSON.
    NOTIFY_URL_FILE: "notify.url_file", [], Kind::OrNone(&Kind::Path), "none", Restart;
    /// A file with the secret that those are signed with: HMAC-SHA256 in the header x-hub-signature-256.
    NOTIFY_SECRET_FILE: "notify.secret_file", [], Kind::OrNone(&Kind::Path), "none", Restart;
    /// An alert is raised when 95 of 100 deliveries of a minute were not this fast.
    ALERTS_P95: "alerts.p95_objective", [], from_a_millisecond(Unit::Milliseconds, HOUR), "1ms", Restart;

    /// Clients of live streams at one time.
    LIVE_CLIENTS_MAX: "live.clients_max", [], whole(1, 100_000), "1024", Restart;
    /// Patterns that a client of a live stream has at one time.
    LIVE_PATTERNS_MAX: "live.patterns_max", [], whole(1, 10_000), "64", Restart;
    /// Bytes that a message of a client of a live stream has at most.
    LIVE_MESSAGE_BYTES_MAX: "live.message_bytes_max", [], bytes(1 << 10, 1 << 24), "64KiB", Restart;
    /// Newest events that are in memory once for all clients of live streams; one that is further behind is slow.
    LIVE_WINDOW_EVENTS: "live.window_events", [], whole(1, 10_000_000), "8192", Restart;
    /// Bytes that these events may take, with what they are encoded to.
    LIVE_WINDOW_BYTES: "live.window_bytes", [], bytes(1 << 16, 1 << 36), "32MiB", Restart;
    /// What becomes of slow clients that do not say it themselves: they read on in the store, get the newest of each key, or are closed.
    LIVE_SLOW: "live.slow", [], Kind::Choice(&["spill", "conflate", "close"]), "spill", Restart;
    /// Keys that a conflated client has waiting for it.
    LIVE_CONFLATE_KEYS_MAX: "live.conflate_keys_max", [], whole(1, 1_000_000), "1024", Restart;
    /// Bytes that these may take.
    LIVE_CONFLATE_BYTES_MAX: "live.conflate_bytes_max", [], bytes(1 << 10, 1 << 32), "4MiB", Restart;
    /// Events that a reliable client has before it acknowledges some.
    LIVE_UNACKED_MAX: "live.unacked_max", [], whole(1, 1_000_000), "1000", Restart;
    /// Names that reliable clients of one token have; each keeps the events that it has not acknowledged.
    LIVE_NAMES_MAX: "live.names_max", [], whole(1, 100_000), "256", Restart;
    /// How long a client of a live stream may be silent before it is asked whether it is there.
    LIVE_PING_EVERY: "live.ping_every", [], from_a_millisecond(Unit::Seconds, HOUR), "20s", Restart;
    /// How long it may take to answer, or to read what was sent.
    LIVE_ANSWER_MAX: "live.answer_max", [], from_a_millisecond(Unit::Seconds, HOUR), "20s", Restart;
    /// How long a client that is closed may take to read why.
    LIVE_CLOSE_MAX: "live.close_max", [], from_a_millisecond(Unit::Seconds, HOUR), "5s", Restart;

    /// What the names of metrics begin with.
    METRICS_NAMESPACE: "metrics.namespace", [], Kind::Text, "ringmain", Restart;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_default_is_a_value_that_could_be_set() {
        for setting in ALL {
            assert!(setting.kind.parse(setting.default).is_ok(), "{} = {}", setting.path, setting.default);
        }
    }

    #[test]
    fn no_two_settings_share_a_name() {
        let paths: BTreeSet<_> = ALL.iter().map(|setting| setting.path).collect();
        let variables: Vec<_> = ALL.iter().flat_map(|setting| setting.environment).collect();
        assert_eq!(paths.len(), ALL.len());
        assert_eq!(variables.iter().collect::<BTreeSet<_>>().len(), variables.len());
        // A setting is no folder of others.
        for path in &paths {
            assert!(!paths.iter().any(|other| other.starts_with(&format!("{path}."))), "{path}");
        }
    }
}
