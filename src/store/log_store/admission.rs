//! Lets a batch into the log if its aggregate is at the version expected, and makes it known when it is there.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::Frame;

use super::super::append::Expected;
use super::super::log::{Batch, Fault, Gate, Placed};
use super::shared::Shared;

/// The gate of one batch.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) shared: Arc<Shared>,
    pub(super) frames: Vec<Frame>,
    pub(super) expected: Option<Expected>,
}

/// Why a batch was not let in.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// Its aggregate is at this version.
    Version(u64),
    /// It is not known at which version its aggregate is.
    Unknown(Fault),
}

impl Gate for Admission {
    fn admit(&mut self) -> Result<(), Arc<dyn Error + Send + Sync>> {
        let Some(Expected { kind, id, version, .. }) = &self.expected else { return Ok(()) };
        let refusal = match self.shared.version_of(kind, id) {
            Ok(written) => match written.max(self.shared.versions().staged(kind, id)) {
                found if found == *version => return Ok(()),
                found => Refusal::Version(found),
            },
            Err(fault) => Refusal::Unknown(fault),
        };
        Err(Arc::new(refusal))
    }

    fn staged(&mut self) {
        self.shared.versions().stage(&self.frames);
    }

    fn written(&mut self, batch: &Batch, placed: &Placed) {
        self.shared.add(&self.frames, batch, placed);
        self.shared.versions().written(&self.frames, self.expected.is_some());
    }

    fn lost(&mut self) {
        self.shared.versions().lost();
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(found) => write!(f, "the aggregate is at version {found}"),
            Self::Unknown(fault) => fault.fmt(f),
        }
    }
}

impl Error for Refusal {}
