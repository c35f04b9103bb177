//! Stock that is never oversold: a pure state machine per SKU and fulfilment centre, and its store.
