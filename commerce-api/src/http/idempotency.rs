//! The `Idempotency-Key` header: names one request, so that sending it again does it once.
//!
//! Source: draft-ietf-httpapi-idempotency-key-header.
//! Shape: 1 to 255 visible ASCII characters.

use axum::http::HeaderMap;

use super::problem::{Problem, ProblemKind};

/// The header's name.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest key, in characters.
pub const KEY_CHARS_MAX: usize = 255;

/// A caller's name for one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of a request that has to have one.
    ///
    /// # Errors
    /// It is missing, sent twice, or malformed.
    pub fn required(headers: &HeaderMap) -> Result<Self, Problem> {
        Self::optional(headers)?.ok_or_else(|| {
            Problem::new(
                ProblemKind::BadRequest,
                "the header `Idempotency-Key` is missing; send a new random value for each new \
                 request and the same value for each retry",
            )
            .with_code("idempotency_key_missing")
        })
    }

    /// The key of a request that may have one.
    ///
    /// # Errors
    /// It is sent twice, or malformed.
    pub fn optional(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let is_single = values.next().is_none();
        let text = value.to_str().unwrap_or_default();
        let fits = (1..=KEY_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_single || !fits {
            return Err(Problem::new(
                ProblemKind::BadRequest,
                "`Idempotency-Key` has to be one value of 1 to 255 visible ASCII characters",
            )
            .with_code("idempotency_key_malformed"));
        }
        Ok(Some(Self(text.to_owned())))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn takes_visible_ascii_only() {
        let longest = "k".repeat(KEY_CHARS_MAX);
        assert_eq!(
            IdempotencyKey::required(&with(&[b"a-1"])).unwrap().as_str(),
            "a-1"
        );
        assert!(IdempotencyKey::required(&with(&[longest.as_bytes()])).is_ok());
        let too_long = "k".repeat(KEY_CHARS_MAX + 1);
        for bad in [
            &[b"".as_slice()][..],
            &[b"a b"],
            &[b"\xc3\xa4"],
            &[b"a", b"b"],
            &[too_long.as_bytes()],
        ] {
            let problem = IdempotencyKey::required(&with(bad)).unwrap_err();
            assert_eq!(problem.kind(), ProblemKind::BadRequest, "{bad:?}");
        }
    }

    #[test]
    fn may_be_missing_only_where_it_is_optional() {
        assert_eq!(IdempotencyKey::optional(&HeaderMap::new()).unwrap(), None);
        assert!(IdempotencyKey::required(&HeaderMap::new()).is_err());
    }
}
