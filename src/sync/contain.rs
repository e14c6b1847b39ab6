//! Calls user code and lets no panic of it out.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `f` returns, or `None` when it panicked. The panic's own value may panic again when it is dropped: that is
/// contained too, and a third one is leaked.
#[inline(always)]
pub fn contained<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            bury(payload);
            None
        }
    }
}

#[cold]
fn bury(payload: Box<dyn std::any::Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
        && let Err(third) = catch_unwind(AssertUnwindSafe(|| drop(second)))
    {
        std::mem::forget(third);
    }
}

/// What is a user's, and may panic when it is dropped: whoever drops it is not hurt by that.
pub(crate) struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> DerefMut for Kept<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        // The panic hook has told of it, and nobody here could do more.
        let _ = contained(|| drop(value));
    }
}

#[cfg(test)]
mod tests {
    use super::contained;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the panic's own value");
        }
    }

    #[test]
    fn a_panic_whose_value_panics_when_dropped_is_contained() {
        assert_eq!(contained(|| 7), Some(7));
        assert_eq!(contained(|| std::panic::panic_any(Bomb)), None::<()>);
    }
}
