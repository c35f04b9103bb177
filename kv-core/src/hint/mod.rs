//! Writes kept for an absent primary: their keys, their space, their pace.
