//! Closed-loop clients of etcd, as `souk bench` has them for souk.
//!
//! Invariants: 1. a client of a spread workload writes keys of its own, so that none of its compare-and-sets conflicts.
//! 2. a compare-and-set that lost is tried again with the revision that came with the refusal; only successes count.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Endpoint;

use super::api::{Cas, Kv, PutRequest, PutResponse, RangeRequest};
use crate::error::CompareError;
use crate::figure::{Counter, Figure};
use crate::measure::{KEYS, Measure, VALUE_BYTES, Work};

/// Connections, spread over the members.
const CONNECTIONS: usize = 12;
/// Before each measured window.
const WARM_UP: Duration = Duration::from_secs(1);
/// Keys that are written at the same time while loading.
const LOAD_CONCURRENCY: u32 = 64;

/// Connections to all members, over keys that exist.
#[derive(Debug)]
pub(super) struct Load {
    runtime: Runtime,
    connections: Vec<Kv>,
    revisions: Arc<Revisions>,
}

/// The revision of each key as last heard of, shared by all clients as `souk bench` shares versions.
#[derive(Debug)]
struct Revisions(Vec<AtomicI64>);

impl Revisions {
    fn of(&self, index: u32) -> i64 {
        self.0[index as usize].load(Ordering::Relaxed)
    }

    fn learn(&self, index: u32, revision: i64) {
        self.0[index as usize].fetch_max(revision, Ordering::Relaxed);
    }
}

impl Load {
    /// Connects and writes every key once.
    pub(super) fn new(endpoints: &[String], clients: u32) -> Result<Self, CompareError> {
        let runtime = Runtime::new().map_err(|source| CompareError::Start {
            program: "the load on etcd".to_owned(),
            source,
        })?;
        let connect = async {
            let mut connections = Vec::new();
            for endpoint in endpoints.iter().cycle().take(CONNECTIONS) {
                let channel = Endpoint::from_shared(endpoint.clone())
                    .map_err(|problem| failed(&problem))?
                    .tcp_nodelay(true)
                    .connect()
                    .await
                    .map_err(|problem| failed(&problem))?;
                connections.push(Kv::new(channel));
            }
            Ok::<_, CompareError>(connections)
        };
        let connections = runtime.block_on(connect)?;
        let load = Self {
            runtime,
            connections,
            revisions: Arc::new(Revisions((0..KEYS).map(|_| AtomicI64::new(0)).collect())),
        };
        load.fill(clients.max(LOAD_CONCURRENCY))?;
        Ok(load)
    }

    fn fill(&self, writers: u32) -> Result<(), CompareError> {
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for number in 0..writers {
                let (mut kv, revisions) = (self.connection(number), Arc::clone(&self.revisions));
                tasks.spawn(async move {
                    for index in (number..KEYS).step_by(writers as usize) {
                        let put = PutRequest {
                            key: key(index),
                            value: value(0),
                        };
                        revisions.learn(index, revision_of(&kv.put(put).await?));
                    }
                    Ok::<_, Status>(())
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended
                    .map_err(|problem| failed(&problem))?
                    .map_err(|problem| failed(&problem))?;
            }
            Ok(())
        })
    }

    /// Runs one workload.
    pub(super) fn run(&self, measure: &Measure, time: Duration) -> Result<Figure, CompareError> {
        let begin = Instant::now();
        let window = (begin + WARM_UP, begin + WARM_UP + time);
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for number in 0..measure.clients {
                let client = Client {
                    kv: self.connection(number),
                    work: measure.work,
                    number,
                    clients: measure.clients,
                    revisions: Arc::clone(&self.revisions),
                    random: SmallRng::seed_from_u64(number.into()),
                };
                tasks.spawn(client.run(window));
            }
            let mut total = Counter::new();
            while let Some(ended) = tasks.join_next().await {
                total.add(&ended.map_err(|problem| failed(&problem))?);
            }
            Ok(total.figure(time))
        })
    }

    fn connection(&self, number: u32) -> Kv {
        self.connections[number as usize % self.connections.len()].clone()
    }
}

/// One client.
struct Client {
    kv: Kv,
    work: Work,
    number: u32,
    clients: u32,
    revisions: Arc<Revisions>,
    random: SmallRng,
}

impl Client {
    async fn run(mut self, (from, until): (Instant, Instant)) -> Counter {
        let mut counter = Counter::new();
        loop {
            let began = Instant::now();
            if began >= until {
                return counter;
            }
            let result = self.one().await;
            let ended = Instant::now();
            match result {
                Ok(()) if began >= from && ended <= until => counter.succeed(ended - began),
                Ok(()) => {}
                Err(_) if began >= from => counter.fail(),
                Err(_) => {}
            }
        }
    }

    async fn one(&mut self) -> Result<(), Status> {
        match self.work {
            Work::Get => {
                let key = key(self.random.random_range(0..KEYS));
                self.kv.range(RangeRequest { key }).await.map(|_| ())
            }
            Work::CasHot => self.increment(0).await,
            Work::CasSpread => {
                let index = self.own();
                self.increment(index).await
            }
            _ => {
                let index = self.own();
                let (key, value) = (key(index), value(self.random.random()));
                let answer = self.kv.put(PutRequest { key, value }).await?;
                self.revisions.learn(index, revision_of(&answer));
                Ok(())
            }
        }
    }

    async fn increment(&mut self, index: u32) -> Result<(), Status> {
        loop {
            let known = self.revisions.of(index);
            let value = value(self.random.random());
            match self.kv.compare_and_set(key(index), known, value).await? {
                Cas::Applied { revision } => {
                    self.revisions.learn(index, revision);
                    return Ok(());
                }
                Cas::Conflict { revision } => self.revisions.learn(index, revision),
            }
        }
    }

    /// A key that no other client writes.
    fn own(&mut self) -> u32 {
        let count = (KEYS - self.number).div_ceil(self.clients);
        self.number + self.random.random_range(0..count) * self.clients
    }
}

fn revision_of(answer: &PutResponse) -> i64 {
    answer.header.as_ref().map_or(0, |header| header.revision)
}

fn key(index: u32) -> Vec<u8> {
    format!("key-{index:08}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(VALUE_BYTES, b'.');
    data
}

fn failed(problem: &dyn std::error::Error) -> CompareError {
    CompareError::Etcd {
        why: problem.to_string(),
    }
}
