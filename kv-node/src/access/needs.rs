//! What a request needs: a role on each bucket that it names.

use std::{collections::BTreeSet, fmt};

use souk_kv_core::access::{Role, Token};
use souk_kv_proto::kv::{Key, session_request::Body as Ask};

/// Something that a token has to allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// A role on one bucket.
    Bucket(Role, String),
    /// Looking after the cluster as a whole.
    Cluster,
}

impl Need {
    pub(crate) fn is_met_by(&self, token: &Token) -> bool {
        match self {
            Self::Bucket(role, bucket) => token.allows(*role, bucket),
            Self::Cluster => token.allows_everywhere(Role::Admin),
        }
    }

    /// The least grant that would meet it.
    pub(crate) fn grant(&self) -> String {
        match self {
            Self::Bucket(role, bucket) => format!("{role}:{bucket}"),
            Self::Cluster => format!("{}:*", Role::Admin),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(role, bucket) => write!(f, "{role} on bucket `{bucket}`"),
            Self::Cluster => write!(f, "{} on the whole cluster", Role::Admin),
        }
    }
}

/// What a request for data needs. One that names no bucket is refused later, as a malformed one.
pub(crate) fn needs_of(ask: &Ask) -> Vec<Need> {
    match ask {
        Ask::Get(request) => on_keys(Role::Read, request.key.iter()),
        Ask::Put(request) => on_keys(Role::Write, request.key.iter()),
        Ask::Delete(request) => on_keys(Role::Write, request.key.iter()),
        Ask::Scan(request) => vec![Need::Bucket(Role::Read, request.bucket.clone())],
        // A condition that does not hold is answered with what is there.
        Ask::Transact(request) => [Role::Read, Role::Write]
            .map(|role| Need::Bucket(role, request.bucket.clone()))
            .to_vec(),
        Ask::BatchGet(request) => on_keys(Role::Read, request.keys.iter()),
        Ask::BatchPut(request) => {
            let keys = request.puts.iter().filter_map(|put| put.key.as_ref());
            on_keys(Role::Write, keys)
        }
        // A good token is enough to learn where nodes are; buckets that it cannot use are left out.
        Ask::Topology(_) | Ask::Authenticate(_) => Vec::new(),
    }
}

fn on_keys<'a>(role: Role, keys: impl Iterator<Item = &'a Key>) -> Vec<Need> {
    let buckets: BTreeSet<&str> = keys.map(|key| key.bucket.as_str()).collect();
    let need = |bucket: &str| Need::Bucket(role, bucket.to_owned());
    buckets.into_iter().map(need).collect()
}

#[cfg(test)]
mod tests {
    use souk_kv_proto::kv::{
        BatchGetRequest, BatchPutRequest, DeleteRequest, GetRequest, PutRequest, ScanRequest,
        TopologyRequest, TransactRequest,
    };

    use super::*;

    fn key(bucket: &str) -> Option<Key> {
        Some(Key {
            bucket: bucket.to_owned(),
            ..Default::default()
        })
    }

    fn check(ask: Ask, expected: &[&str]) {
        let grants: Vec<String> = needs_of(&ask).iter().map(Need::grant).collect();
        assert_eq!(grants, expected, "{ask:?}");
    }

    #[test]
    fn each_request_needs_its_roles_on_its_buckets() {
        let (a, b) = ("carts", "orders");
        let put = |bucket: &str| PutRequest {
            key: key(bucket),
            ..Default::default()
        };
        check(
            Ask::Get(GetRequest {
                key: key(a),
                options: None,
            }),
            &["read:carts"],
        );
        check(Ask::Put(put(a)), &["write:carts"]);
        check(
            Ask::Delete(DeleteRequest {
                key: key(a),
                ..Default::default()
            }),
            &["write:carts"],
        );
        check(
            Ask::Scan(ScanRequest {
                bucket: a.to_owned(),
                ..Default::default()
            }),
            &["read:carts"],
        );
        check(
            Ask::Transact(TransactRequest {
                bucket: b.to_owned(),
                ..Default::default()
            }),
            &["read:orders", "write:orders"],
        );
        check(
            Ask::BatchGet(BatchGetRequest {
                keys: [a, b, a].into_iter().filter_map(key).collect(),
                options: None,
            }),
            &["read:carts", "read:orders"],
        );
        check(
            Ask::BatchPut(BatchPutRequest {
                puts: vec![put(b), put(a)],
            }),
            &["write:carts", "write:orders"],
        );
        check(Ask::Topology(TopologyRequest {}), &[]);
    }
}
