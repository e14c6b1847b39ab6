//! The thread on which a store talks to its server, and how other threads wait for what they asked it for.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::error::PostgresFault;

/// Ends its thread when it is dropped.
pub(super) struct Bridge {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    pub(super) fn new() -> Result<Self, PostgresFault> {
        let failed = |error| PostgresFault::new("start the thread of the store", error);
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(failed)?;
        let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel::<()>());
        let drive = move || {
            // It ends with its sender.
            let _ = runtime.block_on(ended);
        };
        let thread = thread::Builder::new().name("ringmain-postgres".to_owned()).spawn(drive).map_err(failed)?;
        Ok(Self { handle, end: Some(end), thread: Some(thread) })
    }

    /// Runs to its end on the thread of the store, while the calling thread waits.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, PostgresFault> {
        let (said, heard) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // Whoever asked waits.
            let _ = said.send(future.await);
        });
        heard.recv().map_err(|error| PostgresFault::new("run a call on the thread of the store", error))
    }

    /// Runs for as long as the store is there.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(future);
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}
