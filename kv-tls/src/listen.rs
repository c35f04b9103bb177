//! The end that is connected to: it lets nobody in without a certificate of the cluster.
//!
//! Handshakes run beside each other, at most so many at once, each within a time: one slow or silent caller keeps
//! nobody else out.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use metrics::counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::{debug, warn};

use crate::{Bearer, HandshakeError, Keyring, Reason, keyring::Accepted};

/// Longest time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes that may run at once; further callers wait in the system's queue.
const HANDSHAKES_MAX: usize = 128;
/// Connections that may wait to be served.
const READY_MAX: usize = 16;
/// Pause after the system could not accept, as when it has no file handles left.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Connections whose callers have shown who they are.
pub type SecureIncoming = ReceiverStream<io::Result<ServerWire>>;

/// Accepts connections until the stream is dropped.
#[must_use]
pub fn accept(listener: TcpListener, keyring: Arc<Keyring>) -> SecureIncoming {
    let (ready, incoming) = mpsc::channel(READY_MAX);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (socket, from) = match accepted {
                Ok(accepted) => accepted,
                Err(cause) => {
                    warn!(%cause, "a connection could not be accepted");
                    sleep(PAUSE_AFTER_FAILURE).await;
                    continue;
                }
            };
            let (keyring, ready) = (Arc::clone(&keyring), ready.clone());
            tokio::spawn(async move {
                let _permit = permit;
                match timeout(HANDSHAKE_TIMEOUT, shake_hands(&keyring, socket)).await {
                    // Nobody takes it when the node is stopping.
                    Ok(Ok(wire)) => drop(ready.send(Ok(wire)).await),
                    Ok(Err(error)) => refused(from, error.reason(), &error),
                    Err(_) => refused(from, Reason::BrokenOff, &"it took too long"),
                }
            });
        }
    });
    ReceiverStream::new(incoming)
}

fn refused(from: std::net::SocketAddr, reason: Reason, problem: &dyn std::fmt::Display) {
    counter!("souk_tls_handshakes_refused_total", "reason" => reason.as_str()).increment(1);
    // Callers who only look whether the port is open are no news.
    if reason == Reason::BrokenOff {
        debug!(%from, %problem, "a handshake broke off");
    } else {
        warn!(%from, reason = reason.as_str(), %problem, "a connection was refused");
    }
}

async fn shake_hands(keyring: &Keyring, socket: TcpStream) -> Result<ServerWire, HandshakeError> {
    let broken_off = |cause: io::Error| HandshakeError::new(Reason::BrokenOff, cause.to_string());
    socket.set_nodelay(true).map_err(broken_off)?;
    let keys = keyring.keys();
    let acceptor = TlsAcceptor::from(Arc::clone(&keys.listening));
    let stream = acceptor
        .accept(socket)
        .await
        .map_err(|cause| HandshakeError::explain(cause).unwrap_or_else(broken_off))?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let bearer = chain.first().and_then(Bearer::of).ok_or_else(|| {
        let text = "the caller's certificate names no bearer: make it with `souk cert`";
        HandshakeError::new(Reason::WrongName, text)
    })?;
    let own = &keyring.bearer().cluster;
    if bearer.cluster != *own {
        let text = format!("the caller is {bearer}, this is cluster `{own}`");
        return Err(HandshakeError::new(Reason::WrongName, text));
    }
    let accepted = keyring.accepted(chain.to_vec(), bearer);
    let cut = Box::pin(accepted.cut.clone().cancelled_owned());
    Ok(ServerWire {
        stream,
        accepted,
        cut,
    })
}

/// The accepting end of a secure connection.
#[derive(Debug)]
pub struct ServerWire {
    stream: TlsStream<TcpStream>,
    accepted: Arc<Accepted>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl ServerWire {
    /// Who is at the other end.
    #[must_use]
    pub fn bearer(&self) -> &Bearer {
        &self.accepted.bearer
    }
}

impl AsyncRead for ServerWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            let text = "the certificate of the other end is no longer accepted";
            let error = HandshakeError::new(Reason::Revoked, text);
            return Poll::Ready(Err(error.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ServerWire {
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
