//! The gate that every call passes, whatever its service.
//!
//! Shape: a layer above all services. It finds out who calls, refuses what the caller may not do at all, and leaves a
//! note of the caller for the services that have to look into the request.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{Either, Ready, ready};
use souk_kv_proto::network::ShownBearer;
use souk_kv_tls::BearerKind;
use tonic::{
    Status,
    body::Body,
    codegen::http::{Extensions, HeaderMap, Request, Response, header::AUTHORIZATION},
};
use tower::{Layer, Service};

use super::{Access, Caller, Need, no_token, refused};
use crate::error::RequestError;

const BEARER: &str = "bearer ";
const PEER: &str = "souk.peer.v1.Peer";
const KV: &str = "souk.kv.v1.Kv";
const ADMIN: &str = "souk.admin.v1.Admin";
/// Say nothing about data, and tools ask them before anything else.
const OPEN: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];
/// Operators' calls that name a bucket: what they need is judged with the request at hand.
const JUDGED_BY_BUCKET: [&str; 4] = ["CreateBucket", "ListBuckets", "Endpoints", "RegisterShow"];
/// What a node calls that wants to become a member; that its certificate names it is judged with the request at hand.
const KNOCK: &str = "Knock";
/// Operators' calls that every holder of a good token may make: they say no more than the topology.
const FOR_ALL_HOLDERS: [&str; 1] = ["Status"];

/// Who makes a call, as the gate has noted it. A call that did not pass the gate has nobody behind it: only clusters
/// without certificates have no gate.
pub(crate) fn caller_of(extensions: &Extensions, is_guarded: bool) -> Caller {
    match extensions.get() {
        Some(caller) => *caller,
        None if is_guarded => Caller::Nobody,
        None => Caller::Trusted,
    }
}

/// Puts the gate above services.
#[derive(Debug, Clone)]
pub(crate) struct AccessLayer {
    access: Arc<Access>,
}

impl AccessLayer {
    pub(crate) fn new(access: Arc<Access>) -> Self {
        Self { access }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            inner,
            access: Arc::clone(&self.access),
        }
    }
}

/// Services behind the gate.
#[derive(Debug, Clone)]
pub(crate) struct Gate<S> {
    inner: S,
    access: Arc<Access>,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response<Body>, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let shown = request.extensions().get::<ShownBearer>().cloned();
        let caller = Access::identify(shown.as_ref(), token_in(request.headers()));
        match self
            .access
            .admit(request.uri().path(), shown.as_ref(), &caller)
        {
            Ok(()) => {
                request.extensions_mut().insert(caller);
                Either::Right(self.inner.call(request))
            }
            Err(error) => {
                let status: Status = error.to_wire().into_status();
                Either::Left(ready(Ok(status.into_http())))
            }
        }
    }
}

/// The token of a call, if it shows any.
fn token_in(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(AUTHORIZATION)?;
    // What cannot be read is a token that is not good, rather than none.
    let text = header.to_str().unwrap_or_default();
    let scheme = text.get(..BEARER.len()).unwrap_or_default();
    Some(if scheme.eq_ignore_ascii_case(BEARER) {
        &text[BEARER.len()..]
    } else {
        ""
    })
}

impl Access {
    /// Whether a caller may make a call at all.
    fn admit(
        &self,
        path: &str,
        shown: Option<&ShownBearer>,
        caller: &Caller,
    ) -> Result<(), RequestError> {
        let (service, method) = path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .unwrap_or_default();
        let is_node = shown.is_some_and(|shown| shown.kind == BearerKind::Node);
        match service {
            service if OPEN.contains(&service) => Ok(()),
            PEER if is_node => Ok(()),
            ADMIN if method == KNOCK && is_node => Ok(()),
            PEER => Err(refused(
                "not_a_node",
                RequestError::Unauthenticated(
                    "only nodes of the cluster may make this call, with a node's certificate"
                        .to_owned(),
                ),
            )),
            // A client may come with an old token and show a new one on the stream; whoever shows none stays outside.
            KV if *caller == Caller::Nobody => Err(refused("no_token", no_token())),
            KV => Ok(()),
            ADMIN if JUDGED_BY_BUCKET.contains(&method) || FOR_ALL_HOLDERS.contains(&method) => {
                self.check(caller, Vec::new)
            }
            _ => self.check(caller, || vec![Need::Cluster]),
        }
    }
}

#[cfg(test)]
mod tests {
    use souk_kv_proto::admin::admin_server;
    use tonic::codegen::http::HeaderValue;

    use super::*;

    fn check(header: Option<&'static str>, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(header));
        }
        assert_eq!(token_in(&headers), expected, "{header:?}");
    }

    #[test]
    fn tokens_are_found_where_they_belong() {
        check(None, None);
        check(Some("Bearer abc"), Some("abc"));
        check(Some("bearer abc"), Some("abc"));
        check(Some("Basic abc"), Some(""));
        check(Some("Bear"), Some(""));
    }

    #[test]
    fn services_are_called_as_the_gate_knows_them() {
        assert_eq!(ADMIN, admin_server::SERVICE_NAME);
        assert_eq!(KV, souk_kv_proto::kv::kv_server::SERVICE_NAME);
        assert_eq!(PEER, souk_kv_proto::peer::peer_server::SERVICE_NAME);
    }

    #[test]
    fn who_did_not_pass_the_gate_is_nobody_behind_one() {
        let extensions = Extensions::new();
        assert_eq!(caller_of(&extensions, true), Caller::Nobody);
        assert_eq!(caller_of(&extensions, false), Caller::Trusted);
    }
}
