//! Atomics whose orderings one run may weaken, one at a time, to see which check would notice.
//!
//! They exist under `--cfg ringmain_loom` and `--cfg ringmain_weaken` (std's atomics, for Miri and ThreadSanitizer); any
//! other build has std's own. `RINGMAIN_WEAKEN=src/sync/bell.rs:28:22:0=Relaxed` weakens the first ordering of the call at
//! that line and column, `=none` leaves a fence out. With `RINGMAIN_VISITS` set each place is told, once, on stderr.

use std::collections::BTreeSet;
use std::env;
use std::panic::Location;
use std::sync::{Mutex, OnceLock, PoisonError};

#[cfg(ringmain_loom)]
use loom::sync::atomic as original;
#[cfg(not(ringmain_loom))]
use std::sync::atomic as original;

pub use original::Ordering;
use original::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// What the environment asks of this process.
struct Wish {
    /// The place, and what its ordering becomes.
    weaken: Option<(String, Option<Ordering>)>,
    visits: Option<Mutex<BTreeSet<(Place, usize)>>>,
}

type Place = &'static Location<'static>;

fn named(ordering: &str) -> Option<Ordering> {
    [Relaxed, Acquire, Release, AcqRel].into_iter().find(|known| format!("{known:?}") == ordering)
}

impl Wish {
    fn of_the_environment() -> Self {
        let weaken = env::var("RINGMAIN_WEAKEN").ok();
        let weaken = weaken.map(|wish| {
            let (place, ordering) = wish.split_once('=').expect("a place, =, and an ordering");
            let known = named(ordering);
            assert!(known.is_some() || ordering == "none", "{ordering} is no ordering to weaken to, nor none");
            (place.to_owned(), known)
        });
        Self { weaken, visits: env::var_os("RINGMAIN_VISITS").map(|_| Mutex::default()) }
    }
}

/// What becomes of the `nth` ordering of the call at `place`; of `None` nothing is left.
fn wished(place: Place, nth: usize, ordering: Ordering) -> Option<Ordering> {
    static WISH: OnceLock<Wish> = OnceLock::new();
    // Nothing is weaker.
    if ordering == Relaxed {
        return Some(ordering);
    }
    let wish = WISH.get_or_init(Wish::of_the_environment);
    if let Some(visits) = &wish.visits
        && visits.lock().unwrap_or_else(PoisonError::into_inner).insert((place, nth))
    {
        eprintln!("visits {place}:{nth}");
    }
    match &wish.weaken {
        // Text only where the line agrees: this is asked millions of times.
        Some((wished, weaker)) if is_at(place, nth, wished) => *weaker,
        _ => Some(ordering),
    }
}

fn is_at(place: Place, nth: usize, wished: &str) -> bool {
    let rest = wished.strip_prefix(place.file()).and_then(|rest| rest.strip_prefix(':'));
    let mut numbers = rest.into_iter().flat_map(|rest| rest.split(':')).map(str::parse);
    let mut next_is = |number: u32| numbers.next() == Some(Ok(number));
    next_is(place.line()) && next_is(place.column()) && next_is(nth as u32)
}

/// The ordering of an operation, which there is whatever becomes of its ordering.
#[track_caller]
fn at(nth: usize, ordering: Ordering) -> Ordering {
    wished(Location::caller(), nth, ordering).unwrap_or(Relaxed)
}

#[track_caller]
pub fn fence(ordering: Ordering) {
    if let Some(ordering) = wished(Location::caller(), 0, ordering) {
        original::fence(ordering);
    }
}

macro_rules! weakened {
    ($name:ident $(<$param:ident>)?, $original:ty, $value:ty) => {
        #[derive(Debug)]
        #[repr(transparent)]
        pub struct $name $(<$param>)? ($original);

        impl $(<$param>)? $name $(<$param>)? {
            pub fn new(value: $value) -> Self {
                Self(<$original>::new(value))
            }

            #[track_caller]
            pub fn load(&self, ordering: Ordering) -> $value {
                self.0.load(at(0, ordering))
            }

            #[track_caller]
            pub fn store(&self, value: $value, ordering: Ordering) {
                self.0.store(value, at(0, ordering));
            }

            #[track_caller]
            pub fn swap(&self, value: $value, ordering: Ordering) -> $value {
                self.0.swap(value, at(0, ordering))
            }

            #[track_caller]
            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(old, new, at(0, success), at(1, failure))
            }

            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange_weak(old, new, at(0, success), at(1, failure))
            }

            #[track_caller]
            pub fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                update: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                self.0.fetch_update(at(0, success), at(1, failure), update)
            }
        }
    };
}

macro_rules! weakened_integers {
    ($($name:ident => $value:ty),*) => {$(
        weakened!($name, original::$name, $value);

        weakened_integers!(@ $name, $value, fetch_add fetch_sub fetch_or fetch_and fetch_max fetch_min);

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }
    )*};
    (@ $name:ident, $value:ty, $($method:ident)*) => {
        impl $name {
            $(
                #[track_caller]
                pub fn $method(&self, value: $value, ordering: Ordering) -> $value {
                    self.0.$method(value, at(0, ordering))
                }
            )*
        }
    };
}

weakened_integers!(AtomicU8 => u8, AtomicU32 => u32, AtomicU64 => u64);
weakened!(AtomicBool, original::AtomicBool, bool);
weakened!(AtomicPtr<T>, original::AtomicPtr<T>, *mut T);
