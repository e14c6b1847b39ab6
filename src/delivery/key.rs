//! What events have in common, for those that belong together.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::event::Meta;

/// The number of an event's key.
type KeyOf = dyn Fn(&Meta<'_>) -> Option<u64> + Send + Sync;

/// What events have in common whose order is to be kept.
///
/// ```
/// use ringmain::{Bus, DeliveryMode, Key};
///
/// let bus = Bus::builder().build()?;
/// let wish = bus.subscribe("account.*").mode(DeliveryMode::reliable());
/// let _made = wish.ordered_by(Key::Aggregate).handle(|_, meta| println!("{:?}", meta.aggregate()))?;
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Key {
    /// All events of the subscription: one at a time.
    Subscription,
    /// The topic.
    Topic,
    /// Who published.
    Source,
    /// The aggregate; events without one have no key.
    Aggregate,
    /// The correlation id; events without one have no key.
    Correlation,
    /// What this function makes of an event: equal numbers are one key. It runs on the subscription's worker and must be
    /// short.
    By(Arc<KeyOf>),
}

impl Key {
    /// What this function makes of an event: equal numbers are one key, `None` is no key.
    pub fn by(key: impl Fn(&Meta<'_>) -> Option<u64> + Send + Sync + 'static) -> Self {
        Self::By(Arc::new(key))
    }

    /// The key of an event, as a number.
    pub(crate) fn of(&self, meta: &Meta<'_>) -> Option<u64> {
        match self {
            Self::Subscription => Some(0),
            Self::Topic => Some(hash(meta.topic())),
            Self::Source => Some(hash(meta.source())),
            Self::Aggregate => meta.aggregate().map(|aggregate| hash((aggregate.kind, aggregate.id))),
            Self::Correlation => meta.correlation().map(|id| hash(id.as_bytes())),
            Self::By(key) => key(meta),
        }
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subscription => "Subscription",
            Self::Topic => "Topic",
            Self::Source => "Source",
            Self::Aggregate => "Aggregate",
            Self::Correlation => "Correlation",
            Self::By(_) => "By(..)",
        })
    }
}
