//! Turns an engine's panic into words.
//!
//! Place: around every call of an engine: both engines panic on some kinds of damaged files, and
//! one damaged record must not end the process, or the writer that others wait for.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::EngineError;

/// Calls an engine; a panic counts as a failure.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    // Engines guard their own state with locks that a panic poisons or leaves consistent.
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(EngineError::failed(panicked(&*panic))))
}

/// What a panic said.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    format!("the engine panicked: {said}")
}
