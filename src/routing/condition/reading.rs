//! An event as the conditions of rules read it: its payload once, whatever they ask of it.

use std::cell::Cell;
#[cfg(feature = "json")]
use std::cell::OnceCell;

#[cfg(feature = "json")]
use serde_json::value::RawValue;
#[cfg(feature = "json")]
use smallvec::SmallVec;

use crate::event::{Encoding, Meta};

/// Where a value is in a JSON payload: keys and array indices from the outside in. Empty is the whole payload.
pub(in crate::routing) type Path = Box<[Box<str>]>;

/// Paths whose values are remembered without an allocation.
#[cfg(feature = "json")]
const PATHS: usize = 32;

/// One event, and what its payload has at the paths that it will be asked for: read when it is asked the first time.
pub(crate) struct Reading<'a> {
    meta: Meta<'a>,
    /// Bytes of a JSON payload that is read.
    bytes_max: usize,
    /// A condition would have read a longer one.
    is_unread: Cell<bool>,
    #[cfg(feature = "json")]
    paths: &'a [Path],
    #[cfg(feature = "json")]
    found: OnceCell<SmallVec<[Option<&'a RawValue>; PATHS]>>,
}

impl<'a> Reading<'a> {
    /// It will be asked for these paths, sorted and each once; what it is asked for besides them it reads each time.
    #[cfg_attr(not(feature = "json"), allow(unused_variables, reason = "without JSON no payload is read"))]
    pub(in crate::routing) fn new(meta: Meta<'a>, paths: &'a [Path], bytes_max: usize) -> Self {
        Self {
            meta,
            bytes_max,
            is_unread: Cell::new(false),
            #[cfg(feature = "json")]
            paths,
            #[cfg(feature = "json")]
            found: OnceCell::new(),
        }
    }

    pub(in crate::routing) fn meta(&self) -> &Meta<'a> {
        &self.meta
    }

    /// Whether the payload is too long to be read, for a condition that is about to.
    pub(super) fn is_too_long(&self) -> bool {
        let payload = self.meta.payload();
        let too_long = payload.bytes().len() > self.bytes_max && payload.encoding() == Encoding::Json;
        self.is_unread.set(self.is_unread.get() || too_long);
        too_long
    }

    /// Whether a condition so far would have read a payload that is too long.
    pub(crate) fn is_unread(&self) -> bool {
        self.is_unread.get()
    }

    /// The value at `path`, if the payload is JSON and has it.
    #[cfg(feature = "json")]
    pub(super) fn value(&self, path: &Path) -> Option<&'a RawValue> {
        let Ok(place) = self.paths.binary_search(path) else {
            let mut found = [None];
            super::json::find(&self.meta, std::slice::from_ref(path), &mut found);
            return found[0];
        };
        let read = || {
            let mut found = SmallVec::from_elem(None, self.paths.len());
            super::json::find(&self.meta, self.paths, &mut found);
            found
        };
        self.found.get_or_init(read)[place]
    }
}
