//! Who may see events that come again out of a history.

/// Whether a subscription is given replays: events that happened before, and come again out of a store.
///
/// What they led to then must not happen twice: no second mail, no second payment. So nobody sees one without having said that it
/// does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum ReplayPolicy {
    /// It is not: it counts them as filtered.
    #[default]
    Never,
    /// It is: handling an event again does no harm, or it asks [`Meta::is_replay`](crate::Meta::is_replay).
    Safe,
}
