//! Accidents that chance seldom finds, step by step: each is harmless under the rules, and brings a deleted value back
//! when the rule that prevents it is missing.

use super::Mutant;
use super::cluster::{Body, Cluster, MODE, Message, PRIMARIES, STAND_IN};
use super::collection::Ask;
use crate::causality::{
    ContentType, Dot, Mint, NewWrite, Observed, Record, RequestId, Stamp, Value,
};

/// Begins the rounds.
const ASKER: usize = 0;
/// Gets a late copy of the deleted value.
const TARGET: usize = 2;
/// Passes writes on.
const WITNESS: usize = 1;

impl Cluster {
    /// Writes over all that a record holds.
    fn overwrite(&mut self, record: &mut Record, value: Option<&'static str>) {
        let number = self.draw();
        let member = &mut self.members[ASKER];
        member.counter += 1;
        let dot = Dot {
            actor: member.actor,
            counter: member.counter,
        };
        let seen = Observed::whole(record);
        let write = NewWrite {
            request: RequestId {
                client: [1; 16],
                sequence: number,
            },
            stamp: Stamp::next(number, None),
            expires_unix_ms: None,
            value: value.map(|value| Value::new(ContentType::octets(), value.into())),
        };
        let written = record.put(MODE, &seen, dot, Mint::Vector, write, number);
        written.expect("the dot is fresh");
    }

    /// All primaries hold a value; `meanwhile` happens; then all of them hold its tombstone.
    fn delete_after(&mut self, meanwhile: impl FnOnce(&mut Self, &Record)) {
        let mut record = Record::default();
        self.overwrite(&mut record, Some("tea"));
        let old = record.clone();
        self.overwrite(&mut record, None);
        for node in 0..PRIMARIES {
            self.store(node, None, &old);
        }
        meanwhile(self, &old);
        for node in 0..PRIMARIES {
            self.store(node, None, &record);
        }
    }

    /// Takes the messages of which that is true out of the network.
    fn hold_back(&mut self, is_held: impl Fn(&Message) -> bool) -> Vec<Message> {
        let all = std::mem::take(&mut self.network);
        let (held, rest) = all.into_iter().partition(is_held);
        self.network = rest;
        held
    }

    /// Everything arrives and is stored at once, until nothing moves; what `is_held` says of stays where it is.
    fn settle_down(&mut self, is_held: impl Fn(&Message) -> bool) {
        for _ in 0..1_000 {
            self.make_progress();
            // What was late is not any more.
            self.turns += 1_000_000;
            for node in 0..self.members.len() {
                while !self.members[node].storing.is_empty() {
                    self.store_one(node);
                }
            }
            let Some(index) = self.network.iter().position(|message| !is_held(message)) else {
                continue;
            };
            let message = self.network.remove(index);
            self.hand_over(message);
        }
    }

    /// A record is sent by each task of a node that has one to send.
    fn send_all(&mut self, node: usize) {
        while self.members[node]
            .tasks
            .values()
            .any(|task| task.has_unsent())
        {
            self.work_on_one(node);
        }
    }

    fn is_back(&self) -> bool {
        let has_value = |record: &Record| !record.is_only_tombstones() && !record.is_empty();
        self.members[..PRIMARIES]
            .iter()
            .any(|member| has_value(&member.record))
    }
}

fn is_write(message: &Message) -> bool {
    matches!(message.body, Body::Write { .. })
}

fn nothing(_: &Message) -> bool {
    false
}

/// The schedule is harmless, and is not without the rule.
fn check(schedule: impl Fn(&mut Cluster), missing: Mutant) {
    for mutant in [None, Some(missing)] {
        let mut cluster = Cluster::new(0, mutant);
        schedule(&mut cluster);
        assert_eq!(cluster.is_back(), mutant.is_some(), "without {mutant:?}");
        let is_collected = cluster.settled > 0;
        assert!(is_collected || mutant.is_some(), "nothing was collected");
    }
}

#[test]
fn an_exchange_with_a_record_in_hand_is_waited_for() {
    let schedule = |cluster: &mut Cluster| {
        // Read before the delete, and not sent yet.
        cluster.delete_after(|cluster, _| cluster.begin_exchange(WITNESS));
        cluster.begin_round(ASKER);
        cluster.settle_down(nothing);
        cluster.send_all(WITNESS);
        cluster.settle_down(nothing);
    };
    check(schedule, Mutant::ExchangeUnseen);
}

#[test]
fn what_an_exchange_has_sent_and_given_up_is_refused() {
    let schedule = |cluster: &mut Cluster| {
        cluster.delete_after(|cluster, _| {
            cluster.begin_exchange(WITNESS);
            cluster.send_all(WITNESS);
        });
        let late = cluster.hold_back(is_write);
        cluster.abandon(WITNESS);
        cluster.begin_round(ASKER);
        cluster.settle_down(nothing);
        cluster.network.extend(late);
        cluster.settle_down(nothing);
    };
    check(schedule, Mutant::SkipFence);
}

#[test]
fn a_hint_that_was_read_before_it_was_delivered_is_refused() {
    let schedule = |cluster: &mut Cluster| {
        cluster.delete_after(|cluster, old| cluster.store(STAND_IN, Some(TARGET), old));
        cluster.begin_round(ASKER);
        let is_check = |message: &Message| {
            message.to == STAND_IN && matches!(message.body, Body::Ask(Ask::Check { .. }))
        };
        cluster.settle_down(is_check);
        // It has quiesced once; what it reads now, it may still send when it keeps it no longer.
        cluster.begin_handoff_through(STAND_IN, None);
        cluster.send_all(STAND_IN);
        let late = cluster.hold_back(is_write);
        cluster.abandon(STAND_IN);
        cluster.begin_handoff_through(STAND_IN, None);
        cluster.send_all(STAND_IN);
        cluster.settle_down(is_check);
        cluster.settle_down(nothing);
        cluster.network.extend(late);
        cluster.settle_down(nothing);
    };
    check(schedule, Mutant::QuiesceOnce);
}

#[test]
fn a_primary_that_has_missed_the_delete_is_no_part_of_it() {
    let schedule = |cluster: &mut Cluster| {
        let mut missed = Record::default();
        cluster.delete_after(|_, old| missed = old.clone());
        cluster.members[TARGET].record = missed.clone();
        cluster.begin_round(ASKER);
        cluster.settle_down(nothing);
        for node in 0..PRIMARIES {
            cluster.begin_exchange(node);
            cluster.send_all(node);
        }
        cluster.settle_down(nothing);
        cluster.begin_round(ASKER);
        cluster.settle_down(nothing);
    };
    check(schedule, Mutant::SkipMarks);
}

/// A hint is sent through a witness who is slow, then goes the direct way and is kept no longer. Returns the slow copy.
fn take_a_detour(cluster: &mut Cluster, is_held: impl Fn(&Message) -> bool) -> Vec<Message> {
    cluster.begin_handoff_through(STAND_IN, Some(WITNESS));
    cluster.send_all(STAND_IN);
    let relay = cluster.hold_back(|message| matches!(message.body, Body::Relay { .. }));
    assert_eq!(relay.len(), 1, "it takes the detour");
    cluster.abandon(STAND_IN);
    cluster.begin_handoff_through(STAND_IN, None);
    cluster.send_all(STAND_IN);
    cluster.settle_down(is_held);
    assert!(cluster.members[STAND_IN].hints.is_empty());
    relay
}

#[test]
fn a_write_that_is_passed_on_stays_the_work_of_its_first_sender() {
    let schedule = |cluster: &mut Cluster| {
        cluster.delete_after(|cluster, old| cluster.store(STAND_IN, Some(TARGET), old));
        cluster.begin_round(ASKER);
        let is_check = |message: &Message| {
            message.to == STAND_IN && matches!(message.body, Body::Ask(Ask::Check { .. }))
        };
        cluster.settle_down(is_check);
        // All others have quiesced twice, and it once.
        let relay = take_a_detour(cluster, is_check);
        let is_fence = |message: &Message| {
            message.from == STAND_IN && matches!(message.body, Body::Ask(Ask::Fence { .. }))
        };
        cluster.settle_down(is_fence);
        // It keeps no hint, and its fence is not up yet.
        cluster.network.extend(relay);
        cluster.settle_down(is_fence);
        cluster.send_all(WITNESS);
        let late = cluster.hold_back(is_write);
        assert_eq!(late.len(), 1, "it was passed on");
        cluster.abandon(WITNESS);
        cluster.settle_down(nothing);
        cluster.network.extend(late);
        cluster.settle_down(nothing);
    };
    check(schedule, Mutant::RelayAsOwn);
}

#[test]
fn a_write_that_is_passed_on_is_waited_for() {
    let schedule = |cluster: &mut Cluster| {
        cluster.delete_after(|cluster, old| cluster.store(STAND_IN, Some(TARGET), old));
        let relay = take_a_detour(cluster, nothing);
        cluster.network.extend(relay);
        cluster.settle_down(nothing);
        cluster.begin_round(ASKER);
        cluster.settle_down(nothing);
        // The target forgets its fences, and the witness has a new link to it.
        cluster.crash(TARGET);
        cluster.restart(TARGET);
        cluster.send_all(WITNESS);
        cluster.settle_down(nothing);
        cluster.members[ASKER].round = None;
        cluster.begin_round(ASKER);
        cluster.settle_down(nothing);
    };
    check(schedule, Mutant::RelayUnseen);
}
