//! The embedded client library: routing by layout, deadlines, retries that respect outcomes, causal contexts.
