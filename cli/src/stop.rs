//! When a process should stop, and what happens if it does not.
//!
//! A server stops on Ctrl-C, on SIGTERM and, if it was asked to, when its standard input closes. The
//! last one ties children to `souk up`: it holds the other end of their input, and the operating
//! system closes it even when `souk up` is killed outright. So no child outlives it.
//!
//! Invariants: 1. a second Ctrl-C ends the process at once. 2. a stop that takes longer than its patience
//! ends the process, with a word about it.

use std::io::Read as _;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// What else stops a server.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StopArgs {
    /// Stop when standard input closes, as `souk up` does for its children.
    #[arg(long)]
    pub(crate) stop_on_stdin_close: bool,
}

/// The ways in which a process can be told to stop.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    stdin_closed: Option<oneshot::Receiver<()>>,
}

impl StopSignals {
    /// Begins to listen. From here on Ctrl-C no longer ends the process by itself.
    ///
    /// # Errors
    /// When the operating system refuses a signal handler.
    pub(crate) fn listen(args: StopArgs) -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            stdin_closed: args.stop_on_stdin_close.then(stdin_closed),
        })
    }

    /// Waits for the first of them.
    pub(crate) async fn wait(&mut self) {
        let stdin_closed = async {
            match &mut self.stdin_closed {
                Some(closed) => closed.await.unwrap_or(()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = stdin_closed => {}
        }
    }

    /// For a server: waits for the first of them, then gives the process `patience` to end.
    pub(crate) async fn wait_then_insist(mut self, patience: Duration) {
        self.wait().await;
        tracing::info!("stopping");
        std::thread::spawn(move || {
            std::thread::sleep(patience);
            tracing::error!(
                "did not stop within {} ms; ending now",
                patience.as_millis()
            );
            std::process::exit(1);
        });
        tokio::spawn(async move {
            self.interrupt.recv().await;
            std::process::exit(130);
        });
    }
}

/// Reads standard input on a thread of its own, which the end of the process does not wait for.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (closed, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut ignored = [0_u8; 256];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut ignored).is_ok_and(|count| count > 0) {}
        // Nobody waits any more when the process is stopping for another reason.
        closed.send(()).ok();
    });
    receiver
}
