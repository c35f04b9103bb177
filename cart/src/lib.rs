//! Carts that never lose an added item: an observed-remove set with quantities, and its store.
