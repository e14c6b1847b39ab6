//! Services of other processes: each says where it is, for as long as its lease lasts.
//!
//! A lease that is not renewed lapses, and its service is forgotten. The directory knows no time: whoever asks says what time it is, by
//! a clock that only goes forward. So one process decides when a lease is over, whatever the clocks of the others say.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::EventId;

/// What a process says of its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The name of the service: 1 to 64 letters, digits, `-`, `_` and `.`. Several processes may have the same.
    pub name: String,
    /// Where it is, host and port: `127.0.0.1:9000`. With the name it is one instance.
    pub address: String,
    /// What to ask it about its health by HTTP: a path that begins with `/`. Default none.
    pub health_path: Option<String>,
    /// How long the registration holds unless it is renewed.
    pub lease: Duration,
}

/// What names a lease: who has it may renew and end it.
pub type LeaseId = EventId;

/// How much is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryLimits {
    /// Instances at a time. Default 1,024.
    pub instances_max: usize,
    /// The shortest lease. Default 1 s.
    pub lease_min: Duration,
    /// The longest lease. Default an hour.
    pub lease_max: Duration,
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self { instances_max: 1_024, lease_min: Duration::from_secs(1), lease_max: Duration::from_secs(3_600) }
    }
}

/// An instance that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// What it said of itself.
    pub registration: Registration,
    /// When it was registered, by the clock of whoever asked.
    pub since: Duration,
    /// When its lease lapses.
    pub lapses: Duration,
    lease: LeaseId,
}

/// Why an instance was not registered, renewed or unregistered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryError {
    /// That is no name.
    Name(String),
    /// That is no host and port.
    Address(String),
    /// That is no path.
    HealthPath(String),
    /// The lease is shorter or longer than it may be.
    Lease {
        /// What was asked for.
        lease: Duration,
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// There are as many as there can be.
    TooMany {
        /// That many.
        instances_max: usize,
    },
    /// There is no such lease: it lapsed, or another took its place.
    Unknown(LeaseId),
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => {
                write!(f, "{name:?} is no name of a service; use 1 to 64 letters, digits, '-', '_' and '.'")
            }
            Self::Address(address) => write!(f, "{address:?} is no host and port, like 127.0.0.1:9000"),
            Self::HealthPath(path) => write!(f, "{path:?} is no path; it begins with '/' and has no space"),
            Self::Lease { lease, min, max } => write!(f, "a lease of {lease:?} is not from {min:?} to {max:?}"),
            Self::TooMany { instances_max } => {
                write!(f, "{instances_max} instances are registered, which is the limit; wait until a lease lapses")
            }
            Self::Unknown(lease) => {
                write!(f, "there is no lease {lease}: it lapsed, or the same service registered again; register anew")
            }
        }
    }
}

impl Error for DirectoryError {}

/// The instances that other processes have registered. Bounded.
#[derive(Debug, Default)]
pub struct Directory {
    limits: DirectoryLimits,
    /// By name and address.
    instances: BTreeMap<(String, String), Instance>,
}

impl Directory {
    /// Nobody yet.
    pub fn new(limits: DirectoryLimits) -> Self {
        Self { limits, instances: BTreeMap::new() }
    }

    /// Registers an instance, or the same once more after its process began anew: the earlier lease is over then. `lease` names the
    /// new one; let nobody else know it. Ask [`lapsed`](Self::lapsed) first, or one that lapsed may take the last place.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn register(
        &mut self,
        now: Duration,
        lease: LeaseId,
        registration: Registration,
    ) -> Result<(), DirectoryError> {
        self.check(&registration)?;
        let key = (registration.name.clone(), registration.address.clone());
        let instances_max = self.limits.instances_max;
        if self.instances.len() >= instances_max && !self.instances.contains_key(&key) {
            return Err(DirectoryError::TooMany { instances_max });
        }
        let lapses = now.saturating_add(registration.lease);
        self.instances.insert(key, Instance { registration, since: now, lapses, lease });
        Ok(())
    }

    fn check(&self, registration: &Registration) -> Result<(), DirectoryError> {
        let Registration { name, address, health_path, lease } = registration;
        let is_name = |name: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
        if name.is_empty() || name.len() > 64 || !is_name(name) {
            return Err(DirectoryError::Name(name.clone()));
        }
        let is_plain = |text: &str| text.len() <= 255 && text.chars().all(|letter| letter.is_ascii_graphic());
        let has_port = |address: &str| {
            let (host, port) = address.rsplit_once(':')?;
            (!host.is_empty() && !host.contains(['/', '@', '?', '#']))
                .then(|| port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        if !is_plain(address) || has_port(address) != Some(true) {
            return Err(DirectoryError::Address(address.clone()));
        }
        if let Some(path) = health_path.as_ref().filter(|path| !is_plain(path) || !path.starts_with('/')) {
            return Err(DirectoryError::HealthPath(path.clone()));
        }
        let DirectoryLimits { lease_min: min, lease_max: max, .. } = self.limits;
        if *lease < min || *lease > max {
            return Err(DirectoryError::Lease { lease: *lease, min, max });
        }
        Ok(())
    }

    fn key(&self, now: Duration, lease: LeaseId) -> Result<(String, String), DirectoryError> {
        let held = self.instances.iter().find(|(_, instance)| instance.lease == lease && now < instance.lapses);
        held.map(|(key, _)| key.clone()).ok_or(DirectoryError::Unknown(lease))
    }

    /// The name of the service whose lease this is.
    ///
    /// # Errors
    /// [`DirectoryError::Unknown`].
    pub fn name_of(&self, now: Duration, lease: LeaseId) -> Result<String, DirectoryError> {
        self.key(now, lease).map(|(name, _)| name)
    }

    /// Lets a lease begin anew. Returns when it lapses.
    ///
    /// # Errors
    /// [`DirectoryError::Unknown`], also of one that has lapsed and was not taken yet.
    pub fn renew(&mut self, now: Duration, lease: LeaseId) -> Result<Duration, DirectoryError> {
        let key = self.key(now, lease)?;
        let instance = self.instances.get_mut(&key).ok_or(DirectoryError::Unknown(lease))?;
        instance.lapses = now.saturating_add(instance.registration.lease);
        Ok(instance.lapses)
    }

    /// Ends a lease. Returns whose it was.
    ///
    /// # Errors
    /// [`DirectoryError::Unknown`].
    pub fn unregister(&mut self, now: Duration, lease: LeaseId) -> Result<Instance, DirectoryError> {
        let key = self.key(now, lease)?;
        self.instances.remove(&key).ok_or(DirectoryError::Unknown(lease))
    }

    /// Forgets the instances whose lease has lapsed, and returns them.
    pub fn lapsed(&mut self, now: Duration) -> Vec<Instance> {
        let instances = std::mem::take(&mut self.instances).into_iter();
        let (held, lapsed): (_, BTreeMap<_, _>) = instances.partition(|(_, instance)| now < instance.lapses);
        self.instances = held;
        lapsed.into_values().collect()
    }

    /// When the next lease lapses.
    pub fn next_lapse(&self) -> Option<Duration> {
        self.instances.values().map(|instance| instance.lapses).min()
    }

    /// Instances whose lease holds, by name and address.
    pub fn list(&self, now: Duration) -> impl Iterator<Item = &Instance> {
        self.instances.values().filter(move |instance| now < instance.lapses)
    }
}
