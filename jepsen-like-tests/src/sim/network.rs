//! The pretended network that nodes and clients are given: turmoil's, with a tap on every wire.
//!
//! Turmoil decides who reaches whom, and when. The tap adds three things: it folds what is received into the
//! [`Trace`]; it counts what passes on links in bad [`Weather`], which proves that a fault bit; and it loses packets the
//! way TCP shows that to programs, as silence until they are sent again. (Turmoil's own loss breaks a stream for
//! good.)
//!
//! Place: under `tonic`, on the machine that `turmoil` runs at the moment.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::SmallRng;
use souk_kv_proto::network::{PretendedIncoming, PretendedNetwork, PretendedWire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use turmoil::net::{TcpListener, TcpStream};

use super::time::SimTime;
use super::trace::Trace;
use crate::fault::Link;
use crate::history::Clock as _;

/// First wait before a lost packet is sent again; it doubles with every further loss.
const RESEND_FIRST: Duration = Duration::from_millis(200);
const RESEND_MAX: Duration = Duration::from_secs(3);
const MILLE: u32 = 1_000;

/// How every link of a run is doing. Clones are the same weather.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    links: Arc<Mutex<BTreeMap<Link, Arc<LinkWeather>>>>,
    random: Arc<Mutex<SmallRng>>,
}

#[derive(Debug, Default)]
struct LinkWeather {
    is_bad: AtomicBool,
    lose_per_mille: AtomicU32,
    /// Packets that were sent while it was bad.
    affected: AtomicU64,
}

impl Weather {
    pub(super) fn new(random: SmallRng) -> Weather {
        Weather {
            links: Arc::default(),
            random: Arc::new(Mutex::new(random)),
        }
    }

    fn link(&self, from: &str, to: &str) -> Arc<LinkWeather> {
        let key = (from.to_owned(), to.to_owned());
        Arc::clone(self.links.lock().entry(key).or_default())
    }

    /// From now on what passes these links is counted, and lost so often.
    pub(super) fn worsen(&self, links: &[Link], lose_per_mille: u32) {
        for (from, to) in links {
            let link = self.link(from, to);
            link.lose_per_mille.store(lose_per_mille, Ordering::Relaxed);
            link.is_bad.store(true, Ordering::Relaxed);
        }
    }

    /// These links are fine again. Returns how many packets were sent on them since they were not.
    pub(super) fn clear(&self, links: &[Link]) -> u64 {
        let affected = links.iter().map(|(from, to)| {
            let link = self.link(from, to);
            link.is_bad.store(false, Ordering::Relaxed);
            link.lose_per_mille.store(0, Ordering::Relaxed);
            link.affected.swap(0, Ordering::Relaxed)
        });
        affected.sum()
    }
}

/// The network as one machine sees it.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) machine: Arc<str>,
    pub(super) weather: Weather,
    pub(super) trace: Trace,
    pub(super) time: SimTime,
}

impl Exchange {
    fn tap(&self, stream: TcpStream, peer: &str) -> PretendedWire {
        PretendedWire::new(Tap {
            stream,
            peer: peer.into(),
            out: self.weather.link(&self.machine, peer),
            exchange: self.clone(),
            resend: None,
            wait: RESEND_FIRST,
        })
    }
}

impl PretendedNetwork for Exchange {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<PretendedWire>> {
        let exchange = self.clone();
        let place = split(address);
        async move {
            let (host, port) = place?;
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            Ok(exchange.tap(stream, &host))
        }
        .boxed()
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<PretendedIncoming>> {
        let exchange = self.clone();
        let place = split(address);
        async move {
            let (_, port) = place?;
            let listener = TcpListener::bind(("0.0.0.0", port)).await?;
            let incoming =
                stream::unfold((listener, exchange), |(listener, exchange)| async move {
                    let accepted = listener.accept().await.map(|(stream, from)| {
                        let peer = turmoil::reverse_lookup(from.ip());
                        exchange.tap(stream, &peer.unwrap_or_else(|| from.ip().to_string()))
                    });
                    Some((accepted, (listener, exchange)))
                });
            Ok(incoming.boxed())
        }
        .boxed()
    }
}

fn split(address: &str) -> io::Result<(String, u16)> {
    let parts = address.rsplit_once(':');
    let place = parts.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    place.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{address}` is no address"),
        )
    })
}

/// One end of a connection.
struct Tap {
    stream: TcpStream,
    peer: Box<str>,
    out: Arc<LinkWeather>,
    exchange: Exchange,
    /// Runs while a lost packet waits to be sent again.
    resend: Option<Pin<Box<Sleep>>>,
    wait: Duration,
}

impl Tap {
    /// Waits while a packet is lost, and perhaps lost again.
    fn poll_weather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(resend) = &mut self.resend {
                ready!(resend.as_mut().poll(context));
                self.resend = None;
            }
            let lose = self.out.lose_per_mille.load(Ordering::Relaxed);
            let is_lost =
                lose > 0 && self.exchange.weather.random.lock().random_range(0..MILLE) < lose;
            if !is_lost {
                self.wait = RESEND_FIRST;
                return Poll::Ready(());
            }
            self.resend = Some(Box::pin(sleep(self.wait)));
            self.wait = (self.wait * 2).min(RESEND_MAX);
        }
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let received = &buffer.filled()[before..];
        if !received.is_empty() {
            let exchange = &self.exchange;
            let now_ns = exchange.time.now_ns();
            exchange
                .trace
                .received(&exchange.machine, &self.peer, now_ns, received);
        }
        result
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_weather(context));
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(result, Poll::Ready(Ok(_))) && self.out.is_bad.load(Ordering::Relaxed) {
            self.out.affected.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
