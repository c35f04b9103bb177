//! A token, and what is kept of it.
//!
//! Shape: `souk_<16 hex digits>_<64 hex digits>`: a name to look it up by, and a secret. Only a hash of the secret is
//! kept, together with the name; while a token is being replaced, the hash of the former secret for a while, too.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Grant, Role};

/// Length of a secret. As random as it is long, so that nobody guesses it and its hash needs not be slow.
pub const SECRET_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const SCHEME: &str = "souk_";
/// Keeps these hashes apart from all others.
const HASH_DOMAIN: &[u8] = b"souk access token 1";

/// Names a token; no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; ID_BYTES]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for TokenId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        from_hex(text).map(Self).ok_or(())
    }
}

/// What is kept of a secret.
#[derive(Clone, Copy)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    fn of(id: TokenId, secret: &[u8; SECRET_BYTES]) -> Self {
        let hash = Sha256::new()
            .chain_update(HASH_DOMAIN)
            .chain_update(id.0)
            .chain_update(secret);
        Self(hash.finalize().into())
    }
}

/// In constant time.
impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// A token as its holder has it. Shown to nobody but the holder, and there only by [`TokenText::reveal`].
#[derive(Clone)]
pub struct TokenText {
    id: TokenId,
    secret: [u8; SECRET_BYTES],
}

impl TokenText {
    /// A token of these random bytes.
    #[must_use]
    pub fn new(id: TokenId, secret: [u8; SECRET_BYTES]) -> Self {
        Self { id, secret }
    }

    /// What its holder is given.
    #[must_use]
    pub fn reveal(&self) -> String {
        let secret: String = self
            .secret
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{SCHEME}{}_{secret}", self.id)
    }

    /// Reads a token; `None` when the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.trim().strip_prefix(SCHEME)?.split_once('_')?;
        Some(Self {
            id: TokenId(from_hex(id)?),
            secret: from_hex(secret)?,
        })
    }

    /// What a node remembers of whoever showed it.
    #[must_use]
    pub fn holder(&self) -> Holder {
        Holder {
            id: self.id,
            hash: SecretHash::of(self.id, &self.secret),
        }
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({}, ..)", self.id)
    }
}

/// Somebody who has shown a token; whether it is good is another question, asked anew for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Which token.
    pub id: TokenId,
    /// Of the secret that was shown.
    pub hash: SecretHash,
}

/// A token as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its own name.
    pub id: TokenId,
    /// What people call it; unique among the tokens that are good.
    pub name: String,
    /// What it allows.
    pub grants: Vec<Grant>,
    /// When it was made, in Unix milliseconds.
    pub created_unix_ms: u64,
    /// When it stops being good, in Unix milliseconds; `None` is never.
    pub expires_unix_ms: Option<u64>,
    /// Of its secret.
    pub hash: SecretHash,
    /// Of the secret that it had before, and until when that is good, in Unix milliseconds.
    pub former: Option<(SecretHash, u64)>,
}

impl Token {
    /// Whether it allows a role on a bucket.
    #[must_use]
    pub fn allows(&self, role: Role, bucket: &str) -> bool {
        self.grants.iter().any(|grant| grant.allows(role, bucket))
    }

    /// Whether it allows a role on the cluster as a whole.
    #[must_use]
    pub fn allows_everywhere(&self, role: Role) -> bool {
        self.grants
            .iter()
            .any(|grant| grant.allows_everywhere(role))
    }

    /// The same token with a new secret; the old one stays good until `former_until_unix_ms`.
    #[must_use]
    pub fn replaced(&self, hash: SecretHash, former_until_unix_ms: u64) -> Self {
        Self {
            hash,
            former: Some((self.hash, former_until_unix_ms)),
            ..self.clone()
        }
    }
}

fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * BYTES {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_reads_back_and_is_told_from_others(id: [u8; 8], secret: [u8; 32], bit in 0_usize..320) {
            let text = TokenText::new(TokenId(id), secret);
            let read = TokenText::parse(&text.reveal()).unwrap();
            prop_assert_eq!(read.holder(), text.holder());
            let (mut other_id, mut other_secret) = (id, secret);
            match bit.checked_sub(64) {
                None => other_id[bit / 8] ^= 1 << (bit % 8),
                Some(bit) => other_secret[bit / 8] ^= 1 << (bit % 8),
            }
            let other = TokenText::new(TokenId(other_id), other_secret);
            prop_assert_ne!(other.holder().hash, text.holder().hash);
        }

        #[test]
        fn other_texts_are_none(text in ".{0,100}") {
            prop_assert!(TokenText::parse(&text).is_none());
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        let text = TokenText::new(TokenId([1; 8]), [0xab; 32]);
        let printed = format!("{text:?} {:?}", text.holder());
        assert!(!printed.contains("abab"), "{printed}");
        let hash = text.holder().hash.0[0];
        assert!(!printed.contains(&format!("{hash:02x}{:02x}", text.holder().hash.0[1])));
    }

    #[test]
    fn the_hash_of_a_token_never_changes() {
        let hash = TokenText::new(TokenId([7; 8]), [9; 32]).holder().hash;
        let shown: String = hash.0[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        // What is stored has to be found again by later versions.
        assert_eq!(shown, "5d8e91ac");
    }
}
