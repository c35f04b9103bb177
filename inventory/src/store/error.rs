//! Why a command on a stored stock fails, and what may be believed of it then.
//!
//! Place: returned by [`super::StockStore`].
//! Not here: the failures below it, which it carries as their sources.

use std::sync::Arc;

use souk_kv_client::{Outcome, RequestError};
use thiserror::Error;

use crate::{RowError, StockError, StockId};

/// Why a command on a stored stock fails. One failed write fails every command of its batch, so it can be cloned.
#[derive(Debug, Clone, Error)]
pub enum StockStoreError {
    /// What: the stock refuses the command. Mend: as the refusal says.
    #[error(transparent)]
    Refused(#[from] StockError),
    /// What: rows of the stock cannot be used. Mend: as the source says; nothing is overwritten.
    #[error("stock {stock} has rows that cannot be used")]
    Rows {
        /// The stock.
        stock: StockId,
        /// What may be believed of the command.
        outcome: Outcome,
        /// What is wrong with them.
        #[source]
        source: Arc<RowError>,
    },
    /// What: the stock could not be read or written. Mend: send the same command again, which is safe.
    #[error("stock {stock} could not be reached")]
    Request {
        /// The stock.
        stock: StockId,
        /// What may be believed of the command; weaker than the source's where an earlier round was in doubt.
        outcome: Outcome,
        /// Why.
        #[source]
        source: RequestError,
    },
    /// What: others wrote to the stock again and again until the time was up. Mend: send the same command again.
    #[error(
        "stock {stock} changed under {rounds} attempts to write it; send the same command again"
    )]
    Contended {
        /// The stock.
        stock: StockId,
        /// What may be believed of the command.
        outcome: Outcome,
        /// How many attempts there were.
        rounds: u32,
    },
    /// What: too many commands wait for this stock. Mend: send it again a little later, or send less.
    #[error(
        "{waiting_count} commands wait for stock {stock} already; send it again a little later"
    )]
    QueueFull {
        /// The stock.
        stock: StockId,
        /// How many wait.
        waiting_count: usize,
    },
    /// What: the runtime shut down, or a bug stopped the stock's driver, before the answer. Mend: send it again.
    #[error("stock {stock} stopped before it answered; send the same command again")]
    Stopped {
        /// The stock.
        stock: StockId,
    },
}

impl StockStoreError {
    /// A short name that does not change, for logs and problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Rows { .. } => "stock_unreadable",
            Self::Request { .. } => "stock_unreachable",
            Self::Contended { .. } => "stock_contended",
            Self::QueueFull { .. } => "stock_queue_full",
            Self::Stopped { .. } => "stock_stopped",
        }
    }

    /// What may be believed of the command.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_) | Self::QueueFull { .. } => Outcome::NotApplied,
            Self::Rows { outcome, .. }
            | Self::Request { outcome, .. }
            | Self::Contended { outcome, .. } => *outcome,
            Self::Stopped { .. } => Outcome::Unknown,
        }
    }

    /// Whether the same command may succeed later. Repeating it never counts twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Rows { .. } => false,
            Self::Request { source, .. } => source.is_retryable(),
            Self::Contended { .. } | Self::QueueFull { .. } | Self::Stopped { .. } => true,
        }
    }
}
