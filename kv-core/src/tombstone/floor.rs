//! What a vnode still knows of the records that it has erased: how far its own counters and dates had come.
//!
//! A client may hold the context of a key that has been erased since. Without this, its next write would look like
//! proof that the store has lost a record, and cost the vnode its actor; and in a `lww` bucket a slow clock would date
//! a new value before the tombstone that another primary still has, and lose it.
//!
//! Place: pure; stored in the batch that erases, one row per vnode.
//! Invariants: 1. it only grows under one actor. 2. a store that was rolled back has its floor rolled back with it: every
//! counter minted after the copy was made lies above the floor in the copy, so the floor hides no rollback.

use super::super::causality::{ActorId, Record, Stamp};

/// How far the erased records of one vnode had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedFloor {
    /// Whose counters these are.
    pub actor: ActorId,
    /// The greatest counter of that actor in an erased record; 0 when there was none.
    pub counter: u64,
    /// The newest stamp in an erased record.
    pub stamp: Stamp,
}

impl ErasedFloor {
    /// The floor of a vnode that has erased nothing.
    #[must_use]
    pub const fn new(actor: ActorId) -> ErasedFloor {
        ErasedFloor {
            actor,
            counter: 0,
            stamp: Stamp::ZERO,
        }
    }

    /// The floor of the same vnode under another actor: dates stay, counters are the old actor's.
    #[must_use]
    pub fn under(self, actor: ActorId) -> ErasedFloor {
        if self.actor == actor {
            return self;
        }
        ErasedFloor {
            stamp: self.stamp,
            ..ErasedFloor::new(actor)
        }
    }

    /// The floor after a record has been erased.
    #[must_use]
    pub fn with(self, erased: &Record) -> ErasedFloor {
        let context = erased.context();
        let of_vector = context
            .vector()
            .filter(|&(actor, _)| actor == self.actor)
            .map(|(_, counter)| counter);
        let of_loose = context.loose().iter();
        let of_loose = of_loose
            .filter(|dot| dot.actor == self.actor)
            .map(|dot| dot.counter);
        let counter = of_vector.chain(of_loose).max().unwrap_or(0);
        ErasedFloor {
            counter: self.counter.max(counter),
            stamp: self.stamp.max(context.newest_stamp()),
            ..self
        }
    }

    /// Whether a write that a client has seen, and that is missing here, may have been erased with good reason.
    #[must_use]
    pub fn explains(&self, actor: ActorId, counter: u64) -> bool {
        actor == self.actor && counter <= self.counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::{CausalContext, Dot, RequestMemory};

    #[test]
    fn it_explains_what_was_erased_and_nothing_later() {
        let (own, other) = (ActorId::from_bytes([1; 16]), ActorId::from_bytes([2; 16]));
        let context = CausalContext::from_parts(
            [(own, 5), (other, 90)],
            [Dot {
                actor: own,
                counter: 8,
            }],
            Stamp::from_bits(70),
        );
        let erased = Record::from_parts(context, [], RequestMemory::default()).unwrap();
        let floor = ErasedFloor::new(own).with(&erased);
        assert!(floor.explains(own, 8));
        assert!(!floor.explains(own, 9));
        assert!(!floor.explains(other, 1));
        assert_eq!(floor.stamp, Stamp::from_bits(70));
        // A new actor explains nothing of its predecessor's, and stamps still pass what was erased.
        let next = floor.under(other);
        assert!(!next.explains(other, 1));
        assert_eq!(next.stamp, floor.stamp);
        assert_eq!(floor.under(own), floor);
    }
}
