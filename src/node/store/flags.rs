//! The flags of `ringmain store`, and its help.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::super::args::LineFlags;
use super::super::client::Where;
use super::help;
use super::values::{Place, age, aggregate, moment, place, position, rate};
use crate::store::{Durability, LogStore, LogStoreBuilder, Position, Query, Retention};
use crate::{EventId, Pattern};

/// The commands of `ringmain store`.
#[derive(Debug, Clone, Subcommand)]
pub enum Store {
    /// Append every line of stdin as an event; the folder is made if it is not there
    ///
    /// Lines are read as `ringmain pipe` reads them. What is there to be read is appended together: one write, one sync.
    #[command(after_long_help = help::APPEND_HELP, after_help = "`ringmain store append --help` has examples.")]
    Append(Append),
    /// Write the events that match to stdout, each as a line of CloudEvents 1.0 JSON with its `position`
    #[command(after_long_help = help::QUERY_HELP, after_help = "`ringmain store query --help` has examples.")]
    Query(Find),
    /// Write the events that match to stdout or a file, to be imported elsewhere
    ///
    /// A line has all that an event is: its id, time, metadata, aggregate, schema version and payload of any encoding. It
    /// has no position, for the store that imports it gives its own. What is not in it: an event's deadline, its earliest
    /// delivery, its targets and its attempts, which say how it was to be delivered once.
    #[command(after_long_help = help::EXPORT_HELP, after_help = "`ringmain store export --help` has examples.")]
    Export(Export),
    /// Append every line of a file or of stdin, as `append` does, but for events that are there already; one sync at the end
    #[command(after_long_help = help::IMPORT_HELP, after_help = "`ringmain store import --help` has examples.")]
    Import(Import),
    /// Say how many events there are, from when, and how many bytes they have before compression
    #[command(after_long_help = help::STATS_HELP, after_help = "`ringmain store stats --help` has examples.")]
    Stats(Stats),
    /// Read every event and every snapshot, and say what cannot be read; exit code 0 when all can
    #[command(after_long_help = help::VERIFY_HELP, after_help = "`ringmain store verify --help` has examples.")]
    Verify(Verify),
    /// Compress the files of old events, or remove them for good
    ///
    /// It is done to files as a whole: to one whose every event is old, never to the newest. Compressed events are found as
    /// before, slower. No other command does it by itself.
    #[command(after_long_help = help::ARCHIVE_HELP, after_help = "`ringmain store archive --help` has examples.")]
    Archive(Archive),
    /// Write past events to stdout once more, marked as a replay, as fast as asked for
    #[command(after_long_help = help::REPLAY_HELP, after_help = "`ringmain store replay --help` has examples.")]
    Replay(Replay),
    /// Make the folder `table` smaller: snapshots, and state beside the events such as cursors and dead letters
    #[command(after_long_help = help::COMPACT_HELP, after_help = "`ringmain store compact --help` has examples.")]
    Compact(Compact),
    /// Draw which event of a correlation caused which
    #[command(after_long_help = help::CAUSATION_HELP, after_help = "`ringmain store causation --help` has examples.")]
    Causation(Causation),
}

/// Which store.
#[derive(Debug, Clone, Args)]
pub struct Data {
    /// The folder of the store; no other process may have it open
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// The flags of `ringmain store append`.
#[derive(Debug, Clone, Args)]
pub struct Append {
    /// The store.
    #[command(flatten)]
    pub store: Data,

    /// How lines are read.
    #[command(flatten)]
    pub lines: LineFlags,

    /// Limits of the store.
    #[command(flatten)]
    pub limits: Limits,

    /// Write the id of each event to stdout, a line each in the order of the input, once it is as durable as asked for
    #[arg(long)]
    pub ack: bool,

    /// What an event must survive before it counts as appended: `written` the end of the process, `durable` the loss of power
    #[arg(long, value_name = "WORD", value_enum, default_value_t)]
    pub durability: Word,
}

/// The flags that set limits of a store that is written to.
#[derive(Debug, Clone, Copy, Args)]
pub struct Limits {
    /// Begin a new file after so many bytes, which are reserved on the disk when it is begun; a multiple of 16, from 8 MiB
    /// to 4 GiB
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, requires = "data", value_parser = clap::value_parser!(u64).range(8 << 20..=4 << 30))]
    pub segment_bytes: u64,
}

impl Limits {
    /// A store with these limits.
    pub fn builder(&self, folder: &Path) -> LogStoreBuilder {
        // A line is far shorter than half a segment.
        let half = u32::try_from(self.segment_bytes / 2).unwrap_or(u32::MAX);
        let builder = LogStore::builder(folder).retention(Retention::forever());
        builder.segment_bytes(self.segment_bytes).event_bytes_max(half.min(16 << 20))
    }
}

/// What an event must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Word {
    /// `kill -9`
    Written,
    /// The loss of power
    #[default]
    Durable,
}

impl From<Word> for Durability {
    fn from(word: Word) -> Self {
        match word {
            Word::Written => Self::Written,
            Word::Durable => Self::Durable,
        }
    }
}

/// Which events.
#[derive(Debug, Clone, Args)]
pub struct Filter {
    /// Of a type that matches PATTERN: `*` is one segment, `**` any number
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::new)]
    pub on: Option<Pattern>,

    /// Of this source
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub source: Option<String>,

    /// Of this correlation, a UUID
    #[arg(long, value_name = "ID")]
    pub correlation: Option<EventId>,

    /// Of this aggregate
    #[arg(long, value_name = "KIND/ID", value_parser = aggregate)]
    pub aggregate: Option<(String, String)>,

    /// Behind this position: where an earlier query ended
    #[arg(long, value_name = "POSITION", value_parser = position)]
    pub after: Option<Position>,

    /// Created at this time or later (what `pipe --data` keeps: when it passed), as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<SystemTime>,

    /// Created before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<SystemTime>,
}

impl Filter {
    /// What the flags ask for.
    pub fn query(&self) -> Query {
        let mut query = Query::new();
        if let Some(pattern) = &self.on {
            query = query.pattern(pattern.clone());
        }
        if let Some(source) = &self.source {
            query = query.source(source);
        }
        if let Some(id) = self.correlation {
            query = query.correlation(id);
        }
        if let Some((kind, id)) = &self.aggregate {
            query = query.aggregate(kind, id);
        }
        if let Some(position) = self.after {
            query = query.behind(position);
        }
        if let Some(time) = self.since {
            query = query.created_from(time);
        }
        if let Some(time) = self.until {
            query = query.created_before(time);
        }
        query
    }
}

/// The flags of `ringmain store query`.
#[derive(Debug, Clone, Args)]
pub struct Find {
    /// The store, or the node.
    #[command(flatten)]
    pub place: Where,

    /// Which events.
    #[command(flatten)]
    pub filter: Filter,

    /// The latest first; --after then means before that position
    #[arg(long)]
    pub newest_first: bool,

    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// The flags of `ringmain store export`.
#[derive(Debug, Clone, Args)]
pub struct Export {
    /// The store.
    #[command(flatten)]
    pub store: Data,

    /// Which events.
    #[command(flatten)]
    pub filter: Filter,

    /// Write to FILE, which must not be there yet [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The flags of `ringmain store import`.
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// The store.
    #[command(flatten)]
    pub store: Data,

    /// How lines are read.
    #[command(flatten)]
    pub lines: LineFlags,

    /// Limits of the store.
    #[command(flatten)]
    pub limits: Limits,

    /// Append every line, also events that the store has already
    #[arg(long)]
    pub all: bool,

    /// Remember at most so many ids, of the store and of lines; where there are more, nothing more is imported
    #[arg(long, value_name = "N", default_value_t = 50_000_000, conflicts_with = "all")]
    pub ids_max: usize,

    /// The file to read [default: stdin]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// The flags of `ringmain store stats`.
#[derive(Debug, Clone, Args)]
pub struct Stats {
    /// The store.
    #[command(flatten)]
    pub store: Data,

    /// Write one line of JSON instead of the table
    #[arg(long)]
    pub json: bool,
}

/// The flags of `ringmain store verify`.
#[derive(Debug, Clone, Args)]
pub struct Verify {
    /// The store.
    #[command(flatten)]
    pub store: Data,
}

/// The flags of `ringmain store archive`.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("removes").multiple(true)))]
pub struct Archive {
    /// The store.
    #[command(flatten)]
    pub store: Data,

    /// Compress events of this age: a number and `d`, `h`, `m` or `s`
    #[arg(long, value_name = "AGE", default_value = "90d", value_parser = age)]
    pub older_than: Duration,

    /// Remove events of this age for good, but for those that somebody who reads on has not come to, and those that an
    /// aggregate is made of and no snapshot has
    #[arg(long, value_name = "AGE", value_parser = age, group = "removes")]
    pub remove_older_than: Option<Duration>,

    /// Remove the oldest events for good while there are more than so many bytes of events, as they were before compression;
    /// but for the same
    #[arg(long, value_name = "BYTES", group = "removes")]
    pub max_bytes: Option<u64>,

    /// Of what is to be removed, remove events of this age also where somebody has not come to them
    #[arg(long, value_name = "AGE", value_parser = age, requires = "removes")]
    pub remove_unread_older_than: Option<Duration>,

    /// Of what is to be removed, remove the oldest events also where somebody has not come to them, while there are more than
    /// so many bytes of events
    #[arg(long, value_name = "BYTES", requires = "removes")]
    pub max_unread_bytes: Option<u64>,

    /// Of what is to be removed, remove also events that an aggregate is made of and no snapshot has; it can no longer be loaded
    #[arg(long, requires = "removes")]
    pub remove_unsnapshotted: bool,

    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

impl Archive {
    /// What the flags ask for.
    pub fn retention(&self) -> Retention {
        let mut retention = Retention::forever().archive_after(self.older_than);
        if let Some(age) = self.remove_older_than {
            retention = retention.remove_after(age);
        }
        if let Some(bytes) = self.max_bytes {
            retention = retention.bytes_max(bytes);
        }
        if let Some(age) = self.remove_unread_older_than {
            retention = retention.remove_unread_after(age);
        }
        if let Some(bytes) = self.max_unread_bytes {
            retention = retention.unread_bytes_max(bytes);
        }
        if self.remove_unsnapshotted {
            retention = retention.remove_unsnapshotted();
        }
        retention
    }
}

/// The flags of `ringmain store replay`.
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// The store.
    #[command(flatten)]
    pub store: Data,

    /// From this position on, or from events created at this time on, as `2026-01-31T12:00:00Z` [default: all]
    #[arg(long, value_name = "PLACE", value_parser = place)]
    pub from: Option<Place>,

    /// Up to this position and with it, or up to events created before this time [default: all there are when it begins]
    #[arg(long, value_name = "PLACE", value_parser = place)]
    pub to: Option<Place>,

    /// Of a type that matches PATTERN: `*` is one segment, `**` any number
    #[arg(long = "type", value_name = "PATTERN", value_parser = Pattern::new)]
    pub pattern: Option<Pattern>,

    /// At most so many events a second [default: as fast as they are read]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub rate: Option<f64>,

    /// Only say how many events it would be, and how long it would take
    #[arg(long)]
    pub dry_run: bool,
}

impl Replay {
    /// What the flags ask for.
    pub fn query(&self) -> Query {
        let query = self.pattern.iter().fold(Query::new(), |query, pattern| query.pattern(pattern.clone()));
        let query = self.from.map_or(query.clone(), |from| from.begin(query));
        self.to.map_or(query.clone(), |to| to.end(query))
    }
}

/// The flags of `ringmain store compact`.
#[derive(Debug, Clone, Args)]
pub struct Compact {
    /// The store.
    #[command(flatten)]
    pub store: Data,

    /// Give up for good what cannot be read of snapshots and state
    #[arg(long)]
    pub accept_damage: bool,
}

/// The flags of `ringmain store causation`.
#[derive(Debug, Clone, Args)]
pub struct Causation {
    /// The store.
    #[command(flatten)]
    pub store: Data,

    /// The correlation, a UUID
    #[arg(value_name = "ID")]
    pub correlation: EventId,
}

#[cfg(test)]
mod tests;
