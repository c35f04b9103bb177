//! The byte form of a cart: JSON with a format number, so that an operator can read a stored cart as it is.
//!
//! Place: pure; used by `crate::store`.
//! Shape: `{"format":1,"adds":{tag:{"sku","quantity","added_unix_ms","removals_seen"}},"removed":[tag],
//! "removals":{tag:[sku]}}`, all in ascending order, so equal carts have equal bytes.
//! Invariants: 1. reading back gives the cart that was written. 2. a field that this release does not know is refused,
//! not dropped: rewriting the cart would lose it for the newer release. New fields come with a new format number.
//! Not here: checksums and content hashes (the store below has its own).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cart::{Cart, CartAdd};
use crate::error::CartFormatError;
use crate::line::Sku;
use crate::tag::{AddTag, RemovalTag};

/// The content type under which carts are stored.
pub const CART_CONTENT_TYPE: &str = "application/vnd.souk.cart+json";

/// The newest format that this release reads, and the one that it writes.
pub const CART_FORMAT: u32 = 1;

/// The stored fields, borrowed for writing.
#[derive(Serialize)]
struct CartOut<'a> {
    format: u32,
    adds: &'a BTreeMap<AddTag, CartAdd>,
    removed: &'a BTreeSet<AddTag>,
    removals: &'a BTreeMap<RemovalTag, BTreeSet<Sku>>,
}

/// The stored fields, owned after reading. The format number was checked before.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CartIn {
    #[serde(rename = "format")]
    _format: u32,
    adds: BTreeMap<AddTag, CartAdd>,
    removed: BTreeSet<AddTag>,
    removals: BTreeMap<RemovalTag, BTreeSet<Sku>>,
}

/// The one field that every format has.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Cart {
    /// The stored form. Equal carts give equal bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes.into()
    }

    /// Reads a stored cart. No bytes at all are the empty cart, the value of a key never written.
    ///
    /// # Errors
    /// [`CartFormatError::NewerFormat`] when a newer release wrote it, [`CartFormatError::NotACart`] otherwise.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CartFormatError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let refused = |source| CartFormatError::NotACart {
            bytes: bytes.len(),
            source,
        };
        let FormatOnly { format } = serde_json::from_slice(bytes).map_err(refused)?;
        if format > CART_FORMAT {
            return Err(CartFormatError::NewerFormat { found: format });
        }
        let stored: CartIn = serde_json::from_slice(bytes).map_err(refused)?;
        let mut cart = Self {
            adds: stored.adds,
            removed: stored.removed,
            removals: stored.removals,
        };
        cart.drop_removed();
        Ok(cart)
    }

    /// The length of the stored form in bytes, without building it.
    pub fn bytes_count(&self) -> usize {
        let mut counter = ByteCounter(0);
        self.write(&mut counter);
        counter.0
    }

    fn write(&self, to: impl io::Write) {
        let out = CartOut {
            format: CART_FORMAT,
            adds: &self.adds,
            removed: &self.removed,
            removals: &self.removals,
        };
        serde_json::to_writer(to, &out)
            .expect("maps with text keys and an infallible writer cannot fail");
    }
}

/// A writer that keeps only the number of bytes.
struct ByteCounter(usize);

impl io::Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Quantity;

    fn check_refused(bytes: &str, code: &str) {
        match Cart::from_bytes(bytes.as_bytes()) {
            Ok(cart) => panic!("{bytes} was read as {cart:?}"),
            Err(refusal) => assert_eq!(refusal.code(), code, "{bytes}: {refusal}"),
        }
    }

    #[test]
    fn the_stored_form_is_fixed() {
        let mut cart = Cart::default();
        let sku = Sku::new("85123A").unwrap();
        cart.add(
            AddTag::from_bytes([1; 16]),
            sku.clone(),
            Quantity::new(2).unwrap(),
            1_700_000_000_000,
        )
        .unwrap();
        cart.change(
            AddTag::from_bytes([2; 16]),
            &sku,
            Quantity::new(3).unwrap(),
            1_700_000_000_001,
        )
        .unwrap();
        let expected = concat!(
            r#"{"format":1,"adds":{"02020202020202020202020202020202":"#,
            r#"{"sku":"85123A","quantity":3,"added_unix_ms":1700000000001,"removals_seen":1}},"#,
            r#""removed":["01010101010101010101010101010101"],"#,
            r#""removals":{"02020202020202020202020202020202":["85123A"]}}"#,
        );
        assert_eq!(cart.to_bytes(), expected.as_bytes());
        assert_eq!(cart.bytes_count(), expected.len());
        assert_eq!(Cart::from_bytes(expected.as_bytes()).unwrap(), cart);
    }

    #[test]
    fn no_bytes_are_the_empty_cart() {
        assert_eq!(Cart::from_bytes(b"").unwrap(), Cart::default());
    }

    #[test]
    fn what_is_not_a_cart_is_refused() {
        check_refused("hello", "cart_unreadable");
        check_refused("{}", "cart_unreadable");
        check_refused(r#"{"format":1}"#, "cart_unreadable");
        check_refused(
            r#"{"format":1,"adds":{},"removed":[],"removals":{},"gift":true}"#,
            "cart_unreadable",
        );
        check_refused(
            r#"{"format":1,"adds":{},"removed":["xyz"],"removals":{}}"#,
            "cart_unreadable",
        );
        check_refused(r#"{"format":2,"adds":{},"wishes":[]}"#, "cart_format_newer");
    }

    #[test]
    fn bytes_that_show_a_removed_add_do_not_show_it() {
        let tag = "01010101010101010101010101010101";
        let bytes = format!(
            r#"{{"format":1,"adds":{{"{tag}":{{"sku":"a","quantity":1,"added_unix_ms":0,"removals_seen":0}}}},"removed":["{tag}"],"removals":{{}}}}"#
        );
        assert!(
            Cart::from_bytes(bytes.as_bytes())
                .unwrap()
                .view()
                .is_empty()
        );
    }
}
