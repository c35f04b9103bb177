//! The shop: catalog, search, recommendations, cart, checkout, payment, orders, fulfilment over HTTP.
