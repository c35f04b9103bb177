//! Each rule about names, with the schedule that breaks without it. Every schedule runs twice: with the rule nothing
//! acknowledged is lost, and with the rule broken something is. A rule whose breach goes unnoticed fails here.
//!
//! | rule | schedule | without it |
//! |---|---|---|
//! | a store that may have lost a sent dot takes new actors | sent, crashed before its sync, writes again | the sent write vanishes |
//! | counters come from a lease, never from a record | record lost, next counter guessed from what is left | two writes share a dot |
//! | a counter beyond the lease proves a rollback | old copy of the store put back, goes on | two writes share a dot |
//! | a missing own dot that a client has seen means new names | record lost, client writes with its context | the other write vanishes |
//! | without the whole record a coordinator mints loose dots | a stand-in's two hints arrive in reverse | the first write vanishes |
//! | hints carry the whole record | one of two siblings is sent with the context of both | the other vanishes |
//! | loose dots fold only under proof | folded while an earlier hint is on its way | the hint's write vanishes |

use std::num::NonZeroU32;

use souk_kv_core::causality::{
    ActorId, CounterLease, Dot, MergeMode, Mint, Observed, Record, RequestMemory,
};

use crate::history::{actor, held, merged, new_write};

const MODE: MergeMode = MergeMode::Siblings;

/// Whether a schedule runs with its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Kept,
    Broken,
}

/// The record that everybody ends up with; writes 1 and 2 are both acknowledged and concurrent.
type Schedule = fn(Rule) -> Record;

const TABLE: &[(&str, Schedule)] = &[
    (
        "a store that may have lost a sent dot takes new actors",
        sent_before_its_sync,
    ),
    (
        "counters come from a lease, never from a record",
        counter_from_a_record,
    ),
    ("a counter beyond the lease proves a rollback", rolled_back),
    (
        "a missing own dot that a client has seen means new names",
        seen_by_a_client,
    ),
    (
        "without the whole record a coordinator mints loose dots",
        reversed_hints,
    ),
    ("hints carry the whole record", partial_hint),
    ("loose dots fold only under proof", folded_early),
];

#[test]
fn every_rule_saves_a_write() {
    for (rule, schedule) in TABLE {
        let kept: Vec<u64> = held(&schedule(Rule::Kept)).into_iter().collect();
        assert_eq!(kept, [1, 2], "with the rule: {rule}");
        let broken = held(&schedule(Rule::Broken));
        assert!(broken.len() < 2, "its breach goes unnoticed: {rule}");
    }
}

fn write(record: &mut Record, actor: ActorId, counter: u64, mint: Mint, number: u64) {
    let dot = Dot { actor, counter };
    let stamp = souk_kv_core::causality::Stamp::next(number, None);
    record
        .put(
            MODE,
            &Observed::default(),
            dot,
            mint,
            new_write(number, stamp, false),
            number,
        )
        .expect("nothing here knows the dot");
}

fn sent_before_its_sync(rule: Rule) -> Record {
    let mut sent = Record::default();
    write(&mut sent, actor(1), 1, Mint::Vector, 1);
    // The crash takes what was not synced; the lease was.
    let (name, counter) = match rule {
        Rule::Kept => (actor(2), 4_097),
        Rule::Broken => (actor(1), 4_097),
    };
    let mut restarted = Record::default();
    write(&mut restarted, name, counter, Mint::Vector, 2);
    merged(&sent, &restarted, MODE)
}

fn counter_from_a_record(rule: Rule) -> Record {
    let mut first = Record::default();
    write(&mut first, actor(1), 1, Mint::Vector, 1);
    let left = Record::default();
    let greatest = left.context().vector().map(|(_, counter)| counter).max();
    let (counter, mint) = match rule {
        Rule::Kept => (2, Mint::Loose),
        Rule::Broken => (greatest.unwrap_or(0) + 1, Mint::Loose),
    };
    let mut second = left;
    write(&mut second, actor(1), counter, mint, 2);
    merged(&first, &second, MODE)
}

fn rolled_back(rule: Rule) -> Record {
    let block = NonZeroU32::new(10).expect("10 is not zero");
    let mut lease = CounterLease::new(block);
    lease.extend(10);
    let copied_upto = lease.upto();
    // After the copy was made the store went on into its next lease.
    lease.extend(20);
    let mut sent = Record::default();
    let counter = (0..11).map_while(|_| lease.issue().ok()).last();
    write(
        &mut sent,
        actor(1),
        counter.expect("it was leased"),
        Mint::Vector,
        1,
    );
    let mut restored = CounterLease::after_unclean_stop(copied_upto, block);
    restored.extend(copied_upto + 10);
    let seen = sent.context().vector().map(|(_, counter)| counter).max();
    let is_proof = seen.is_some_and(|counter| !restored.was_issued(counter));
    assert!(is_proof, "the lease is the evidence");
    let name = match rule {
        Rule::Kept => actor(2),
        Rule::Broken => actor(1),
    };
    let mut after = Record::default();
    let counter = restored.issue().expect("it was leased");
    write(&mut after, name, counter, Mint::Vector, 2);
    merged(&sent, &after, MODE)
}

fn seen_by_a_client(rule: Rule) -> Record {
    let mut peer = Record::default();
    write(&mut peer, actor(1), 1, Mint::Vector, 1);
    // Another write of the actor, which its client has seen alone; then the record is lost.
    let mut other = Record::default();
    write(&mut other, actor(1), 3, Mint::Loose, 3);
    let mut lost = Record::default();
    let name = match rule {
        Rule::Kept => actor(2),
        Rule::Broken => actor(1),
    };
    let dot = Dot {
        actor: name,
        counter: 9,
    };
    let stamp = souk_kv_core::causality::Stamp::next(2, None);
    lost.put(
        MODE,
        &Observed::whole(&other),
        dot,
        Mint::Vector,
        new_write(2, stamp, false),
        2,
    )
    .expect("nothing here knows the dot");
    merged(&merged(&peer, &other, MODE), &lost, MODE)
}

fn reversed_hints(rule: Rule) -> Record {
    let mint = match rule {
        Rule::Kept => Mint::Loose,
        Rule::Broken => Mint::Vector,
    };
    let (mut first, mut second) = (Record::default(), Record::default());
    write(&mut first, actor(1), 1, mint, 1);
    write(&mut second, actor(1), 2, mint, 2);
    merged(&merged(&Record::default(), &second, MODE), &first, MODE)
}

fn partial_hint(rule: Rule) -> Record {
    let mut whole = Record::default();
    write(&mut whole, actor(1), 1, Mint::Vector, 1);
    let primary = whole.clone();
    write(&mut whole, actor(1), 2, Mint::Vector, 2);
    let hint = match rule {
        Rule::Kept => whole,
        Rule::Broken => {
            let newest = whole.siblings().last().cloned();
            Record::from_parts(whole.context().clone(), newest, RequestMemory::default())
                .expect("the context knows it")
        }
    };
    merged(&primary, &hint, MODE)
}

fn folded_early(rule: Rule) -> Record {
    let mut late = Record::default();
    write(&mut late, actor(1), 1, Mint::Loose, 1);
    let mut replica = Record::default();
    write(&mut replica, actor(1), 2, Mint::Loose, 2);
    if rule == Rule::Broken {
        replica.fold_loose();
    }
    merged(&replica, &late, MODE)
}
