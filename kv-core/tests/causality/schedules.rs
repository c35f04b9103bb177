//! Accidents that others had, replayed: first shown to hurt, then shown to be avoided by the rule against them.

use souk_kv_core::causality::{ActorId, Dot, MergeMode, Mint, Observed, PutError, Record, Stamp};

use crate::history::{actor, held, merged, new_write, request};

const MODE: MergeMode = MergeMode::Siblings;

/// A blind write of `number`.
fn write(record: &mut Record, actor: ActorId, counter: u64, mint: Mint, number: u64) {
    let dot = Dot { actor, counter };
    let write = new_write(number, Stamp::next(number, None), false);
    record
        .put(MODE, &Observed::default(), dot, mint, write, number)
        .expect("nothing here knows the dot");
}

fn check_held(record: &Record, expected: &[u64]) {
    assert_eq!(
        held(record).into_iter().collect::<Vec<_>>(),
        expected,
        "{record:?}"
    );
}

/// A coordinator writes 1, replicates it, loses its record but not its counters, and writes 2.
fn amnesia(later_actor: ActorId, counter: u64, mint: Mint) -> Record {
    let mut coordinator = Record::default();
    write(&mut coordinator, actor(1), 1, Mint::Vector, 1);
    let peer = coordinator.clone();
    coordinator = Record::default();
    write(&mut coordinator, later_actor, counter, mint, 2);
    let one_way = merged(&peer, &coordinator, MODE);
    assert_eq!(one_way, merged(&coordinator, &peer, MODE));
    one_way
}

#[test]
fn a_lost_record_and_the_old_name_lose_an_acknowledged_write() {
    // "I have all mine up to 2" is a lie without the record: the peer believes that write 1 was replaced.
    check_held(&amnesia(actor(1), 2, Mint::Vector), &[2]);
}

#[test]
fn a_loose_dot_or_a_new_actor_keeps_it() {
    check_held(&amnesia(actor(1), 2, Mint::Loose), &[1, 2]);
    check_held(&amnesia(actor(2), 1, Mint::Vector), &[1, 2]);
}

/// A coordinator sends write 1 to its peers before its own sync, crashes, and writes 2 after the restart.
fn sent_before_its_own_sync(restarted_as: ActorId, counter: u64) -> Record {
    let mut sent = Record::default();
    write(&mut sent, actor(1), 1, Mint::Vector, 1);
    let peer = sent;
    let mut restarted = Record::default();
    write(&mut restarted, restarted_as, counter, Mint::Vector, 2);
    merged(&peer, &restarted, MODE)
}

#[test]
fn a_dot_that_left_before_its_sync_needs_a_new_actor_after_the_crash() {
    let lost = |record: &Record| held(record).len() < 2;
    // Neither going on from the durable counter nor skipping the lease helps while the name stays.
    assert!(lost(&sent_before_its_own_sync(actor(1), 1)));
    assert!(lost(&sent_before_its_own_sync(actor(1), 4_097)));
    check_held(&sent_before_its_own_sync(actor(2), 1), &[1, 2]);
}

#[test]
fn one_dot_for_two_writes_still_settles_everywhere_alike() {
    let twice = |number| {
        let mut record = Record::default();
        write(&mut record, actor(1), 1, Mint::Vector, number);
        record
    };
    let (one, two) = (twice(1), twice(2));
    assert_eq!(
        merged(&one, &two, MODE).siblings(),
        merged(&two, &one, MODE).siblings()
    );
}

#[test]
fn a_dot_seen_before_it_is_minted_is_refused() {
    let mut peer = Record::default();
    write(&mut peer, actor(1), 7, Mint::Vector, 1);
    // The store was rolled back; a client's context, or a peer's record, knows better.
    let dot = Dot {
        actor: actor(1),
        counter: 5,
    };
    let next = || new_write(2, Stamp::next(2, None), false);
    let mut local = Record::default();
    let refused = local.put(MODE, &Observed::whole(&peer), dot, Mint::Vector, next(), 2);
    assert_eq!(refused, Err(PutError::DotSeen { dot }));
    assert_eq!(local, Record::default(), "a refusal changes nothing");
    let refused = peer.put(MODE, &Observed::default(), dot, Mint::Loose, next(), 2);
    assert_eq!(refused, Err(PutError::DotSeen { dot }));
}

#[test]
fn the_second_name_of_an_unread_request_is_not_called_seen() {
    // Request 1 ran at a fallback and, retried, at a replica; where both arrive, the smaller name stays.
    let (mut hint, mut replica) = (Record::default(), Record::default());
    write(&mut hint, actor(9), 1, Mint::Loose, 1);
    write(&mut replica, actor(3), 1, Mint::Vector, 1);
    replica.merge(&hint, MODE);
    check_held(&replica, &[1]);

    // Somebody writes blindly there, and goes on with the answer's context where only the hint is known.
    write(&mut replica, actor(3), 2, Mint::Vector, 2);
    let dot = Dot {
        actor: actor(3),
        counter: 2,
    };
    let answer = Observed::default().with_own_write(&replica, request(2), dot);
    let dot = Dot {
        actor: actor(2),
        counter: 1,
    };
    let next = new_write(3, Stamp::next(3, None), false);
    hint.put(MODE, &answer, dot, Mint::Vector, next, 3)
        .expect("a fresh dot");
    check_held(&merged(&replica, &hint, MODE), &[1, 3]);
}

/// Writes 1 and 2 of one fallback travel in separate hints; the later one arrives first.
fn hints_out_of_order(mint: Mint) -> Record {
    let (mut first, mut second) = (Record::default(), Record::default());
    write(&mut first, actor(1), 1, mint, 1);
    write(&mut second, actor(1), 2, mint, 2);
    let early = merged(&Record::default(), &second, MODE);
    merged(&early, &first, MODE)
}

#[test]
fn a_lone_later_dot_hides_an_earlier_sibling_unless_it_is_loose() {
    check_held(&hints_out_of_order(Mint::Vector), &[2]);
    check_held(&hints_out_of_order(Mint::Loose), &[1, 2]);
}

#[test]
fn a_missing_number_between_loose_dots_is_never_assumed() {
    // Dots 1 and 3 of one fallback are known, 2 belongs to this key as well and comes last.
    let mut replica = Record::default();
    for counter in [3, 1] {
        let mut hint = Record::default();
        write(&mut hint, actor(1), counter, Mint::Loose, counter);
        replica.merge(&hint, MODE);
    }
    let mut late = Record::default();
    write(&mut late, actor(1), 2, Mint::Loose, 2);
    check_held(&merged(&replica, &late, MODE), &[1, 2, 3]);
}

#[test]
fn a_re_created_key_is_not_killed_by_its_old_tombstone() {
    let mut replica = Record::default();
    write(&mut replica, actor(1), 1, Mint::Vector, 1);
    let read = Observed::whole(&replica);
    let dot = Dot {
        actor: actor(1),
        counter: 2,
    };
    let delete = new_write(2, Stamp::next(2, None), true);
    replica
        .put(MODE, &read, dot, Mint::Vector, delete, 2)
        .expect("a fresh dot");
    assert!(replica.is_only_tombstones());
    let tombstone = replica.clone();

    // A read of the deleted key returned its context, and the new value dominates the tombstone.
    let read = Observed::whole(&replica);
    let dot = Dot {
        actor: actor(1),
        counter: 3,
    };
    let again = new_write(3, Stamp::next(3, None), false);
    replica
        .put(MODE, &read, dot, Mint::Vector, again, 3)
        .expect("a fresh dot");
    check_held(&merged(&tombstone, &replica, MODE), &[3]);
    check_held(&merged(&replica, &tombstone, MODE), &[3]);
}

#[test]
fn a_slow_clock_does_not_undo_what_its_client_had_read() {
    let mode = MergeMode::LastWriterWins;
    let mut fast = Record::default();
    let dot = Dot {
        actor: actor(1),
        counter: 1,
    };
    let ahead = new_write(1, Stamp::next(90_000, None), false);
    fast.put(mode, &Observed::default(), dot, Mint::Vector, ahead, 90_000)
        .expect("a fresh dot");

    // A fallback without the record, whose clock is behind: the client's context alone lifts the stamp.
    let observed = Observed::whole(&fast);
    let mut slow = Record::default();
    let dot = Dot {
        actor: actor(2),
        counter: 1,
    };
    let behind = new_write(2, Stamp::next(10_000, None), false);
    let refused = slow.put(mode, &observed, dot, Mint::Loose, behind, 10_000);
    assert!(
        matches!(refused, Err(PutError::StampBehind { .. })),
        "{refused:?}"
    );
    let lifted = new_write(
        2,
        Stamp::next(10_000, slow.stamp_floor(observed.context())),
        false,
    );
    slow.put(mode, &observed, dot, Mint::Loose, lifted, 10_000)
        .expect("a later stamp");
    check_held(&merged(&fast, &slow, mode), &[2]);
}

/// Request 1 runs at a replica that answers, and late at another. The client replaces it there, where only the late
/// run is known; `known` is how much of the answer its context carries.
fn replaced_under_another_name(known: impl Fn(Observed) -> Observed) -> Record {
    let (mut answering, mut late) = (Record::default(), Record::default());
    write(&mut answering, actor(1), 1, Mint::Vector, 1);
    write(&mut late, actor(2), 1, Mint::Vector, 1);
    let dot = Dot {
        actor: actor(1),
        counter: 1,
    };
    let seen = known(Observed::default().with_own_write(&answering, request(1), dot));
    let dot = Dot {
        actor: actor(2),
        counter: 2,
    };
    let next = new_write(2, Stamp::next(2, None), false);
    late.put(MODE, &seen, dot, Mint::Vector, next, 2)
        .expect("a fresh dot");
    merged(&answering, &late, MODE)
}

#[test]
fn a_context_of_dots_alone_leaves_the_second_run_of_what_it_replaces() {
    let dots_alone = |seen: Observed| Observed::from(seen.context().clone());
    check_held(&replaced_under_another_name(dots_alone), &[1, 2]);
}

#[test]
fn a_context_that_names_requests_replaces_every_run() {
    check_held(&replaced_under_another_name(|seen| seen), &[2]);
}
