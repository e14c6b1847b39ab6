//! The segmented log: the one truth of the durable store. It knows no event; a record's body is bytes.
//!
//! ```text
//!  commit   many threads hand in batches, one write and one sync serve all that came meanwhile
//!  group    batches that are written together     gate     who decides on a batch when its turn has come
//!  log      append, sync, roll, retire          reader   from a position on, beside appending
//!                                               lookup   one record, where it lies
//!  grow     how a log gets room: segments go on, are sealed, are begun
//!  reserve  room for one more, for a disk that is full    condition  how it is, for who does not wait
//!  open     what is in the folder, where it goes on, what is damaged, what was never acknowledged
//!  scan     one segment from its begin          walk     from record to record, over damage to the next
//!  segment  a file: header, records, seal       record   64 bytes of header, a body
//!  file     short writes and interruptions      disk     what the log needs of a disk; the real one
//!  files    so many are kept open for reading   archive  a segment, compressed block by block
//!  still    the log at one moment, for a copy
//!  sim      a disk in memory that fails on demand and shows what power loss may leave
//! ```
//!
//! What each part may rely on: a segment with a successor was synced before the successor was made; a folder is synced
//! after each file that is made or removed in it; nothing is written before what was there when the log was opened is
//! durable; after a write or sync that failed nothing is written.

mod archive;
mod archiving;
mod batch;
mod commit;
mod condition;
mod disk;
mod error;
mod file;
mod files;
mod gate;
mod group;
mod grow;
mod inflated;
#[expect(clippy::module_inception, reason = "it is the log itself, among its parts")]
mod log;
mod lookup;
mod open;
mod options;
mod reader;
mod record;
mod reserve;
mod retire;
mod scan;
mod segment;
pub mod sim;
mod still;
mod ticket;
mod walk;

pub use batch::{Batch, BodyTooLong, NewRecord};
pub use commit::{Append, CommitOptions, Committer, Word};
pub use disk::{Access, Boot, Disk, DiskFile, FolderLock, RealDisk};
pub use error::{AppendError, CommitError, OpenError, ReadError, RetireError, SyncError};
pub use file::Fault;
pub(in crate::store) use file::{File, retried, sync_folder};
pub(in crate::store) use files::OpenFiles;
pub use gate::{Gate, Placed};
pub use log::{Log, SegmentInfo};
pub use lookup::Lookup;
pub use open::Recovered;
pub use options::{LogOptions, OptionOutOfRange};
pub use reader::{LogReader, Record};
pub use record::{ALIGN, Cause, HEADER_BYTES, Header, Kind, VERSION};
pub(in crate::store) use retire::remove;
pub(in crate::store) use still::Still;
pub use ticket::Pending;
pub use walk::Damage;

/// Whether this is the name of a file of a log: of a segment, of its archive, or its reserve.
pub(in crate::store) fn is_file_of_log(name: &str) -> bool {
    name == reserve::RESERVE || segment::first_of(name).or(archive::first_of(name)).is_some()
}
