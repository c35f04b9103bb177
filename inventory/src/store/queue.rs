//! The commands that wait for each stock, and the task that works them off.
//!
//! Place: used by [`super::StockStore`].
//! Invariants: 1. a stock has a queue here exactly while its driver runs. 2. at most one driver for each stock.
//! 3. at most `queue_max` commands wait for one stock.
//! Not here: what a batch does (`super::batch`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::batch::{Driver, Waiting};
use super::{Shared, StockBucket, StockStoreError};
use crate::{COMMANDS_MAX, StockAnswer, StockCommand, StockId};

type Answer = oneshot::Receiver<Result<StockAnswer, StockStoreError>>;

#[derive(Debug)]
pub(super) struct Queues {
    queue_max: usize,
    waiting: Mutex<BTreeMap<StockId, VecDeque<Waiting>>>,
}

impl Queues {
    pub(super) fn new(queue_max: usize) -> Self {
        Self {
            queue_max: queue_max.max(1),
            waiting: Mutex::default(),
        }
    }

    /// Lets a command wait; says where its answer comes and whether the stock needs a driver now.
    pub(super) fn push(
        &self,
        stock: &StockId,
        command: StockCommand,
    ) -> Result<(Answer, bool), StockStoreError> {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting::new(command, sender);
        let mut queues = self.waiting.lock();
        match queues.get_mut(stock) {
            Some(queue) if queue.len() >= self.queue_max => Err(StockStoreError::QueueFull {
                stock: stock.clone(),
                waiting_count: queue.len(),
            }),
            Some(queue) => {
                queue.push_back(waiting);
                Ok((receiver, false))
            }
            None => {
                queues.insert(stock.clone(), VecDeque::from([waiting]));
                Ok((receiver, true))
            }
        }
    }

    /// Takes the next batch; ends the queue when there is none.
    fn take(&self, stock: &StockId) -> Option<Vec<Waiting>> {
        let mut queues = self.waiting.lock();
        let queue = queues.get_mut(stock)?;
        // Callers that gave up while they waited cost nothing more.
        queue.retain(Waiting::is_wanted);
        if queue.is_empty() {
            queues.remove(stock);
            return None;
        }
        let count = queue.len().min(COMMANDS_MAX);
        Some(queue.drain(..count).collect())
    }
}

/// Ends a stock's queue when its driver is stopped half-way, so that waiting callers are told and a later command starts
/// a new one.
struct StopGuard<'a> {
    queues: &'a Queues,
    stock: &'a StockId,
    is_done: bool,
}

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        // A driver that was done has ended its queue itself; the one there now belongs to the next driver.
        if !self.is_done {
            self.queues.waiting.lock().remove(self.stock);
        }
    }
}

/// Works off the queue of one stock until it is empty.
pub(super) async fn drive<B: StockBucket>(shared: Arc<Shared<B>>, stock: StockId) {
    let mut guard = StopGuard {
        queues: &shared.queues,
        stock: &stock,
        is_done: false,
    };
    let mut driver = Driver::new(&*shared, &stock);
    while let Some(batch) = shared.queues.take(&stock) {
        driver.run(batch).await;
        // Those who were just answered often have a next command: let them come, so that it goes with this batch.
        tokio::task::yield_now().await;
    }
    guard.is_done = true;
}
