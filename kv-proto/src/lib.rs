//! Wire messages of Souk: what travels between clients, operators and nodes, and what lies on disk.
//!
//! The `.proto` files under `proto/` are the source; this crate holds the generated types, their
//! conversions from and to the types of `souk_kv_core` and `souk_ring`, and the one table that ties
//! error codes to gRPC codes, outcomes and retries. Beside them stands [`network`], the seam under every
//! connection that carries them.
//!
//! Place: wire; used by `kv_node`, `kv_client` and the command line.
//! Not here: storage keys and framing on disk (`kv_node::keys`, `kv_storage`).

pub mod convert;
pub mod error;
pub mod mutants;
pub mod network;

/// Generated types; the comments stand in the `.proto` files.
#[allow(missing_docs, clippy::all, unreachable_pub)]
mod generated {
    pub mod souk {
        pub mod kv {
            pub mod v1 {
                tonic::include_proto!("souk.kv.v1");
            }
        }
        pub mod admin {
            pub mod v1 {
                tonic::include_proto!("souk.admin.v1");
            }
        }
        pub mod store {
            pub mod v1 {
                tonic::include_proto!("souk.store.v1");
            }
        }
        pub mod peer {
            pub mod v1 {
                tonic::include_proto!("souk.peer.v1");
            }
        }
    }
}

pub use generated::souk::{admin::v1 as admin, kv::v1 as kv, peer::v1 as peer, store::v1 as store};

/// The encoded descriptor set of all `.proto` files, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/souk_descriptors.bin"));
