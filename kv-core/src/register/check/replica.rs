//! An acceptor with its store, as a test world holds it: the real decisions over rows in memory.

use std::sync::Arc;

use souk_ring::{LayoutEpoch, NodeId};

use super::super::{
    AcceptDecision, AcceptReply, AcceptRequest, AcceptorHeader, Ballot, Base, Delta, GroupImage,
    KnownRows, PrepareDecision, PrepareRequest, PromiseReply, ReadReply, ReadRequest, Rows,
    UndoLog,
};
use super::mutant::Mutant;

/// The epoch in which all test worlds begin.
pub(super) const EPOCH: LayoutEpoch = LayoutEpoch(1);

/// What a proposer or a reader asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Request {
    Prepare(PrepareRequest),
    Accept(AcceptRequest),
    Fetch {
        behind: NodeId,
        since: Option<Ballot>,
    },
    Read(ReadRequest),
}

impl Request {
    /// The epoch that it is asked under; `None` for a look at the state that changes nothing.
    pub(super) fn epoch(&self) -> Option<LayoutEpoch> {
        match self {
            Request::Prepare(request) => Some(request.epoch),
            Request::Accept(request) => Some(request.epoch),
            Request::Read(request) => Some(request.epoch),
            Request::Fetch { .. } => None,
        }
    }
}

/// What an acceptor answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reply {
    Promise(PromiseReply),
    Accept(AcceptReply),
    Group { behind: NodeId, image: GroupImage },
    Read(ReadReply),
}

/// An acceptor: what is on its disk, and the undo log in its memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Replica {
    pub(super) header: AcceptorHeader,
    pub(super) rows: Rows,
    undo: UndoLog,
    /// The epoch that its node has adopted.
    pub(super) adopted: LayoutEpoch,
    mutant: Option<Mutant>,
}

impl Replica {
    pub(super) fn new(mutant: Option<Mutant>) -> Replica {
        Replica {
            header: AcceptorHeader::empty(EPOCH),
            rows: Rows::new(),
            undo: UndoLog::default(),
            adopted: EPOCH,
            mutant,
        }
    }

    /// Adopts an epoch: nothing of an older one changes anything from here on.
    pub(super) fn adopt(&mut self, epoch: LayoutEpoch) {
        self.adopted = self.adopted.max(epoch);
        self.header = self.header.fenced(self.adopted);
    }

    /// Takes over what it was taught.
    pub(super) fn learn(&mut self, header: AcceptorHeader, rows: Rows) {
        self.header = header.fenced(self.adopted);
        self.rows = rows;
        self.undo = UndoLog::default();
    }

    /// Loses what is not on disk.
    pub(super) fn restart(&mut self) {
        self.undo = UndoLog::default();
        if self.mutant == Some(Mutant::ForgetPromise) {
            self.header.promised = self.header.accepted;
        }
    }

    pub(super) fn handle(&mut self, request: &Request) -> Reply {
        match request {
            Request::Prepare(request) => Reply::Promise(self.prepare(request)),
            Request::Accept(request) => Reply::Accept(self.accept(request)),
            Request::Fetch { behind, since } => Reply::Group {
                behind: *behind,
                image: self.image(*since),
            },
            Request::Read(request) => Reply::Read(match self.header.admits(request.epoch) {
                Ok(()) => ReadReply::Report(self.header.report(request.rows.select(&self.rows))),
                Err(current) => ReadReply::WrongEpoch { current },
            }),
        }
    }

    fn prepare(&mut self, request: &PrepareRequest) -> PromiseReply {
        let ballot = request.ballot;
        match self.header.prepare(request) {
            PrepareDecision::Promise { header } => {
                self.header = header;
                PromiseReply::Promised {
                    ballot,
                    report: header.report(request.rows.select(&self.rows)),
                }
            }
            PrepareDecision::Refused { promised } => PromiseReply::Refused { ballot, promised },
            PrepareDecision::WrongEpoch { current } => PromiseReply::WrongEpoch { current },
        }
    }

    fn accept(&mut self, request: &AcceptRequest) -> AcceptReply {
        let mut header = self.header;
        let mut request = request.clone();
        match (self.mutant, request.base) {
            (Some(Mutant::AcceptBelowPromise), _) => header.promised = header.accepted,
            (Some(Mutant::IgnoreBase), Base::On(_)) => request.base = Base::On(header.accepted),
            (Some(Mutant::RollBackOnPaper), Base::On(base))
                if self.undo.way_back(header.accepted, base).is_some() =>
            {
                request.base = Base::On(header.accepted);
            }
            (Some(Mutant::CallAllFresh), _) => {
                request.fresh = Arc::new(request.delta.rows.keys().cloned().collect());
            }
            _ => {}
        }
        // As a driver does it: of the rows that are said to be new nothing is looked up.
        let stored = KnownRows::from_reply(
            [],
            request
                .looked_up()
                .filter_map(|key| Some((key.clone(), self.rows.get(key)?.clone())))
                .collect(),
        );
        match header.accept(&request, &stored, &mut self.undo) {
            AcceptDecision::Apply {
                header,
                change,
                reply,
            } => {
                self.header = header;
                change.apply_to(&mut self.rows);
                reply
            }
            AcceptDecision::Reply(reply) => reply,
        }
    }

    fn image(&self, since: Option<Ballot>) -> GroupImage {
        let accepted = self.header.accepted;
        let known_way =
            since.and_then(|base| Some((base, self.undo.changed_since(accepted, base)?)));
        match known_way {
            Some((base, keys)) => {
                let rows = keys
                    .into_iter()
                    .map(|key| (key.clone(), self.rows.get(&key).cloned()))
                    .collect();
                GroupImage {
                    accepted,
                    base: Base::On(base),
                    delta: Delta { rows },
                }
            }
            None => GroupImage {
                accepted,
                base: Base::Whole,
                delta: Delta::whole(self.rows.clone()),
            },
        }
    }
}

/// Shares one selection among all requests of a test.
pub(super) fn read_request(epoch: LayoutEpoch, rows: &Arc<super::super::RowSelection>) -> Request {
    Request::Read(ReadRequest {
        epoch,
        rows: Arc::clone(rows),
    })
}
