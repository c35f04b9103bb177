//! Takes deletes out of the store for good, by proof and never by age.
//!
//! The picture: a library that withdraws a book. The card "withdrawn" may leave the catalogue only when no reader,
//! no returns box and no courier still has a copy, for whoever finds a copy and no card puts the book back on the
//! shelf. So every branch empties its boxes and waits for its couriers, twice, and only then the cards go.
//!
//! # The argument
//!
//! Call *old* every copy of a record that lacks something of the state *h* that a tombstone has. Old copies are what
//! can bring a deleted value back. They lie on the disk of a primary, in a hint, in the memory of a coordinator, a
//! repair, a handoff or a transfer, or in a message. A round over the members of the layout goes so:
//!
//! 1. **Mark.** Every primary says that it holds exactly *h*. From then on no primary holds anything old: what is
//!    stored only grows, until it is erased. Reading primaries gives nothing old any more.
//! 2. **Quiesce.** Every member ends all work that began before, and then fences its peers: a message of such work
//!    that arrives later is refused ([`WorkLedger`], [`Fences`]). Now old copies are in hints, and in the hands of
//!    those who read one since.
//! 3. **Check.** Every member looks whether its disk holds a hint for the key. Nobody can make an old hint any more,
//!    so those who hold none will hold none. Then it quiesces once more, which ends whoever had read one before it
//!    was delivered. Nothing old is left anywhere.
//! 4. **Settle.** Every primary erases what it holds if that is still *h*; any change cancels, at this primary only.
//!    A primary that kept a changed record has all of *h* in it, and gives it to the others: nothing comes back.
//!
//! The same proof lets loose dots become a version vector: no dot of those actors that *h* lacks is under way.
//! A member that is absent blocks the round, for it may hold anything; nobody's clock decides. A clock only decides
//! when a round is worth trying ([`judge`]), and whether an expired value is deleted, which is a write like any other.
//!
//! Place: pure; driven by `souk_kv_node::tombstone`.
//! Source: this store's design, §3; the double quiesce is the grace period of McKenney, Read-Copy-Update (2004);
//! `OpenRiak/riak_kv: src/riak_kv_delete.erl` for what goes wrong with a time-out.
//! Shape: `judge` says what a record is good for, [`Round`] is the one who asks, [`Marks`], [`WorkLedger`] and
//! [`Fences`] are those who answer, [`ErasedFloor`] is what remains of what was erased.
//! Invariants: 1. nothing is settled before every member has quiesced, checked and quiesced again. 2. a key with a
//! hint anywhere is left out. 3. only records without values are erased, and only as they were marked.
//! Not here: what members there are; whom an operator has forgotten; finding candidates.

mod fences;
mod floor;
mod judge;
mod ledger;
mod marks;
mod round;

#[cfg(test)]
mod check;

pub use fences::Fences;
pub use floor::ErasedFloor;
pub use judge::{Judgement, LOOSE_DOTS_FOLD_MIN, Ripeness, judge};
pub use ledger::{Generation, WorkLedger};
pub use marks::{Marks, RoundId};
pub use round::{
    Item, Purpose, ROUND_ITEMS_MAX, Refusal, Round, RoundAction, RoundActions, RoundReport,
};
