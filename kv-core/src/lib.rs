//! The protocols of the store as pure state machines.
