//! A panic of a store on a thread of ours: an error of that call, as any other.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls a store. What is called leaves nothing of the caller's half done where it panics.
pub(super) fn guarded<T, E>(
    call: impl FnOnce() -> Result<T, E>,
    failed: impl FnOnce(Box<dyn Error + Send + Sync>) -> E,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(failed(said(&*panic).into())))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("the store panicked: {}; mend the store", text.unwrap_or("it does not say why"))
}
