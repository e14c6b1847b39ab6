//! Calls user code and lets no panic of it out.

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
