//! Each node's own opinion of who is alive and who is slow.
