//! A durable map from keys to bytes, for what cannot be rebuilt from the events: snapshots, cursors, dead letters, timers,
//! sagas. It is the segmented [log](super::log) once more, which is compacted in place of being kept.
//!
//! ```text
//!   apply(changes) ──► one batch of records ──► Committer ──► log:  oldest segment │ segment │ ... │ last segment
//!        │                                                          ▲     │                              ▲
//!        ▼ once it is written, by position                          │     └── what is still live ────────┘
//!   index in memory:  kind ──► key ──► position, value up to 256 bytes   then a sync, and the segment is removed
//!
//!   record:  kind PUT or REMOVE │ lane: kind of key │ flags: bytes of key │ body: value, then key
//! ```
//!
//! * **In memory** is every key, and every value of 256 bytes or less. Cursors and timers are read all at once when a
//!   process starts and changed often: reading them costs no disk. Snapshots and dead letters may be megabytes, and are read
//!   one at a time: of them only the position is kept, and the log is read. The value comes first in a record, so that it is
//!   aligned to 16 bytes when it is read.
//! * **A page** of keys is what the table held at one moment: the index says at once where all its values are, and what is
//!   written never changes. Where compaction has removed one meanwhile, the page is read again.
//! * **Order.** The last record of a key is what holds. Changes are applied to the index by their position in the log,
//!   whatever order their threads come back in.
//! * **Compaction** reads the oldest segment, appends the records in it that are still the last of their keys once more,
//!   syncs, and removes the segment. While a part is copied, no change is on its way: so a copy never stands behind a later
//!   change of its key, and the order of a key's records stays the order of its changes.
//! * **Removed stays removed.** A removal is a record, and holds as long as it is in the log. It is never copied: segments go
//!   oldest first, each one durably before the next, and all older records of its key are in its own segment or in those
//!   that went before.
//! * **Nothing is lost.** A segment goes after everything written is durable: what made its records dead, and their copies.
//! * **Space.** Compaction is due while more bytes are dead than live and a segment. Then who changes something pays for four
//!   times the bytes: reads so many of the oldest segment. So the records take at most 2.5 times the bytes that were live at
//!   most, and four segments. There is no thread for it, and a change never waits for more than its share, one write of
//!   others, and a sync where a segment ends.
//! * **Damage** is said when the table is opened, and holds compaction until it is accepted: nothing that might be needed
//!   to mend it is removed before.

mod change;
mod compact;
mod error;
mod index;
mod open;
mod options;
mod read;
#[expect(clippy::module_inception, reason = "it is the table itself, among its parts")]
mod table;

pub use super::state::PageRoom;
pub use error::{ChangeError, CompactError, OpenError};
pub use open::Opened;
pub use options::TableOptions;
pub use table::{Table, TableStats};
