//! A proposer of the small world: a real round, its tasks, and the rules that mutants break.

use std::collections::VecDeque;

use souk_ring::NodeId;

use super::super::super::{
    Acceptors, Action, Ballot, BallotClock, Basis, Cell, Chosen, Condition, Evaluation,
    EvaluationTime, KnownRows, Lead, RequestStamp, Round, RowOperation, RowSelection, RowView,
    Transaction, Verdict, Version, Write, evaluate,
};
use super::super::content_type;
use super::super::mutant::Mutant;
use super::super::replica::{EPOCH, Reply, Request};
use super::{MARKS, Plan, Shown, mark_key, text, text_key};
use crate::causality::RequestId;

/// A proposer between two messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proposer {
    pub(super) clock: BallotClock,
    pub(super) life: u8,
    pub(super) seen: Ballot,
    pub(super) task: usize,
    pub(super) rounds_left: u8,
    pub(super) round: Option<Round>,
    pub(super) evaluation: Option<Evaluation>,
    pub(super) basis: Option<Basis>,
    pub(super) next: Option<Ballot>,
    pub(super) lead: Option<Lead>,
}

impl Proposer {
    pub(super) fn start(&mut self, plan: &Plan, index: u8) -> Vec<Action> {
        self.rounds_left -= 1;
        if let Some(lead) = self.lead.take() {
            self.round = Some(Round::resume(lead));
            return vec![Action::Evaluate];
        }
        let ballot = self
            .clock
            .next(plan.clocks[usize::from(index)], self.seen)
            .unwrap();
        let nodes = match plan.mutant {
            Some(Mutant::SmallQuorum) => vec![NodeId(u32::from(index))],
            _ => (0..3).map(NodeId).collect(),
        };
        let (round, actions) = Round::prepare(
            Acceptors::new(nodes),
            EPOCH,
            ballot,
            RowSelection::keys([text_key(), mark_key(self.mark(index))]),
        );
        self.round = Some(round);
        actions
    }

    pub(super) fn restart(&mut self, plan: &Plan, index: u8) {
        self.life += 1;
        let life = if plan.mutant == Some(Mutant::ReuseBallots) {
            0
        } else {
            self.life
        };
        self.clock = BallotClock::new(u64::from(index + 2 * life) + 1);
        self.seen = Ballot::ZERO;
        self.end();
        self.lead = None;
    }

    /// Each life of each proposer writes a mark of its own.
    pub(super) fn mark(&self, index: u8) -> u8 {
        MARKS[usize::from(index + 2 * self.life)]
    }

    pub(super) fn end(&mut self) {
        self.round = None;
        self.evaluation = None;
        self.basis = None;
        self.next = None;
    }

    pub(super) fn take(&mut self, replica: u8, reply: Reply) -> Vec<Action> {
        let Some(round) = &mut self.round else {
            return Vec::new();
        };
        let from = NodeId(u32::from(replica));
        match reply {
            Reply::Promise(reply) => round.on_promise(from, reply),
            Reply::Accept(reply) => round.on_accept(from, reply),
            Reply::Group { behind, image } => round.on_group(from, behind, Some(image)),
            Reply::Read(_) => Vec::new(),
        }
    }

    /// Does what the round asks for, until only messages are left to send.
    pub(super) fn perform(
        &mut self,
        actions: Vec<Action>,
        plan: &Plan,
        index: u8,
        shown: &mut Vec<Shown>,
    ) -> Vec<(u8, Request)> {
        let mut sent = Vec::new();
        let mut open = VecDeque::from(actions);
        while let Some(action) = open.pop_front() {
            match action {
                Action::SendPrepare { to, request } => {
                    sent.push((to.0 as u8, Request::Prepare(request)))
                }
                Action::SendAccept { to, request } => {
                    sent.push((to.0 as u8, Request::Accept(request)))
                }
                Action::FetchGroup {
                    from,
                    behind,
                    since,
                } => {
                    sent.push((from.0 as u8, Request::Fetch { behind, since }));
                }
                Action::Evaluate => open.extend(self.evaluate(plan, index)),
                Action::Chosen(chosen) => self.chosen(chosen, plan, shown),
                Action::Lost(lost) => {
                    self.seen = self.seen.max(lost.highest_seen);
                    if plan.mutant == Some(Mutant::LeadAfterLoss) && lost.accepts_sent {
                        self.lead = self.forged_lead();
                    }
                    self.end();
                }
            }
        }
        sent
    }

    pub(super) fn evaluate(&mut self, plan: &Plan, index: u8) -> Vec<Action> {
        let round = self.round.as_mut().unwrap();
        let basis = round.basis().unwrap().clone();
        let writes = plan.tasks[usize::from(index)][self.task];
        let evaluation = evaluate(
            &basis,
            &NOW,
            [&transaction(writes, &basis, self.mark(index))],
        )
        .unwrap();
        self.basis = Some(basis.clone());
        self.evaluation = Some(evaluation.clone());
        let from_lead = basis.base.proposer == basis.ballot.proposer && !basis.settled;
        let lies = match plan.mutant {
            Some(Mutant::AnswerUnchosen) => !basis.settled,
            Some(Mutant::AnswerFromLead) => from_lead,
            _ => false,
        };
        if lies && evaluation.is_identity() {
            let chosen = Chosen {
                proposed: basis.ballot,
                state: basis.base,
                lead: None,
            };
            return vec![Action::Chosen(chosen)];
        }
        self.next =
            plan.leads[usize::from(index)].then(|| self.clock.next(0, basis.ballot).unwrap());
        let next = self
            .next
            .filter(|_| plan.mutant != Some(Mutant::LeadUnpromised));
        self.round.as_mut().unwrap().propose(&evaluation, next)
    }

    pub(super) fn chosen(&mut self, mut chosen: Chosen, plan: &Plan, shown: &mut Vec<Shown>) {
        shown.push(Shown::Chosen(chosen.state()));
        let seen = text(&self.basis.as_ref().unwrap().rows);
        self.lead = chosen.take_lead();
        if plan.mutant == Some(Mutant::LeadUnpromised)
            && self.lead.is_none()
            && chosen.state == chosen.proposed
        {
            self.lead = self.forged_lead();
        }
        for verdict in self.evaluation.take().unwrap().open(&chosen).unwrap() {
            if let Verdict::NotApplied { .. } | Verdict::Applied(_) = verdict {
                shown.push(Shown::Answer(seen.clone()));
            }
        }
        self.task += 1;
        self.end();
    }

    /// A lead that nobody granted.
    pub(super) fn forged_lead(&self) -> Option<Lead> {
        let (basis, evaluation) = (self.basis.as_ref()?, self.evaluation.as_ref()?);
        let mut rows: KnownRows = basis.rows.clone();
        rows.advance(&evaluation.delta);
        Some(Lead {
            acceptors: Acceptors::new((0..3).map(NodeId)),
            epoch: EPOCH,
            base: basis.ballot,
            next: self.next?,
            size: basis.size.after(&evaluation.delta, &basis.rows),
            rows,
        })
    }
}

const NOW: EvaluationTime = EvaluationTime {
    now_unix_ms: 0,
    request_memory_ms: 1000,
    clock_skew_max_ms: 1000,
};

/// Appends the proposer's mark to the text, or asks a question whose answer is "no" and tells the text.
fn transaction(writes: bool, basis: &Basis, mark: u8) -> Transaction {
    let put = |bytes: Vec<u8>| {
        Write::Put(Cell {
            content_type: content_type(),
            bytes: bytes.into(),
        })
    };
    let operation = |key, condition, write| RowOperation {
        key,
        condition,
        write,
    };
    let mut operations = vec![operation(
        text_key(),
        Condition::Version(Version::new(Ballot::ZERO, 0)),
        None,
    )];
    if writes {
        let row = basis.rows.row(&text_key());
        let condition = row.map_or(Condition::Absent, |row| Condition::Version(row.version));
        let longer = [&text(&basis.rows)[..], &[mark]].concat();
        operations = vec![
            operation(text_key(), condition, Some(put(longer))),
            operation(mark_key(mark), Condition::Any, Some(put(vec![mark]))),
        ];
    }
    let request = RequestId {
        client: [mark; 16],
        sequence: 0,
    };
    let stamp = RequestStamp {
        request,
        attempt: 1,
        lowest_unanswered: 0,
        issued_unix_ms: 0,
    };
    Transaction::new(stamp, operations).unwrap()
}
