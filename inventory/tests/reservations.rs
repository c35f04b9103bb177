//! Single cases of a reservation's life, above all at its edges in time.

mod group;

use group::{Answer, Group, command, order, reservation, units};
use souk_inventory::{
    CHANGES_MAX, COMMANDS_MAX, ENDED_MEMORY_MS, HOLD_MAX_MS, HoldStatus, PRUNE_MAX, ReservationId,
    RowError, RowKey, SWEEP_MAX, StockAnswer, StockCommand, StockRows, plan,
};

fn reserve(id: u8, count: u32, expires_unix_ms: u64) -> StockCommand {
    StockCommand::Reserve {
        reservation_id: reservation(id),
        quantity: units(count),
        expires_unix_ms,
    }
}

fn confirm(id: u8, by: u8) -> StockCommand {
    StockCommand::Confirm {
        reservation_id: reservation(id),
        order_id: order(by),
    }
}

fn release(id: u8) -> StockCommand {
    StockCommand::Release {
        reservation_id: reservation(id),
    }
}

/// Checks an answer: the status it tells, or the code of its refusal.
fn check(answer: Answer, expected: Result<HoldStatus, &str>) {
    let told = answer
        .map_err(|refusal| refusal.code())
        .map(|answer| match answer {
            StockAnswer::Reservation(reservation) => reservation.status,
            other => panic!("{other:?} is no reservation"),
        });
    assert_eq!(told, expected);
}

#[test]
fn a_hold_can_be_confirmed_until_the_instant_before_its_expiry() {
    let allocated = HoldStatus::Allocated { order_id: order(1) };
    for (at, expected) in [(999, Ok(allocated)), (1_000, Err("reservation_expired"))] {
        let mut group = Group::with_available(1);
        check(group.one(reserve(1, 1, 1_000), 0), Ok(HoldStatus::Held));
        check(group.one(confirm(1, 1), at), expected);
    }
}

#[test]
fn an_expiry_must_lie_ahead_and_within_a_day() {
    let mut group = Group::with_available(9);
    check(
        group.one(reserve(1, 1, 500), 500),
        Err("hold_expiry_passed"),
    );
    check(group.one(reserve(1, 1, 501), 500), Ok(HoldStatus::Held));
    check(
        group.one(reserve(2, 1, 500 + HOLD_MAX_MS), 500),
        Ok(HoldStatus::Held),
    );
    check(
        group.one(reserve(3, 1, 501 + HOLD_MAX_MS), 500),
        Err("hold_expiry_too_far"),
    );
}

#[test]
fn the_write_that_needs_the_units_of_an_expired_hold_gets_them() {
    let mut group = Group::with_available(1);
    check(group.one(reserve(1, 1, 1_000), 0), Ok(HoldStatus::Held));
    check(
        group.one(reserve(2, 1, 2_000), 999),
        Err("stock_insufficient"),
    );
    check(group.one(reserve(2, 1, 2_000), 1_000), Ok(HoldStatus::Held));
    check(group.one(confirm(1, 1), 1_000), Err("reservation_expired"));
}

#[test]
fn an_expired_hold_is_released_by_its_own_refusal_when_the_sweep_did_not_come_to_it() {
    for late in [confirm(1, 1), reserve(1, 1, 1_000)] {
        let mut group = Group::with_available(1);
        check(group.one(reserve(1, 1, 1_000), 0), Ok(HoldStatus::Held));
        // A plan that was not shown the expiry index cannot sweep.
        let mut rows = StockRows::new(Some(group.summary()));
        let key = RowKey::Hold(reservation(1));
        rows.insert(key, group.rows.get(&key.to_bytes()).map(AsRef::as_ref))
            .unwrap();
        let unswept = plan(&rows, std::slice::from_ref(&late), 1_000).unwrap();
        group.write(&unswept);
        group.audit();
        check(
            unswept.answers.into_iter().next().unwrap(),
            Err("reservation_expired"),
        );
        check(group.one(confirm(1, 1), 10), Err("reservation_expired"));
        assert_eq!(group.summary().counts.available, 1);
    }
}

#[test]
fn a_clock_that_runs_back_does_not_revive_a_hold() {
    let mut group = Group::with_available(2);
    check(group.one(reserve(1, 1, 1_000), 0), Ok(HoldStatus::Held));
    check(group.one(reserve(2, 1, 9_000), 1_000), Ok(HoldStatus::Held));
    check(group.one(confirm(1, 1), 10), Err("reservation_expired"));
}

#[test]
fn a_release_that_overtakes_its_reserve_bars_it() {
    let mut group = Group::with_available(1);
    assert_eq!(group.one(release(1), 0), Ok(StockAnswer::Barred));
    check(
        group.one(reserve(1, 1, 1_000), 5),
        Err("reservation_barred"),
    );
    assert_eq!(group.summary().counts.reserved, 0);
}

#[test]
fn a_cancellation_that_overtakes_its_confirmation_wins() {
    let mut group = Group::with_available(1);
    check(group.one(reserve(1, 1, 1_000), 0), Ok(HoldStatus::Held));
    let cancel = StockCommand::Cancel {
        reservation_id: reservation(1),
        order_id: order(1),
    };
    check(
        group.one(cancel, 1),
        Ok(HoldStatus::Cancelled { order_id: order(1) }),
    );
    check(group.one(confirm(1, 1), 2), Err("reservation_ended"));
    assert_eq!(group.summary().counts.available, 1);
}

#[test]
fn a_forgotten_reservation_cannot_be_made_again_by_an_old_copy() {
    let mut group = Group::with_available(1);
    let old = reserve(1, 1, 1_000);
    check(group.one(old.clone(), 0), Ok(HoldStatus::Held));
    check(group.one(release(1), 1), Ok(HoldStatus::Released));
    group.one(StockCommand::Sweep, 1 + ENDED_MEMORY_MS).unwrap();
    assert!(
        !group
            .rows
            .contains_key(&RowKey::Hold(reservation(1)).to_bytes()),
        "it is forgotten"
    );
    check(group.one(old, 0), Err("hold_expiry_passed"));
}

#[test]
fn a_released_hold_is_remembered_until_its_expiry() {
    let mut group = Group::with_available(1);
    let old = reserve(1, 1, HOLD_MAX_MS);
    check(group.one(old.clone(), 0), Ok(HoldStatus::Held));
    check(group.one(release(1), 1), Ok(HoldStatus::Released));
    check(
        group.one(old.clone(), HOLD_MAX_MS - 1),
        Err("reservation_ended"),
    );
    check(group.one(old, HOLD_MAX_MS), Err("hold_expiry_passed"));
}

/// So many holds of one unit, the first of them expiring at `expires_unix_ms`, each a millisecond after the one before.
fn crowd(count: usize, expires_unix_ms: u64) -> Vec<StockCommand> {
    let one = |number| StockCommand::Reserve {
        reservation_id: ReservationId::from_bytes((number as u128).to_be_bytes()),
        quantity: units(1),
        expires_unix_ms: expires_unix_ms + number as u64,
    };
    (0..count).map(one).collect()
}

#[test]
fn one_batch_never_grants_more_than_there_is() {
    let mut group = Group::with_available(100);
    let commands = crowd(COMMANDS_MAX, 1_000);
    // One row for each hold. For all of them together the summary, a ledger page, a row of the expiry index, and one of
    // the outbox, since nothing is left.
    let planned = plan(&group.read(&commands, 0), &commands, 0).unwrap();
    assert_eq!(planned.changes.len(), 100 + 4);
    let answers = group.batch(&commands, 0);
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 100);
}

#[test]
fn units_released_early_in_a_batch_serve_later_commands() {
    let mut group = Group::with_available(1);
    check(group.one(reserve(1, 1, 1_000), 0), Ok(HoldStatus::Held));
    let answers = group.batch(
        &[
            reserve(2, 1, 1_000),
            release(1),
            reserve(3, 1, 1_000),
            reserve(4, 1, 1_000),
        ],
        1,
    );
    let [first, second, third, fourth] = answers.try_into().unwrap();
    check(first, Err("stock_insufficient"));
    check(second, Ok(HoldStatus::Released));
    check(third, Ok(HoldStatus::Held));
    check(fourth, Err("stock_insufficient"));
}

#[test]
fn a_hold_made_and_given_up_in_one_batch_leaves_no_expiry() {
    let mut group = Group::with_available(1);
    let answers = group.batch(&[reserve(1, 1, 1_000), release(1)], 0);
    assert!(answers.iter().all(Result::is_ok));
    assert!(
        !group
            .rows
            .keys()
            .any(|key| key.starts_with(RowKey::EXPIRY_PREFIX.as_bytes()))
    );
}

#[test]
fn a_flood_of_expired_holds_is_released_in_bounded_steps() {
    let holds = 3 * SWEEP_MAX;
    let mut group = Group::with_available(holds as u32);
    for commands in crowd(holds, 1_000).chunks(COMMANDS_MAX) {
        group.batch(commands, 0);
    }
    let want = reserve(200, holds as u32, 9_000);
    for step in 1..3 {
        let refusal = group.one(want.clone(), 5_000).unwrap_err();
        assert!(
            format!("{refusal:?}").contains("more_expired: true"),
            "{refusal:?}"
        );
        assert_eq!(group.summary().counts.available as usize, step * SWEEP_MAX);
    }
    check(group.one(want, 5_000), Ok(HoldStatus::Held));
    // Forgetting them is bounded as well, and comes to an end.
    for left in [holds - PRUNE_MAX, holds - 2 * PRUNE_MAX, 0] {
        group
            .one(StockCommand::Sweep, 5_001 + ENDED_MEMORY_MS)
            .unwrap();
        let ended = group
            .rows
            .keys()
            .filter(|key| key.starts_with(RowKey::ENDED_PREFIX.as_bytes()))
            .count();
        // The wanted hold itself ran out meanwhile.
        assert_eq!(ended, left + 1);
    }
}

#[test]
fn the_fullest_plan_stays_within_the_rows_of_one_write() {
    let holds = COMMANDS_MAX + SWEEP_MAX + PRUNE_MAX;
    let mut group = Group::with_available(holds as u32);
    // Some to forget, some to sweep, some to release: all three at once is the most that one plan can do.
    let crowd = crowd(holds, HOLD_MAX_MS - ENDED_MEMORY_MS);
    for commands in crowd.chunks(COMMANDS_MAX) {
        group.batch(commands, 0);
    }
    let give_up = |command: &StockCommand| match command {
        StockCommand::Reserve { reservation_id, .. } => StockCommand::Release {
            reservation_id: *reservation_id,
        },
        other => panic!("{other:?} reserves nothing"),
    };
    let releases: Vec<_> = crowd.iter().map(give_up).collect();
    let first_expiry = HOLD_MAX_MS - ENDED_MEMORY_MS;
    let at = first_expiry + (PRUNE_MAX + SWEEP_MAX) as u64 - 1;
    for commands in releases[..PRUNE_MAX].chunks(COMMANDS_MAX) {
        group.batch(commands, at - ENDED_MEMORY_MS);
    }
    // The sweep comes past those that are to be forgotten later.
    let past = first_expiry + PRUNE_MAX as u64 - 1;
    group.one(StockCommand::Sweep, past).unwrap();
    let last = &releases[PRUNE_MAX + SWEEP_MAX..];
    let planned = plan(&group.read(last, at), last, at).unwrap();
    assert_eq!(
        planned.changes.len(),
        2 * (COMMANDS_MAX + SWEEP_MAX + PRUNE_MAX) + 4,
        "and a summary, a ledger page, an outbox row, and a row of the expiry index that is worked off"
    );
    assert!(planned.changes.len() <= CHANGES_MAX);
    group.write(&planned);
    group.audit();
}

#[test]
fn sweep_says_whether_more_is_due() {
    let mut group = Group::with_available(9);
    check(group.one(reserve(1, 1, 1_000), 0), Ok(HoldStatus::Held));
    check(group.one(reserve(2, 1, 2_000), 0), Ok(HoldStatus::Held));
    let swept = |released_count| {
        Ok(StockAnswer::Swept {
            released_count,
            more: false,
        })
    };
    assert_eq!(group.one(StockCommand::Sweep, 999), swept(0));
    assert_eq!(group.one(StockCommand::Sweep, 1_500), swept(1));
    assert_eq!(group.summary().next_expiry_unix_ms, Some(2_000));
    assert_eq!(group.one(StockCommand::Sweep, 2_000), swept(1));
    assert_eq!(group.summary().next_expiry_unix_ms, None);
}

#[test]
fn a_refused_batch_and_a_replay_write_nothing() {
    let mut group = Group::with_available(1);
    check(group.one(reserve(1, 1, 1_000), 0), Ok(HoldStatus::Held));
    let commands = [reserve(1, 1, 1_000), reserve(2, 1, 1_000), confirm(3, 1)];
    let planned = plan(&group.read(&commands, 7), &commands, 7).unwrap();
    assert!(planned.changes.is_empty());
    assert_eq!(planned.summary, group.summary());
}

#[test]
fn a_row_that_was_not_read_is_an_error_and_not_absent() {
    let refusal = plan(&StockRows::new(None), &[reserve(1, 1, 1_000)], 0);
    assert!(
        matches!(refusal, Err(RowError::NotRead { key }) if key == RowKey::Hold(reservation(1)))
    );
}

#[test]
fn rows_that_contradict_each_other_stop_the_batch() {
    let mut group = Group::with_available(1);
    check(group.one(reserve(1, 1, 1_000), 0), Ok(HoldStatus::Held));
    let commands = [confirm(1, 1)];
    // A hold with units, in a stock that has none reserved.
    let mut rows = StockRows::new(None);
    let key = RowKey::Hold(reservation(1));
    let held = group.rows.get(&key.to_bytes()).map(AsRef::as_ref);
    rows.insert(key, held).unwrap();
    let refusal = plan(&rows, &commands, 1);
    assert!(
        matches!(refusal, Err(RowError::Contradiction { .. })),
        "{refusal:?}"
    );
}

#[test]
fn an_adjustment_below_zero_is_refused() {
    let mut group = Group::with_available(3);
    let adjust = |difference| StockCommand::Adjust {
        command_id: command(1),
        difference,
    };
    assert_eq!(
        group.one(adjust(-4), 0).unwrap_err().code(),
        "stock_insufficient"
    );
    assert_eq!(
        group.one(adjust(i64::MIN), 0).unwrap_err().code(),
        "stock_insufficient"
    );
    assert_eq!(
        group.one(adjust(i64::MAX), 0).unwrap_err().code(),
        "stock_too_many_units"
    );
    group.one(adjust(-3), 0).unwrap();
    assert_eq!(group.summary().counts.on_hand(), 0);
}
