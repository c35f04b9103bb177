//! Why a layout could not be made.
//!
//! Place: pure; shown to operators by `souk up`, `souk node` and `souk admin layout`.
//! Not here: malformed names, weights and counts, which their own types refuse earlier.

use thiserror::Error;

use crate::layout::{Layout, LayoutEpoch};
use crate::member::{NodeId, StoreId};
use crate::name::Name;
use crate::partition::{PartitionCount, PartitionId};

/// What is wrong with members, changes or stored parts of a layout.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// What: no members. Mend: name at least one; a cluster never loses its last member.
    #[error("a layout has no members; name at least one node")]
    NoMembers,
    /// What: more members than a layout plans for. Mend: run several clusters.
    #[error("{members_count} members are more than the {max} a layout may have; use fewer, larger nodes or several clusters", max = Layout::MEMBERS_MAX)]
    TooManyMembers {
        /// How many were given.
        members_count: usize,
    },
    /// What: two members share a name. Mend: rename one.
    #[error("two members are called {name}; give each node its own name")]
    NameTaken {
        /// The doubled name.
        name: Name,
    },
    /// What: a change names a node that is no member. Mend: look up the current members.
    #[error("node {id} is no member of this layout; list the members and use one of their ids")]
    UnknownMember {
        /// The unknown id.
        id: NodeId,
    },
    /// What: a store asks to become a member's, and the member has it already, or had it before.
    #[error("store {store} of node {id} is no new one; make a new store identity and ask again")]
    StoreNotNew {
        /// The member.
        id: NodeId,
        /// The store that was offered.
        store: StoreId,
    },
    /// What: a member without a store of its own cannot be judged. Mend: start all founders once.
    #[error("node {id} has not shown its store yet; start all nodes of cluster.toml once")]
    StoreUnknown {
        /// The member.
        id: NodeId,
    },
    /// What: too few members would be left that are sure of their past.
    /// Why: a learner needs a majority of the others to be taught by.
    /// Mend: bring the lost stores back, or choose a surviving copy: `souk admin register recover`.
    #[error(
        "with node {id} as a learner, {partition} would have {sure_count} of {copies_count} copies that are sure of their past, which is no majority; give a lost node its data directory back, or see `souk admin register recover`"
    )]
    TooFewSure {
        /// Who would become a learner.
        id: NodeId,
        /// The first partition without a majority.
        partition: PartitionId,
        /// How many sure copies it would keep.
        sure_count: usize,
        /// Of how many.
        copies_count: usize,
    },
    /// What: a change was applied while the copies of another one are still on their way.
    /// Mend: wait until it has settled, or call it off.
    #[error(
        "the change of layout {started} is still under way; see `souk admin layout show`, wait until its copies have arrived, or call it off with `souk admin layout call-off`"
    )]
    StillMoving {
        /// The epoch that began it.
        started: LayoutEpoch,
    },
    /// What: nothing is under way that could settle or be called off.
    #[error("no change of the layout is under way")]
    NotMoving,
    /// What: a node that joins has not shown its store. Mend: start it.
    #[error(
        "node {name} has not shown itself yet; start it with `souk node --name {name} --join ADDRESS`"
    )]
    NewcomerUnknown {
        /// Its name.
        name: Name,
    },
    /// What: no node ids are left. Why: ids are never reused. Mend: import into a new cluster.
    #[error("all node ids have been given out; import the data into a new cluster")]
    NodeIdsExhausted,
    /// What: no epochs are left. Mend: import into a new cluster.
    #[error("all layout epochs have been used; import the data into a new cluster")]
    EpochsExhausted,
    /// What: stored or received parts contradict themselves. Why: damaged bytes, or a sender of
    /// another version. Mend: fetch the layout again from another member.
    #[error("layout {epoch} contradicts itself: {fault}; fetch it again from another member")]
    Malformed {
        /// The epoch that the parts claim.
        epoch: LayoutEpoch,
        /// The first contradiction found.
        fault: LayoutFault,
    },
}

/// One way in which the parts of a layout contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutFault {
    /// Epochs start at 1.
    #[error("its epoch is 0")]
    EpochZero,
    /// Node ids start at 1.
    #[error("member {name} has the node id 0")]
    NodeIdZero {
        /// The member.
        name: Name,
    },
    /// Two members carry one id.
    #[error("two members have the id {id}")]
    NodeIdTwice {
        /// The doubled id.
        id: NodeId,
    },
    /// The next id to give was already given.
    #[error("next_node_id {next_node_id} is not above the member id {highest}")]
    NextNodeIdTooLow {
        /// The claimed next id.
        next_node_id: NodeId,
        /// The highest id among the members.
        highest: NodeId,
    },
    /// There is not one list of owners per partition.
    #[error("it lists owners for {lists_count} partitions, but has {partition_count}")]
    PartitionLists {
        /// How many lists there are.
        lists_count: usize,
        /// How many there should be.
        partition_count: PartitionCount,
    },
    /// A partition has too few or too many owners.
    #[error("{partition} has {owners_count} owners instead of {copies_count}")]
    OwnersCount {
        /// The partition.
        partition: PartitionId,
        /// How many owners it has.
        owners_count: usize,
        /// How many it should have.
        copies_count: usize,
    },
    /// An owner is no member.
    #[error("{partition} is owned by {id}, which is no member")]
    OwnerUnknown {
        /// The partition.
        partition: PartitionId,
        /// The unknown owner.
        id: NodeId,
    },
    /// A node would hold one partition twice.
    #[error("{partition} is owned twice by {id}")]
    OwnerTwice {
        /// The partition.
        partition: PartitionId,
        /// The doubled owner.
        id: NodeId,
    },
    /// A move began at an impossible epoch.
    #[error("its move began at epoch {started}")]
    MoveStarted {
        /// The epoch it claims.
        started: LayoutEpoch,
    },
    /// Who joins or leaves is no member, or does both.
    #[error("{id} is said to join or leave and is no member, or does both")]
    MoverUnknown {
        /// The node.
        id: NodeId,
    },
    /// All members join, or all leave.
    #[error("all of its members join or leave")]
    NobodyStays,
    /// The founding layout does not hash to the digest it carries.
    #[error("its genesis hash is {stored:016x}, but its members give {computed:016x}")]
    GenesisHash {
        /// The digest it carries.
        stored: u64,
        /// The digest of its members.
        computed: u64,
    },
}
