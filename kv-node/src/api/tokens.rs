//! Making, replacing and ending tokens.
//!
//! Place: behind the operators' service; the truth is the cluster's own register group (`crate::system`).
//! Invariants: 1. a secret is drawn here, told once in the answer, and kept nowhere. 2. whoever gets here may look after
//! the whole cluster: a token can be given any grant.

use souk_kv_core::access::{Grant, SECRET_BYTES, Token, TokenId, TokenText};
use souk_kv_proto::{
    admin::{
        CreateTokenRequest, ListTokensResponse, RevokeTokenRequest, RevokeTokenResponse,
        RotateTokenRequest, TokenSecret,
    },
    convert::access::token_to_info,
};
use souk_ring::Name;
use tokio::time::Instant;

use crate::{clock::Environment, core::NodeCore, error::RequestError};

/// Grants of one token.
const GRANTS_MAX: usize = 32;
/// Longest time for which a former secret stays good.
const OVERLAP_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
const ID_BYTES: usize = 8;

pub(super) async fn create(
    core: &NodeCore,
    request: CreateTokenRequest,
    deadline: Instant,
) -> Result<TokenSecret, RequestError> {
    let name = Name::try_from(request.name.clone());
    let name = name.map_err(|cause| RequestError::Invalid(cause.to_string()))?;
    if request.grants.is_empty() || request.grants.len() > GRANTS_MAX {
        return Err(RequestError::Invalid(format!(
            "a token needs 1 to {GRANTS_MAX} grants, such as `read,write:cart`; this one has {}",
            request.grants.len()
        )));
    }
    let grant = |text: &String| {
        let grant = text.parse::<Grant>();
        grant.map_err(|cause| RequestError::Invalid(cause.to_string()))
    };
    let environment = &core.cluster.environment;
    let now = environment.unix_ms();
    let text = TokenText::new(draw_id(environment), draw_secret(environment));
    let token = Token {
        id: text.holder().id,
        name: name.to_string(),
        grants: request.grants.iter().map(grant).collect::<Result<_, _>>()?,
        created_unix_ms: now,
        expires_unix_ms: match request.expires_after_ms {
            0 => None,
            lasts => Some(now.saturating_add(lasts)),
        },
        hash: text.holder().hash,
        former: None,
    };
    core.system.create_token(&token, deadline).await?;
    Ok(told(&text, &token))
}

pub(super) async fn list(
    core: &NodeCore,
    deadline: Instant,
) -> Result<ListTokensResponse, RequestError> {
    let tokens = core.system.tokens(deadline).await?;
    Ok(ListTokensResponse {
        tokens: tokens.iter().map(token_to_info).collect(),
    })
}

pub(super) async fn rotate(
    core: &NodeCore,
    request: &RotateTokenRequest,
    deadline: Instant,
) -> Result<TokenSecret, RequestError> {
    if request.overlap_ms > OVERLAP_MS_MAX {
        return Err(RequestError::Invalid(format!(
            "the former secret would stay good for {} ms, at most {OVERLAP_MS_MAX} ms are allowed",
            request.overlap_ms
        )));
    }
    let environment = &core.cluster.environment;
    let secret = draw_secret(environment);
    let until = environment.unix_ms().saturating_add(request.overlap_ms);
    let change = |token: &Token| {
        let holder = TokenText::new(token.id, secret).holder();
        Some(token.replaced(holder.hash, until))
    };
    let token = core
        .system
        .change_token(&request.name, change, deadline)
        .await?;
    Ok(told(&TokenText::new(token.id, secret), &token))
}

pub(super) async fn revoke(
    core: &NodeCore,
    request: &RevokeTokenRequest,
    deadline: Instant,
) -> Result<RevokeTokenResponse, RequestError> {
    let token = core
        .system
        .change_token(&request.name, |_| None, deadline)
        .await?;
    Ok(RevokeTokenResponse {
        token: Some(token_to_info(&token)),
    })
}

fn told(text: &TokenText, token: &Token) -> TokenSecret {
    TokenSecret {
        token: text.reveal(),
        info: Some(token_to_info(token)),
    }
}

fn draw_id(environment: &Environment) -> TokenId {
    let mut id = [0; ID_BYTES];
    id.copy_from_slice(&environment.random_id()[..ID_BYTES]);
    TokenId(id)
}

/// The environment's generator is a cryptographic one, seeded by the system where it is not simulated.
fn draw_secret(environment: &Environment) -> [u8; SECRET_BYTES] {
    let mut secret = [0; SECRET_BYTES];
    for part in secret.chunks_exact_mut(16) {
        part.copy_from_slice(&environment.random_id());
    }
    secret
}
