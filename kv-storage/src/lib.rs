//! Durable ordered keyspaces behind one batching writer.
