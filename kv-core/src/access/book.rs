//! All tokens that are good, and judging one that is shown.

use std::collections::BTreeMap;

use super::{Holder, SecretHash, Token, TokenId};

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not in the book: it was never made, or was revoked, or its secret was replaced and the time of the former
    /// one is over. Which of these is nobody's business.
    Unknown,
    /// Its time is over.
    Expired,
}

/// The tokens of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenBook {
    tokens: BTreeMap<TokenId, Token>,
}

impl TokenBook {
    /// The book of these tokens; of two with one id the later one counts.
    #[must_use]
    pub fn new(tokens: impl IntoIterator<Item = Token>) -> Self {
        let tokens = tokens.into_iter().map(|token| (token.id, token));
        Self {
            tokens: tokens.collect(),
        }
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// Judges what somebody has shown. Takes as long for a wrong secret as for a right one.
    ///
    /// # Errors
    /// [`Refusal`] when it is not good at this time, in Unix milliseconds.
    pub fn judge(&self, holder: &Holder, now_unix_ms: u64) -> Result<&Token, Refusal> {
        const NOBODYS: SecretHash = SecretHash([0; 32]);
        let token = self.tokens.get(&holder.id);
        let (hash, former) = token.map_or((NOBODYS, None), |token| (token.hash, token.former));
        let (former, former_until) = former.unwrap_or((NOBODYS, 0));
        let is_current = hash == holder.hash;
        let is_former = former == holder.hash && now_unix_ms < former_until;
        let token = token.filter(|_| is_current | is_former);
        let token = token.ok_or(Refusal::Unknown)?;
        match token.expires_unix_ms {
            Some(end) if now_unix_ms >= end => Err(Refusal::Expired),
            _ => Ok(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::TokenText;

    fn text(id: u8, secret: u8) -> TokenText {
        TokenText::new(TokenId([id; 8]), [secret; 32])
    }

    fn token(text: &TokenText) -> Token {
        let holder = text.holder();
        Token {
            id: holder.id,
            name: "shop".to_owned(),
            grants: vec!["read:cart".parse().expect("a grant")],
            created_unix_ms: 0,
            expires_unix_ms: Some(1000),
            hash: holder.hash,
            former: None,
        }
    }

    #[test]
    fn a_token_is_good_until_its_end() {
        let card = text(1, 1);
        let book = TokenBook::new([token(&card)]);
        assert_eq!(
            book.judge(&card.holder(), 999).map(|token| token.id),
            Ok(TokenId([1; 8]))
        );
        assert_eq!(book.judge(&card.holder(), 1000), Err(Refusal::Expired));
    }

    #[test]
    fn wrong_secrets_and_unknown_ids_look_alike() {
        let book = TokenBook::new([token(&text(1, 1))]);
        for other in [text(1, 2), text(2, 1), text(2, 0)] {
            assert_eq!(book.judge(&other.holder(), 0), Err(Refusal::Unknown));
            // Also when its time is over: nobody learns that it exists.
            assert_eq!(book.judge(&other.holder(), 5000), Err(Refusal::Unknown));
        }
        assert_eq!(
            TokenBook::default().judge(&text(1, 1).holder(), 0),
            Err(Refusal::Unknown)
        );
    }

    #[test]
    fn both_secrets_are_good_while_one_is_replaced() {
        let (old, new, older) = (text(1, 1), text(1, 2), text(1, 3));
        let replaced = token(&old).replaced(new.holder().hash, 500);
        let book = TokenBook::new([replaced.clone()]);
        for (now, card, good) in [
            (0, &new, true),
            (499, &old, true),
            (500, &old, false),
            (500, &new, true),
            (0, &older, false),
        ] {
            let judged = book.judge(&card.holder(), now);
            assert_eq!(judged.is_ok(), good, "at {now}: {card:?}");
        }
        // Replaced again, only the last two count.
        let again = TokenBook::new([replaced.replaced(older.holder().hash, 800)]);
        assert_eq!(again.judge(&old.holder(), 0), Err(Refusal::Unknown));
        assert!(again.judge(&new.holder(), 0).is_ok());
        assert!(again.judge(&older.holder(), 0).is_ok());
    }
}
