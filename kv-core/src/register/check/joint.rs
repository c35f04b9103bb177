//! One directed run: while voters change, an identity round must not answer before those who vote afterwards have the state.
//!
//! Random runs meet this seldom: an acceptor has to know that its newest ballot is chosen, which it hears only when it lagged
//! and was helped.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use souk_ring::{LayoutEpoch, NodeId};

use super::super::{
    AcceptRequest, Acceptors, Action, Ballot, Base, Cell, Delta, Evaluation, Round, Row, RowKey,
    RowSelection, Rows, Version,
};
use super::replica::{EPOCH, Replica, Reply, Request};

const OLD: [u32; 3] = [0, 1, 2];
const NEXT: [u32; 3] = [2, 3, 4];
const JOINT: LayoutEpoch = LayoutEpoch(EPOCH.0 + 1);

fn ballot(counter: u64) -> Ballot {
    Ballot {
        counter,
        proposer: 1,
    }
}

fn rows() -> Rows {
    let cell = Cell {
        content_type: super::content_type(),
        bytes: Bytes::from_static(b"the last lamp"),
    };
    let row = Row {
        version: Version::new(ballot(1), 0),
        cell: Some(cell),
        written_unix_ms: 0,
    };
    Rows::from([(RowKey::user(b"lamp"), row)])
}

/// Ballot 1 was chosen by the first two old owners, who know it; the third one and the next ones have nothing.
fn world() -> BTreeMap<u32, Replica> {
    let mut replicas: BTreeMap<u32, Replica> =
        (0..5).map(|node| (node, Replica::new(None))).collect();
    let helping = AcceptRequest {
        epoch: EPOCH,
        ballot: ballot(1),
        base: Base::Whole,
        delta: Delta::whole(rows()).into(),
        fresh: Default::default(),
        next_promise: None,
        chosen: ballot(1),
    };
    for node in [0, 1] {
        let replica = replicas.get_mut(&node).expect("there are five");
        replica.handle(&Request::Accept(helping.clone()));
        assert_eq!(replica.header.chosen, ballot(1));
    }
    for replica in replicas.values_mut() {
        replica.adopt(JOINT);
    }
    replicas
}

/// Runs an identity round to its end; says who has accepted ballot 1 or a newer one at the moment it answers.
fn settle(acceptors: Acceptors, silent: u32) -> Vec<u32> {
    let mut replicas = world();
    let wanted = RowSelection::keys([RowKey::user(b"lamp")]);
    let (mut round, actions) = Round::prepare(acceptors, JOINT, ballot(2), wanted);
    let mut waiting = VecDeque::from(actions);
    while let Some(action) = waiting.pop_front() {
        let (to, request, behind) = match action {
            Action::SendPrepare { to, request } => (to, Request::Prepare(request), None),
            Action::SendAccept { to, request } => (to, Request::Accept(request), None),
            Action::FetchGroup {
                from,
                behind,
                since,
            } => (from, Request::Fetch { behind, since }, Some(behind)),
            Action::Evaluate => {
                let basis = round.basis().expect("it asks for an evaluation");
                let identity = Evaluation::identity(basis);
                waiting.extend(round.propose(&identity, None));
                continue;
            }
            Action::Chosen(_) => {
                let has_it = |(_, replica): &(&u32, &Replica)| {
                    replica.header.accepted >= ballot(1) && replica.rows == rows()
                };
                return replicas
                    .iter()
                    .filter(has_it)
                    .map(|(node, _)| *node)
                    .collect();
            }
            Action::Lost(lost) => panic!("{lost:?}"),
        };
        if to == NodeId(silent) {
            waiting.extend(round.on_failed(to));
            continue;
        }
        let replica = replicas.get_mut(&to.0).expect("there are five");
        waiting.extend(match (replica.handle(&request), behind) {
            (Reply::Promise(reply), _) => round.on_promise(to, reply),
            (Reply::Accept(reply), _) => round.on_accept(to, reply),
            (Reply::Group { image, .. }, Some(behind)) => round.on_group(to, behind, Some(image)),
            (reply, _) => panic!("{reply:?}"),
        });
    }
    panic!("the round does not end");
}

#[test]
fn who_votes_afterwards_has_the_state_before_a_joint_round_answers() {
    let nodes = |ids: [u32; 3]| ids.map(NodeId);
    for silent in [0, 1, 2, 3, 4] {
        let holders = settle(Acceptors::joint(nodes(OLD), nodes(NEXT)), silent);
        let next = NEXT.iter().filter(|node| holders.contains(node)).count();
        assert!(
            next >= 2,
            "{silent} is silent, and only {holders:?} have it"
        );
    }
}

#[test]
fn who_voted_all_along_need_not_be_asked_again() {
    let holders = settle(Acceptors::new(OLD.map(NodeId)), 2);
    assert_eq!(holders, [0, 1]);
}
