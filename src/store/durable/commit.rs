//! Appends what many threads publish, group by group, and tells each when its word is met.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::Frame;

use super::super::guard::guarded;
use super::super::{AppendError, BATCH_EVENTS_MAX, Durability, EventStore, ExpectedVersion, Position};
use super::end::Ended;
use super::pending::Answer;
use super::{DurableError, Shared};

/// An event to be appended.
pub(super) struct Job {
    pub(super) frame: Frame,
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
        while let Ok(first) = self.jobs.recv() {
            let mut group = vec![first];
            group.extend(self.jobs.try_iter().take(BATCH_EVENTS_MAX - 1));
            self.append(group);
        }
    }

    fn append(&self, mut group: Vec<Job>) {
        let mut events = group.len();
        while !group.is_empty() {
            events = events.min(group.len());
            let frames: Vec<_> = group[..events].iter().map(|job| job.frame.clone()).collect();
            // One word for all, so that none comes to the lanes before its own is met.
            let word = group[..events].iter().map(|job| job.word).max().unwrap_or(Durability::Durable);
            let append = || self.store.append(&frames, ExpectedVersion::Any, word);
            match guarded(append, AppendError::InDoubt) {
                Ok(appended) => {
                    let (first, last) = appended.positions().into_inner();
                    self.shared.change(|inner| {
                        inner.ready = Some(last);
                        inner.counts.appended += events as u64;
                        inner.counts.appends += 1;
                    });
                    for (job, position) in group.drain(..events).zip(first.get()..) {
                        job.answer.tell(Ok(Position::new(position).expect("positions count from 1")));
                    }
                }
                Err(error) if error.is_refusal() && events > 1 => events /= 2,
                Err(error) => {
                    let error = Arc::new(error);
                    let fail = |job: Job| job.answer.tell(Err(DurableError::Append(Arc::clone(&error))));
                    group.drain(..events).for_each(fail);
                    events = group.len();
                }
            }
        }
    }
}
