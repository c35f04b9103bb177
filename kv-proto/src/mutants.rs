//! Deliberate breakages, to prove that the failure suite would notice.
//!
//! A fire alarm is tested with smoke. A build with `--cfg souk_mutants` contains all breakages, and the environment variable
//! `SOUK_MUTANT` switches one of them on; every other build contains none, because [`is_on`] is a constant there. A release
//! build with that cfg does not compile.
//!
//! Place: points `if mutant!("name") { ... }` in the drivers, next to what they break. The list, with the seeds that
//! catch them, is `docs/mutants.md`.
//! Invariant: without the cfg a mutant costs nothing and cannot be reached.

#[cfg(all(souk_mutants, not(debug_assertions)))]
compile_error!("souk_mutants breaks the store on purpose: never build it for release");

/// Whether a breakage is switched on.
#[cfg(not(souk_mutants))]
#[must_use]
#[inline(always)]
pub const fn is_on(_name: &str) -> bool {
    false
}

/// Whether a breakage is switched on.
#[cfg(souk_mutants)]
#[must_use]
pub fn is_on(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN
        .get_or_init(|| std::env::var("SOUK_MUTANT").ok())
        .as_deref()
        == Some(name)
}

/// True where a deliberate breakage of this name is switched on; see [`mutants`](crate::mutants).
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutants::is_on($name)
    };
}
