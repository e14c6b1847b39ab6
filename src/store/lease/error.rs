//! Why a name is not one's own.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why a name was not taken, or is not one's own any more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LeaseError {
    /// The name is empty or too long.
    Name {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Somebody has it.
    Taken {
        /// The name.
        name: String,
        /// Who has it, as it named itself when it took it.
        owner: String,
    },
    /// Somebody else has taken it: the way to the store was lost for so long that the store took this owner for dead.
    Lost {
        /// The name.
        name: String,
        /// Who took it last.
        owner: String,
    },
    /// The store could not be asked.
    Failed(Arc<dyn Error + Send + Sync>),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { bytes, max } => write!(f, "the name has {bytes} bytes, it can have 1 to {max}"),
            Self::Taken { name, owner } => {
                write!(f, "{name} is owned by {owner}; end that first, or take another name")
            }
            Self::Lost { name, owner } => write!(
                f,
                "{name} is owned by {owner} now, which took it while the way to the store was lost; open it again when that has ended"
            ),
            Self::Failed(error) => write!(f, "the name was not taken: {error}"),
        }
    }
}

impl Error for LeaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::Name { .. } | Self::Taken { .. } | Self::Lost { .. } => None,
        }
    }
}
