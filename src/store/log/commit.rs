//! Group commit: many threads and tasks hand in batches, one of them at a time writes and syncs for all that came meanwhile.
//!
//! A thread of its own does it while there is more than one caller at once. A caller that blocks and finds nobody at it does
//! it itself, which saves two changes of threads where there is one writer.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::batch::Batch;
use super::condition::Condition;
use super::error::{CommitError, SyncError};
use super::file::Fault;
use super::gate::{Gate, Placed};
use super::group::{Job, commit};
use super::log::Log;
use super::lookup::Lookup;
use super::reader::LogReader;
use super::ticket::{Outcome, Pending, pair};

/// Bytes of batches that one write takes, if a single batch is not longer.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Without a batch for so long, the end of the log is marked as durable.
const QUIET: Duration = Duration::from_millis(5);

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// It survives the death of the process.
    Written,
    /// It survives power loss, as far as the disk is honest.
    Durable,
}

/// Limits of a [`Committer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitOptions {
    /// Bytes of batches that may wait. Default 64 MiB. A batch is always let in where nothing waits.
    pub queue_bytes_max: usize,
}

impl Default for CommitOptions {
    fn default() -> Self {
        Self { queue_bytes_max: 64 << 20 }
    }
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// Somebody writes and syncs.
    is_led: bool,
    is_closed: bool,
    /// Tasks that wait for room.
    wakers: Vec<Waker>,
    /// Threads that wait for room.
    waiting: usize,
    /// Groups so far, and those after which the disk was told up to where all is durable.
    groups: u64,
    marked: u64,
    /// The committer's own thread sleeps until it is woken.
    is_asleep: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// The committer's own thread waits here for work.
    work: Condvar,
    /// Callers wait here for room.
    room: Condvar,
    log: Mutex<Log>,
    options: CommitOptions,
}

/// Appends to a log from any thread. Positions follow the order in which batches were handed in.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    reader: LogReader,
    condition: Arc<Condition>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Takes a log, and a thread for it.
    ///
    /// # Errors
    /// What the system says if it has no thread.
    pub fn start(log: Log, options: CommitOptions) -> io::Result<Self> {
        let (reader, condition) = (log.read(1), Arc::clone(&log.condition));
        let (queue, work, room) = (Mutex::default(), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { queue, work, room, log: Mutex::new(log), options });
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("ringmain-commit".into()).spawn(move || own.run())?;
        Ok(Self { shared, reader, condition, thread: Some(thread) })
    }

    /// Appends a batch and blocks until it is as asked; says where it lies.
    ///
    /// # Errors
    /// [`CommitError`], not `Busy`: it waits for room.
    pub fn append(&self, batch: Batch, word: Word) -> Result<Placed, CommitError> {
        self.append_through(None, batch, word)
    }

    /// As [`append`](Self::append), if its gate lets the batch in.
    ///
    /// # Errors
    /// [`CommitError`], not `Busy`; [`CommitError::Refused`] with what the gate says.
    pub fn append_gated(&self, gate: Box<dyn Gate>, batch: Batch, word: Word) -> Result<Placed, CommitError> {
        self.append_through(Some(gate), batch, word)
    }

    fn append_through(&self, gate: Option<Box<dyn Gate>>, batch: Batch, word: Word) -> Result<Placed, CommitError> {
        let mut queue = self.shared.wait_for_room(&batch)?;
        let pending = queue.push(gate, batch, word);
        if queue.is_led {
            drop(queue);
        } else {
            // All that waits is this batch and what came before it.
            while !queue.is_led && !queue.jobs.is_empty() {
                queue = self.shared.lead(queue);
                if pending.is_done() {
                    break;
                }
            }
            let is_left = (!queue.jobs.is_empty() && !queue.is_led) || queue.is_asleep;
            drop(queue);
            if is_left {
                self.shared.work.notify_one();
            }
        }
        pending.wait()
    }

    /// Hands a batch in; blocks only while there is no room for it.
    ///
    /// # Errors
    /// [`CommitError::Closed`].
    pub fn submit(&self, batch: Batch, word: Word) -> Result<Pending, CommitError> {
        let queue = self.shared.wait_for_room(&batch)?;
        Ok(self.shared.push(queue, None, batch, word))
    }

    /// As [`submit`](Self::submit); the gate is asked when the batch's turn has come.
    ///
    /// # Errors
    /// [`CommitError::Closed`].
    pub fn submit_gated(&self, gate: Box<dyn Gate>, batch: Batch, word: Word) -> Result<Pending, CommitError> {
        let queue = self.shared.wait_for_room(&batch)?;
        Ok(self.shared.push(queue, Some(gate), batch, word))
    }

    /// Hands a batch in, without blocking.
    ///
    /// # Errors
    /// [`CommitError::Busy`], with the batch.
    pub fn try_submit(&self, batch: Batch, word: Word) -> Result<Pending, (CommitError, Batch)> {
        let queue = self.shared.queue();
        match self.shared.refuses(&queue, &batch) {
            Some(error) => Err((error, batch)),
            None => Ok(self.shared.push(queue, None, batch, word)),
        }
    }

    /// Hands a batch in, waiting for room, and waits until it is as asked. It is handed in when it is first polled and there
    /// is room.
    pub fn append_async(&self, batch: Batch, word: Word) -> Append<'_> {
        Append { shared: &self.shared, state: Stage::Entering(batch, word) }
    }

    /// A reader from a position on.
    pub fn read(&self, from: u64) -> LogReader {
        self.reader.from(from)
    }

    /// Reads single records.
    pub fn lookup(&self) -> Lookup {
        self.reader.lookup()
    }

    /// Why nothing more is appended, if so. Waits for nothing.
    pub fn fault(&self) -> Option<&Fault> {
        self.condition.fault()
    }

    /// Whether all the room for one more segment is known to be set aside. Waits for nothing.
    pub fn has_reserve(&self) -> bool {
        self.condition.has_reserve()
    }

    /// The log, for what is not appending. Waits for the write or sync that is under way, and holds up the next.
    pub fn log(&self) -> impl DerefMut<Target = Log> + '_ {
        self.shared.log()
    }

    /// Makes all that is written durable, and says so on the disk: what is damaged later is not taken for a write that power
    /// loss cut short.
    ///
    /// # Errors
    /// [`SyncError`]: nothing more is appended until the log is opened again.
    pub fn sync(&self) -> Result<(), SyncError> {
        let mut log = self.log();
        log.sync()?;
        log.mark_durable();
        Ok(())
    }

    /// Commits what was handed in, makes all of it durable, and ends.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn close(mut self) -> Result<(), SyncError> {
        self.stop();
        self.sync()
    }

    fn stop(&mut self) {
        self.shared.queue().is_closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of its thread has told everybody who waited.
            drop(thread.join());
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop();
        self.shared.log().mark_durable();
    }
}

impl Queue {
    fn push(&mut self, gate: Option<Box<dyn Gate>>, batch: Batch, word: Word) -> Pending {
        let (ticket, pending) = pair();
        self.bytes += batch.extent_bytes();
        self.jobs.push_back(Job { batch, word, gate, ticket });
        pending
    }

    /// The oldest jobs, as many as one write takes.
    fn take_group(&mut self) -> Vec<Job> {
        let mut bytes = 0;
        let fits = |job: &&Job| {
            let is_first = bytes == 0;
            bytes += job.batch.extent_bytes();
            is_first || bytes <= GROUP_BYTES_MAX
        };
        let jobs = self.jobs.iter().take_while(fits).count();
        let group: Vec<Job> = self.jobs.drain(..jobs).collect();
        self.bytes -= group.iter().map(|job| job.batch.extent_bytes()).sum::<usize>();
        group
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuses(&self, queue: &Queue, batch: &Batch) -> Option<CommitError> {
        if queue.is_closed {
            return Some(CommitError::Closed);
        }
        let (waiting_bytes, max) = (queue.bytes, self.options.queue_bytes_max);
        let is_full = !queue.jobs.is_empty() && waiting_bytes + batch.extent_bytes() > max;
        is_full.then_some(CommitError::Busy { waiting_bytes, max })
    }

    fn wait_for_room(&self, batch: &Batch) -> Result<MutexGuard<'_, Queue>, CommitError> {
        let mut queue = self.queue();
        loop {
            match self.refuses(&queue, batch) {
                None => return Ok(queue),
                Some(CommitError::Busy { .. }) => {
                    queue.waiting += 1;
                    queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    queue.waiting -= 1;
                }
                Some(error) => return Err(error),
            }
        }
    }

    /// Hands in for the committer's own thread.
    fn push(&self, mut queue: MutexGuard<'_, Queue>, gate: Option<Box<dyn Gate>>, batch: Batch, word: Word) -> Pending {
        let pending = queue.push(gate, batch, word);
        let is_alone = !queue.is_led && queue.jobs.len() == 1;
        drop(queue);
        if is_alone {
            self.work.notify_one();
        }
        pending
    }

    /// The thread: does what nobody else does.
    fn run(&self) {
        let mut queue = self.queue();
        loop {
            if !queue.is_led && !queue.jobs.is_empty() {
                queue = self.lead(queue);
            } else if queue.is_closed && !queue.is_led {
                return;
            } else if queue.groups > queue.marked {
                let groups = queue.groups;
                queue = self.work.wait_timeout(queue, QUIET).unwrap_or_else(PoisonError::into_inner).0;
                if queue.groups == groups && queue.jobs.is_empty() && !queue.is_led {
                    queue.marked = groups;
                    queue = self.lead(queue);
                }
            } else {
                queue.is_asleep = true;
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.is_asleep = false;
            }
        }
    }

    /// Commits one group, and lets others hand in meanwhile. Where nothing waits, it marks what is durable.
    fn lead<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let group = queue.take_group();
        queue.is_led = true;
        queue.groups += u64::from(!group.is_empty());
        let wakers = std::mem::take(&mut queue.wakers);
        let waiting = queue.waiting;
        drop(queue);
        let leading = Leading(self);
        if waiting > 0 {
            self.room.notify_all();
        }
        wakers.into_iter().for_each(Waker::wake);
        commit(&mut self.log(), group);
        drop(leading);
        self.queue()
    }
}

/// Ends a turn even if it ends in a panic.
struct Leading<'a>(&'a Shared);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.is_led = false;
        if queue.is_closed || thread::panicking() {
            drop(queue);
            self.0.work.notify_one();
        }
    }
}

/// A batch that is handed in and waited for. Dropped before it was handed in, it is not appended.
#[derive(Debug)]
#[must_use = "a batch is handed in when this is polled"]
pub struct Append<'a> {
    shared: &'a Shared,
    state: Stage,
}

#[derive(Debug)]
enum Stage {
    Entering(Batch, Word),
    Entered(Pending),
}

impl Future for Append<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let shared = self.shared;
        if let Stage::Entering(batch, word) = &mut self.state {
            let mut queue = shared.queue();
            match shared.refuses(&queue, batch) {
                Some(CommitError::Busy { .. }) => {
                    queue.wakers.push(context.waker().clone());
                    return Poll::Pending;
                }
                Some(error) => return Poll::Ready(Err(error)),
                None => {
                    let pending = shared.push(queue, None, std::mem::take(batch), *word);
                    self.state = Stage::Entered(pending);
                }
            }
        }
        match &mut self.state {
            Stage::Entered(pending) => Pin::new(pending).poll(context),
            Stage::Entering(..) => Poll::Pending,
        }
    }
}
