//! What a store in a test leaves to another one: the methods named are the other's.
//!
//! A module of each test binary that needs it, by path.

/// In an `impl` of `EventStore` or `StateStore`: `delegated!(store: sync, head)` leaves these to the field `store`.
macro_rules! delegated {
    ($to:tt: $($method:ident),* $(,)?) => { $(delegated!(@$method $to);)* };
    (@append $to:tt) => {
        fn append(
            &self,
            events: &[ringmain::Frame],
            expected: ringmain::store::ExpectedVersion,
            durability: ringmain::store::Durability,
        ) -> Result<ringmain::store::Appended, ringmain::store::AppendError> {
            self.$to.append(events, expected, durability)
        }
    };
    (@sync $to:tt) => {
        fn sync(&self) -> Result<(), ringmain::store::SyncError> {
            self.$to.sync()
        }
    };
    (@query $to:tt) => {
        fn query(&self, query: &ringmain::store::Query) -> Result<ringmain::store::Page, ringmain::store::ReadError> {
            self.$to.query(query)
        }
    };
    (@save_snapshot $to:tt) => {
        fn save_snapshot(&self, snapshot: &ringmain::store::Snapshot) -> Result<(), ringmain::store::SnapshotError> {
            self.$to.save_snapshot(snapshot)
        }
    };
    (@load_snapshot $to:tt) => {
        fn load_snapshot(
            &self,
            kind: &str,
            id: &str,
        ) -> Result<Option<ringmain::store::Snapshot>, ringmain::store::ReadError> {
            self.$to.load_snapshot(kind, id)
        }
    };
    (@keep_history $to:tt) => {
        fn keep_history(&self, kind: &str) -> Result<(), ringmain::store::StateError> {
            self.$to.keep_history(kind)
        }
    };
    (@head $to:tt) => {
        fn head(&self) -> Result<Option<ringmain::store::Position>, ringmain::store::ReadError> {
            self.$to.head()
        }
    };
    (@wait_behind $to:tt) => {
        fn wait_behind(
            &self,
            position: Option<ringmain::store::Position>,
            limit: std::time::Duration,
        ) -> Result<bool, ringmain::store::ReadError> {
            self.$to.wait_behind(position, limit)
        }
    };
    (@durability $to:tt) => {
        fn durability(&self) -> ringmain::store::Durability {
            self.$to.durability()
        }
    };
    (@get $to:tt) => {
        fn get(
            &self,
            kind: ringmain::store::StateKind,
            key: &[u8],
        ) -> Result<Option<ringmain::store::StateValue>, ringmain::store::StateReadError> {
            self.$to.get(kind, key)
        }
    };
    (@list $to:tt) => {
        fn list(
            &self,
            kind: ringmain::store::StateKind,
            from: &[u8],
            limit: usize,
        ) -> Result<ringmain::store::StatePage, ringmain::store::StateReadError> {
            self.$to.list(kind, from, limit)
        }
    };
    (@state_durability $to:tt) => {
        fn state_durability(&self) -> ringmain::store::Durability {
            self.$to.state_durability()
        }
    };
    (@lease $to:tt) => {
        fn lease(&self, name: &str) -> Result<ringmain::store::Lease, ringmain::store::LeaseError> {
            self.$to.lease(name)
        }
    };
}

pub(crate) use delegated;
