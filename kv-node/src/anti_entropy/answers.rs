//! What other nodes ask of this node's trees. Nothing is remembered between two questions.

use std::collections::BTreeSet;

use bytes::Bytes;
use souk_kv_core::merkle::{Digest, LeafIndex};
use souk_kv_proto::{
    kv::ErrorCode,
    peer::{
        CompareVnodes, CompareVnodesReply, Done, ListTreeKeys, ListTreeKeysReply, ReadRecords,
        ReadRecordsReply, ReadTree, ReadTreeReply, SuspectLeaves, TreeRoot, VnodeRoots,
        peer_message::Body,
    },
};
use souk_ring::{NodeId, PartitionId};

use super::{
    AntiEntropy,
    forest::LeafPlace,
    shared::{shared_roots, summary},
    wire::{encode_groups, encode_leaves, groups_from_wire, key_to_wire, leaves_from_wire},
};
use crate::{
    error::RequestError,
    governor::Job,
    keys::{BucketId, TreeId},
    peer::unexpected,
};

/// Rows that one page of a list walks over.
pub(super) const LIST_ROWS: usize = 1024;
/// What such a page costs, beside reading rows one by one.
pub(super) const LIST_UNITS: u32 = 128;
/// An answer with records holds at least one, and no more when it has grown to this.
const RECORDS_BYTES: usize = 2 * 1024 * 1024;

impl AntiEntropy {
    /// Answers a question about trees.
    pub(crate) async fn answer(&self, from: NodeId, body: Body) -> Result<Body, RequestError> {
        Ok(match body {
            Body::CompareVnodes(ask) => {
                if ask.catalogue_version > self.cluster.catalogue.version() {
                    self.cluster.pull_catalogue(from).await;
                }
                Body::CompareVnodesReply(self.compare(from, &ask))
            }
            Body::ReadTree(ask) => Body::ReadTreeReply(self.read_tree(&ask)?),
            Body::ListTreeKeys(ask) => {
                self.governor.pace(Job::Incoming, LIST_UNITS).await;
                Body::ListTreeKeysReply(self.list(&ask)?)
            }
            Body::ReadRecords(ask) => {
                let units = u32::try_from(ask.store_keys.len()).unwrap_or(u32::MAX);
                self.governor.pace(Job::Incoming, units).await;
                Body::ReadRecordsReply(self.read_records(&ask)?)
            }
            Body::SuspectLeaves(told) => {
                self.suspect(&told)?;
                Body::Done(Done {})
            }
            _ => unexpected("no question about trees"),
        })
    }

    fn compare(&self, from: NodeId, ask: &CompareVnodes) -> CompareVnodesReply {
        let layout = self.cluster.layout();
        let count = layout.partition_count().get();
        let mut reply = CompareVnodesReply {
            catalogue_version: self.cluster.catalogue.version(),
            ..CompareVnodesReply::default()
        };
        for vnode in ask.vnodes.iter().filter(|vnode| vnode.partition < count) {
            let partition = PartitionId(vnode.partition);
            let Some(roots) = self.forest.roots(partition) else {
                reply.unready.push(vnode.partition);
                continue;
            };
            let nodes = [self.cluster.node, from];
            let roots = shared_roots(&self.cluster, &layout, partition, roots, nodes);
            if summary(&roots) == vnode.summary {
                continue;
            }
            let root = |(bucket, root): (BucketId, Digest)| TreeRoot {
                bucket_id: bucket.0,
                root: Bytes::copy_from_slice(&root.to_bytes()),
            };
            reply.differing.push(VnodeRoots {
                partition: vnode.partition,
                roots: roots.into_iter().map(root).collect(),
            });
        }
        reply
    }

    fn read_tree(&self, ask: &ReadTree) -> Result<ReadTreeReply, RequestError> {
        let tree = tree(ask.partition, ask.bucket_id)?;
        let groups = groups_from_wire(&ask.groups);
        let digests = self.forest.look(tree, |tree| {
            if groups.is_empty() {
                encode_groups(tree)
            } else {
                encode_leaves(tree, &groups)
            }
        });
        Ok(ReadTreeReply { digests })
    }

    fn list(&self, ask: &ListTreeKeys) -> Result<ListTreeKeysReply, RequestError> {
        let tree = tree(ask.partition, ask.bucket_id)?;
        let leaves: BTreeSet<LeafIndex> = leaves_from_wire(&ask.leaves);
        let after = Some(&ask.after).filter(|after| !after.is_empty());
        let page = self.walker.list(tree, &leaves, after, None, LIST_ROWS)?;
        for key in page.damaged {
            self.mender.note(key);
        }
        Ok(ListTreeKeysReply {
            keys: page.states.into_iter().map(key_to_wire).collect(),
            next: page.next.unwrap_or_default(),
        })
    }

    fn read_records(&self, ask: &ReadRecords) -> Result<ReadRecordsReply, RequestError> {
        let mut reply = ReadRecordsReply::default();
        let mut bytes = 0;
        for key in &ask.store_keys {
            let record = match self.records.read(key) {
                Ok(record) => record,
                // As if there were none: what is not known cannot travel.
                Err(cause) if cause.code() == ErrorCode::Corrupt => {
                    self.mender.note(key.clone());
                    Bytes::new()
                }
                Err(cause) => return Err(cause),
            };
            bytes += record.len();
            if bytes > RECORDS_BYTES && !reply.records.is_empty() {
                break;
            }
            reply.records.push(record);
        }
        Ok(reply)
    }

    fn suspect(&self, told: &SuspectLeaves) -> Result<(), RequestError> {
        let tree = tree(told.partition, told.bucket_id)?;
        let leaves: Vec<LeafIndex> = leaves_from_wire(&told.leaves);
        self.forest
            .suspect(leaves.into_iter().map(|leaf| LeafPlace { tree, leaf }));
        Ok(())
    }
}

fn tree(partition: u32, bucket: u32) -> Result<TreeId, RequestError> {
    if u16::try_from(partition).is_err() {
        return Err(RequestError::Invalid(format!(
            "a peer asked for partition {partition}, which no layout has"
        )));
    }
    Ok(TreeId {
        partition: PartitionId(partition),
        bucket: BucketId(bucket),
    })
}
