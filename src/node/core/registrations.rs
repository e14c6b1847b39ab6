//! Services of other processes, each for as long as its lease lasts; what becomes of them is told as events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::super::discovery::{Directory, DirectoryError, DirectoryLimits, Instance, LeaseId, Registration};
use super::announce;
use crate::{Bus, EventId};

/// How long nothing is looked for where nothing can lapse.
const REST: Duration = Duration::from_secs(3_600);

/// The instances that other processes have registered.
pub(in super::super) struct Registrations {
    directory: Mutex<Directory>,
    begun: Instant,
    bus: Bus,
    /// A lease is there that may lapse before what is waited for.
    changed: Notify,
}

impl Registrations {
    pub(super) fn new(bus: &Bus) -> Arc<Self> {
        let directory = Mutex::new(Directory::new(DirectoryLimits::default()));
        Arc::new(Self { directory, begun: Instant::now(), bus: bus.clone(), changed: Notify::new() })
    }

    /// Forgets instances when their leases lapse, for as long as somebody else has this.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            let next = self.directory().next_lapse().unwrap_or_else(|| self.now() + REST);
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(self.begun + next) => self.forget(),
            }
        }
    }

    /// Registers an instance. Returns what names its lease.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub(in super::super) fn register(&self, registration: Registration) -> Result<LeaseId, DirectoryError> {
        self.forget();
        let lease = EventId::random();
        let (name, address) = (registration.name.clone(), registration.address.clone());
        self.directory().register(self.now(), lease, registration)?;
        self.changed.notify_one();
        announce::instance(&self.bus, &name, &address, "registered");
        Ok(lease)
    }

    /// The name of the service whose lease this is.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub(in super::super) fn name_of(&self, lease: LeaseId) -> Result<String, DirectoryError> {
        self.directory().name_of(self.now(), lease)
    }

    /// Lets a lease begin anew. Returns how long it lasts.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub(in super::super) fn renew(&self, lease: LeaseId) -> Result<Duration, DirectoryError> {
        let now = self.now();
        self.directory().renew(now, lease).map(|lapses| lapses - now)
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub(in super::super) fn unregister(&self, lease: LeaseId) -> Result<(), DirectoryError> {
        let Registration { name, address, .. } = self.directory().unregister(self.now(), lease)?.registration;
        announce::instance(&self.bus, &name, &address, "unregistered");
        Ok(())
    }

    /// Those whose lease holds, and how long it still does.
    pub(in super::super) fn list(&self) -> Vec<(Instance, Duration)> {
        let now = self.now();
        self.directory().list(now).map(|instance| (instance.clone(), instance.lapses - now)).collect()
    }

    fn forget(&self) {
        let lapsed = self.directory().lapsed(self.now());
        for Instance { registration: Registration { name, address, .. }, .. } in &lapsed {
            announce::instance(&self.bus, name, address, "lapsed");
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        // Changed by steps that do not panic.
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
