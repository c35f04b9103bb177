//! One round with one other replica: every vnode that both hold is compared, and what differs is brought together.
//!
//! Vnodes are taken some at a time. Their trees are searched down to the leaves; then all wait together for writes
//! under way, look again, list keys and move records. Questions go out one after the other on the bulk lane, so a
//! round costs its peer little at any moment, and never more than the governors of both allow.
//!
//! Invariants: 1. a round that fails has done no harm, and the next begins anew. 2. records move in lots of bounded
//! size; nothing here grows with the number of keys.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use souk_kv_core::merkle::{
    Digest, ExchangeStep, KeyMove, KeyState, LeafIndex, MerkleExchange, MoveKind, SuspectSide,
};
use souk_kv_proto::{
    convert::causality::decode_record,
    peer::{
        CompareVnodes, CompareVnodesReply, ListTreeKeys, ReadRecords, ReadTree, SuspectLeaves,
        VnodeRoots, VnodeSummary, WriteRecord, WriteRecords, peer_message::Body,
    },
};
use souk_ring::{NodeId, PartitionId};
use tokio::time::{Duration, Instant, sleep};
use tracing::debug;

use super::{
    AntiEntropy, Tally,
    answers::{LIST_ROWS, LIST_UNITS},
    forest::{Held, LeafPlace},
    shared::{shared_roots, summary},
    wire::{decode_groups, decode_leaves, decode_one, key_from_wire},
};
use crate::{
    error::RequestError,
    governor::Job,
    keys::{BucketId, TreeId},
    peer::PeerError,
};

/// Vnodes compared at once.
const VNODES: usize = 64;
/// Records moved at once, one way.
const LOT: usize = 64;
/// Bytes of records sent at once, unless one alone has more.
const LOT_BYTES: usize = 2 * 1024 * 1024;
/// What one question may take: its peer may be busy with those whom people wait for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    /// What: the other replica gave no usable answer. The next round tries again.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// What: it answered something else than was asked. Mend: run one version on all nodes.
    #[error("it answered something else than was asked: are all nodes of one version?")]
    Strange,
    /// What: this node cannot read or write its own records.
    #[error(transparent)]
    Own(#[from] RequestError),
}

/// A round under way.
pub(super) struct Round<'a> {
    pub(super) parts: &'a AntiEntropy,
    pub(super) peer: NodeId,
    /// Compare this bucket alone.
    pub(super) only: Option<BucketId>,
    /// Compare this vnode alone.
    pub(super) only_vnode: Option<PartitionId>,
    pub(super) tally: Tally,
}

type Searches = Vec<(TreeId, MerkleExchange)>;
type VnodesRoots = BTreeMap<PartitionId, BTreeMap<BucketId, Digest>>;

impl Round<'_> {
    /// Compares all vnodes that both hold; tells after some of them how far it is.
    pub(super) async fn run(
        &mut self,
        told: &mut (dyn FnMut(&Tally) + Send),
    ) -> Result<(), RoundError> {
        let layout = self.parts.cluster.layout();
        let shared: Vec<PartitionId> = layout
            .kept_by(self.parts.cluster.node)
            .filter(|partition| self.only_vnode.is_none_or(|only| only == *partition))
            .filter(|partition| {
                layout
                    .receivers(*partition, usize::MAX)
                    .contains(&self.peer)
            })
            .collect();
        for vnodes in shared.chunks(VNODES) {
            let mut searches = self.compare(vnodes).await?;
            for (tree, search) in &mut searches {
                self.search(*tree, search).await?;
            }
            searches.retain(|(_, search)| search.step() != ExchangeStep::Done);
            if !searches.is_empty() {
                sleep(self.parts.recheck).await;
            }
            for (tree, search) in &mut searches {
                search.on_paused();
                self.search(*tree, search).await?;
                self.tell_suspects(*tree, search).await?;
            }
            self.tally.vnodes += vnodes.len() as u64;
            told(&self.tally);
        }
        Ok(())
    }

    /// Finds the trees that differ.
    async fn compare(&mut self, vnodes: &[PartitionId]) -> Result<Searches, RoundError> {
        let layout = self.parts.cluster.layout();
        let nodes = [self.parts.cluster.node, self.peer];
        let mut own = self.own_roots(vnodes);
        let mut reply = self.ask_roots(&own).await?;
        if reply.catalogue_version > self.parts.cluster.catalogue.version() {
            self.parts.cluster.pull_catalogue(self.peer).await;
            own = self.own_roots(vnodes);
            reply = self.ask_roots(&own).await?;
        }
        self.tally.vnodes_unready += (vnodes.len() - own.len() + reply.unready.len()) as u64;
        let mut searches = Vec::new();
        for vnode in reply.differing {
            let partition = PartitionId(vnode.partition);
            let Some(own) = own.get(&partition) else {
                continue;
            };
            let theirs = shared_roots(
                &self.parts.cluster,
                &layout,
                partition,
                roots_from_wire(&vnode)?,
                nodes,
            );
            let buckets: BTreeSet<BucketId> = own.keys().chain(theirs.keys()).copied().collect();
            for bucket in buckets {
                let root = |roots: &BTreeMap<BucketId, Digest>| {
                    roots.get(&bucket).copied().unwrap_or_default()
                };
                let search = MerkleExchange::start(root(own), root(&theirs));
                let is_wanted = self.only.is_none_or(|only| only == bucket);
                if is_wanted && search.step() != ExchangeStep::Done {
                    self.tally.trees += 1;
                    searches.push((TreeId { partition, bucket }, search));
                }
            }
        }
        Ok(searches)
    }

    /// The roots of the trees that both hold, of each vnode whose trees stand for all records.
    fn own_roots(&self, vnodes: &[PartitionId]) -> VnodesRoots {
        let cluster = &self.parts.cluster;
        let layout = cluster.layout();
        let nodes = [cluster.node, self.peer];
        let roots = |partition: &PartitionId| {
            let roots = self.parts.forest.roots(*partition)?;
            let roots = shared_roots(cluster, &layout, *partition, roots, nodes);
            Some((*partition, roots))
        };
        vnodes.iter().filter_map(roots).collect()
    }

    async fn ask_roots(&mut self, own: &VnodesRoots) -> Result<CompareVnodesReply, RoundError> {
        let vnodes = own.iter().map(|(partition, roots)| VnodeSummary {
            partition: partition.0,
            summary: summary(roots),
        });
        let ask = CompareVnodes {
            vnodes: vnodes.collect(),
            catalogue_version: self.parts.cluster.catalogue.version(),
        };
        match self.ask(Body::CompareVnodes(ask), 1).await? {
            Body::CompareVnodesReply(reply) => Ok(reply),
            _ => Err(RoundError::Strange),
        }
    }

    /// Goes on with one tree until it has to pause, or is done.
    async fn search(
        &mut self,
        tree: TreeId,
        search: &mut MerkleExchange,
    ) -> Result<(), RoundError> {
        let mut listed = None;
        loop {
            let step = search.step();
            match &step {
                ExchangeStep::Pause | ExchangeStep::Done => return Ok(()),
                ExchangeStep::AskGroups => {
                    let digests = self.read_tree(tree, Vec::new()).await?;
                    let theirs = decode_groups(&digests).ok_or(RoundError::Strange)?;
                    let own = self.parts.forest.look(tree, |tree| *tree.groups());
                    search.on_groups(&own, &theirs);
                }
                ExchangeStep::AskLeaves(groups) => {
                    let asked = groups.iter().map(|group| group.get().into()).collect();
                    let digests = self.read_tree(tree, asked).await?;
                    let theirs = decode_leaves(&digests).ok_or(RoundError::Strange)?;
                    if theirs.len() != groups.len() {
                        return Err(RoundError::Strange);
                    }
                    let own = |leaf| self.parts.forest.look(tree, |tree| tree.leaf(leaf));
                    search.on_leaves(own, &theirs);
                }
                ExchangeStep::ListKeys { leaves, after } => {
                    let leaves: BTreeSet<LeafIndex> = leaves.iter().copied().collect();
                    if listed.replace(leaves.len()).is_none() {
                        self.tally.leaves += leaves.len() as u64;
                    }
                    let (own, theirs, next) = self.list(tree, &leaves, after.as_ref()).await?;
                    let moves = search.on_keys(&own, &theirs, next);
                    for lot in moves.chunks(LOT) {
                        self.move_lot(lot).await?;
                    }
                }
            }
        }
    }

    async fn read_tree(&mut self, tree: TreeId, groups: Vec<u32>) -> Result<Bytes, RoundError> {
        let ask = ReadTree {
            partition: tree.partition.0,
            bucket_id: tree.bucket.0,
            groups,
        };
        match self.ask(Body::ReadTree(ask), 1).await? {
            Body::ReadTreeReply(reply) => Ok(reply.digests),
            _ => Err(RoundError::Strange),
        }
    }

    /// One page of both sides' keys, over the same stretch.
    async fn list(
        &mut self,
        tree: TreeId,
        leaves: &BTreeSet<LeafIndex>,
        after: Option<&Bytes>,
    ) -> Result<(Vec<KeyState>, Vec<KeyState>, Option<Bytes>), RoundError> {
        let ask = ListTreeKeys {
            partition: tree.partition.0,
            bucket_id: tree.bucket.0,
            leaves: leaves.iter().map(|leaf| leaf.get().into()).collect(),
            after: after.cloned().unwrap_or_default(),
        };
        let Body::ListTreeKeysReply(reply) = self.ask(Body::ListTreeKeys(ask), LIST_UNITS).await?
        else {
            return Err(RoundError::Strange);
        };
        let their_next = Some(reply.next).filter(|next| !next.is_empty());
        if let (Some(after), Some(next)) = (after, &their_next)
            && next <= after
        {
            return Err(RoundError::Strange);
        }
        let mut theirs: Vec<KeyState> = reply.keys.into_iter().map(key_from_wire).collect();
        let own = self
            .parts
            .walker
            .list(tree, leaves, after, their_next.as_ref(), LIST_ROWS)
            .map_err(RequestError::from)?;
        for key in own.damaged {
            self.parts.mender.note(key);
        }
        // The nearer end of the two: behind it only one side was read.
        let next = own.next.or(their_next);
        if let Some(next) = &next {
            theirs.retain(|state| state.key <= *next);
        }
        Ok((own.states, theirs, next))
    }

    /// Fetches, merges and sends some records.
    async fn move_lot(&mut self, moves: &[KeyMove]) -> Result<(), RoundError> {
        // Entered before anything is read: what is read may be collected before it arrives.
        let work = self.parts.cluster.in_flight.enter();
        let wanted: Vec<Bytes> = moves
            .iter()
            .filter(|step| matches!(step.kind, MoveKind::Fetch | MoveKind::Exchange))
            .map(|step| step.key.clone())
            .collect();
        self.fetch(wanted).await?;
        let mut lot = Vec::new();
        let mut lot_bytes = 0;
        for step in moves {
            if step.kind == MoveKind::MendHere {
                self.tally.keys_damaged += 1;
                continue;
            }
            let Ok(record) = self.parts.records.read(&step.key) else {
                continue;
            };
            let held = decode_record(record.clone())
                .map_or(Held::Unknown, |(record, _)| Held::of(&record));
            let is_news = match (held, step.theirs) {
                (Held::Record(here), there) => there != Some(here),
                (Held::Nothing | Held::Unknown, _) => false,
            };
            if !is_news {
                continue;
            }
            if lot_bytes + record.len() > LOT_BYTES && !lot.is_empty() {
                self.push(std::mem::take(&mut lot)).await?;
                lot_bytes = 0;
            }
            lot_bytes += record.len();
            lot.push(WriteRecord {
                store_key: step.key.clone(),
                record,
                generation: work.generation(),
                origin: None,
                layout_epoch: 0,
            });
        }
        if lot.is_empty() {
            return Ok(());
        }
        self.push(lot).await
    }

    async fn fetch(&mut self, mut keys: Vec<Bytes>) -> Result<(), RoundError> {
        while !keys.is_empty() {
            let ask = ReadRecords {
                store_keys: keys.clone(),
            };
            let Body::ReadRecordsReply(reply) =
                self.ask(Body::ReadRecords(ask), units(keys.len())).await?
            else {
                return Err(RoundError::Strange);
            };
            let answered = reply.records.len();
            if answered == 0 || answered > keys.len() {
                return Err(RoundError::Strange);
            }
            let arrived: Vec<WriteRecord> = keys
                .drain(..answered)
                .zip(reply.records)
                // Gone since it was listed.
                .filter(|(_, record)| !record.is_empty())
                .map(|(store_key, record)| WriteRecord {
                    store_key,
                    // A copy: the message that it came in is larger.
                    record: Bytes::copy_from_slice(&record),
                    ..WriteRecord::default()
                })
                .collect();
            self.tally.keys_fetched += arrived.len() as u64;
            self.parts.records.merge_all(arrived).await?;
        }
        Ok(())
    }

    async fn push(&mut self, lot: Vec<WriteRecord>) -> Result<(), RoundError> {
        let count = lot.len();
        let write = Body::WriteRecords(WriteRecords { records: lot });
        match self.ask(write, units(count)).await? {
            Body::Done(_) => {
                self.tally.keys_pushed += count as u64;
                Ok(())
            }
            _ => Err(RoundError::Strange),
        }
    }

    async fn tell_suspects(
        &mut self,
        tree: TreeId,
        search: &MerkleExchange,
    ) -> Result<(), RoundError> {
        let (here, there): (Vec<_>, Vec<_>) = search
            .suspects()
            .iter()
            .copied()
            .partition(|(side, _)| *side == SuspectSide::Here);
        self.tally.leaves_suspect += (here.len() + there.len()) as u64;
        self.parts
            .forest
            .suspect(here.into_iter().map(|(_, leaf)| LeafPlace { tree, leaf }));
        if there.is_empty() {
            return Ok(());
        }
        debug!(peer = self.peer.0, ?tree, "a tree of a peer seems wrong");
        let told = SuspectLeaves {
            partition: tree.partition.0,
            bucket_id: tree.bucket.0,
            leaves: there.iter().map(|(_, leaf)| leaf.get().into()).collect(),
        };
        match self.ask(Body::SuspectLeaves(told), 1).await? {
            Body::Done(_) => Ok(()),
            _ => Err(RoundError::Strange),
        }
    }

    async fn ask(&mut self, body: Body, units: u32) -> Result<Body, RoundError> {
        self.parts.governor.pace(Job::AntiEntropy, units).await;
        self.tally.requests += 1;
        self.tally.bytes_sent += body.encoded_len() as u64;
        let deadline = Instant::now() + PATIENCE;
        let cluster = &self.parts.cluster;
        let answer = cluster.call_in_bulk(self.peer, body, deadline).await?;
        self.tally.bytes_received += answer.encoded_len() as u64;
        Ok(answer)
    }
}

fn units(records: usize) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX)
}

fn roots_from_wire(vnode: &VnodeRoots) -> Result<BTreeMap<BucketId, Digest>, RoundError> {
    let root = |root: &souk_kv_proto::peer::TreeRoot| {
        let digest = decode_one(&root.root).ok_or(RoundError::Strange)?;
        Ok((BucketId(root.bucket_id), digest))
    };
    vnode.roots.iter().map(root).collect()
}

#[cfg(test)]
#[path = "exchange_test.rs"]
mod tests;
