//! Appends what many threads publish, group by group, and tells each when its word is met.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::Frame;

use super::super::guard::guarded;
use super::super::{AppendError, BATCH_EVENTS_MAX, Durability, EventStore, ExpectedVersion, Position};
use super::end::Ended;
use super::pending::Answer;
use super::{DurableError, Shared};

/// Events to be appended in one piece: 1 to [`BATCH_EVENTS_MAX`].
pub(super) struct Job {
    pub(super) frames: Vec<Frame>,
    pub(super) word: Durability,
    pub(super) answer: Answer,
}

/// The committer's thread.
pub(super) struct Committer {
    store: Arc<dyn EventStore>,
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
}

impl Committer {
    pub(super) fn new(store: Arc<dyn EventStore>, jobs: Receiver<Job>, shared: Arc<Shared>) -> Self {
        Self { store, jobs, shared }
    }

    /// Until the last publisher is gone.
    pub(super) fn run(self) {
        let _ended = Ended(&self.shared, |inner| inner.is_committed = true);
        let mut next = None;
        while let Some(first) = next.take().or_else(|| self.jobs.recv().ok()) {
            let mut events = first.frames.len();
            let mut group = vec![first];
            while let Ok(job) = self.jobs.try_recv() {
                events += job.frames.len();
                if events > BATCH_EVENTS_MAX {
                    next = Some(job);
                    break;
                }
                group.push(job);
            }
            self.append(group);
        }
    }

    fn append(&self, mut group: Vec<Job>) {
        let mut jobs = group.len();
        while !group.is_empty() {
            jobs = jobs.min(group.len());
            let frames: Vec<_> = group[..jobs].iter().flat_map(|job| job.frames.iter().cloned()).collect();
            // One word for all, so that none comes to the lanes before its own is met.
            let word = group[..jobs].iter().map(|job| job.word).max().unwrap_or(Durability::Durable);
            let append = || self.store.append(&frames, ExpectedVersion::Any, word);
            match guarded(append, AppendError::InDoubt) {
                Ok(appended) => {
                    let (first, last) = appended.positions().into_inner();
                    self.shared.change(|inner| {
                        inner.ready = Some(last);
                        inner.counts.appended += frames.len() as u64;
                        inner.counts.appends += 1;
                    });
                    let at = |number: u64| Position::new(number).expect("positions count from 1");
                    let mut first = first.get();
                    for job in group.drain(..jobs) {
                        let behind = first + job.frames.len() as u64;
                        job.answer.tell(Ok(at(first)..=at(behind - 1)));
                        first = behind;
                    }
                }
                Err(error) if error.is_refusal() && jobs > 1 => jobs /= 2,
                Err(error) => {
                    let error = Arc::new(error);
                    let fail = |job: Job| job.answer.tell(Err(DurableError::Append(Arc::clone(&error))));
                    group.drain(..jobs).for_each(fail);
                    jobs = group.len();
                }
            }
        }
    }
}
