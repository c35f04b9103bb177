//! The small worlds, what has to hold in each, and the mutants that each has to notice.

use super::super::mutant::Mutant;
use super::{Explorer, Plan};

/// Two proposers that write once each.
fn two_writers() -> Plan {
    Plan {
        tasks: [vec![true], vec![true]],
        rounds_max: [1, 1],
        clocks: [0, 0],
        replica_restarts: 0,
        proposer_restarts: 0,
        leads: [false; 2],
        mutant: None,
        states_max: 60_000,
    }
}

/// A proposer that writes twice, the second time from its lead if it can, and a rival.
fn a_leader_and_a_rival() -> Plan {
    Plan {
        tasks: [vec![true, true], vec![true]],
        rounds_max: [2, 1],
        leads: [true, false],
        ..two_writers()
    }
}

/// A proposer that writes and then asks, and a rival that outruns its lead.
fn a_leader_that_asks() -> Plan {
    let tasks = [vec![true, false], vec![true]];
    Plan {
        tasks,
        rounds_max: [2, 1],
        clocks: [0, 5],
        leads: [true, false],
        ..two_writers()
    }
}

/// A proposer that writes, and one that asks.
fn a_writer_and_an_asker() -> Plan {
    Plan {
        tasks: [vec![true], vec![false]],
        rounds_max: [1, 1],
        ..two_writers()
    }
}

fn check(plan: Plan, complete: bool) {
    match Explorer::new(plan.clone()).run() {
        Ok(states) => {
            println!("{states} states");
            assert!(
                states > 5_000,
                "only {states} states: the world hardly moved"
            );
            assert!(
                !complete || states < plan.states_max,
                "no longer complete: raise states_max"
            );
        }
        Err(violation) => panic!("{violation} in {plan:?}"),
    }
}

fn caught(mutant: Mutant, plan: Plan) {
    let plan = Plan {
        mutant: Some(mutant),
        ..plan
    };
    match Explorer::new(plan).wander(4_000) {
        Ok(walks) => panic!("{mutant:?} was not noticed in {walks} walks"),
        Err(violation) => println!("{mutant:?}: {violation}"),
    }
}

#[test]
fn two_writers_agree_whatever_happens() {
    check(two_writers(), true);
}

#[test]
fn two_writers_agree_across_the_restart_of_an_acceptor() {
    check(
        Plan {
            replica_restarts: 1,
            ..two_writers()
        },
        false,
    );
}

#[test]
fn two_writers_agree_across_the_restart_of_a_proposer() {
    check(
        Plan {
            rounds_max: [2, 1],
            proposer_restarts: 1,
            ..two_writers()
        },
        false,
    );
}

#[test]
fn a_lead_is_safe_beside_a_rival() {
    check(a_leader_and_a_rival(), false);
}

#[test]
fn an_answer_holds_what_was_chosen_before() {
    check(a_writer_and_an_asker(), true);
    check(a_leader_that_asks(), false);
}

#[test]
fn broken_acceptors_are_noticed() {
    caught(Mutant::AcceptBelowPromise, two_writers());
    caught(
        Mutant::ForgetPromise,
        Plan {
            replica_restarts: 1,
            ..two_writers()
        },
    );
    caught(Mutant::IgnoreBase, two_writers());
    for mutant in [Mutant::RollBackOnPaper, Mutant::CallAllFresh] {
        caught(
            mutant,
            Plan {
                rounds_max: [2, 2],
                ..two_writers()
            },
        );
    }
}

#[test]
fn broken_proposers_are_noticed() {
    caught(Mutant::SmallQuorum, two_writers());
    caught(Mutant::LeadAfterLoss, a_leader_and_a_rival());
    caught(Mutant::LeadUnpromised, a_leader_and_a_rival());
    caught(
        Mutant::ReuseBallots,
        Plan {
            rounds_max: [2, 1],
            proposer_restarts: 1,
            ..two_writers()
        },
    );
}

#[test]
fn broken_answers_are_noticed() {
    caught(Mutant::AnswerUnchosen, a_writer_and_an_asker());
    caught(Mutant::AnswerFromLead, a_leader_that_asks());
}
