//! Tokens between the store and the pure rules.

use souk_kv_core::access::{Grant, SecretHash, Token, TokenId};

use super::DecodeError;
use crate::{admin::TokenInfo, store::AccessToken};

/// A token as it is stored.
#[must_use]
pub fn token_to_store(token: &Token) -> AccessToken {
    let (former_hash, former_until_unix_ms) = token
        .former
        .map_or((Vec::new(), 0), |(hash, until)| (hash.0.to_vec(), until));
    AccessToken {
        id: token.id.0.to_vec().into(),
        name: token.name.clone(),
        grants: token.grants.iter().map(Grant::to_string).collect(),
        created_unix_ms: token.created_unix_ms,
        expires_unix_ms: token.expires_unix_ms.unwrap_or(0),
        hash: token.hash.0.to_vec().into(),
        former_hash: former_hash.into(),
        former_until_unix_ms,
    }
}

/// Reads a stored token.
///
/// # Errors
/// When a field has the wrong length, or a grant makes no sense.
pub fn token_from_store(stored: &AccessToken) -> Result<Token, DecodeError> {
    let grant = |text: &String| text.parse::<Grant>().map_err(|_| wrong("grant"));
    let hash = |bytes: &[u8], what| bytes.try_into().map(SecretHash).map_err(|_| wrong(what));
    Ok(Token {
        id: TokenId(stored.id.as_ref().try_into().map_err(|_| wrong("id"))?),
        name: stored.name.clone(),
        grants: stored.grants.iter().map(grant).collect::<Result<_, _>>()?,
        created_unix_ms: stored.created_unix_ms,
        expires_unix_ms: (stored.expires_unix_ms > 0).then_some(stored.expires_unix_ms),
        hash: hash(&stored.hash, "hash")?,
        former: match stored.former_hash.is_empty() {
            true => None,
            false => Some((
                hash(&stored.former_hash, "former hash")?,
                stored.former_until_unix_ms,
            )),
        },
    })
}

/// A token as operators see it: without anything of its secret.
#[must_use]
pub fn token_to_info(token: &Token) -> TokenInfo {
    TokenInfo {
        id: token.id.to_string(),
        name: token.name.clone(),
        grants: token.grants.iter().map(Grant::to_string).collect(),
        created_unix_ms: token.created_unix_ms,
        expires_unix_ms: token.expires_unix_ms.unwrap_or(0),
        former_until_unix_ms: token.former.map_or(0, |(_, until)| until),
    }
}

fn wrong(what: &'static str) -> DecodeError {
    DecodeError::field("AccessToken", what, "makes no sense")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_reads_back_the_same() {
        let token = Token {
            id: TokenId([1; 8]),
            name: "shop".to_owned(),
            grants: vec![
                "read,write:cart".parse().unwrap(),
                "admin:*".parse().unwrap(),
            ],
            created_unix_ms: 5,
            expires_unix_ms: Some(7),
            hash: SecretHash([2; 32]),
            former: Some((SecretHash([3; 32]), 6)),
        };
        let eternal = Token {
            expires_unix_ms: None,
            former: None,
            ..token.clone()
        };
        for token in [token, eternal] {
            assert_eq!(token_from_store(&token_to_store(&token)), Ok(token));
        }
        let damaged = AccessToken {
            id: vec![1; 7].into(),
            ..AccessToken::default()
        };
        assert!(token_from_store(&damaged).is_err());
    }
}
