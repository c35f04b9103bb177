//! Whole clusters by seed: the suite's smallest share, and every seed that once found something.

mod determinism;
mod minutes;
mod seeds;
