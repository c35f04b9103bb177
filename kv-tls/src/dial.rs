//! The end that connects: it knows which node it wants.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    HandshakeError, Keyring, Reason,
    name::{any_node, this_node},
};

/// Who has to be at the other end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Expected {
    /// Any node of the own cluster.
    #[default]
    AnyNode,
    /// The node of that name.
    Node(String),
}

/// Connects to `host:port`, and checks that the one who is expected answers there.
///
/// # Errors
/// With a [`HandshakeError`] inside when somebody answers who is not accepted, or who does not accept; otherwise what
/// the system said.
pub async fn dial(keyring: &Keyring, address: &str, expected: &Expected) -> io::Result<ClientWire> {
    let cluster = &keyring.bearer().cluster;
    let name = match expected {
        Expected::AnyNode => any_node(cluster),
        Expected::Node(node) => this_node(cluster, node),
    };
    let name = ServerName::try_from(name).map_err(|cause| {
        let text = format!("no certificate can carry the names of this cluster or node ({cause})");
        HandshakeError::new(Reason::WrongName, text)
    })?;
    let keys = keyring.keys();
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::clone(&keys.dialling));
    let stream = connector.connect(name, socket).await.map_err(explained)?;
    Ok(ClientWire { stream })
}

/// The connecting end of a secure connection.
#[derive(Debug)]
pub struct ClientWire {
    stream: TlsStream<TcpStream>,
}

/// The other end's refusal comes only when we think that all is well: with the first bytes that are read.
fn explained(cause: io::Error) -> io::Error {
    HandshakeError::explain(cause).map_or_else(|other| other, io::Error::from)
}

impl AsyncRead for ClientWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        Poll::Ready(read.map_err(explained))
    }
}

impl AsyncWrite for ClientWire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
