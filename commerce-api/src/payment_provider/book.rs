//! What the provider knows: payments, and the rules that move them.
//!
//! Place: pure; kept on disk by `super::journal`, spoken to by `super::server`; also the provider in the
//! checkout's property tests.
//! Shape: authorised → captured → refunded (partly or wholly), or authorised → voided, or declined.
//! Invariants: 1. one payment per key, whatever is asked under it. 2. captured is 0 or the authorised amount;
//! refunded never exceeds captured. 3. asking again for what was done already answers as before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::money::Money;

/// One payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payment {
    /// The provider's name for it.
    pub id: Uuid,
    /// The caller's name for it.
    pub key: String,
    /// The amount asked for.
    pub amount: Money,
    /// The means of payment.
    pub token: String,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Minor units given back so far.
    pub refunded_minor: i64,
    /// Why it was declined; empty otherwise.
    pub detail: String,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Promised by the customer's bank.
    Authorised,
    /// Refused by it.
    Declined,
    /// Taken.
    Captured,
    /// Let go without being taken.
    Voided,
}

/// What a token makes the provider do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenBehaviour {
    /// Authorises.
    Accept,
    /// Declines, with this reason.
    Decline(&'static str),
    /// Authorises, but answers late.
    Slow,
    /// Authorises, but the first answer never comes.
    Silent,
    /// Authorises, then refuses the capture.
    RefuseCapture,
}

impl TokenBehaviour {
    /// The behaviour of `token`; unknown tokens are declined, as a bank would.
    #[must_use]
    pub fn of(token: &str) -> Self {
        match token {
            "tok_ok" => Self::Accept,
            "tok_slow" => Self::Slow,
            "tok_timeout_then_ok" => Self::Silent,
            "tok_capture_refused" => Self::RefuseCapture,
            "tok_declined" => Self::Decline("the card was declined"),
            "tok_insufficient_funds" => Self::Decline("the account holds too little"),
            _ => Self::Decline("the provider does not know this token"),
        }
    }
}

/// All payments.
#[derive(Clone, Debug, Default)]
pub struct Book {
    payments: BTreeMap<Uuid, Payment>,
    by_key: BTreeMap<String, Uuid>,
}

impl Book {
    /// Takes in a payment as the journal has it.
    pub fn restore(&mut self, payment: Payment) {
        self.by_key.insert(payment.key.clone(), payment.id);
        self.payments.insert(payment.id, payment);
    }

    /// The payment of this id.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, id: Uuid) -> Result<&Payment, BookError> {
        self.payments.get(&id).ok_or(BookError::NoPayment)
    }

    /// The payment of this key, if one was ever asked for.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<&Payment> {
        self.payments.get(self.by_key.get(key)?)
    }

    /// All payments, in the order of their ids.
    pub fn all(&self) -> impl Iterator<Item = &Payment> {
        self.payments.values()
    }

    /// What authorising would make: the payment of `key` as it is, or a new one named `id`.
    /// The caller stores it, then takes it in with [`Book::restore`].
    ///
    /// # Errors
    /// The key was used for another amount or token, or the amount is not above zero.
    pub fn authorise(
        &self,
        id: Uuid,
        key: &str,
        amount: Money,
        token: &str,
    ) -> Result<Payment, BookError> {
        if let Some(payment) = self.by_key(key) {
            if payment.amount != amount || payment.token != token {
                return Err(BookError::KeyReused);
            }
            return Ok(payment.clone());
        }
        if amount.amount_minor <= 0 {
            return Err(BookError::Amount);
        }
        let (status, detail) = match TokenBehaviour::of(token) {
            TokenBehaviour::Decline(reason) => (PaymentStatus::Declined, reason.to_owned()),
            TokenBehaviour::Accept
            | TokenBehaviour::Slow
            | TokenBehaviour::Silent
            | TokenBehaviour::RefuseCapture => (PaymentStatus::Authorised, String::new()),
        };
        Ok(Payment {
            id,
            key: key.to_owned(),
            amount,
            token: token.to_owned(),
            status,
            refunded_minor: 0,
            detail,
        })
    }

    /// The payment, taken. Taking it again changes nothing.
    ///
    /// # Errors
    /// It was declined or voided, or the bank refuses after all.
    pub fn capture(&self, id: Uuid) -> Result<Payment, BookError> {
        let mut payment = self.get(id)?.clone();
        match payment.status {
            PaymentStatus::Captured => Ok(payment),
            PaymentStatus::Authorised
                if TokenBehaviour::of(&payment.token) == TokenBehaviour::RefuseCapture =>
            {
                Err(BookError::CaptureRefused)
            }
            PaymentStatus::Authorised => {
                payment.status = PaymentStatus::Captured;
                Ok(payment)
            }
            status @ (PaymentStatus::Declined | PaymentStatus::Voided) => {
                Err(BookError::WrongStatus {
                    wanted: "captured",
                    status,
                })
            }
        }
    }

    /// The payment, let go. Letting go again, or of a declined one, changes nothing.
    ///
    /// # Errors
    /// It was taken already: refund it.
    pub fn void(&self, id: Uuid) -> Result<Payment, BookError> {
        let mut payment = self.get(id)?.clone();
        match payment.status {
            PaymentStatus::Authorised => payment.status = PaymentStatus::Voided,
            PaymentStatus::Declined | PaymentStatus::Voided => {}
            status @ PaymentStatus::Captured => {
                return Err(BookError::WrongStatus {
                    wanted: "voided",
                    status,
                });
            }
        }
        Ok(payment)
    }

    /// The payment with `total_minor` given back in all. A total, not a difference: asking again changes nothing.
    ///
    /// # Errors
    /// It was not taken, or the total exceeds what was taken or is below what was given back already.
    pub fn refund(&self, id: Uuid, total_minor: i64) -> Result<Payment, BookError> {
        let mut payment = self.get(id)?.clone();
        if payment.status != PaymentStatus::Captured {
            return Err(BookError::WrongStatus {
                wanted: "refunded",
                status: payment.status,
            });
        }
        if total_minor < payment.refunded_minor || total_minor > payment.amount.amount_minor {
            return Err(BookError::RefundTotal {
                total_minor,
                refunded_minor: payment.refunded_minor,
                captured_minor: payment.amount.amount_minor,
            });
        }
        payment.refunded_minor = total_minor;
        Ok(payment)
    }
}

/// Why the provider refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// What: no such payment. Mend: ask for it by the key it was made with.
    #[error("there is no such payment; ask for it by its key at /v1/payments/by-key/{{key}}")]
    NoPayment,
    /// What: the key belongs to another payment. Mend: use a new key for a new payment.
    #[error("this Idempotency-Key was used for another amount or token; use a new key")]
    KeyReused,
    /// What: nothing to pay. Mend: ask for at least one minor unit.
    #[error("the amount has to be at least one minor unit")]
    Amount,
    /// What: the payment is past that. Mend: look at its status.
    #[error("a payment that is {status:?} cannot be {wanted}")]
    WrongStatus {
        /// What was asked for.
        wanted: &'static str,
        /// Where it stands.
        status: PaymentStatus,
    },
    /// What: the bank withdrew its promise. Mend: void it and ask the customer for another means of payment.
    #[error("the bank refuses the capture; void the payment")]
    CaptureRefused,
    /// What: more would be given back than was taken, or less than was given back before.
    #[error(
        "a refund total of {total_minor} does not lie between {refunded_minor} (already refunded) and \
         {captured_minor} (captured)"
    )]
    RefundTotal {
        /// The total asked for.
        total_minor: i64,
        /// Given back already.
        refunded_minor: i64,
        /// Taken.
        captured_minor: i64,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::money::Currency;

    fn usd(amount: i64) -> Money {
        Money::new(amount, Currency::USD)
    }

    #[test]
    fn one_key_is_one_payment() {
        let mut book = Book::default();
        let first = book
            .authorise(Uuid::from_u128(1), "k", usd(5), "tok_ok")
            .unwrap();
        book.restore(first.clone());
        assert_eq!(
            book.authorise(Uuid::from_u128(2), "k", usd(5), "tok_ok")
                .unwrap(),
            first
        );
        assert_eq!(
            book.authorise(Uuid::from_u128(2), "k", usd(6), "tok_ok"),
            Err(BookError::KeyReused)
        );
        assert_eq!(
            book.authorise(Uuid::from_u128(2), "k", usd(5), "tok_slow"),
            Err(BookError::KeyReused)
        );
    }

    #[test]
    fn declines_bad_tokens_and_nothing_to_pay() {
        let book = Book::default();
        for token in ["tok_declined", "tok_insufficient_funds", "4111 1111", ""] {
            let payment = book.authorise(Uuid::nil(), "k", usd(5), token).unwrap();
            assert_eq!(payment.status, PaymentStatus::Declined, "{token}");
            assert!(!payment.detail.is_empty());
        }
        assert_eq!(
            book.authorise(Uuid::nil(), "k", usd(0), "tok_ok"),
            Err(BookError::Amount)
        );
    }

    #[derive(Clone, Debug)]
    enum Call {
        Authorise(u8, i64, bool),
        Capture(u8),
        Void(u8),
        Refund(u8, i64),
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            (0_u8..3, 1_i64..10, any::<bool>()).prop_map(|(k, a, ok)| Call::Authorise(k, a, ok)),
            (0_u8..3).prop_map(Call::Capture),
            (0_u8..3).prop_map(Call::Void),
            (0_u8..3, -2_i64..12).prop_map(|(k, a)| Call::Refund(k, a)),
        ]
    }

    proptest! {
        /// Whatever is asked, no payment is ever taken after it was let go, nor given back beyond what was taken.
        #[test]
        fn money_never_appears_from_nothing(calls in proptest::collection::vec(call(), 0..40)) {
            let mut book = Book::default();
            for (number, call) in calls.into_iter().enumerate() {
                let before: Vec<Payment> = book.all().cloned().collect();
                let id = |key: u8, book: &Book| book.by_key(&key.to_string()).map(|p| p.id);
                let result = match call {
                    Call::Authorise(key, amount, ok) => {
                        let token = if ok { "tok_ok" } else { "tok_declined" };
                        book.authorise(Uuid::from_u128(number as u128), &key.to_string(), usd(amount), token)
                    }
                    Call::Capture(key) => id(key, &book).ok_or(BookError::NoPayment).and_then(|id| book.capture(id)),
                    Call::Void(key) => id(key, &book).ok_or(BookError::NoPayment).and_then(|id| book.void(id)),
                    Call::Refund(key, total) => id(key, &book).ok_or(BookError::NoPayment).and_then(|id| book.refund(id, total)),
                };
                if let Ok(payment) = result {
                    book.restore(payment);
                }
                for old in before {
                    let new = book.get(old.id).unwrap();
                    prop_assert!(new.refunded_minor >= old.refunded_minor);
                    prop_assert!(new.refunded_minor <= new.amount.amount_minor);
                    prop_assert!(new.refunded_minor == 0 || new.status == PaymentStatus::Captured);
                    if old.status != PaymentStatus::Authorised {
                        prop_assert_eq!(new.status, old.status);
                    }
                }
                let keys: std::collections::BTreeSet<&str> = book.all().map(|p| p.key.as_str()).collect();
                prop_assert_eq!(keys.len(), book.all().count());
            }
        }
    }
}
