//! Workloads, faults, histories and checkers that judge Souk from outside.
