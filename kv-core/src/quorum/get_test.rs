//! Gets under scripted and random faults.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use souk_ring::NodeId;

use super::{GetAction, GetActions, GetAnswer, GetCoordinator, GetRequest};
use crate::causality::{
    ActorId, ContentType, Dot, MergeMode, Mint, NewWrite, Observed, Record, RequestId, Stamp, Value,
};
use crate::membership::Health;

const MODE: MergeMode = MergeMode::Siblings;

/// A record of `versions` blind writes by one actor: more versions, more siblings.
fn record(versions: u64) -> Record {
    let mut record = Record::default();
    for counter in 1..=versions {
        let write = NewWrite {
            request: RequestId {
                client: [1; 16],
                sequence: counter,
            },
            stamp: Stamp::next(counter, None),
            expires_unix_ms: None,
            value: Some(Value::new(ContentType::text(), Bytes::from(vec![b'x']))),
        };
        let dot = Dot {
            actor: ActorId::from_bytes([7; 16]),
            counter,
        };
        let nothing = Observed::default();
        record
            .put(MODE, &nothing, dot, Mint::Vector, write, counter)
            .expect("fresh dots");
    }
    record
}

fn start(
    fallbacks: &[u32],
    ask_all: bool,
    strict: bool,
    health: impl Fn(u32) -> Health,
) -> (GetCoordinator, Vec<(u32, bool)>) {
    let primaries = [1, 2, 3].map(NodeId);
    let fallbacks: Vec<NodeId> = fallbacks.iter().copied().map(NodeId).collect();
    let request = GetRequest {
        primaries: &primaries,
        fallbacks: &fallbacks,
        local: NodeId(2),
        read_quorum: 2,
        ask_all,
        strict,
        mode: MODE,
    };
    let (get, actions) = GetCoordinator::start(request, |node| health(node.0));
    (get, asks(&actions))
}

fn asks(actions: &GetActions) -> Vec<(u32, bool)> {
    let ask = |action: &GetAction| match action {
        GetAction::Ask { node, with_hints } => Some((node.0, *with_hints)),
        GetAction::Answer(_) | GetAction::RepairStale { .. } => None,
    };
    actions.iter().filter_map(ask).collect()
}

fn all_healthy(_: u32) -> Health {
    Health::Healthy
}

const ENOUGH: GetAction = GetAction::Answer(GetAnswer::Enough { replies: 2 });

#[test]
fn asks_r_nodes_the_local_one_first() {
    assert_eq!(
        start(&[4], false, false, all_healthy).1,
        [(2, false), (1, false)]
    );
    assert_eq!(
        start(&[4], true, false, all_healthy).1,
        [(2, false), (1, false), (3, false)]
    );
}

#[test]
fn a_slow_primary_is_passed_over_and_a_suspect_one_gets_a_stand_in_beside() {
    let slow = |node| {
        if node == 1 {
            Health::Demoted
        } else {
            Health::Healthy
        }
    };
    assert_eq!(start(&[4], false, false, slow).1, [(2, false), (3, false)]);
    let dead = |node| {
        if node == 1 {
            Health::Suspect
        } else {
            Health::Healthy
        }
    };
    assert_eq!(
        start(&[4, 5], false, false, dead).1,
        [(2, false), (3, false), (4, true)]
    );
    assert_eq!(
        start(&[4, 5], false, true, dead).1,
        [(2, false), (3, false)]
    );
    let two_dead = |node| {
        if node == 1 || node == 3 {
            Health::Suspect
        } else {
            Health::Healthy
        }
    };
    assert_eq!(
        start(&[4, 5], false, false, two_dead).1,
        [(2, false), (4, true), (5, true)]
    );
    assert_eq!(
        start(&[], false, false, two_dead).1,
        [(2, false), (1, false)]
    );
}

#[test]
fn missing_and_old_replies_count_and_are_repaired() {
    let (mut get, _) = start(&[], true, false, all_healthy);
    assert!(get.on_reply(NodeId(3), None).is_empty());
    assert_eq!(get.on_reply(NodeId(1), Some(record(1)))[..], [ENOUGH]);
    // The straggler knows more: both earlier ones are stale now.
    let nodes = [1, 3].map(NodeId).into_iter().collect();
    assert_eq!(
        get.on_reply(NodeId(2), Some(record(2)))[..],
        [GetAction::RepairStale { nodes }]
    );
    assert_eq!(get.merged(), &record(2));
    assert!(get.is_finished());
}

#[test]
fn a_key_that_nobody_knows_is_found_missing_and_needs_no_repair() {
    let (mut get, _) = start(&[], false, false, all_healthy);
    get.on_reply(NodeId(1), None);
    assert_eq!(get.on_reply(NodeId(2), None)[..], [ENOUGH]);
    assert!(get.is_finished());
}

#[test]
fn a_stand_in_brings_its_hint_but_is_never_stale() {
    let dead = |node| {
        if node == 1 {
            Health::Suspect
        } else {
            Health::Healthy
        }
    };
    let (mut get, _) = start(&[4], false, false, dead);
    get.on_reply(NodeId(4), None);
    assert_eq!(get.on_reply(NodeId(2), Some(record(1)))[..], [ENOUGH]);
    assert!(get.on_reply(NodeId(3), Some(record(1))).is_empty());
    let (mut get, _) = start(&[4], false, false, dead);
    get.on_reply(NodeId(4), Some(record(1)));
    get.on_reply(NodeId(2), None);
    let nodes = [2, 3].map(NodeId).into_iter().collect();
    assert_eq!(
        get.on_reply(NodeId(3), None)[..],
        [GetAction::RepairStale { nodes }]
    );
}

#[test]
fn a_failure_and_a_hedge_each_ask_the_next_one() {
    let (mut get, _) = start(&[4, 5], false, false, all_healthy);
    assert_eq!(asks(&get.on_failed(NodeId(1))), [(3, false)]);
    assert_eq!(asks(&get.hedge()), [(4, true)]);
    assert_eq!(asks(&get.hedge()), [(5, true)]);
    assert!(get.hedge().is_empty());
    get.on_reply(NodeId(4), None);
    get.on_reply(NodeId(2), None);
    assert!(get.hedge().is_empty(), "the client has its answer");
}

#[test]
fn too_few_replies_still_tell_what_they_knew() {
    let (mut get, _) = start(&[], false, false, all_healthy);
    get.on_reply(NodeId(2), Some(record(1)));
    get.on_failed(NodeId(1));
    let answer = GetAnswer::TooFew {
        replies: 1,
        needed: 2,
    };
    assert_eq!(get.on_failed(NodeId(3))[..], [GetAction::Answer(answer)]);
    assert_eq!(get.merged(), &record(1));
}

#[derive(Clone, Debug)]
enum Event {
    Reply(u64),
    Missing,
    Fail,
    LateReply(u64),
    Hedge,
    Deadline,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..4u64).prop_map(Event::Reply),
        2 => Just(Event::Missing),
        3 => Just(Event::Fail),
        1 => (1..4u64).prop_map(Event::LateReply),
        2 => Just(Event::Hedge),
        1 => Just(Event::Deadline),
    ]
}

/// What a get did, seen from outside.
#[derive(Default)]
struct Seen {
    primaries: u32,
    asked: BTreeSet<NodeId>,
    waiting: Vec<NodeId>,
    /// How many versions each replier had.
    stored: BTreeMap<NodeId, u64>,
    /// Each answer with what was merged, how many had replied, and the most versions among them.
    answers: Vec<(GetAnswer, Record, usize, u64)>,
    stale: Option<Vec<NodeId>>,
}

impl Seen {
    fn absorb(&mut self, get: &GetCoordinator, actions: GetActions) {
        for action in actions {
            assert!(self.stale.is_none(), "repair comes last");
            match action {
                GetAction::Ask { node, with_hints } => {
                    assert!(self.asked.insert(node), "{node:?} asked twice");
                    assert_eq!(with_hints, node.0 > self.primaries);
                    self.waiting.push(node);
                }
                GetAction::Answer(answer) => {
                    let known = self.stored.values().copied().max().unwrap_or(0);
                    self.answers
                        .push((answer, get.merged().clone(), self.stored.len(), known));
                }
                GetAction::RepairStale { nodes } => self.stale = Some(nodes.to_vec()),
            }
        }
    }

    fn fail(&mut self, get: &mut GetCoordinator, node: NodeId) {
        self.waiting.retain(|&other| other != node);
        let actions = get.on_failed(node);
        self.absorb(get, actions);
    }

    fn reply(&mut self, get: &mut GetCoordinator, node: NodeId, versions: u64) {
        self.waiting.retain(|&other| other != node);
        self.stored.insert(node, versions);
        let actions = get.on_reply(node, (versions > 0).then(|| record(versions)));
        self.absorb(get, actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn promises_hold_under_random_faults(
        (primaries, fallbacks) in (1..=5u32, 0..=4u32),
        (local, quorum) in (1..=9u32, 1..=5u8),
        (ask_all, strict) in any::<(bool, bool)>(),
        health in prop::collection::vec(0..3u8, 9),
        events in prop::collection::vec((event(), any::<usize>()), 1..40),
    ) {
        let primary_nodes: Vec<NodeId> = (1..=primaries).map(NodeId).collect();
        let fallback_nodes: Vec<NodeId> = (primaries + 1..=primaries + fallbacks).map(NodeId).collect();
        let needed = quorum.min(primaries as u8);
        let request = GetRequest {
            primaries: &primary_nodes,
            fallbacks: &fallback_nodes,
            local: NodeId(local),
            read_quorum: needed,
            ask_all,
            strict,
            mode: MODE,
        };
        let opinions = [Health::Healthy, Health::Demoted, Health::Suspect];
        let (mut get, first) = GetCoordinator::start(request, |node| {
            opinions[usize::from(health[node.0 as usize - 1])]
        });
        let mut seen = Seen { primaries, ..Seen::default() };
        seen.absorb(&get, first);
        let fails_at_the_end = std::iter::repeat_n((Event::Fail, 0), 20);
        for (event, pick) in events.into_iter().chain(fails_at_the_end) {
            if seen.waiting.is_empty() {
                break;
            }
            let node = seen.waiting[pick % seen.waiting.len()];
            match event {
                Event::Hedge => {
                    let actions = get.hedge();
                    seen.absorb(&get, actions);
                }
                Event::Deadline => {
                    seen.waiting.clear();
                    let actions = get.on_deadline();
                    seen.absorb(&get, actions);
                }
                Event::Fail => seen.fail(&mut get, node),
                Event::Missing => seen.reply(&mut get, node, 0),
                Event::Reply(versions) => seen.reply(&mut get, node, versions),
                Event::LateReply(versions) => {
                    seen.fail(&mut get, node);
                    // After the end a reply changes nothing any more, and the driver has let go.
                    if !get.is_finished() {
                        seen.reply(&mut get, node, versions);
                    }
                }
            }
        }
        let Seen { asked, answers, stored, stale, .. } = seen;
        prop_assert!(get.is_finished());
        prop_assert_eq!(answers.len(), 1, "one answer");
        prop_assert!(!strict || asked.iter().all(|node| node.0 <= primaries));
        let (answer, told, replies_then, known_then) = &answers[0];
        let replies = match *answer {
            GetAnswer::Enough { replies } => {
                prop_assert!(replies >= needed);
                replies
            }
            GetAnswer::TooFew { replies, .. } => {
                prop_assert!(replies < needed);
                replies
            }
        };
        prop_assert_eq!(usize::from(replies), *replies_then);
        prop_assert_eq!(told, &record(*known_then), "the answer is the merge of the replies");
        let known = stored.values().copied().max().unwrap_or(0);
        let behind: BTreeSet<NodeId> = stored
            .iter()
            .filter(|&(node, &versions)| node.0 <= primaries && versions < known)
            .map(|(&node, _)| node)
            .collect();
        let repaired: BTreeSet<NodeId> = stale.into_iter().flatten().collect();
        prop_assert_eq!(repaired, behind, "exactly the primaries behind are repaired");
    }
}
