//! Why a service or an instance of one cannot be made, found or told of.

use std::fmt;

use super::control::WorkerStuck;

/// Why something that has to do with a service was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceError {
    /// A service has this name already.
    Exists {
        /// The name.
        name: String,
    },
    /// No service has this name.
    NotFound {
        /// The name.
        name: String,
    },
    /// The bus has as many services as it may have.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// A name that is empty or too long.
    Name {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The service that an instance was for has ended.
    Ended {
        /// The instance.
        instance: String,
    },
    /// The service has an instance of this name already.
    InstanceExists {
        /// The service.
        service: String,
        /// The instance.
        instance: String,
    },
    /// The service has no instance of this name.
    NoInstance {
        /// The service.
        service: String,
        /// The instance.
        instance: String,
    },
    /// The service has as many instances as it may have.
    TooManyInstances {
        /// The service.
        service: String,
        /// The limit.
        max: usize,
    },
    /// A setting that an instance does not have, for its service decides, or that nothing but an instance has.
    Setting {
        /// Which.
        setting: &'static str,
        /// Whether it was given to an instance.
        of_instance: bool,
    },
    /// The worker of the service did not take the change over in time: a handler on it has not returned.
    WorkerStuck {
        /// Which.
        worker: usize,
    },
}

impl ServiceError {
    /// Whether trying again later can help, with nothing else changed.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::WorkerStuck { .. })
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { name } => write!(f, "there is a service {name:?} already; take it with get_service"),
            Self::NotFound { name } => write!(f, "there is no service {name:?}; make it with Bus::service"),
            Self::TooMany { max } => {
                write!(f, "one service more than the {max} a bus may have; end one, or use instances of one service")
            }
            Self::Name { bytes, max } => write!(f, "a name of {bytes} bytes; it has from 1 to {max}"),
            Self::Ended { instance } => write!(f, "the service of instance {instance:?} has ended; make it anew"),
            Self::InstanceExists { service, instance } => {
                write!(
                    f,
                    "service {service:?} has an instance {instance:?} already; end that one, or take another name"
                )
            }
            Self::NoInstance { service, instance } => {
                write!(f, "service {service:?} has no instance {instance:?}; make it with Service::instance")
            }
            Self::TooManyInstances { service, max } => {
                write!(f, "one instance more than the {max} service {service:?} may have; end one")
            }
            Self::Setting { setting, of_instance: true } => {
                write!(f, "an instance has no {setting}: its service decides what it gets")
            }
            Self::Setting { setting, of_instance: false } => {
                write!(f, "{setting} is for instances of a service; begin with Service::instance")
            }
            Self::WorkerStuck { worker } => write!(
                f,
                "worker {worker} did not take the change over in time; a handler on it has not returned: keep inline handlers short, or use handle_on"
            ),
        }
    }
}

impl std::error::Error for ServiceError {}

impl From<WorkerStuck> for ServiceError {
    fn from(stuck: WorkerStuck) -> Self {
        Self::WorkerStuck { worker: stuck.worker }
    }
}
