//! Moving a partition to a new owner, without anything of it being lost or said twice on the way.
//!
//! A shop changes hands while it stays open. First the seller's whole staff learns of it, so that nobody sells
//! by the old rules any more; only then is the stock listed, by asking more than half of them, because no single
//! one knows every shelf; each shelf is signed over in front of both staffs; the books are copied and compared;
//! and when the buyer has it all, the door gets the new name.
//!
//! | step of the design | here |
//! |---|---|
//! | (a) a layout of both, old and next owners | `souk_ring::Layout::begun`, decided by `crate::layout` |
//! | (b) a majority of the old owners adopts it | they answer [`TransferAction::ListGroups`] only then |
//! | (c) groups are listed, as the union over such a majority | [`PartitionTransfer::on_names`] |
//! | (d) an identity round of both for each group | [`TransferAction::SettleGroup`] |
//! | records are copied from that majority, and compared | [`TransferAction::CopyRecords`], [`TransferAction::Compare`] |
//! | (e) the layout of the next owners alone | [`Settlement`] says when it may be proposed |
//!
//! Place: pure; driven by `souk_kv_node`, one [`PartitionTransfer`] for each partition that a node gains.
//! Source: Lamport, Malkhi, Zhou, Reconfiguring a State Machine, 2010; traps 9, 10 and 12 of the design.
//! Shape: the gaining node pulls. What fails is asked again; nothing that was done is done twice.
//! Invariants: 1. no group is settled before a majority of the old owners has told its groups under the layout of
//! both. 2. a partition is done only after every listed group was settled and every node of that majority was copied
//! and compared. 3. a move settles only when every gaining node has everything. Played out, with old coordinators
//! that write on, in `crate::register`'s random runs; broken on purpose there, it is noticed.
//! Not here: bytes, pace, checkpoints on disk, what an operator is shown (`souk_kv_node`).

mod partition;
mod settlement;

pub use partition::{PartitionTransfer, Progress, TransferAction, WaitsFor};
pub use settlement::Settlement;
