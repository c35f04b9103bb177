//! Packets that arrive late: the kernel hands them to a program, which gives them back when their time has come.
//!
//! A waiting room at the door: whoever leaves sits there for a while, all for the same while, or each for one of his own,
//! in which case they leave in another order than they came. Kernels that have `tc netem` could do it themselves; many
//! have not.
//!
//! The program runs in a process of its own, as it has to live in the sender's namespace.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::Rng as _;

use super::hosts::Host;
use crate::process::HarnessError;

/// Most packets in the waiting room; what comes then passes at once.
const HELD_MAX: u32 = 100_000;
/// Pause when there is nothing to do.
const IDLE: Duration = Duration::from_micros(500);
const READY: &str = "ready";

/// A waiting room for packets of one host to some others. Dropped, it lets all go.
#[derive(Debug)]
pub(super) struct Lag {
    host: Host,
    queue: u16,
    to: Vec<Ipv4Addr>,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Lag {
    /// Opens one. Packets take `delay`, or up to it, each its own time. `binary` runs [`lag`] for its command `lag`.
    pub(super) fn open(
        binary: &Path,
        host: &Host,
        queue: u16,
        to: &[Ipv4Addr],
        delay: Duration,
        is_shuffled: bool,
    ) -> Result<Lag, HarnessError> {
        let prefix = host.prefix();
        let cannot = |source| HarnessError::CannotStart {
            name: "the program that delays packets".to_owned(),
            source,
        };
        let mut command = Command::new(&prefix[0]);
        command
            .args(&prefix[1..])
            .arg(binary)
            .args(["lag", "--queue", &queue.to_string()])
            .args(["--delay-ms", &delay.as_millis().to_string()]);
        if is_shuffled {
            command.arg("--shuffle");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let stdout = child.stdout.take().ok_or(ErrorKind::BrokenPipe.into());
        let mut opened = Lag {
            host: host.clone(),
            queue,
            to: Vec::new(),
            stdout: BufReader::new(stdout.map_err(cannot)?),
            child,
        };
        let mut line = String::new();
        opened.stdout.read_line(&mut line).map_err(cannot)?;
        if line.trim() != READY {
            return Err(cannot(ErrorKind::UnexpectedEof.into()));
        }
        for address in to {
            opened.rule("-A", *address)?;
            opened.to.push(*address);
        }
        Ok(opened)
    }

    /// Closes it; returns how many packets were held.
    pub(super) fn close(mut self) -> u64 {
        self.stop();
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).ok();
        said.trim().parse().unwrap_or_default()
    }

    fn rule(&self, what: &str, to: Ipv4Addr) -> Result<(), HarnessError> {
        let queue = self.queue;
        // Without a program behind the queue, packets pass.
        let rule = format!("OUTPUT -d {to} -j NFQUEUE --queue-num {queue} --queue-bypass");
        self.host
            .run(&format!("iptables -w {what} {rule}"))
            .map(|_| ())
    }

    fn stop(&mut self) {
        for to in std::mem::take(&mut self.to) {
            // Fails only when the namespace is gone, and the rule with it.
            self.rule("-D", to).ok();
        }
        drop(self.child.stdin.take());
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.stop();
        // Both fail only when it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The waiting room itself, for packets of a numbered queue of the network namespace that this process is in; until
/// the standard input ends. Prints `ready` when it has begun, and in the end how many packets were held.
///
/// # Errors
/// When the queue cannot be opened: it needs root's rights, and a kernel with `nfnetlink_queue`.
pub fn lag(number: u16, delay: Duration, is_shuffled: bool) -> std::io::Result<()> {
    let mut queue = nfq::Queue::open()?;
    queue.bind(number)?;
    // Only their names: the packets themselves wait in the kernel.
    queue.set_copy_range(number, 0)?;
    queue.set_queue_max_len(number, HELD_MAX)?;
    queue.set_fail_open(number, true)?;
    queue.set_recv_gso(number, true)?;
    queue.set_nonblocking(true);
    say(READY)?;
    let is_over = is_stdin_over();
    let mut random = rand::rng();
    let mut room = WaitingRoom::default();
    while !is_over.load(Ordering::Relaxed) {
        let now = Instant::now();
        match queue.recv() {
            Ok(packet) => {
                let stay = if is_shuffled {
                    delay.mul_f64(random.random())
                } else {
                    delay
                };
                room.enter(now + stay, packet);
            }
            Err(problem) if problem.kind() == ErrorKind::WouldBlock => std::thread::sleep(IDLE),
            Err(problem) => return Err(problem),
        }
        while let Some(packet) = room.leave(now) {
            queue.verdict(packet)?;
        }
    }
    let entered = room.entered;
    for packet in room.waiting.into_values() {
        queue.verdict(packet)?;
    }
    say(&entered.to_string())
}

/// Who waits, in order of leaving.
struct WaitingRoom<T> {
    waiting: BTreeMap<(Instant, u64), T>,
    entered: u64,
}

impl<T> Default for WaitingRoom<T> {
    fn default() -> WaitingRoom<T> {
        WaitingRoom {
            waiting: BTreeMap::new(),
            entered: 0,
        }
    }
}

impl<T> WaitingRoom<T> {
    fn enter(&mut self, until: Instant, packet: T) {
        // The number keeps those apart who leave at the same moment, in the order in which they came.
        self.waiting.insert((until, self.entered), packet);
        self.entered += 1;
    }

    /// The next one whose time has come.
    fn leave(&mut self, now: Instant) -> Option<T> {
        let entry = self.waiting.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

fn is_stdin_over() -> Arc<AtomicBool> {
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_over);
    std::thread::spawn(move || {
        // An error is an end as well.
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        seen.store(true, Ordering::Relaxed);
    });
    is_over
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_when_their_time_has_come_and_not_before() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut room = WaitingRoom::default();
        room.enter(at(30), "slow");
        room.enter(at(10), "first");
        room.enter(at(10), "second");
        assert_eq!(room.leave(at(9)), None);
        assert_eq!(room.leave(at(10)), Some("first"));
        assert_eq!(room.leave(at(10)), Some("second"));
        assert_eq!(room.leave(at(29)), None);
        assert_eq!(room.leave(at(31)), Some("slow"));
        assert_eq!((room.leave(at(99)), room.entered), (None, 3));
    }
}
