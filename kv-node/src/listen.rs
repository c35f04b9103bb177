//! The doors of a node: the gRPC port, and the port for probes where there is a process to probe.
//!
//! Place: start-up; before the store opens, so that a port in use costs nothing.
//! Not here: what is served (`crate::node`, `crate::http`).

use std::{io, net::SocketAddr, sync::Arc};

use futures::TryStreamExt as _;
use souk_kv_proto::network::{Network, PretendedIncoming, SecureWire};
use souk_kv_tls::{SecureIncoming, accept};
use tokio::net::{TcpListener, lookup_host};
use tokio_util::sync::CancellationToken;
use tonic::{
    codegen::http::{HeaderValue, Response, header::DATE},
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tower::util::MapResponseLayer;

use crate::{
    access::{Access, AccessLayer},
    config::{Address, NodeSection},
    node::NodeError,
};

/// Stands in every answer of a simulated node: hyper would put in the real time of day, and its digits
/// change the size of packed headers.
const SIMULATED_DATE: HeaderValue = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");

/// What a node listens on.
pub(crate) struct Doors {
    pub(crate) grpc: GrpcDoor,
    /// None in a simulation.
    pub(crate) probes: Option<TcpListener>,
}

/// Where gRPC connections come in.
pub(crate) enum GrpcDoor {
    Socket(TcpListener),
    /// Whoever comes in has shown a certificate.
    Secure(SecureIncoming),
    Pretended(PretendedIncoming),
}

impl Doors {
    /// Opens the ports of a node.
    pub(crate) async fn open(network: &Network, node: &NodeSection) -> Result<Self, NodeError> {
        match network {
            Network::System => Ok(Self {
                grpc: GrpcDoor::Socket(listen(node, "grpc", &node.grpc).await?),
                probes: Some(listen(node, "http", &node.http).await?),
            }),
            Network::Secure(keyring) => {
                let listener = listen(node, "grpc", &node.grpc).await?;
                Ok(Self {
                    grpc: GrpcDoor::Secure(accept(listener, Arc::clone(keyring))),
                    probes: Some(listen(node, "http", &node.http).await?),
                })
            }
            Network::Pretended(network) => {
                let incoming = network.listen(&node.grpc.to_string()).await;
                let incoming = incoming.map_err(failed(node, "grpc", &node.grpc))?;
                Ok(Self {
                    grpc: GrpcDoor::Pretended(incoming),
                    probes: None,
                })
            }
        }
    }
}

impl GrpcDoor {
    /// Answers with `services` until `stop`, and then until the last stream has ended.
    pub(crate) async fn serve(
        self,
        server: Server,
        services: Routes,
        access: Access,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let mut server = server;
        let stopped = stop.cancelled_owned();
        match self {
            Self::Socket(listener) => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                server
                    .add_routes(services)
                    .serve_with_incoming_shutdown(incoming, stopped)
                    .await
            }
            Self::Secure(incoming) => {
                server
                    .layer(AccessLayer::new(Arc::new(access)))
                    .add_routes(services)
                    .serve_with_incoming_shutdown(incoming.map_ok(SecureWire::new), stopped)
                    .await
            }
            Self::Pretended(incoming) => {
                let dated = MapResponseLayer::new(dated);
                server
                    .layer(dated)
                    .add_routes(services)
                    .serve_with_incoming_shutdown(incoming, stopped)
                    .await
            }
        }
    }
}

fn dated<Body>(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(DATE, SIMULATED_DATE);
    response
}

async fn listen(
    node: &NodeSection,
    key: &'static str,
    address: &Address,
) -> Result<TcpListener, NodeError> {
    let resolved: Vec<SocketAddr> = lookup_host(address.to_string())
        .await
        .map_err(failed(node, key, address))?
        .collect();
    TcpListener::bind(resolved.as_slice())
        .await
        .map_err(failed(node, key, address))
}

fn failed(
    node: &NodeSection,
    key: &'static str,
    address: &Address,
) -> impl FnOnce(io::Error) -> NodeError {
    let (node, address) = (node.name.clone(), address.clone());
    move |cause| NodeError::Listen {
        node,
        key,
        address,
        cause,
    }
}
