//! Where connections come from: the sockets of the operating system, or a network that somebody pretends.
//!
//! A telephone set does not know whether it hangs on the town's exchange or on one that a theatre built for
//! a play; only the socket in the wall differs. On one machine [`Network::System`] keeps tonic's own path to the
//! sockets; between machines [`Network::Secure`] lets both ends show certificates; a simulation plugs in its
//! exchange.
//!
//! Place: I/O; the one seam under everything that speaks gRPC, on both ends.
//! Invariants: 1. with [`Network::System`] nothing stands between tonic and a socket. 2. a pretended network
//! never touches a real one: names are its own. 3. over [`Network::Secure`] nothing is said to whom the certificates
//! do not name as expected.
//! Not here: HTTP/2 settings and time-outs, which stay with who connects.

use std::{
    fmt::Debug,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture, stream::BoxStream};
use hyper_util::rt::TokioIo;
use souk_kv_tls::{Bearer, ClientWire, Expected, Keyring, ServerWire, dial};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::{
    codegen::{Service, http::Uri},
    transport::{Channel, Endpoint, Error, server::Connected},
};

/// Bytes in both directions.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// One end of a pretended connection.
pub struct PretendedWire(Box<dyn Wire>);

impl PretendedWire {
    /// An end that reads and writes as `wire` does.
    pub fn new(wire: impl Wire + 'static) -> Self {
        Self(Box::new(wire))
    }
}

/// Connections as they come in; an error ends one of them, the end of the stream ends listening.
pub type PretendedIncoming = BoxStream<'static, io::Result<PretendedWire>>;

/// A network that is not there.
pub trait PretendedNetwork: Debug + Send + Sync + 'static {
    /// Connects to `host:port`. Waits as long as it takes; whoever asks brings the time-out.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<PretendedWire>>;

    /// Listens on `host:port`, which is an address of the machine that asks.
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<PretendedIncoming>>;
}

/// Where connections come from. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// Sockets of the operating system.
    #[default]
    System,
    /// The same, with TLS and a certificate on both ends.
    Secure(Arc<Keyring>),
    /// A network of the caller's.
    Pretended(Arc<dyn PretendedNetwork>),
}

impl Network {
    /// Connects to whom is expected; only certificates can tell who it is.
    ///
    /// # Errors
    /// When the address is not reached within the endpoint's time-out, or somebody else answers there.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        expected: &Expected,
    ) -> Result<Channel, Error> {
        match self {
            Self::System => endpoint.connect().await,
            Self::Secure(keyring) => {
                let connector = SecureConnector::new(keyring, expected);
                endpoint.connect_with_connector(connector).await
            }
            Self::Pretended(network) => {
                let connector = Connector(Arc::clone(network));
                endpoint.connect_with_connector(connector).await
            }
        }
    }

    /// A channel that connects to some node when it is first used, and again after every loss.
    #[must_use]
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        match self {
            Self::System => endpoint.connect_lazy(),
            Self::Secure(keyring) => {
                let connector = SecureConnector::new(keyring, &Expected::AnyNode);
                endpoint.connect_with_connector_lazy(connector)
            }
            Self::Pretended(network) => {
                endpoint.connect_with_connector_lazy(Connector(Arc::clone(network)))
            }
        }
    }

    /// Whether this is the real thing.
    #[must_use]
    pub fn is_system(&self) -> bool {
        matches!(self, Self::System | Self::Secure(_))
    }
}

struct Connector(Arc<dyn PretendedNetwork>);

impl Service<Uri> for Connector {
    type Response = TokioIo<PretendedWire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let address = uri.authority().map_or("", |authority| authority.as_str());
        self.0
            .connect(address)
            .map(|wire| wire.map(TokioIo::new))
            .boxed()
    }
}

/// Connects by TLS.
struct SecureConnector {
    keyring: Arc<Keyring>,
    expected: Expected,
}

impl SecureConnector {
    fn new(keyring: &Arc<Keyring>, expected: &Expected) -> Self {
        Self {
            keyring: Arc::clone(keyring),
            expected: expected.clone(),
        }
    }
}

impl Service<Uri> for SecureConnector {
    type Response = TokioIo<ClientWire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let (keyring, expected) = (Arc::clone(&self.keyring), self.expected.clone());
        async move {
            let wire = dial(&keyring, &address, &expected).await?;
            Ok(TokioIo::new(wire))
        }
        .boxed()
    }
}

/// Who is at the other end of a connection, by certificate; every request on it carries this as an extension.
pub type ShownBearer = Arc<Bearer>;

/// One end of a connection whose other end has shown a certificate.
pub struct SecureWire {
    wire: ServerWire,
    bearer: ShownBearer,
}

impl SecureWire {
    /// A connection as it was accepted.
    #[must_use]
    pub fn new(wire: ServerWire) -> Self {
        let bearer = Arc::new(wire.bearer().clone());
        Self { wire, bearer }
    }
}

impl Connected for SecureWire {
    type ConnectInfo = ShownBearer;

    fn connect_info(&self) -> ShownBearer {
        Arc::clone(&self.bearer)
    }
}

impl AsyncRead for SecureWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(context, buffer)
    }
}

impl AsyncWrite for SecureWire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

impl Connected for PretendedWire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for PretendedWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for PretendedWire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}
