//! What the shop asked of the provider for one order, and what came of it.
//!
//! Place: pure; one row of the `payments` bucket, kept by `super::desk`.
//! Shape: requested → authorised → captured, or requested → declined, or authorised → voided.
//! Invariants: 1. the amount never changes. 2. a status never goes back. 3. the row exists before the provider hears
//! of it, so no charge can be without a record here.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::OrderId;
use crate::money::Money;

/// The stored format; a newer one is refused.
const FORMAT: u32 = 1;

/// One intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentIntent {
    format: u32,
    /// The order it pays.
    pub order_id: OrderId,
    /// The key the provider knows it by.
    pub key: Uuid,
    /// What is to be paid.
    pub amount: Money,
    /// Where it stands.
    pub status: IntentStatus,
}

/// Where an intent stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case", deny_unknown_fields)]
pub enum IntentStatus {
    /// On record; the provider may or may not have been asked.
    Requested,
    /// Promised.
    Authorised {
        /// The provider's name for it.
        payment_id: String,
    },
    /// Refused.
    Declined {
        /// Why.
        detail: String,
    },
    /// Taken.
    Captured {
        /// The provider's name for it.
        payment_id: String,
    },
    /// Let go.
    Voided {
        /// The provider's name for it.
        payment_id: String,
    },
}

impl PaymentIntent {
    /// An intent that the provider has not heard of.
    #[must_use]
    pub fn requested(order_id: OrderId, key: Uuid, amount: Money) -> Self {
        Self {
            format: FORMAT,
            order_id,
            key,
            amount,
            status: IntentStatus::Requested,
        }
    }

    /// The intent with a newer status; `None` when it is no step forward from here.
    #[must_use]
    pub fn advanced(&self, status: IntentStatus) -> Option<Self> {
        let is_forward = match (&self.status, &status) {
            (
                IntentStatus::Requested,
                IntentStatus::Authorised { .. } | IntentStatus::Declined { .. },
            ) => true,
            (
                IntentStatus::Authorised { payment_id: old },
                IntentStatus::Captured { payment_id: new }
                | IntentStatus::Voided { payment_id: new },
            ) => old == new,
            _ => false,
        };
        is_forward.then(|| Self {
            status,
            ..self.clone()
        })
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an intent has text keys and whole numbers only")
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// The bytes are no intent, or were written by a newer shop; the text says which.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let intent: PaymentIntent =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if intent.format > FORMAT {
            return Err(format!("format {} is newer", intent.format));
        }
        Ok(intent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Currency;

    fn intent(status: IntentStatus) -> PaymentIntent {
        let order = OrderId::from_idempotency_key("k");
        let mut intent =
            PaymentIntent::requested(order, order.part("payment"), Money::new(5, Currency::USD));
        intent.status = status;
        intent
    }

    #[test]
    fn only_goes_forward() {
        let id = || "p".to_owned();
        let statuses = [
            IntentStatus::Requested,
            IntentStatus::Authorised { payment_id: id() },
            IntentStatus::Declined {
                detail: String::new(),
            },
            IntentStatus::Captured { payment_id: id() },
            IntentStatus::Voided { payment_id: id() },
        ];
        let allowed = [(0, 1), (0, 2), (1, 3), (1, 4)];
        for (from, old) in statuses.iter().enumerate() {
            for (to, new) in statuses.iter().enumerate() {
                let next = intent(old.clone()).advanced(new.clone());
                assert_eq!(
                    next.is_some(),
                    allowed.contains(&(from, to)),
                    "{old:?} to {new:?}"
                );
            }
        }
        let other = IntentStatus::Captured {
            payment_id: "other".into(),
        };
        assert_eq!(intent(statuses[1].clone()).advanced(other), None);
    }

    #[test]
    fn survives_its_stored_form() {
        let captured = intent(IntentStatus::Captured {
            payment_id: "p".into(),
        });
        assert_eq!(
            PaymentIntent::from_bytes(&captured.to_bytes()),
            Ok(captured)
        );
        assert!(PaymentIntent::from_bytes(b"{}").is_err());
    }
}
