//! Finding products by words: an inverted index in memory, rebuilt from the catalogue at start.
//!
//! Place: used by the search endpoint; fed by `sync` and by the admin calls of this process.
//! Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009;
//! Porter, "Snowball", 2001 (English stemming).
//! Shape: `schema` names the fields and their weights, `request` is one search, `query` turns words into
//! a tantivy query, `index` holds and answers, `sync` follows the catalogue.
//! Invariants: 1. one document per product id. 2. the order of hits is total: ties fall back to the id.
//! Not here: prices at checkout (read from the catalogue), stock (asked per product).

pub mod index;
mod query;
pub mod request;
mod schema;
pub mod sync;

pub use index::{SearchIndex, SearchIndexError};
pub use request::{Card, FacetCount, Matched, SearchAnswer, SearchRequest, Sort};
pub use schema::Weights;
