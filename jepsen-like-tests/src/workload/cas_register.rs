//! Reads, writes and compare-and-sets of single rows, in the words of Jepsen's register test.
//!
//! A compare-and-set is by version, and is written down by the value that the version stands for.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde_json::json;
use souk_kv_client::{
    BucketMode, CasOutcome, Client, Condition, Key, ReadOptions, RequestError, RowOperation,
    TransactOutcome, Transaction, Value, Version, WriteOptions,
};

use super::client::bucket;
use super::failed::not_answered;
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::linear::CasRegister as Model;
use crate::checker::{Checker, Linearizable};
use crate::history::{History, Pending, Recorder};

const BUCKET: &str = "jepsen-cas";
const KEYS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(15);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct CasRegister;

/// A value that is written once, and its version.
type Seen = BTreeMap<String, (u64, Version)>;

impl Workload for CasRegister {
    fn name(&self) -> &'static str {
        "cas-register"
    }

    fn about(&self) -> &'static str {
        "reads, writes and compare-and-sets of single rows; judged linearizable"
    }

    fn crowd(&self) -> Crowd {
        Crowd {
            workers: 2,
            lanes: 3,
        }
    }

    fn set_up<'a>(
        &'a self,
        target: &'a Target,
        _recorder: &'a Recorder,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move {
            let bucket = bucket(BUCKET, BucketMode::Register);
            target.with_bucket(bucket).await.map(drop)
        }
        .boxed()
    }

    fn run(&self, mut context: ClientContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        async move {
            let client = context.target.connect(&context.id.to_string()).await?;
            let mut seen = Seen::new();
            let mut number = 0_u64;
            while context.pause(PAUSE).await {
                number += 1;
                // Nobody else writes it.
                let author = (u64::from(context.id.worker) << 16) | u64::from(context.id.lane);
                let new = (number << 32) | author;
                let key = format!("k{}", context.random.random_range(0..KEYS));
                match (context.random.random_range(0..10), seen.get(&key).cloned()) {
                    (0..5, _) => read(&client, &mut context, key, &mut seen).await,
                    (5, _) | (_, None) => write(&client, &mut context, key, new, &mut seen).await,
                    (_, Some(old)) => cas(&client, &mut context, key, old, new, &mut seen).await,
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn finish<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
        _until_now: &'a History,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move {
            let client = target.connect("finish").await?;
            let mut lane = recorder.lane();
            for number in 0..KEYS {
                let key = format!("k{number}");
                let pending = lane.invoke("read", json!([key, null]));
                let options = ReadOptions {
                    timeout: Some(Duration::from_secs(30)),
                    ..ReadOptions::default()
                };
                let answer = client.get_row(&place(&key), options).await;
                told_read(pending, &key, answer);
            }
            Ok(())
        }
        .boxed()
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(Linearizable::new(Model { is_keyed: true }))
    }
}

fn place(key: &str) -> Key {
    Key::new(BUCKET, key, "")
}

async fn read(client: &Client, context: &mut ClientContext, key: String, seen: &mut Seen) {
    let pending = context.lane.invoke("read", json!([key, null]));
    let answer = client.get_row(&place(&key), ReadOptions::default()).await;
    match told_read(pending, &key, answer) {
        Some(found) => seen.insert(key, found),
        None => seen.remove(&key),
    };
}

fn told_read(
    pending: Pending<'_>,
    key: &str,
    answer: Result<Option<souk_kv_client::Versioned>, RequestError>,
) -> Option<(u64, Version)> {
    match answer {
        Ok(row) => {
            let found = row.and_then(|row| {
                let text = String::from_utf8_lossy(&row.value.data).into_owned();
                Some((text.parse().ok()?, row.version))
            });
            pending.ok(json!([key, found.as_ref().map(|(value, _)| value)]));
            found
        }
        Err(problem) => {
            pending.fail(problem.to_string());
            None
        }
    }
}

async fn write(
    client: &Client,
    context: &mut ClientContext,
    key: String,
    new: u64,
    seen: &mut Seen,
) {
    let pending = context.lane.invoke("write", json!([key, new]));
    let put = RowOperation::put("", Condition::Any, value(new));
    let options = WriteOptions::default();
    let transaction = Transaction::new(BUCKET, &key, vec![put]);
    match client.transact(&transaction, options).await {
        Ok(TransactOutcome::Applied { versions }) => {
            pending.ok_as_asked();
            if let Some(version) = versions.into_iter().next().flatten() {
                seen.insert(key, (new, version));
            }
        }
        Ok(TransactOutcome::NotApplied { .. }) => pending.fail("refused without a condition"),
        Err(problem) => not_answered(pending, problem.outcome(), problem.to_string()),
    }
}

async fn cas(
    client: &Client,
    context: &mut ClientContext,
    key: String,
    (old, version): (u64, Version),
    new: u64,
    seen: &mut Seen,
) {
    // With it, a time-out is followed by the same request under the same id; its refusal may come from memory.
    let retry_unknown = context.random.random_bool(0.5);
    let pending = context.lane.invoke("cas", json!([key, [old, new]]));
    let options = WriteOptions {
        retry_unknown,
        ..WriteOptions::default()
    };
    match client
        .put_if_version(&place(&key), &version, value(new), options)
        .await
    {
        Ok(CasOutcome::Applied { version }) => {
            pending.ok_as_asked();
            match version {
                Some(version) => seen.insert(key, (new, version)),
                None => seen.remove(&key),
            };
        }
        Ok(CasOutcome::Conflict { .. }) => {
            pending.condition_failed(json!([key, [old, new]]));
            seen.remove(&key);
        }
        Err(problem) => not_answered(pending, problem.outcome(), problem.to_string()),
    }
}

fn value(number: u64) -> Value {
    Value::new("text/plain", number.to_string())
}
