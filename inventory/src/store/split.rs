//! Split stocks: which shard a command goes to, and what happens when a shard runs dry.
//!
//! Whether a stock is split stands in the summary of its first shard. A process learns it with the first command that
//! it sends there and remembers it for good, as a split is never undone; until then the first shard refuses what is at
//! home elsewhere, so that not knowing costs a round and nothing else.
//!
//! Place: I/O; part of [`super::StockStore`].
//! Invariants: 1. a reservation stands in one shard: a shard that passed it on never makes it, and says where it went.
//! 2. units on their way between shards are in transit in the books of the shard that they left, until the other one
//! has them; whoever finds them there may finish the move.
//! Not here: which shard, which moves (`crate::shard`).

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use rand::Rng as _;

use super::{
    LEDGER_PAGES_MAX, StockBucket, StockStore, StockStoreError, request_error, rows_error,
};
use crate::error::RowError;
use crate::shard::{Further, Move, gather, level, look_further};
use crate::{
    Compartment, HoldRow, QUANTITY_MAX, Quantity, ReservationId, Row, RowKey, StockAnswer,
    StockCommand, StockCounts, StockError, StockId, Summary, TransferDirection, TransferId,
    TransferRow, home_shard,
};

/// How often units are gathered for one reservation, while others take them away again.
const GATHERINGS_MAX: u32 = 3;

/// Shards are levelled in the background only while they have so many units each: the last ones would be moved about
/// more often than sold.
const LEVEL_UNITS_MIN: u64 = 64;

/// What this process knows of split stocks.
#[derive(Debug, Default)]
pub(super) struct Splits {
    /// More than one shard each.
    shards: Mutex<BTreeMap<StockId, u8>>,
    /// Those that are being levelled.
    levelling: Mutex<BTreeSet<StockId>>,
}

impl Splits {
    /// How many shards a stock has, as far as is known.
    pub(super) fn of(&self, stock: &StockId) -> u8 {
        self.shards.lock().get(stock).copied().unwrap_or(1)
    }

    /// Takes note of a summary of this stock.
    pub(super) fn learn(&self, stock: &StockId, summary: &Summary) {
        if summary.shards > 1 {
            self.shards
                .lock()
                .entry(stock.clone())
                .or_insert(summary.shards);
        }
    }
}

/// The reservation that a command is about, if it may stand in any shard.
fn reservation_of(command: &StockCommand) -> Option<ReservationId> {
    match command {
        StockCommand::Reserve { reservation_id, .. }
        | StockCommand::Confirm { reservation_id, .. }
        | StockCommand::Release { reservation_id }
        | StockCommand::Cancel { reservation_id, .. }
        | StockCommand::Ship { reservation_id, .. } => Some(*reservation_id),
        StockCommand::PassOn { .. }
        | StockCommand::Split { .. }
        | StockCommand::Receive { .. }
        | StockCommand::Return { .. }
        | StockCommand::Inspect { .. }
        | StockCommand::Damage { .. }
        | StockCommand::Discard { .. }
        | StockCommand::Adjust { .. }
        | StockCommand::TransferOut { .. }
        | StockCommand::TransferIn { .. }
        | StockCommand::TransferArrived { .. }
        | StockCommand::ClearOutbox { .. }
        | StockCommand::Sweep => None,
    }
}

impl<B: StockBucket> StockStore<B> {
    /// Runs one command, together with the others that wait for the same stock, or the same shard of it.
    ///
    /// Commands on a reservation go to the shard that has it, or should; all others to the stock that is named, which
    /// for a split stock is its first shard.
    ///
    /// Dropping the future gives the command up: if it has not left yet it never will.
    ///
    /// # Errors
    /// [`StockStoreError::Refused`] when the stock refuses it; otherwise see the error's outcome. Sending the same
    /// command again is always safe.
    pub async fn run(
        &self,
        stock: &StockId,
        command: StockCommand,
    ) -> Result<StockAnswer, StockStoreError> {
        if let StockCommand::Split { shards } = command {
            return self.split_here(stock, shards).await;
        }
        let Some(id) = reservation_of(&command) else {
            return self.run_here(stock, command).await;
        };
        if stock.centre.shard_number() > 0 {
            return self.run_here(stock, command).await;
        }
        if self.shared.splits.of(stock) == 1 {
            let answer = self.run_here(stock, command.clone()).await;
            let is_final = matches!(answer, Ok(StockAnswer::Reservation(_)));
            if is_final || self.shared.splits.of(stock) == 1 {
                return answer;
            }
        }
        let walk = Walk {
            store: self,
            stock,
            shards: self.shared.splits.of(stock),
            id,
            visited: Vec::new(),
            gatherings: 0,
        };
        walk.run(command).await
    }

    /// Splits a stock that remembers no reservation, and spreads its units. Splitting it again in the same way is fine.
    ///
    /// # Errors
    /// [`StockError::NotSplittable`] when it may not be split; otherwise as for [`StockStore::run`].
    pub async fn split(&self, stock: &StockId, shards: u8) -> Result<(), StockStoreError> {
        self.split_here(stock, shards).await?;
        self.balance(stock).await.map(|_| ())
    }

    /// Finishes moves between shards that were left half-way, and levels the shards' available units. Says how many
    /// units it moved. Safe at any time, and to be repeated after a failure.
    ///
    /// # Errors
    /// As for [`StockStore::run`].
    pub async fn balance(&self, stock: &StockId) -> Result<u64, StockStoreError> {
        let shards = self.shards(stock).await?;
        let mut moved = 0;
        for number in 0..shards {
            moved += self.finish_moves(&stock.shard(number)).await?;
        }
        let available = self.available(stock, shards).await?;
        for step in level(&available) {
            moved += self.carry_out(stock, step).await?;
        }
        Ok(moved)
    }

    /// The counts of a stock over all its shards; `None` when it was never written.
    ///
    /// The shards are read one beside the other, not at one moment: units on their way between them are in transit, or
    /// for an instant in both or none.
    ///
    /// # Errors
    /// As for [`StockStore::summary`].
    pub async fn total(&self, stock: &StockId) -> Result<Option<StockCounts>, StockStoreError> {
        let first = self.summary(stock).await?;
        self.shared.splits.learn(stock, &first);
        if first == Summary::default() {
            return Ok(None);
        }
        let mut total = first.counts;
        let others: Vec<StockId> = (1..first.shards)
            .map(|number| stock.shard(number))
            .collect();
        for summary in self.summaries(&others).await {
            total = total.plus(&summary?.counts);
        }
        Ok(Some(total))
    }

    /// What stands under the id of a reservation, in any shard, if anything.
    ///
    /// # Errors
    /// As for [`StockStore::summary`].
    pub async fn reservation(
        &self,
        stock: &StockId,
        id: ReservationId,
    ) -> Result<Option<HoldRow>, StockStoreError> {
        let shards = self.shards(stock).await?;
        let rows = self.holds_everywhere(stock, shards, id).await?;
        let made = rows
            .iter()
            .flatten()
            .find(|row| matches!(row, HoldRow::Made(_)));
        let home = || rows.get(usize::from(home_shard(id, shards)))?.as_ref();
        Ok(made.or_else(home).copied())
    }

    async fn split_here(
        &self,
        stock: &StockId,
        shards: u8,
    ) -> Result<StockAnswer, StockStoreError> {
        if stock.centre.shard_number() > 0 {
            let refusal = StockError::NotSplittable {
                shards,
                present: 1,
                why: "it is a shard itself",
            };
            return Err(refusal.into());
        }
        self.run_here(stock, StockCommand::Split { shards }).await
    }

    /// How many shards a stock has; asks its first one unless it is known to be split.
    async fn shards(&self, stock: &StockId) -> Result<u8, StockStoreError> {
        if self.shared.splits.of(stock) == 1 {
            let summary = self.summary(stock).await?;
            self.shared.splits.learn(stock, &summary);
        }
        Ok(self.shared.splits.of(stock))
    }

    /// The available units of each shard.
    async fn available(&self, stock: &StockId, shards: u8) -> Result<Vec<u64>, StockStoreError> {
        let all: Vec<StockId> = (0..shards).map(|number| stock.shard(number)).collect();
        let summaries = self.summaries(&all).await;
        let available = |summary: Result<Summary, _>| summary.map(|read| read.counts.available);
        summaries.into_iter().map(available).collect()
    }

    /// What each shard has under the id of a reservation.
    async fn holds_everywhere(
        &self,
        stock: &StockId,
        shards: u8,
        id: ReservationId,
    ) -> Result<Vec<Option<HoldRow>>, StockStoreError> {
        let key = RowKey::Hold(id);
        let all: Vec<StockId> = (0..shards).map(|number| stock.shard(number)).collect();
        let asked: Vec<(&StockId, RowKey)> = all.iter().map(|shard| (shard, key)).collect();
        let timeout = self.shared.options.request_timeout;
        let read = self.shared.bucket.get(&asked, timeout).await;
        let hold = |(shard, row): (&StockId, Result<Option<souk_kv_client::Versioned>, _>)| {
            let Some(row) = row.map_err(|source| request_error(shard, source))? else {
                return Ok(None);
            };
            match Row::from_bytes(key, &row.value.data) {
                Ok(Row::Hold(hold)) => Ok(Some(hold)),
                Ok(_) => Err(rows_error(shard, RowError::Contradiction { key })),
                Err(broken) => Err(rows_error(shard, broken)),
            }
        };
        all.iter().zip(read).map(hold).collect()
    }

    /// Moves units from one shard to another; says how many, which is none when they were sold meanwhile.
    async fn carry_out(&self, stock: &StockId, step: Move) -> Result<u64, StockStoreError> {
        let (from, to) = (stock.shard(step.from), stock.shard(step.to));
        let units = u32::try_from(step.units.min(QUANTITY_MAX.into()));
        let Some(quantity) = units.ok().and_then(|units| Quantity::new(units).ok()) else {
            return Ok(0);
        };
        let transfer_id = TransferId::from_bytes(self.shared.chance.lock().random());
        let out = StockCommand::TransferOut {
            transfer_id,
            to: to.centre.clone(),
            quantity,
        };
        match self.run_here(&from, out).await {
            Err(StockStoreError::Refused(StockError::Insufficient { .. })) => return Ok(0),
            answer => answer?,
        };
        self.arrive(&from, &to, transfer_id, quantity).await
    }

    /// The second half of a move: the units get to their shard, and the one that they left hears of it.
    async fn arrive(
        &self,
        from: &StockId,
        to: &StockId,
        transfer_id: TransferId,
        quantity: Quantity,
    ) -> Result<u64, StockStoreError> {
        let arrival = StockCommand::TransferIn {
            transfer_id,
            from: from.centre.clone(),
            quantity,
        };
        self.run_here(to, arrival).await?;
        self.run_here(from, StockCommand::TransferArrived { transfer_id })
            .await?;
        Ok(quantity.get().into())
    }

    /// Finishes the moves out of a shard whose second half is missing.
    async fn finish_moves(&self, from: &StockId) -> Result<u64, StockStoreError> {
        let mut moved = 0;
        if self.summary(from).await?.counts.in_transit == 0 {
            return Ok(moved);
        }
        let mut first = TransferId::from_bytes([0; 16]);
        loop {
            let page = self.transfers(from, first, LEDGER_PAGES_MAX).await?;
            for (id, row) in &page {
                let is_open = row.direction == TransferDirection::Out && row.arrived_page.is_none();
                if is_open && row.other.undivided() == from.centre.undivided() {
                    let to = from.shard(row.other.shard_number());
                    moved += self.arrive(from, &to, *id, row.quantity).await?;
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == LEDGER_PAGES_MAX => first = *last,
                _ => return Ok(moved),
            }
        }
    }

    /// Transfers in the order of their ids from `first` on.
    async fn transfers(
        &self,
        stock: &StockId,
        first: TransferId,
        limit: usize,
    ) -> Result<Vec<(TransferId, TransferRow)>, StockStoreError> {
        let from = Some(RowKey::Transfer(first));
        self.scan(
            stock,
            RowKey::TRANSFER_PREFIX,
            from,
            limit,
            |key, row| match (key, row) {
                (RowKey::Transfer(id), Row::Transfer(row)) => Some((id, row)),
                _ => None,
            },
        )
        .await
    }

    /// Levels the shards in the background, unless that is going on already or not worth it.
    fn level_soon(&self, stock: &StockId, available: &[u64]) {
        let worth_it = LEVEL_UNITS_MIN * available.len() as u64;
        if available.iter().sum::<u64>() < worth_it
            || !self.shared.splits.levelling.lock().insert(stock.clone())
        {
            return;
        }
        let (store, stock) = (self.clone(), stock.clone());
        tokio::spawn(async move {
            if let Err(error) = store.balance(&stock).await {
                // What is left half-way is finished by the next levelling.
                tracing::warn!(%stock, error = &error as &dyn std::error::Error, "levelling shards failed");
            }
            store.shared.splits.levelling.lock().remove(&stock);
        });
    }
}

/// The way of one command through the shards.
struct Walk<'a, B> {
    store: &'a StockStore<B>,
    stock: &'a StockId,
    shards: u8,
    id: ReservationId,
    /// Shards that were asked, in this order.
    visited: Vec<u8>,
    gatherings: u32,
}

impl<B: StockBucket> Walk<'_, B> {
    async fn run(mut self, command: StockCommand) -> Result<StockAnswer, StockStoreError> {
        let mut at = home_shard(self.id, self.shards);
        // The home forgets where it sent a reservation to, and would bar one that it does not know.
        let may_bar = matches!(
            command,
            StockCommand::Release { .. } | StockCommand::Cancel { .. }
        );
        if may_bar && let Some(found) = self.locate().await? {
            at = found;
        }
        let mut is_located = may_bar;
        loop {
            self.visited.push(at);
            let answer = self
                .store
                .run_here(&self.stock.shard(at), command.clone())
                .await;
            at = match answer {
                Ok(StockAnswer::Passed { to }) if !self.visited.contains(&to) => to,
                Err(StockStoreError::Refused(StockError::Insufficient {
                    compartment: Compartment::Available,
                    requested,
                    ..
                })) => match self.further(at, &command, requested).await? {
                    Some(to) => to,
                    None => return answer,
                },
                Err(StockStoreError::Refused(
                    StockError::NoHold { .. } | StockError::ExpiryPassed { .. },
                )) if !is_located => {
                    is_located = true;
                    match self.locate().await? {
                        Some(found) if !self.visited.contains(&found) => found,
                        _ => return answer,
                    }
                }
                answer => return answer,
            };
        }
    }

    /// The shard in which the reservation was made, if it was.
    async fn locate(&self) -> Result<Option<u8>, StockStoreError> {
        let rows = self
            .store
            .holds_everywhere(self.stock, self.shards, self.id)
            .await?;
        let made = (0..)
            .zip(rows)
            .find(|(_, row)| matches!(row, Some(HoldRow::Made(_))));
        Ok(made.map(|(number, _)| number))
    }

    /// Where to go from a shard that has too few units: another shard, or the same once units have been moved there.
    /// None when the refusal stands.
    async fn further(
        &mut self,
        at: u8,
        command: &StockCommand,
        wanted: u64,
    ) -> Result<Option<u8>, StockStoreError> {
        let StockCommand::Reserve {
            expires_unix_ms, ..
        } = command
        else {
            return Ok(None);
        };
        let available = self.store.available(self.stock, self.shards).await?;
        match look_further(&available, at, &self.visited, wanted) {
            Further::Nowhere => Ok(None),
            Further::In(to) => {
                self.store.level_soon(self.stock, &available);
                let pass_on = StockCommand::PassOn {
                    reservation_id: self.id,
                    to,
                    expires_unix_ms: *expires_unix_ms,
                };
                match self.store.run_here(&self.stock.shard(at), pass_on).await? {
                    StockAnswer::Passed { to } if !self.visited.contains(&to) => Ok(Some(to)),
                    // It was made here meanwhile, by somebody else under the same id: ask once more.
                    _ => Ok(Some(at)),
                }
            }
            Further::AfterMoves if self.gatherings < GATHERINGS_MAX => {
                self.gatherings += 1;
                for step in gather(&available, at, wanted) {
                    self.store.carry_out(self.stock, step).await?;
                }
                Ok(Some(at))
            }
            Further::AfterMoves => Ok(None),
        }
    }
}
