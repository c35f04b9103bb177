//! Joins intents and the provider: what checkout asks for, done so that it can be asked again.
//!
//! Place: over `crate::kv` and `super::provider`; used by `crate::checkout`.
//! Shape: bucket `payments`: (payment key, `intent`) holds the intent.
//! Invariants: 1. the intent is on record before the provider is called. 2. what the provider authorised is what the
//! intent says, or it is refused. 3. the provider is the judge; the record follows it.

use souk_kv_client::{
    Condition, Key, Outcome, RowOperation, TransactOutcome, Transaction, Version,
};
use uuid::Uuid;

use super::intent::{IntentStatus, PaymentIntent};
use super::provider::{ProviderClient, ProviderError};
use crate::buckets::PAYMENTS;
use crate::fault::StoreFault;
use crate::ids::OrderId;
use crate::kv::{SharedKv, json};
use crate::money::Money;
use crate::payment_provider::book::PaymentStatus;

const ROW: &str = "intent";
/// Tries to write a status before the change is left to a later retry.
const WRITES_MAX: u32 = 4;

/// What came of asking for an authorisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorisation {
    /// Promised under this provider's name.
    Authorised {
        /// The provider's name for it.
        payment_id: String,
    },
    /// Refused for good.
    Declined {
        /// Why.
        detail: String,
    },
}

impl From<Authorisation> for IntentStatus {
    fn from(authorisation: Authorisation) -> Self {
        match authorisation {
            Authorisation::Authorised { payment_id } => Self::Authorised { payment_id },
            Authorisation::Declined { detail } => Self::Declined { detail },
        }
    }
}

/// A payment step without a definite result; perform it again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PaymentFault {
    /// What: the store did not do as asked.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// What: the provider gave no clear answer, or refused where checkout has no other way.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// What: record and order disagree on the amount. This is a bug; nothing was charged for it.
    #[error(
        "order {order_id} costs {wanted}, but its payment was recorded over {recorded}; report this"
    )]
    AmountDiffers {
        /// The order.
        order_id: OrderId,
        /// What it costs.
        wanted: Money,
        /// What was recorded.
        recorded: Money,
    },
}

/// Takes payments for orders.
pub struct PaymentDesk {
    kv: SharedKv,
    provider: ProviderClient,
}

impl PaymentDesk {
    /// A desk that keeps intents in `kv` and asks `provider`.
    #[must_use]
    pub fn new(kv: SharedKv, provider: ProviderClient) -> Self {
        Self { kv, provider }
    }

    /// The provider's connection, for readiness.
    #[must_use]
    pub fn provider(&self) -> &ProviderClient {
        &self.provider
    }

    /// Authorises `amount` for an order.
    ///
    /// # Errors
    /// No definite result; ask again.
    pub async fn authorise(
        &self,
        order_id: OrderId,
        key: Uuid,
        amount: Money,
        token: &str,
    ) -> Result<Authorisation, PaymentFault> {
        let intent = self
            .recorded(PaymentIntent::requested(order_id, key, amount))
            .await?;
        if intent.amount != amount {
            return Err(PaymentFault::AmountDiffers {
                order_id,
                wanted: amount,
                recorded: intent.amount,
            });
        }
        match intent.status {
            IntentStatus::Requested => {}
            IntentStatus::Declined { detail } => return Ok(Authorisation::Declined { detail }),
            IntentStatus::Authorised { payment_id }
            | IntentStatus::Captured { payment_id }
            | IntentStatus::Voided { payment_id } => {
                return Ok(Authorisation::Authorised { payment_id });
            }
        }
        let authorisation = match self.provider.authorise(key, amount, token).await {
            Ok(payment) if payment.amount != amount => {
                return Err(PaymentFault::AmountDiffers {
                    order_id,
                    wanted: amount,
                    recorded: payment.amount,
                });
            }
            Ok(payment) if payment.status == PaymentStatus::Declined => Authorisation::Declined {
                detail: payment.detail,
            },
            Ok(payment) => Authorisation::Authorised {
                payment_id: payment.id.to_string(),
            },
            Err(ProviderError::Refused { detail }) => Authorisation::Declined { detail },
            Err(unclear) => return Err(unclear.into()),
        };
        self.advance(key, authorisation.clone().into()).await?;
        Ok(authorisation)
    }

    /// Takes the money of an authorised payment; `Err(text)` inside is the provider's definite no.
    ///
    /// # Errors
    /// No definite result; ask again.
    pub async fn capture(
        &self,
        key: Uuid,
        payment_id: &str,
    ) -> Result<Result<(), String>, PaymentFault> {
        match self.provider.capture(payment_id).await {
            Ok(_) => {
                let status = IntentStatus::Captured {
                    payment_id: payment_id.to_owned(),
                };
                self.advance(key, status).await?;
                Ok(Ok(()))
            }
            Err(ProviderError::Refused { detail }) => Ok(Err(detail)),
            Err(unclear) => Err(unclear.into()),
        }
    }

    /// Lets go of an authorised payment.
    ///
    /// # Errors
    /// No definite result, or the provider says that it was captured, which checkout never lets happen.
    pub async fn void(&self, key: Uuid, payment_id: &str) -> Result<(), PaymentFault> {
        self.provider.void(payment_id).await?;
        self.advance(
            key,
            IntentStatus::Voided {
                payment_id: payment_id.to_owned(),
            },
        )
        .await
    }

    /// Puts `intent` on record unless there is one, and returns what is on record.
    async fn recorded(&self, intent: PaymentIntent) -> Result<PaymentIntent, PaymentFault> {
        if let Some((recorded, _)) = self.read(intent.key).await? {
            return Ok(recorded);
        }
        match self.write(&intent, Condition::Missing).await? {
            None => Ok(intent),
            Some((recorded, _)) => Ok(recorded),
        }
    }

    /// Moves the record forward to `status`, where that is a step forward.
    async fn advance(&self, key: Uuid, status: IntentStatus) -> Result<(), PaymentFault> {
        let mut current = self.read(key).await?;
        for _ in 0..WRITES_MAX {
            let Some((intent, version)) = current else {
                return Ok(());
            };
            let Some(next) = intent.advanced(status.clone()) else {
                return Ok(());
            };
            current = self.write(&next, Condition::Version(version)).await?;
            if current.is_none() {
                return Ok(());
            }
        }
        Err(StoreFault::Contended {
            doing: "record the payment",
        }
        .into())
    }

    async fn read(&self, key: Uuid) -> Result<Option<(PaymentIntent, Version)>, PaymentFault> {
        let read = self.kv.get(&Key::new(PAYMENTS, key.to_string(), ROW)).await;
        let read = read.map_err(|error| StoreFault::from_request("read the payment", error))?;
        match (read.values.into_iter().next(), read.version) {
            (Some(value), Some(version)) => Ok(Some((decode(&value.data)?, version))),
            _ => Ok(None),
        }
    }

    /// `None` when it is written; what stands there instead when another writer was first.
    async fn write(
        &self,
        intent: &PaymentIntent,
        condition: Condition,
    ) -> Result<Option<(PaymentIntent, Version)>, PaymentFault> {
        let operation = RowOperation::put(ROW, condition, json(intent.to_bytes()));
        let transaction = Transaction::new(PAYMENTS, intent.key.to_string(), vec![operation]);
        match self.kv.transact(&transaction).await {
            Ok(TransactOutcome::Applied { .. }) => Ok(None),
            Ok(TransactOutcome::NotApplied { .. }) => self.read(intent.key).await,
            Err(error) => {
                // The row may hold our own write: a later reader of the same status is as good as an answer.
                if error.outcome() != Outcome::NotApplied
                    && let Some((found, _)) = self.read(intent.key).await?
                    && found == *intent
                {
                    return Ok(None);
                }
                Err(StoreFault::from_request("record the payment", error).into())
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Result<PaymentIntent, StoreFault> {
    PaymentIntent::from_bytes(bytes).map_err(|why| StoreFault::Unreadable {
        what: "payment",
        why,
    })
}
