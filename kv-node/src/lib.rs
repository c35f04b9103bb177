//! One node of the store: peer links, gRPC server, timers, background jobs, start-up and shutdown.

pub mod config;
