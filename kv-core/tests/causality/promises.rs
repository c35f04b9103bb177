//! What clients are promised, whatever the order of events.

use proptest::prelude::*;
use souk_kv_core::causality::{Dot, MergeMode, Mint, Observed, PutEffect, Record, Stamp};

use crate::history::{REPLICAS, World, actor, held, merge_all, new_write, request, steps};

const MODE: MergeMode = MergeMode::Siblings;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Every write that no later write had been shown is there when all replicas are merged, with its value,
    /// retries and fallbacks included; and what was replaced stays away.
    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_replaced_returns(
        steps in steps(true),
        order in any::<prop::sample::Selector>(),
    ) {
        let world = World::run(MODE, &steps);
        let mut records = world.stored();
        records.sort_by_key(|record| order.select([record.causal_hash()]).rotate_left(17));
        let all = merge_all(&records, MODE);
        let held = held(&all);
        for number in world.unseen() {
            prop_assert!(held.contains(&number), "write {number} is lost: {all:?}");
        }
        let seen = world.seen();
        for truth in &world.writes {
            if seen.contains(&truth.number) {
                prop_assert!(!held.contains(&truth.number), "write {} returned: {all:?}", truth.number);
            }
        }
        prop_assert_eq!(held.len(), all.siblings().len(), "one sibling for each request");
        for sibling in all.siblings() {
            let truth = &world.writes[sibling.request.sequence as usize - 1];
            let text = sibling.value.as_ref().map(|value| value.bytes.to_vec());
            let expected = (!truth.delete).then(|| truth.number.to_string().into_bytes());
            prop_assert_eq!(text, expected);
        }
    }

    /// In a last-writer-wins bucket the survivor is a write that nobody had seen when writing.
    #[test]
    fn the_last_writer_was_not_replaced(steps in steps(false)) {
        let mode = MergeMode::LastWriterWins;
        let world = World::run(mode, &steps);
        let all = merge_all(&world.stored(), mode);
        prop_assert!(all.siblings().len() <= 1);
        for number in held(&all) {
            prop_assert!(world.unseen().contains(&number), "{number} had been replaced: {all:?}");
        }
    }

    /// Clients that hand their context on leave one sibling, through any coordinators, with or without
    /// replication between the writes; and the context stays as short as the list of coordinators.
    #[test]
    fn passing_the_context_leaves_one_sibling(
        coordinators in prop::collection::vec((0..REPLICAS, any::<bool>()), 1..50),
    ) {
        let mut records = vec![Record::default(); REPLICAS];
        let mut observed = Observed::default();
        for (index, &(coordinator, replicated)) in coordinators.iter().enumerate() {
            let number = index as u64 + 1;
            let dot = Dot { actor: actor(coordinator as u8), counter: number };
            let record = &mut records[coordinator];
            let write = new_write(number, Stamp::next(number, None), false);
            record.put(MODE, &observed, dot, Mint::Vector, write, number).expect("fresh dots");
            observed = observed.with_own_write(record, request(number), dot);
            prop_assert_eq!(record.siblings().len(), 1);
            prop_assert!(observed.context().loose().len() <= REPLICAS, "{observed:?}");
            prop_assert_eq!(observed.requests(), [(request(number), dot)]);
            if replicated {
                let sent = record.clone();
                for other in &mut records {
                    other.merge(&sent, MODE);
                }
            }
        }
        let all = merge_all(&records, MODE);
        prop_assert_eq!(held(&all).into_iter().collect::<Vec<_>>(), [coordinators.len() as u64]);
    }

    /// The context of an answer never covers a sibling that its client was not shown.
    #[test]
    fn an_answer_covers_nothing_unread(steps in steps(true), number in 1_000..2_000u64) {
        let world = World::run(MODE, &steps);
        for mut record in world.snapshots {
            let before = record.clone();
            let nothing = Observed::default();
            let dot = Dot { actor: actor(1), counter: number };
            let write = new_write(number, Stamp::next(number, None), false);
            record.put(MODE, &nothing, dot, Mint::Vector, write, number).expect("a fresh dot");
            let answer = nothing.with_own_write(&record, request(number), dot);
            prop_assert!(answer.context().contains(dot));
            for sibling in before.siblings() {
                prop_assert!(!answer.covers(sibling), "{answer:?} covers {sibling:?}");
            }
        }
    }
}

#[test]
fn a_replay_is_recognised_while_held_and_after_it_was_replaced() {
    let mut record = Record::default();
    let first = Dot {
        actor: actor(1),
        counter: 1,
    };
    let put = |record: &mut Record, observed: &Observed, counter, number| {
        let dot = Dot {
            actor: actor(1),
            counter,
        };
        let write = new_write(number, Stamp::next(counter, None), false);
        record
            .put(MODE, observed, dot, Mint::Vector, write, 5_000)
            .expect("fresh dots")
    };
    put(&mut record, &Observed::default(), 1, 1);
    let replay = put(&mut record, &Observed::default(), 2, 1);
    assert_eq!(replay, PutEffect::Replayed { dot: first });

    let read = Observed::whole(&record);
    let PutEffect::Written { superseded } = put(&mut record, &read, 3, 2) else {
        panic!("a new request is no replay");
    };
    assert_eq!(superseded.len(), 1);
    let replay = put(&mut record, &Observed::default(), 4, 1);
    assert_eq!(replay, PutEffect::Replayed { dot: first });
    let answer = Observed::default().with_own_write(&record, request(1), first);
    assert!(
        answer.context().contains(first),
        "the answer covers the write"
    );
    assert_eq!(held(&record).into_iter().collect::<Vec<_>>(), [2]);

    record.forget_requests_before(5_001);
    assert_eq!(
        record.has_request(&request(1)),
        None,
        "remembered only so long"
    );
}

#[test]
fn a_request_run_twice_is_one_sibling_and_one_that_was_replaced_stays_away() {
    let run = |number: u8| {
        let mut record = Record::default();
        let dot = Dot {
            actor: actor(number),
            counter: 1,
        };
        let write = new_write(1, Stamp::next(u64::from(number), None), false);
        record
            .put(MODE, &Observed::default(), dot, Mint::Vector, write, 1)
            .expect("fresh dots");
        record
    };
    let (here, mut there) = (run(1), run(2));
    let both = merge_all([&there, &here], MODE);
    assert_eq!(both.siblings().len(), 1);
    assert_eq!(
        both.siblings()[0].dot.actor,
        actor(1),
        "the smaller dot stays"
    );
    assert!(
        both.context().contains(there.siblings()[0].dot),
        "and the other is known"
    );

    // Replaced there before the first run arrives: it does not come back under its other name.
    let read = Observed::whole(&there);
    let dot = Dot {
        actor: actor(2),
        counter: 2,
    };
    let write = new_write(2, Stamp::next(9, None), false);
    there
        .put(MODE, &read, dot, Mint::Vector, write, 2)
        .expect("fresh dots");
    assert_eq!(
        held(&merge_all([&here, &there], MODE))
            .into_iter()
            .collect::<Vec<_>>(),
        [2]
    );
}

#[test]
fn clients_that_ask_for_no_memory_are_not_confused_with_each_other() {
    let mut record = Record::default();
    for counter in 1..=2 {
        let dot = Dot {
            actor: actor(1),
            counter,
        };
        let write = new_write(0, Stamp::next(counter, None), false);
        let effect = record.put(MODE, &Observed::default(), dot, Mint::Vector, write, 1);
        assert_eq!(effect, Ok(PutEffect::Written { superseded: vec![] }));
    }
    let again = record.clone();
    record.merge(&Record::default(), MODE);
    record.merge(&again, MODE);
    assert_eq!(record.siblings().len(), 2);
}

#[test]
fn expired_and_deleted_values_are_not_shown() {
    let mut record = Record::default();
    for (counter, delete, expires_unix_ms) in
        [(1, false, None), (2, false, Some(100)), (3, true, None)]
    {
        let dot = Dot {
            actor: actor(1),
            counter,
        };
        let mut write = new_write(counter, Stamp::next(1, None), delete);
        write.expires_unix_ms = expires_unix_ms;
        record
            .put(MODE, &Observed::default(), dot, Mint::Vector, write, 1)
            .expect("fresh dots");
    }
    let live = |now| {
        record
            .live_siblings(now)
            .map(|sibling| sibling.dot.counter)
            .collect::<Vec<_>>()
    };
    assert_eq!(live(99), [1, 2]);
    assert_eq!(live(100), [1]);
    assert!(!record.is_only_tombstones());
}
