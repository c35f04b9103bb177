//! Every turn that a small book of layouts can take: 3 members, 2 proposers, messages lost, repeated and late,
//! proposers that forget, and a member that loses its store and is swapped for another.
//!
//! The network is the set of all requests ever sent; any may arrive at any time, any number of times, or
//! never. Two epochs are decided: in the first a store may be swapped, in the second its successor votes.
//! Invariants checked at every state: 1. one value is chosen per epoch. 2. a proposer says "chosen" only of
//! what is. Each mutant breaks one rule and has to be noticed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use souk_ring::{LayoutEpoch, NodeId};

use super::{Ask, Decision, Given, LayoutVote, Step, VoteReply, VoteRequest};
use crate::register::{Acceptors, Ballot};

/// Epoch 1 is where all begin; epochs 2 and 3 are decided.
const FIRST: LayoutEpoch = LayoutEpoch(1);
const LAST: LayoutEpoch = LayoutEpoch(3);

/// What a layout says here: who wished for it, and whether the third member has a new store.
type Value = (u8, bool);
type Vote = LayoutVote<Value>;
type Request = VoteRequest<Value>;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// A member with a new store votes before a layout names that store.
    VoteUnnamed,
    /// A proposer sticks to its own wish.
    OwnWish,
    /// A member forgets its promise.
    ForgetPromise,
    /// One member is a quorum.
    SmallQuorum,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    vote: Option<Vote>,
    adopted: LayoutEpoch,
    /// Whether its store is the new one. Only the third member changes it.
    is_new_store: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Sent {
    to: u8,
    proposer: u8,
    request: Request,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    members: [Member; 3],
    tries: [Option<Decision<Value>>; 2],
    tries_left: [u8; 2],
    wipes_left: u8,
    /// What was chosen, by the checker's own count: votes by epoch, ballot and value.
    votes: BTreeMap<(LayoutEpoch, Ballot, Value), BTreeSet<(u8, bool)>>,
    chosen: BTreeMap<LayoutEpoch, Value>,
    network: BTreeSet<Sent>,
}

struct Checker {
    mutant: Option<Mutant>,
    states_max: usize,
}

impl World {
    fn new(tries: [u8; 2], wipes: u8) -> World {
        let member = Member {
            vote: None,
            adopted: FIRST,
            is_new_store: false,
        };
        World {
            members: [member.clone(), member.clone(), member],
            tries: [None, None],
            tries_left: tries,
            wipes_left: wipes,
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            network: BTreeSet::new(),
        }
    }

    /// Whether the layout of that epoch names the third member's new store.
    fn names_new_store(&self, epoch: LayoutEpoch) -> bool {
        (FIRST.0..=epoch.0)
            .filter_map(|epoch| self.chosen.get(&LayoutEpoch(epoch)))
            .any(|value| value.1)
    }
}

impl Checker {
    fn turns(&self, world: &World) -> Result<Vec<World>, String> {
        let mut next = Vec::new();
        for sent in &world.network {
            self.deliver(world, sent, &mut next)?;
        }
        for proposer in 0..2 {
            next.extend(self.begin(world, proposer));
            if world.tries[proposer].is_some() {
                let mut forgot = world.clone();
                forgot.tries[proposer] = None;
                next.push(forgot);
            }
        }
        for member in 0..3 {
            let known = world.chosen.keys().next_back().copied();
            if let Some(newer) = known.filter(|newer| *newer > world.members[member].adopted) {
                let mut caught_up = world.clone();
                caught_up.members[member].adopted = newer;
                next.push(caught_up);
            }
        }
        if world.wipes_left > 0 {
            let mut wiped = world.clone();
            wiped.wipes_left -= 1;
            wiped.members[2] = Member {
                vote: None,
                adopted: FIRST,
                is_new_store: true,
            };
            next.push(wiped);
        }
        Ok(next)
    }

    /// Proposer 0 is the first member and wishes for a plain layout; proposer 1 is the third and wishes for
    /// its new store, once it has one.
    fn begin(&self, world: &World, proposer: usize) -> Option<World> {
        let mut world = world.clone();
        let member = &world.members[proposer * 2];
        let deciding = member.adopted.next().filter(|epoch| *epoch <= LAST)?;
        if world.tries_left[proposer] == 0 || world.tries[proposer].is_some() {
            return None;
        }
        let nodes = match self.mutant {
            Some(Mutant::SmallQuorum) => vec![NodeId(proposer as u32 * 2)],
            _ => (0..3).map(NodeId).collect(),
        };
        let ballot = Ballot {
            counter: 10 - u64::from(world.tries_left[proposer]),
            proposer: proposer as u64 + 1,
        };
        let wish = (proposer as u8, proposer == 1 && member.is_new_store);
        world.tries_left[proposer] -= 1;
        let (decision, sends) = Decision::start(Ask {
            acceptors: Acceptors::new(nodes),
            deciding,
            ballot,
            wish,
        });
        world.tries[proposer] = Some(decision);
        world.send(proposer, sends);
        Some(world)
    }

    fn deliver(&self, world: &World, sent: &Sent, next: &mut Vec<World>) -> Result<(), String> {
        let mut world = world.clone();
        let to = usize::from(sent.to);
        let (VoteRequest::Prepare { deciding, .. } | VoteRequest::Accept { deciding, .. }) =
            &sent.request;
        let member = world.members[to].clone();
        let named = !member.is_new_store || world.names_new_store(member.adopted);
        if !named && self.mutant != Some(Mutant::VoteUnnamed) {
            return Ok(());
        }
        let reply = match Vote::give(member.vote.as_ref(), member.adopted, &sent.request) {
            Given::Reply(reply) => reply,
            Given::Store { mut vote, reply } => {
                if self.mutant == Some(Mutant::ForgetPromise) {
                    let accepted = vote.accepted.as_ref();
                    vote.promised = accepted.map_or(Ballot::ZERO, |proposal| proposal.ballot);
                }
                world.members[to].vote = Some(vote);
                reply
            }
        };
        if let (VoteReply::Accepted { .. }, VoteRequest::Accept { proposal, .. }) =
            (&reply, &sent.request)
        {
            let key = (*deciding, proposal.ballot, proposal.value);
            world.count(key, (sent.to, member.is_new_store))?;
        }
        // The reply may be lost …
        next.push(world.clone());
        // … or arrive at once; a late one only repeats what was known.
        self.reply(&mut world, sent, reply)?;
        next.push(world);
        Ok(())
    }

    fn reply(&self, world: &mut World, sent: &Sent, reply: VoteReply<Value>) -> Result<(), String> {
        let proposer = usize::from(sent.proposer);
        let Some(decision) = &mut world.tries[proposer] else {
            return Ok(());
        };
        let (deciding, wish) = (decision.deciding, decision.wish);
        match decision.on_reply(NodeId(sent.to.into()), reply) {
            Step::Ask(mut sends) => {
                if self.mutant == Some(Mutant::OwnWish) {
                    for send in &mut sends {
                        if let VoteRequest::Accept { proposal, .. } = &mut send.request {
                            proposal.value = wish;
                        }
                    }
                }
                world.send(proposer, sends);
            }
            Step::Chosen(value) => {
                if self.mutant.is_none() && world.chosen.get(&deciding) != Some(&value) {
                    return Err(format!(
                        "{value:?} is called chosen for {deciding} and is not"
                    ));
                }
                if self.mutant == Some(Mutant::SmallQuorum) {
                    world.choose(deciding, value)?;
                }
                world.tries[proposer] = None;
            }
            Step::Lost(_) => world.tries[proposer] = None,
        }
        Ok(())
    }

    fn run(&self, first: World) -> Result<usize, String> {
        let mut visited = HashSet::from([first.clone()]);
        let mut open = vec![first];
        let mut turn = 0usize;
        while !open.is_empty() {
            // Half depth first, half anywhere: a world too large to exhaust is sampled at every depth.
            turn = turn
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let place = if turn >> 63 == 0 {
                open.len() - 1
            } else {
                (turn >> 20) % open.len()
            };
            let world = open.swap_remove(place);
            for next in self.turns(&world)? {
                if visited.len() < self.states_max && visited.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        Ok(visited.len())
    }
}

impl World {
    fn send(&mut self, proposer: usize, sends: Vec<super::Send<Value>>) {
        for send in sends {
            self.network.insert(Sent {
                to: send.to.0 as u8,
                proposer: proposer as u8,
                request: send.request,
            });
        }
    }

    /// Counts a vote. A store that was lost has voted all the same.
    fn count(
        &mut self,
        key: (LayoutEpoch, Ballot, Value),
        voter: (u8, bool),
    ) -> Result<(), String> {
        let voters = self.votes.entry(key).or_default();
        voters.insert(voter);
        let seats: BTreeSet<u8> = voters.iter().map(|(seat, _)| *seat).collect();
        if seats.len() >= 2 {
            self.choose(key.0, key.2)?;
        }
        Ok(())
    }

    fn choose(&mut self, epoch: LayoutEpoch, value: Value) -> Result<(), String> {
        match self.chosen.insert(epoch, value) {
            Some(before) if before != value => Err(format!(
                "two layouts are chosen for {epoch}: {before:?} and {value:?}"
            )),
            _ => Ok(()),
        }
    }
}

fn check(first: World, states_max: usize) {
    let checker = Checker {
        mutant: None,
        states_max,
    };
    let states = checker.run(first).unwrap();
    println!("{states} states");
    assert!(
        states > 1_000,
        "only {states} states: the world hardly moved"
    );
}

fn caught(mutant: Mutant, first: World) {
    let checker = Checker {
        mutant: Some(mutant),
        states_max: 30_000,
    };
    match checker.run(first) {
        Ok(states) => panic!("{mutant:?} was not noticed in {states} states"),
        Err(violation) => println!("{mutant:?}: {violation}"),
    }
}

#[test]
fn two_proposers_never_fork_an_epoch() {
    check(World::new([1, 1], 0), 12_000);
}

#[test]
fn a_lost_store_does_not_fork_the_book() {
    check(World::new([2, 2], 1), 10_000);
}

#[test]
fn broken_rules_are_noticed() {
    caught(Mutant::OwnWish, World::new([1, 1], 0));
    caught(Mutant::ForgetPromise, World::new([1, 1], 0));
    caught(Mutant::SmallQuorum, World::new([1, 1], 0));
    caught(Mutant::VoteUnnamed, World::new([1, 1], 1));
}

#[test]
fn a_vote_counts_only_for_the_next_epoch() {
    let ballot = Ballot {
        counter: 5,
        proposer: 1,
    };
    let prepare = |epoch| Request::Prepare {
        deciding: LayoutEpoch(epoch),
        ballot,
    };
    let adopted = LayoutEpoch(4);
    for epoch in [3, 4, 6] {
        let given = Vote::give(None, adopted, &prepare(epoch));
        assert_eq!(given, Given::Reply(VoteReply::Elsewhere { adopted }));
    }
    let older = Vote {
        deciding: adopted,
        promised: Ballot {
            counter: 9,
            proposer: 9,
        },
        accepted: None,
    };
    // A promise about a settled epoch binds nobody any more.
    let Given::Store { vote, .. } = Vote::give(Some(&older), adopted, &prepare(5)) else {
        panic!("nothing stands against it");
    };
    assert_eq!((vote.deciding, vote.promised), (LayoutEpoch(5), ballot));
}
