//! Cursors: where a list goes on, opaque to the caller.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::Deserialize;

use super::problem::{Problem, ProblemKind};

/// The largest page of a list.
pub const LIMIT_MAX: u32 = 100;
/// The page size when none is named.
pub const LIMIT_DEFAULT: u32 = 20;

/// Which page of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Entries on a page; 20 when left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; left out for the first.
    #[param(pattern = "^[A-Za-z0-9_-]{1,2000}$")]
    cursor: Option<String>,
}

impl PageQuery {
    /// Entries on a page, and where it begins.
    ///
    /// # Errors
    /// The limit is out of range, or the cursor is none of ours.
    pub fn checked(self) -> Result<(u32, Option<Bytes>), Problem> {
        let bad = |detail: String| Problem::new(ProblemKind::BadRequest, detail);
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(bad(format!("`limit` has to lie between 1 and {LIMIT_MAX}")));
        }
        let cursor = match self.cursor {
            None => None,
            Some(text) if text.is_empty() => return Err(bad("`cursor` is empty".to_owned())),
            Some(text) => Some(URL_SAFE_NO_PAD.decode(text).map(Bytes::from).map_err(|_| {
                bad("`cursor` is none that this list gave; start without one".to_owned())
            })?),
        };
        Ok((limit, cursor))
    }
}

/// The cursor as callers see it.
#[must_use]
pub fn shown(cursor: Option<Bytes>) -> Option<String> {
    cursor.map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let cursor = Some(Bytes::from_static(b"\x00\xffabc"));
        let query = PageQuery {
            limit: None,
            cursor: shown(cursor.clone()),
        };
        assert_eq!(query.checked().unwrap(), (LIMIT_DEFAULT, cursor));
    }

    #[test]
    fn refuses_what_is_out_of_range() {
        for (limit, cursor) in [
            (Some(0), None),
            (Some(101), None),
            (None, Some("!")),
            (None, Some("")),
        ] {
            let query = PageQuery {
                limit,
                cursor: cursor.map(str::to_owned),
            };
            assert_eq!(query.checked().unwrap_err().kind(), ProblemKind::BadRequest);
        }
    }
}
