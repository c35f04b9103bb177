//! Names of things in the shop, checked once at the edge and trusted afterwards.
//!
//! Place: pure; used by every room.
//! Shape: text ids are 1 to 64 characters of a named alphabet; `OrderId` is a UUID made from the
//! idempotency key, so that every retry of one checkout finds the same order.
//! Invariants: 1. an id that exists has passed its rule, so it can stand in a key or a path as it is.
//! Not here: which thing an id names (each room's store), cart tags (`souk_cart`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest text id, in characters (all ASCII, so also in bytes).
pub const ID_CHARS_MAX: usize = 64;

/// Why a text is not an id. The message says the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: write {rule}")]
pub struct IdError {
    kind: &'static str,
    rule: &'static str,
    text: String,
}

impl IdError {
    fn new(kind: &'static str, rule: &'static str, text: &str) -> Self {
        Self {
            kind,
            rule,
            text: text.chars().take(ID_CHARS_MAX).collect(),
        }
    }
}

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $kind:literal, $rule:literal, $allowed:expr) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed: fn(u8) -> bool = $allowed;
                let fits = (1..=ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed);
                // A leading dot would let `.` and `..` through, which clients drop from paths.
                if !fits || text.starts_with('.') {
                    return Err(IdError::new($kind, $rule, text));
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Names a product. It is also the SKU that carts and stock speak of: one product, one SKU.
    ProductId,
    "product id",
    "1 to 64 characters of A-Z, a-z, 0-9, `.`, `_`, `-`, not beginning with a dot",
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
);

text_id!(
    /// Names a cart. Whoever knows it may use the cart, so the shop makes it hard to guess.
    CartId,
    "cart id",
    "1 to 64 characters of A-Z, a-z, 0-9, `_`, `-`",
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
);

text_id!(
    /// Names a customer, as the caller knows them.
    CustomerId,
    "customer id",
    "1 to 64 characters of A-Z, a-z, 0-9, `.`, `_`, `@`, `-`, not beginning with a dot",
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b'-')
);

impl CartId {
    /// A new id around `random`, which has to be unguessable.
    #[must_use]
    pub fn from_random(random: Uuid) -> Self {
        Self(random.simple().to_string())
    }
}

/// Every id below is hashed under this namespace, so that none collides with other users of UUIDs.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f14_e45f_ceea_467f_9c3d_5d2a_1b7e_6a90);

/// Names an order, and with it the register group that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderId(Uuid);

impl OrderId {
    /// The order of one idempotency key: equal keys give equal orders, on every machine.
    #[must_use]
    pub fn from_idempotency_key(key: &str) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("order/{key}").as_bytes()))
    }

    /// The id as a UUID.
    #[must_use]
    pub fn as_uuid(self) -> Uuid {
        self.0
    }

    /// An id that belongs to a part of this order, such as its hold on one SKU; equal parts give equal ids.
    #[must_use]
    pub fn part(self, name: &str) -> Uuid {
        Uuid::new_v5(&self.0, name.as_bytes())
    }
}

impl FromStr for OrderId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // Only the hyphenated form: one order has one address.
        if text.len() != 36 {
            return Err(IdError::new("order id", ORDER_ID_RULE, text));
        }
        Uuid::try_parse(text)
            .map(OrderId)
            .map_err(|_| IdError::new("order id", ORDER_ID_RULE, text))
    }
}

const ORDER_ID_RULE: &str = "a UUID such as 3f1e9a52-6c0b-5d7e-8a4f-2b9c1d0e5f67";

impl fmt::Display for OrderId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A stable 128-bit digest of `bytes`, for comparing contents (entity tags, request bodies), never for secrets.
#[must_use]
pub fn digest(bytes: &[u8]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_could_not_stand_in_a_path() {
        let long = "x".repeat(ID_CHARS_MAX + 1);
        for bad in ["", "a b", "a/b", "ä", "a\0", "..", ".hidden", &long] {
            let error = bad.parse::<ProductId>().unwrap_err();
            assert!(error.to_string().contains("1 to 64 characters"), "{error}");
        }
        for good in ["85123A", "gift_0001_80", "P01018539", "a.b-c_d"] {
            assert_eq!(good.parse::<ProductId>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn one_key_names_one_order_for_ever() {
        // A golden value: changing the derivation would orphan the orders of running retries.
        assert_eq!(
            OrderId::from_idempotency_key("k-1").to_string(),
            "d106599f-de39-527e-afbe-e08a193e59fa"
        );
        assert_ne!(
            OrderId::from_idempotency_key("k-1"),
            OrderId::from_idempotency_key("k-2")
        );
    }

    proptest! {
        #[test]
        fn order_ids_survive_text(key in "[!-~]{1,255}") {
            let id = OrderId::from_idempotency_key(&key);
            prop_assert_eq!(id.to_string().parse::<OrderId>().unwrap(), id);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = text.parse::<ProductId>();
            let _ = text.parse::<OrderId>();
            let _ = text.parse::<CustomerId>();
        }
    }
}
