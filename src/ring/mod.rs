//! Where events wait: lanes of fixed slots, blocks for what does not fit a slot, cells in front of a pull subscriber.
//!
//! This floor moves bytes and knows no event. All memory is reserved when a structure is made; afterwards nothing is
//! allocated and no lock is taken.
//!
//! ```text
//!   publishers ──claim──► lane 0 ▓▓▓▓░░░░░░   one broadcast ring a priority; every worker
//!                         lane 1 ▓▓░░░░░░░░   reads every slot with a cursor of its own,
//!                         lane 2 ▓▓▓▓▓▓▓░░░   and a slot is reused when the slowest
//!                         lane 3 ░░░░░░░░░░   active worker has passed it
//! ```

mod attempts;
mod broadcast;
mod cells;
mod claim;
mod custody;
mod gate;
mod go_on;
mod keyed;
mod latest;
mod memory;
mod order;
mod pool;
mod reader;
mod slot;
#[cfg(feature = "stall")]
pub mod stall;
mod wants;

pub use attempts::{
    ATTEMPTS_MAX, Arrival, Attempt, AttemptWords, Attempts, Overdue, RELEASES_MAX, Returned, Returns, Tried,
    WAIT_MAX_NS,
};
pub use broadcast::{LANES, Lanes, LanesLayout};
pub use cells::{Cells, Feeder, Taken};
pub use claim::{Claimant, Draft, Frame, LaneFull, Rest, Room};
pub use custody::{Custody, Open};
pub use gate::Gate;
pub use go_on::go_on;
pub use keyed::Keyed;
pub use latest::{LatestFeeder, Put, PutError};
pub use memory::{HugePages, OutOfMemory, Pages, Piece, probe};
pub use order::{DrainOrder, Serve};
pub use pool::{Block, Pool, PoolClass};
pub use reader::{Reader, Slot};
pub use slot::{HEAD_BYTES, HEAD_WORDS, Head, STAMP_BYTES};
pub use wants::{WORKERS_MAX, Wants};
