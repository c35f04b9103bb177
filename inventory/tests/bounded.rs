//! What grows with time stays bounded: the ledger is shortened, the outbox is cleared or pushed out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod group;

use group::{Group, order, reservation, units};
use souk_inventory::{
    COMMANDS_MAX, CommandId, LEDGER_PAGES_KEPT, OUTBOX_CLEAR_MAX, OUTBOX_ROWS_MAX, OutboxRow,
    ReservationId, Row, RowKey, SHORTEN_MAX, StockAnswer, StockCommand, StockEvent, plan,
};

/// As `Group::one`, without looking through the whole group afterwards.
fn quickly(group: &mut Group, command: StockCommand, clock_unix_ms: u64) {
    let commands = [command];
    let planned = plan(
        &group.read(&commands, clock_unix_ms),
        &commands,
        clock_unix_ms,
    );
    let planned = planned.unwrap();
    assert!(planned.answers[0].is_ok(), "{:?}", planned.answers);
    group.write(&planned);
}

fn receive(number: u64) -> StockCommand {
    StockCommand::Receive {
        command_id: CommandId::from_bytes(u128::from(number).to_be_bytes()),
        quantity: units(2),
    }
}

fn events(group: &Group) -> Vec<StockEvent> {
    let rows = group.rows.iter().filter_map(|(key, value)| {
        let key = RowKey::from_bytes(key).unwrap();
        match Row::from_bytes(key, value).unwrap() {
            Row::Outbox(OutboxRow { events, .. }) => Some(events),
            _ => None,
        }
    });
    rows.flatten().collect()
}

/// What a command costs: rows looked up, rows changed, bytes of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    rows_read: usize,
    rows_written: usize,
    bytes_written: usize,
}

fn cost(group: &mut Group, command: StockCommand) -> Cost {
    let commands = [command];
    let (rows, rows_read) = group.read_and_count(&commands, NOW_MS);
    let planned = plan(&rows, &commands, NOW_MS).unwrap();
    assert!(planned.answers[0].is_ok(), "{:?}", planned.answers);
    group.write(&planned);
    let (puts, deletes) = (&planned.changes.puts, &planned.changes.deletes);
    let put_bytes = puts
        .iter()
        .map(|(key, row)| key.to_bytes().len() + row.to_bytes().len());
    Cost {
        rows_read,
        rows_written: puts.len() + deletes.len(),
        bytes_written: put_bytes.sum(),
    }
}

const NOW_MS: u64 = 1_000;

fn reserve(number: u64) -> StockCommand {
    StockCommand::Reserve {
        reservation_id: numbered(number),
        quantity: units(1),
        // All of them run out at different times, later.
        expires_unix_ms: NOW_MS + 600_000 + number,
    }
}

fn numbered(number: u64) -> ReservationId {
    // As ids come: in no order.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ReservationId::from_bytes((u128::from(mixed) << 64 | u128::from(number)).to_be_bytes())
}

/// The dearest of a hundred reservations, confirmations and releases each, beside so many live holds.
fn dearest_beside(holds: u64) -> [Cost; 3] {
    let mut group = Group::with_available(2_000_000);
    let all: Vec<StockCommand> = (0..holds).map(reserve).collect();
    for commands in all.chunks(COMMANDS_MAX) {
        let planned = plan(&group.read(commands, NOW_MS), commands, NOW_MS).unwrap();
        assert!(planned.answers.iter().all(Result::is_ok));
        group.write(&planned);
    }
    assert_eq!(group.summary().holds_count, holds);
    let confirm = |number| StockCommand::Confirm {
        reservation_id: numbered(number),
        order_id: order(1),
    };
    let release = |number| StockCommand::Release {
        reservation_id: numbered(number),
    };
    let mut dearest = |commands: &mut dyn Iterator<Item = StockCommand>| {
        commands.map(|command| cost(&mut group, command)).max()
    };
    [
        dearest(&mut (holds..holds + 100).map(reserve)).unwrap(),
        dearest(&mut (0..100).map(confirm)).unwrap(),
        dearest(&mut (100..200).map(release)).unwrap(),
    ]
}

#[test]
fn a_command_costs_the_same_beside_many_holds() {
    let (few, many) = (dearest_beside(1_000), dearest_beside(100_000));
    for (few, many) in few.into_iter().zip(many) {
        assert_eq!(few.rows_read, many.rows_read);
        assert_eq!(few.rows_written, many.rows_written);
        // Numbers with more digits take a few bytes more.
        assert!(
            many.bytes_written <= few.bytes_written + 16,
            "{few:?} beside few holds, {many:?} beside many"
        );
    }
}

#[test]
fn a_shortened_ledger_still_adds_up() {
    let mut group = Group::default();
    let shorten = SHORTEN_MAX as u64;
    let writes = LEDGER_PAGES_KEPT + 3 * shorten;
    for number in 0..writes {
        quickly(&mut group, receive(number), 0);
        let summary = group.summary();
        let pages = summary.ledger_next - summary.ledger_first;
        assert!(pages <= LEDGER_PAGES_KEPT + shorten, "{summary:?}");
        assert!(
            pages >= LEDGER_PAGES_KEPT || summary.ledger_first == 0,
            "{summary:?}"
        );
    }
    group.audit();
    let summary = group.summary();
    assert_eq!(summary.ledger_first, 2 * shorten);
    assert_eq!(summary.counts.available, 2 * writes);
    // A refusal and a replay tear out nothing: they do not write.
    let before = group.clone();
    quickly(&mut group, receive(0), 0);
    assert_eq!(group, before);
}

#[test]
fn others_hear_of_orders_and_of_empty_shelves() {
    let mut group = Group::with_available(2);
    let reserve = |number, expires_unix_ms| StockCommand::Reserve {
        reservation_id: reservation(number),
        quantity: units(1),
        expires_unix_ms,
    };
    group.one(reserve(1, 1_000), 1).unwrap();
    group.one(reserve(2, 500), 2).unwrap();
    let confirm = StockCommand::Confirm {
        reservation_id: reservation(1),
        order_id: order(1),
    };
    group.one(confirm.clone(), 3).unwrap();
    group.one(confirm, 4).unwrap();
    group.one(StockCommand::Sweep, 500).unwrap();
    let expected = [
        StockEvent::BackInStock,
        StockEvent::SoldOut,
        StockEvent::Allocated {
            reservation_id: reservation(1),
            order_id: order(1),
            quantity: units(1),
        },
        StockEvent::Expired {
            reservation_id: reservation(2),
            quantity: units(1),
        },
        StockEvent::BackInStock,
    ];
    assert_eq!(events(&group), expected);
    // Rows 0 to 2 go, the others stay; clearing again changes nothing.
    let clear = |group: &mut Group, through| {
        let answer = group.one(StockCommand::ClearOutbox { through }, 501);
        assert!(
            matches!(answer, Ok(StockAnswer::Cleared { first: 3 })),
            "{answer:?}"
        );
        assert_eq!(events(group), expected[3..]);
    };
    clear(&mut group, 2);
    clear(&mut group, 2);
    clear(&mut group, 0);
}

#[test]
fn an_outbox_that_nobody_clears_keeps_its_newest_rows() {
    let mut group = Group::with_available(1);
    let mut number: u128 = 0;
    while group.summary().outbox_next <= OUTBOX_ROWS_MAX + 3 {
        number += 1;
        let reservation_id = souk_inventory::ReservationId::from_bytes(number.to_be_bytes());
        let reserve = StockCommand::Reserve {
            reservation_id,
            quantity: units(1),
            expires_unix_ms: 1_000,
        };
        quickly(&mut group, reserve, 1);
        quickly(&mut group, StockCommand::Release { reservation_id }, 1);
    }
    group.audit();
    let summary = group.summary();
    assert_eq!(summary.outbox_next - summary.outbox_first, OUTBOX_ROWS_MAX);
    // A reader that comes late clears everything, a bounded part at a time.
    let clear = StockCommand::ClearOutbox { through: u64::MAX };
    quickly(&mut group, clear, 1);
    assert_eq!(
        group.summary().outbox_first,
        summary.outbox_first + OUTBOX_CLEAR_MAX
    );
    group.audit();
}
