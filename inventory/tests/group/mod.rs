//! A register group in memory: rows by sort key, read and written as the store does it, and audited after every write.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a shared module has no outside")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use souk_inventory::{
    CommandId, Compartment, EXPIRY_ROWS_MAX, HoldRow, HoldStatus, OrderId, PRUNE_MAX, Quantity,
    ReservationId, ReturnId, Row, RowKey, SHORTEN_MAX, StockAnswer, StockCommand, StockError,
    StockPlan, StockRows, Summary, TransferId, plan,
};

pub type Answer = Result<StockAnswer, StockError>;

pub fn units(count: u32) -> Quantity {
    Quantity::new(count).unwrap()
}

pub fn reservation(number: u8) -> ReservationId {
    ReservationId::from_bytes([number; 16])
}

pub fn order(number: u8) -> OrderId {
    OrderId::from_bytes([number; 16])
}

pub fn command(number: u8) -> CommandId {
    CommandId::from_bytes([number; 16])
}

pub fn returned(number: u8) -> ReturnId {
    ReturnId::from_bytes([number; 16])
}

pub fn transfer(number: u8) -> TransferId {
    TransferId::from_bytes([number; 16])
}

/// A sort key and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    pub rows: BTreeMap<Bytes, Bytes>,
}

impl Group {
    /// A stock with so many available units.
    pub fn with_available(count: u32) -> Self {
        let mut group = Self::default();
        group
            .one(
                StockCommand::Receive {
                    command_id: command(255),
                    quantity: units(count),
                },
                0,
            )
            .unwrap();
        group
    }

    pub fn summary(&self) -> Summary {
        self.rows
            .get(&RowKey::Summary.to_bytes())
            .map(|row| Summary::from_bytes(row).unwrap())
            .unwrap_or_default()
    }

    /// Reads what the plan of these commands needs, the summary first.
    pub fn read(&self, commands: &[StockCommand], clock_unix_ms: u64) -> StockRows {
        self.read_and_count(commands, clock_unix_ms).0
    }

    /// The same, and how many rows were looked up.
    pub fn read_and_count(
        &self,
        commands: &[StockCommand],
        clock_unix_ms: u64,
    ) -> (StockRows, usize) {
        let mut count = 1;
        let mut read = StockRows::new(Some(self.summary()));
        for key in commands.iter().filter_map(StockCommand::row) {
            read.insert(key, self.rows.get(&key.to_bytes()).map(AsRef::as_ref))
                .unwrap();
            count += 1;
        }
        if read.wants_expiring(clock_unix_ms) {
            let (rows, complete) = self.scan(RowKey::EXPIRY_PREFIX, EXPIRY_ROWS_MAX);
            count += rows.len();
            read.insert_expiring(rows, complete).unwrap();
            for key in read.wants_holds(clock_unix_ms) {
                read.insert(key, self.rows.get(&key.to_bytes()).map(AsRef::as_ref))
                    .unwrap();
                count += 1;
            }
        }
        if read.wants_ended(clock_unix_ms) {
            let (rows, complete) = self.scan(RowKey::ENDED_PREFIX, PRUNE_MAX + 1);
            count += rows.len();
            read.insert_ended(rows.into_iter().map(|(key, _)| key), complete)
                .unwrap();
        }
        if read.wants_oldest() {
            let first = RowKey::Ledger(read.summary().ledger_first).to_bytes();
            let pages = self.rows.range(first..);
            let pages: Vec<_> = pages
                .take(SHORTEN_MAX)
                .map(|(key, value)| (key.as_ref(), value.as_ref()))
                .collect();
            count += pages.len() + 1;
            let checkpoint = self.rows.get(&RowKey::Checkpoint.to_bytes());
            read.insert_oldest(checkpoint.map(AsRef::as_ref), pages)
                .unwrap();
        }
        (read, count)
    }

    fn scan(&self, prefix: &str, limit: usize) -> (Vec<Pair<'_>>, bool) {
        let rows = self
            .rows
            .iter()
            .filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        let mut rows: Vec<_> = rows
            .take(limit + 1)
            .map(|(key, value)| (key.as_ref(), value.as_ref()))
            .collect();
        let complete = rows.len() <= limit;
        rows.truncate(limit);
        (rows, complete)
    }

    pub fn write(&mut self, plan: &StockPlan) {
        for (key, row) in &plan.changes.puts {
            let bytes = row.to_bytes();
            assert_eq!(
                Row::from_bytes(*key, &bytes).unwrap(),
                *row,
                "a row reads back"
            );
            self.rows.insert(key.to_bytes(), bytes);
        }
        for key in &plan.changes.deletes {
            assert!(
                self.rows.remove(&key.to_bytes()).is_some(),
                "{key} is deleted and was not there"
            );
        }
    }

    /// Plans and writes a batch.
    pub fn batch(&mut self, commands: &[StockCommand], clock_unix_ms: u64) -> Vec<Answer> {
        let planned = plan(&self.read(commands, clock_unix_ms), commands, clock_unix_ms).unwrap();
        self.write(&planned);
        assert_eq!(planned.summary, self.summary());
        self.audit();
        planned.answers
    }

    pub fn one(&mut self, command: StockCommand, clock_unix_ms: u64) -> Answer {
        self.batch(&[command], clock_unix_ms).pop().unwrap()
    }

    /// Checks every promise that can be checked from the rows alone.
    pub fn audit(&self) {
        let summary = self.summary();
        let mut ledger = [0_i64; 5];
        let (mut pages, mut reserved, mut allocated) = (0, 0, 0);
        let (mut live, mut ended) = (BTreeSet::new(), BTreeSet::new());
        let (mut expiries, mut endings) = (Vec::new(), Vec::new());
        let mut outbox = Vec::new();
        for (key, value) in &self.rows {
            let key = RowKey::from_bytes(key).unwrap();
            match (key, Row::from_bytes(key, value).unwrap()) {
                // `k` sorts before `l/`.
                (RowKey::Checkpoint, Row::Checkpoint(checkpoint)) => {
                    assert_eq!(checkpoint.pages, summary.ledger_first);
                    pages = checkpoint.pages;
                    for (sum, compartment) in ledger.iter_mut().zip(Compartment::ALL) {
                        *sum += checkpoint.units.get(compartment);
                    }
                }
                (RowKey::Outbox(number), Row::Outbox(row)) => {
                    assert!(!row.events.is_empty());
                    outbox.push(number);
                }
                (RowKey::Ledger(number), Row::Ledger(page)) => {
                    assert_eq!(number, pages, "pages have no gaps");
                    assert!(!page.entries.is_empty());
                    pages += 1;
                    for entry in page.entries {
                        for (sum, compartment) in ledger.iter_mut().zip(Compartment::ALL) {
                            *sum += entry.units.get(compartment);
                            assert!(*sum >= 0, "{compartment:?} below zero on page {number}");
                        }
                    }
                }
                (RowKey::Hold(id), Row::Hold(HoldRow::Made(hold))) => {
                    let quantity = u64::from(hold.quantity.get());
                    match hold.status {
                        HoldStatus::Held => {
                            reserved += quantity;
                            live.insert((id, hold.expires_unix_ms));
                        }
                        HoldStatus::Allocated { .. } => allocated += quantity,
                        _ => drop(ended.insert(id)),
                    }
                }
                (RowKey::Hold(id), Row::Hold(HoldRow::Barred | HoldRow::Passed { .. })) => {
                    ended.insert(id);
                }
                (RowKey::Expiry(time, _), Row::Expiry(lot)) => {
                    assert!(!lot.holds.is_empty());
                    expiries.extend(lot.holds.into_iter().map(|id| (time, id)));
                }
                (RowKey::Ended(time, id), _) => endings.push((time, id)),
                _ => {}
            }
        }
        let counts = Compartment::ALL.map(|compartment| summary.counts.get(compartment) as i64);
        assert_eq!(ledger, counts, "the ledger adds up to the counts");
        assert_eq!(
            ledger[..4].iter().sum::<i64>() as u64,
            summary.counts.on_hand()
        );
        assert_eq!(pages, summary.ledger_next);
        let numbers = summary.outbox_first..summary.outbox_next;
        assert!(outbox.into_iter().eq(numbers), "the outbox has no gaps");
        assert_eq!(
            (reserved, allocated),
            (summary.counts.reserved, summary.counts.allocated)
        );
        assert_eq!(summary.holds_count as usize, live.len());
        let listed: BTreeMap<ReservationId, u64> =
            expiries.iter().map(|(time, id)| (*id, *time)).collect();
        assert_eq!(listed.len(), expiries.len(), "a hold is listed once");
        for (id, expires) in &live {
            let time = listed.get(id);
            assert!(
                time.is_some_and(|time| time <= expires),
                "{id} is listed in time"
            );
        }
        assert_eq!(
            endings.iter().map(|(_, id)| *id).collect::<BTreeSet<_>>(),
            ended
        );
        assert_eq!(endings.len(), ended.len());
        let not_after = |next: Option<u64>, index: &[(u64, ReservationId)]| {
            index
                .first()
                .is_none_or(|(first, _)| next.is_some_and(|next| next <= *first))
        };
        assert!(
            not_after(summary.next_expiry_unix_ms, &expiries),
            "{summary:?}"
        );
        assert!(
            not_after(summary.next_prune_unix_ms, &endings),
            "{summary:?}"
        );
    }
}
