//! What an acceptor may promise and accept: a decision over one small header.
//!
//! An acceptor is a notary with one page per group. It signs for the highest ticket number it has seen,
//! refuses lower ones, and writes each change on top of exactly the page that the change was made for.
//!
//! Place: pure; the driver loads the header, asks for a decision, makes it durable, then replies.
//! Source: Lamport, Paxos Made Simple, 2001, §2.2 (P1a); Rystsov, CASPaxos, 2018, §2.2 and §2.3 (the next
//! promise on the accept); `gryadka/js: gryadka-core/src/Proposer.js` for the other side.
//! Shape: one [`AcceptorHeader`] per group, the rows stored one by one beside it, the [`UndoLog`] in memory.
//! Invariants: 1. `chosen ≤ accepted ≤ promised`, and none of them ever falls. 2. the rows are the state of
//! the accepted ballot, exactly. 3. a request of a lower epoch changes nothing.
//! The driver owes: header and rows change in one durable step, before the reply leaves; decisions on
//! one group are taken one after the other; the rows of a reply are read at the header's instant.
//! Not here: quorums (`acceptors`), proposals (`round`), acceptors that lost their state (learners).

use souk_ring::LayoutEpoch;

use super::undo::{UndoEntry, UndoLog};
use super::{
    AcceptReply, AcceptRequest, Ballot, Base, Delta, GroupSize, PrepareRequest, Report, RowView,
    Rows,
};

/// All that an acceptor has to remember of a group besides its rows. One durable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceptorHeader {
    /// Lower ballots are refused.
    pub promised: Ballot,
    /// The ballot whose state the rows are; [`Ballot::ZERO`] for an empty group.
    pub accepted: Ballot,
    /// The newest ballot known to be chosen.
    pub chosen: Ballot,
    /// The highest layout epoch that took part in this group; lower ones are refused.
    pub epoch: LayoutEpoch,
    /// The size of the stored state.
    pub size: GroupSize,
}

/// The answer to a prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrepareDecision {
    /// Store the header, then reply with [`AcceptorHeader::report`].
    Promise {
        /// The header to store. Its accepted ballot is unchanged.
        header: AcceptorHeader,
    },
    /// Nothing changes.
    Refused {
        /// The higher ballot promised before.
        promised: Ballot,
    },
    /// Nothing changes.
    WrongEpoch {
        /// The acceptor's epoch, higher than the request's.
        current: LayoutEpoch,
    },
}

/// The answer to an accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptDecision {
    /// Store header and rows in one step, then send the reply.
    Apply {
        /// The header to store.
        header: AcceptorHeader,
        /// What happens to the rows.
        change: RowsChange,
        /// What to send once all of it is durable.
        reply: AcceptReply,
    },
    /// Nothing to store; send the reply.
    Reply(AcceptReply),
}

/// What an accepted request does to the stored rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowsChange {
    /// Put and erase these.
    Update(Delta),
    /// Erase every row of the group, then put these.
    Replace(Delta),
}

impl RowsChange {
    /// Changes rows held in memory, as the driver changes stored ones.
    pub fn apply_to(&self, rows: &mut Rows) {
        match self {
            RowsChange::Update(delta) => delta.apply_to(rows),
            RowsChange::Replace(delta) => {
                rows.clear();
                delta.apply_to(rows);
            }
        }
    }
}

impl AcceptorHeader {
    /// The header of a group of which nothing is stored.
    ///
    /// `epoch` is the one that the node has durably adopted for the partition.
    #[must_use]
    pub fn empty(epoch: LayoutEpoch) -> AcceptorHeader {
        AcceptorHeader {
            promised: Ballot::ZERO,
            accepted: Ballot::ZERO,
            chosen: Ballot::ZERO,
            epoch,
            size: GroupSize::default(),
        }
    }

    /// The header as it counts once the node has adopted `epoch` for the whole partition.
    /// Apply it to every header that is loaded: that fences all groups at once without rewriting them.
    #[must_use]
    pub fn fenced(self, epoch: LayoutEpoch) -> AcceptorHeader {
        AcceptorHeader {
            epoch: self.epoch.max(epoch),
            ..self
        }
    }

    /// Decides about a prepare. A repeated one is promised again.
    #[must_use]
    pub fn prepare(&self, request: &PrepareRequest) -> PrepareDecision {
        if let Err(current) = self.admits(request.epoch) {
            return PrepareDecision::WrongEpoch { current };
        }
        if request.ballot < self.promised {
            return PrepareDecision::Refused {
                promised: self.promised,
            };
        }
        PrepareDecision::Promise {
            header: AcceptorHeader {
                promised: request.ballot,
                epoch: request.epoch,
                ..*self
            },
        }
    }

    /// Decides about an accept.
    ///
    /// `stored` shows the stored rows of every key that [`AcceptRequest::looked_up`] names. `undo` is brought up to date
    /// at once; should the store then fail, keeping or dropping it are both safe.
    #[must_use]
    pub fn accept(
        &self,
        request: &AcceptRequest,
        stored: &impl RowView,
        undo: &mut UndoLog,
    ) -> AcceptDecision {
        let ballot = request.ballot;
        if let Err(current) = self.admits(request.epoch) {
            return AcceptDecision::Reply(AcceptReply::WrongEpoch { current });
        }
        if self.accepted == ballot {
            return self.accept_again(request);
        }
        if ballot < self.promised {
            return AcceptDecision::Reply(AcceptReply::Refused {
                ballot,
                promised: self.promised,
            });
        }
        let Some((change, size)) = self.change(request, stored, undo) else {
            return AcceptDecision::Reply(AcceptReply::NeedFull {
                ballot,
                accepted: self.accepted,
            });
        };
        let promised = request.next_promise.unwrap_or(ballot).max(ballot);
        let chosen = self.chosen.max(request.chosen.min(ballot));
        let header = AcceptorHeader {
            promised,
            accepted: ballot,
            chosen,
            epoch: request.epoch,
            size,
        };
        AcceptDecision::Apply {
            header,
            change,
            reply: AcceptReply::Accepted { ballot, promised },
        }
    }

    /// What the acceptor tells a proposer or a reader; `rows` were read at this header's instant.
    #[must_use]
    pub fn report(&self, rows: Rows) -> Report {
        Report {
            accepted: self.accepted,
            chosen: self.chosen,
            size: self.size,
            rows,
        }
    }

    /// Decides about a read or a fetch of the group, which change nothing.
    ///
    /// # Errors
    /// The acceptor's epoch, when it is higher than the request's.
    pub fn admits(&self, epoch: LayoutEpoch) -> Result<(), LayoutEpoch> {
        if epoch < self.epoch {
            Err(self.epoch)
        } else {
            Ok(())
        }
    }

    /// The ballot is accepted already: the request is a copy, or tells the same state another way.
    /// A promise that it asks for can still be given, as long as no higher one was.
    fn accept_again(&self, request: &AcceptRequest) -> AcceptDecision {
        let ballot = self.accepted;
        match request.next_promise {
            Some(next) if ballot == self.promised && next > ballot => AcceptDecision::Apply {
                header: AcceptorHeader {
                    promised: next,
                    epoch: request.epoch,
                    ..*self
                },
                change: RowsChange::Update(Delta::default()),
                reply: AcceptReply::Accepted {
                    ballot,
                    promised: next,
                },
            },
            _ => AcceptDecision::Reply(AcceptReply::Accepted {
                ballot,
                promised: self.promised,
            }),
        }
    }

    /// The change that turns the stored rows into the request's state, and the size of that state.
    /// `None` when the request stands on a state that is neither stored nor within reach.
    fn change(
        &self,
        request: &AcceptRequest,
        stored: &impl RowView,
        undo: &mut UndoLog,
    ) -> Option<(RowsChange, GroupSize)> {
        let base = match request.base {
            Base::On(base) => base,
            Base::Whole => {
                undo.clear();
                let size = request
                    .delta
                    .rows
                    .iter()
                    .fold(GroupSize::default(), |size, (key, row)| {
                        size.replaced(key, None, row.as_ref())
                    });
                return Some((RowsChange::Replace((*request.delta).clone()), size));
            }
        };
        let (base_size, mut change) = if base == self.accepted {
            (self.size, Delta::default())
        } else {
            undo.way_back(self.accepted, base)?
        };
        let mut before = Delta::default();
        let mut size = base_size;
        for (key, row) in &request.delta.rows {
            let at_base = match change.rows.get(key) {
                Some(put_back) => put_back.clone(),
                None => stored.row(key).cloned(),
            };
            size = size.replaced(key, at_base.as_ref(), row.as_ref());
            before.rows.insert(key.clone(), at_base);
        }
        change.rows.extend(
            request
                .delta
                .rows
                .iter()
                .map(|(key, row)| (key.clone(), row.clone())),
        );
        undo.push(UndoEntry {
            ballot: request.ballot,
            base,
            base_size,
            before,
        });
        Some((RowsChange::Update(change), size))
    }
}
