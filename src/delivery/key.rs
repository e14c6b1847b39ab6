//! What events have in common: which keep their order, or which make way for newer ones.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::event::Meta;
use crate::sync::contain::Kept;

/// What events have in common: those whose order is to be kept ([`ordered_by`](crate::Subscribe::ordered_by)), or of which
/// only the newest counts ([`latest_by`](crate::Subscribe::latest_by)).
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
    /// short; an event it panics at has no key.
    By(Arc<KeyOf>),
}

/// Makes a number of an event, or none.
type KeyOf = dyn Fn(&Meta<'_>) -> Option<u64> + Send + Sync;

impl Key {
    /// What this function makes of an event: equal numbers are one key, `None` is no key.
    pub fn by(key: impl Fn(&Meta<'_>) -> Option<u64> + Send + Sync + 'static) -> Self {
        let key = Kept::new(key);
        Self::By(Arc::new(move |meta: &Meta<'_>| key(meta)))
    }

    /// The value of this metadata entry; events without it have no key.
    pub fn metadata(entry: impl Into<String>) -> Self {
        let entry = entry.into();
        Self::by(move |meta| meta.get(&entry).map(hash))
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
