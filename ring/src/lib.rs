//! Placement: which nodes hold a key, and in what order to ask them.
