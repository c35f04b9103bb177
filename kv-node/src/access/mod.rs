//! Who may do what at this node.
//!
//! | file | idea |
//! |---|---|
//! | `gate` | the one place that every call passes: who calls, and what every call of a service needs |
//! | `needs` | what a request needs beside that: a role on each bucket that it names |
//!
//! Place: between the wire and `crate::api`. The book of tokens comes with the catalogue of buckets, and is kept on
//! disk, so that a node that is cut off from everybody still knows its callers.
//! Invariants: 1. in a cluster with certificates nothing is allowed that is not allowed here by name: what the gate
//! does not know, it refuses. 2. each request is judged when it comes, also on a stream that was opened long ago, so
//! that a revoked token is worth nothing from the next request on. 3. answers and logs hold no secret, and do not tell
//! whether an unknown token ever existed.
//! Not here: certificates (`souk_kv_tls`), the pure rules (`souk_kv_core::access`), what other nodes ask for their
//! callers (they have judged them).

mod gate;
mod needs;

use std::sync::Arc;

use metrics::counter;
use souk_kv_core::access::{Holder, Refusal, Role, TokenText};
use souk_kv_tls::BearerKind;

pub(crate) use gate::{AccessLayer, caller_of};
pub(crate) use needs::{Need, needs_of};

use souk_kv_proto::network::ShownBearer;

use crate::{cluster::Cluster, error::RequestError};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// May do everything: an operator by certificate, or anybody in a cluster without certificates.
    Trusted,
    /// Whoever holds this token, if it is good.
    Holder(Holder),
    /// Nobody has shown a token that could be read.
    Nobody,
}

/// Judges calls.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    cluster: Arc<Cluster>,
}

impl Access {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Who calls, by certificate and token. A token counts before a certificate: it may be meant to allow less.
    fn identify(shown: Option<&ShownBearer>, token: Option<&str>) -> Caller {
        match (token, shown.map(|shown| shown.kind)) {
            (Some(token), _) => Self::holder(token),
            (None, Some(BearerKind::Operator)) => Caller::Trusted,
            (None, Some(BearerKind::Node | BearerKind::Client) | None) => Caller::Nobody,
        }
    }

    /// The holder of a token, good or not.
    pub(crate) fn holder(token: &str) -> Caller {
        TokenText::parse(token).map_or(Caller::Nobody, |token| Caller::Holder(token.holder()))
    }

    /// Whether a caller may have what it needs; at no cost where everybody may have everything.
    pub(crate) fn check(
        &self,
        caller: &Caller,
        needs: impl FnOnce() -> Vec<Need>,
    ) -> Result<(), RequestError> {
        let holder = match caller {
            Caller::Trusted => return Ok(()),
            Caller::Nobody => return Err(refused("no_token", no_token())),
            Caller::Holder(holder) => holder,
        };
        let now = self.cluster.environment.unix_ms();
        self.cluster
            .catalogue
            .judge(holder, now, |judged| match judged {
                Err(Refusal::Unknown) => Err(refused("unknown_token", unknown())),
                Err(Refusal::Expired) => Err(refused("expired_token", expired(holder))),
                Ok(token) => match needs().iter().find(|need| !need.is_met_by(token)) {
                    None => Ok(()),
                    Some(need) => {
                        let error = RequestError::PermissionDenied {
                            token: token.name.clone(),
                            lacks: need.to_string(),
                            grant: need.grant(),
                        };
                        Err(refused("missing_role", error))
                    }
                },
            })
    }

    /// Whether a caller may see that there is a bucket of that name.
    pub(crate) fn may_see(&self, caller: &Caller, bucket: &str) -> bool {
        let Caller::Holder(holder) = caller else {
            return *caller == Caller::Trusted;
        };
        let now = self.cluster.environment.unix_ms();
        let roles = [Role::Read, Role::Write, Role::Admin];
        self.cluster.catalogue.judge(holder, now, |judged| {
            judged.is_ok_and(|token| roles.iter().any(|role| token.allows(*role, bucket)))
        })
    }
}

fn refused(reason: &'static str, error: RequestError) -> RequestError {
    counter!("souk_access_refused_total", "reason" => reason).increment(1);
    error
}

fn no_token() -> RequestError {
    RequestError::Unauthenticated(
        "this cluster asks for tokens, and none was shown that can be read: give one (--token-file); \
         an operator makes it with `souk admin token create`"
            .to_owned(),
    )
}

fn unknown() -> RequestError {
    RequestError::Unauthenticated(
        "the token is not known here, or was revoked or replaced: ask an operator for another one"
            .to_owned(),
    )
}

fn expired(holder: &Holder) -> RequestError {
    RequestError::Unauthenticated(format!(
        "the time of token {} is over: ask an operator for another one",
        holder.id
    ))
}
