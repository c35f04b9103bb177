//! Pages of lists: how many entries, and after which one.
//!
//! Shape: a cursor is the place of the last entry seen. Any text of the right form is a place, so a cursor never goes
//! stale and none can be refused.

use serde::Deserialize;

use super::problem::{Problem, ProblemKind};

/// The largest page of a list.
pub const LIMIT_MAX: u32 = 100;
/// The page size when none is named.
pub const LIMIT_DEFAULT: u32 = 20;

/// The longest cursor, in characters.
const CURSOR_CHARS_MAX: usize = 100;

/// Which page of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Entries on a page; 20 when left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; left out for the first.
    #[param(pattern = "^[A-Za-z0-9._@-]{1,100}$")]
    cursor: Option<String>,
}

impl PageQuery {
    /// Entries on a page, and where it begins.
    ///
    /// # Errors
    /// The limit is out of range, or the cursor is none of ours.
    pub fn checked(self) -> Result<(u32, Option<String>), Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            let rule = format!("`limit` has to lie between 1 and {LIMIT_MAX}");
            return Err(Problem::new(ProblemKind::BadRequest, rule));
        }
        if self
            .cursor
            .as_deref()
            .is_some_and(|cursor| !is_cursor(cursor))
        {
            let rule = "`cursor` is none that this list gave; start without one";
            return Err(Problem::new(ProblemKind::BadRequest, rule));
        }
        Ok((limit, self.cursor))
    }
}

fn is_cursor(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    (1..=CURSOR_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_any_place_and_a_sensible_limit() {
        let cursor = Some("1795351321434-4fdc5437@x.y".to_owned());
        let query = PageQuery {
            limit: None,
            cursor: cursor.clone(),
        };
        assert_eq!(query.checked().unwrap(), (LIMIT_DEFAULT, cursor));
    }

    #[test]
    fn refuses_what_is_out_of_range() {
        let long = "x".repeat(CURSOR_CHARS_MAX + 1);
        for (limit, cursor) in [
            (Some(0), None),
            (Some(101), None),
            (None, Some("!")),
            (None, Some("")),
            (None, Some(&*long)),
        ] {
            let query = PageQuery {
                limit,
                cursor: cursor.map(str::to_owned),
            };
            assert_eq!(query.checked().unwrap_err().kind(), ProblemKind::BadRequest);
        }
    }
}
