//! A coordinator of the large world: queue, coalescing, leads, backoff and one-round reads, at their simplest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use souk_ring::{LayoutEpoch, NodeId};

use super::super::super::{
    Acceptors, Action, AfterLoss, Backoff, Ballot, BallotClock, Condition, Evaluation,
    EvaluationTime, Lead, Lost, LostReason, ReadOutcome, ReadReply, ReadRound, RequestStamp, Round,
    RowOperation, RowSelection, Rows, Transaction, Verdict, Version, after_loss, evaluate,
};
use super::super::history::{ROWS, State};
use super::super::mutant::Mutant;
use super::super::replica::{Reply, Request, read_request};
use super::{Asking, Event, Question, World, all_rows, row_key, state_of};
use crate::causality::RequestId;
use crate::outcome::Outcome;

pub(super) struct Coordinator {
    pub(super) clock: BallotClock,
    pub(super) seen: Ballot,
    pub(super) waiting: Vec<Question>,
    pub(super) active: Option<Active>,
    pub(super) lead: Option<Lead>,
    pub(super) backoff: Backoff,
    /// The newest epoch it has heard of.
    pub(super) epoch: LayoutEpoch,
    pub(super) paused: bool,
    pub(super) reads: BTreeMap<u64, Reading>,
}

pub(super) struct Active {
    pub(super) round: Round,
    pub(super) batch: Vec<Question>,
    pub(super) evaluation: Option<Evaluation>,
}

pub(super) struct Reading {
    pub(super) round: ReadRound,
    pub(super) question: Question,
    pub(super) replies: BTreeMap<NodeId, Rows>,
}
impl World {
    pub(super) fn ask(&mut self, place: usize, question: Question) {
        if question.change.is_some() {
            self.coordinators[place].waiting.push(question);
            return self.pump(place);
        }
        self.number += 1;
        let id = self.number;
        let acceptors = self.acceptors(place);
        let epoch = self.coordinators[place].epoch;
        let asked = acceptors.nodes();
        let reading = Reading {
            round: ReadRound::new(acceptors, epoch),
            question,
            replies: BTreeMap::new(),
        };
        self.coordinators[place].reads.insert(id, reading);
        let wanted = Arc::new(all_rows());
        for replica in asked {
            self.request(
                place,
                replica.0 as usize,
                Asking::Read(id),
                read_request(epoch, &wanted),
            );
        }
        self.after(
            self.round_ticks(),
            Event::RoundTimeout {
                coordinator: place,
                round: Asking::Read(id),
            },
        );
    }

    /// Who votes, by the layout that a coordinator knows.
    pub(super) fn acceptors(&self, place: usize) -> Acceptors {
        let epoch = self.coordinators[place].epoch;
        let era = self.eras.iter().rfind(|era| era.epoch == epoch);
        era.expect("it has heard of no other").acceptors()
    }

    pub(super) fn request(
        &mut self,
        coordinator: usize,
        replica: usize,
        round: Asking,
        request: Request,
    ) {
        self.post(
            coordinator,
            replica,
            Event::ToReplica {
                replica,
                coordinator,
                round,
                request,
            },
        );
    }

    /// Starts a round when there is work and none is under way.
    pub(super) fn pump(&mut self, place: usize) {
        let acceptors = self.acceptors(place);
        let may_vote = self.may_vote(place);
        let coordinator = &mut self.coordinators[place];
        if coordinator.active.is_some() || coordinator.paused || coordinator.waiting.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut coordinator.waiting);
        let keys: BTreeSet<_> = batch
            .iter()
            .filter_map(|question| question.change.as_ref())
            .flat_map(Transaction::keys)
            .collect();
        let epoch = coordinator.epoch;
        let mut lead = coordinator.lead.take().filter(|lead| lead.epoch() == epoch);
        if let Some(held) = &mut lead {
            let missing = held.missing(&keys);
            let own = &self.replicas[place];
            let rows = RowSelection::keys(missing.iter().cloned()).select(&own.rows);
            let report = own.header.report(rows);
            if !missing.is_empty() && (!may_vote || held.learn(&missing, report).is_err()) {
                lead = None;
            }
        }
        let (round, actions) = match lead {
            Some(lead) => {
                self.rounds_led += 1;
                (Round::resume(lead), vec![Action::Evaluate])
            }
            None => {
                let ballot = coordinator.clock.next(self.now, coordinator.seen).unwrap();
                Round::prepare(acceptors, epoch, ballot, RowSelection::keys(keys))
            }
        };
        let asking = Asking::Round(round.ballot());
        coordinator.active = Some(Active {
            round,
            batch,
            evaluation: None,
        });
        self.after(
            self.round_ticks(),
            Event::RoundTimeout {
                coordinator: place,
                round: asking,
            },
        );
        self.perform(place, actions);
    }

    pub(super) fn perform(&mut self, place: usize, actions: Vec<Action>) {
        let mut open = VecDeque::from(actions);
        while let Some(action) = open.pop_front() {
            let Some(active) = &self.coordinators[place].active else {
                return;
            };
            let asking = Asking::Round(active.round.ballot());
            match action {
                Action::SendPrepare { to, request } => {
                    self.request(place, to.0 as usize, asking, Request::Prepare(request));
                }
                Action::SendAccept { to, request } => {
                    self.request(place, to.0 as usize, asking, Request::Accept(request));
                }
                Action::FetchGroup {
                    from,
                    behind,
                    since,
                } => {
                    self.request(
                        place,
                        from.0 as usize,
                        asking,
                        Request::Fetch { behind, since },
                    );
                }
                Action::Evaluate => open.extend(self.evaluate(place)),
                Action::Chosen(mut chosen) => {
                    let coordinator = &mut self.coordinators[place];
                    coordinator.lead = chosen.take_lead();
                    coordinator.backoff.reset();
                    let active = coordinator.active.take().unwrap();
                    let verdicts = active.evaluation.unwrap().open(&chosen).unwrap();
                    for (question, verdict) in active.batch.into_iter().zip(verdicts) {
                        self.answer(question, verdict);
                    }
                    return self.pump(place);
                }
                Action::Lost(lost) => return self.lost(place, lost),
            }
        }
    }

    pub(super) fn evaluate(&mut self, place: usize) -> Vec<Action> {
        let time = EvaluationTime {
            now_unix_ms: self.now,
            request_memory_ms: 100_000,
            clock_skew_max_ms: 1_000,
        };
        let coordinator = &mut self.coordinators[place];
        let active = coordinator.active.as_mut().unwrap();
        let basis = active.round.basis().unwrap();
        let queue = active
            .batch
            .iter()
            .filter_map(|question| question.change.as_ref());
        let evaluation = evaluate(basis, &time, queue).unwrap();
        let next = coordinator.clock.next(self.now, basis.ballot).unwrap();
        let actions = active.round.propose(&evaluation, Some(next));
        active.evaluation = Some(evaluation);
        actions
    }

    pub(super) fn lost(&mut self, place: usize, mut lost: Lost) {
        let random = self.chance.next();
        let coordinator = &mut self.coordinators[place];
        coordinator.seen = coordinator.seen.max(lost.highest_seen);
        if let LostReason::Epoch(newer) = lost.reason {
            coordinator.epoch = coordinator.epoch.max(newer);
        }
        let wait = coordinator.backoff.next(random);
        let active = coordinator.active.take().unwrap();
        if self.mutant == Some(Mutant::ForgetExposure) {
            lost.accepts_sent = false;
        }
        for mut question in active.batch {
            let Some(change) = &mut question.change else {
                continue;
            };
            let outcome = match after_loss(change, &lost, wait.is_some()) {
                AfterLoss::TryAgain => {
                    self.coordinators[place].waiting.push(question);
                    continue;
                }
                AfterLoss::NotApplied => Outcome::NotApplied,
                AfterLoss::Unknown => Outcome::Unknown,
            };
            // The client of a lost ballot hears nothing of conditions; only "not applied" is told apart.
            if outcome == Outcome::NotApplied {
                let verdict = Verdict::NotApplied { failed: Vec::new() };
                self.tell_later(&question, Ok(verdict), outcome);
            }
        }
        match wait {
            Some(wait) => {
                self.coordinators[place].paused = true;
                self.after(wait.as_millis() as u64, Event::Wake { coordinator: place });
            }
            None => {
                self.coordinators[place].backoff.reset();
                self.pump(place);
            }
        }
    }

    pub(super) fn reply(&mut self, place: usize, asking: Asking, from: usize, reply: Reply) {
        let node = NodeId(from as u32);
        match (asking, reply) {
            (Asking::Read(id), Reply::Read(reply)) => self.read_reply(place, id, node, &reply),
            (Asking::Round(ballot), reply) => {
                let Some(active) = &mut self.coordinators[place].active else {
                    return;
                };
                if active.round.ballot() != ballot {
                    return;
                }
                let actions = match reply {
                    Reply::Promise(reply) => active.round.on_promise(node, reply),
                    Reply::Accept(reply) => active.round.on_accept(node, reply),
                    Reply::Group { behind, image } => {
                        active.round.on_group(node, behind, Some(image))
                    }
                    Reply::Read(_) => return,
                };
                self.perform(place, actions);
            }
            _ => {}
        }
    }

    pub(super) fn read_reply(&mut self, place: usize, id: u64, from: NodeId, reply: &ReadReply) {
        let Some(reading) = self.coordinators[place].reads.get_mut(&id) else {
            return;
        };
        let mut outcome = reading.round.on_reply(from, reply);
        if let ReadReply::Report(report) = reply {
            reading.replies.insert(from, report.rows.clone());
            if self.mutant == Some(Mutant::ReadOne) {
                outcome = Some(ReadOutcome::Settled {
                    ballot: report.accepted,
                    sources: vec![from],
                });
            }
        }
        if let Some(outcome) = outcome {
            self.finish_read(place, id, outcome);
        }
    }

    pub(super) fn finish_read(&mut self, place: usize, id: u64, outcome: ReadOutcome) {
        let Some(reading) = self.coordinators[place].reads.remove(&id) else {
            return;
        };
        match outcome {
            ReadOutcome::Settled { sources, .. } => {
                let state = state_of(&reading.replies[&sources[0]]);
                self.tell_later(&reading.question, Err(state), Outcome::Applied);
            }
            ReadOutcome::NeedsIdentityRound { highest_seen } => {
                let coordinator = &mut self.coordinators[place];
                coordinator.seen = coordinator.seen.max(highest_seen);
                let question = Question {
                    change: Some(reading_transaction()),
                    ..reading.question
                };
                coordinator.waiting.push(question);
                self.pump(place);
            }
            ReadOutcome::Epoch(newer) => {
                let coordinator = &mut self.coordinators[place];
                coordinator.epoch = coordinator.epoch.max(newer);
            }
            ReadOutcome::Unreachable => {}
        }
    }

    pub(super) fn round_timeout(&mut self, place: usize, asking: Asking) {
        match asking {
            Asking::Read(id) => {
                if let Some(reading) = self.coordinators[place].reads.get_mut(&id) {
                    let outcome = reading.round.on_timeout();
                    self.finish_read(place, id, outcome);
                }
            }
            Asking::Round(ballot) => {
                let Some(active) = &mut self.coordinators[place].active else {
                    return;
                };
                if active.round.ballot() == ballot {
                    let actions = active.round.on_timeout();
                    self.perform(place, actions);
                }
            }
        }
    }

    pub(super) fn answer(&mut self, question: Question, verdict: Verdict) {
        let outcome = verdict.outcome(question.change.as_ref().unwrap());
        self.tell_later(&question, Ok(verdict), outcome);
    }

    pub(super) fn tell_later(
        &mut self,
        question: &Question,
        told: Result<Verdict, State>,
        outcome: Outcome,
    ) {
        let Question {
            client,
            sequence,
            attempt,
            ..
        } = *question;
        self.carry(Event::Tell {
            client,
            sequence,
            attempt,
            told,
            outcome,
        });
    }
}

/// A read that travels with the changes: a condition that never holds brings back every row.
pub(super) fn reading_transaction() -> Transaction {
    let never = Condition::Version(Version::new(Ballot::ZERO, 0));
    let operations = (0..ROWS).map(|row| RowOperation {
        key: row_key(row),
        condition: never,
        write: None,
    });
    let request = RequestId {
        client: [0; 16],
        sequence: 0,
    };
    let stamp = RequestStamp {
        request,
        attempt: 1,
        lowest_unanswered: 0,
        issued_unix_ms: 0,
    };
    Transaction::new(stamp, operations.collect()).unwrap()
}
