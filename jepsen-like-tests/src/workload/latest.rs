//! Puts to all copies of keys in a `lww` bucket, and reads by quorum: of two puts one after the other, the later one wins.
//!
//! A put that was acknowledged by all copies is known to whichever node takes the next one, so no clock of a node, however
//! wrong, may date the next one before it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde_json::{Value as Json, json};
use souk_kv_client::{
    BucketMode, Client, Consistency, Context, Key, Read, ReadOptions, Value, WriteOptions,
};

use super::client::bucket;
use super::failed::not_answered;
use super::settle::{final_reads, hints_delivered};
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::{Checker, LatestChecker};
use crate::history::{History, Recorder};

const BUCKET: &str = "jepsen-latest";
/// Keys at first; every so often clients go on to new ones, so that a date far ahead does not keep all puts out.
const KEYS: u64 = 4;
/// A client goes on to the next set of keys after so many requests.
const REQUESTS_PER_SET: u64 = 60;
const PAUSE: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Latest;

impl Workload for Latest {
    fn name(&self) -> &'static str {
        "latest"
    }

    fn about(&self) -> &'static str {
        "lww puts to all copies; of two puts one after the other the later wins, whatever clocks say"
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
        let bucket = bucket(BUCKET, BucketMode::Lww);
        async move { target.with_bucket(bucket).await.map(drop) }.boxed()
    }

    fn run(&self, context: ClientContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        run(context).boxed()
    }

    fn finish<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
        until_now: &'a History,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        finish(target, recorder, until_now).boxed()
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(LatestChecker)
    }
}

async fn run(mut context: ClientContext) -> Result<(), WorkloadError> {
    let client = context.target.connect(&context.id.to_string()).await?;
    let mut number = 0_u64;
    while context.pause(PAUSE).await {
        number += 1;
        let set = number / REQUESTS_PER_SET;
        let key = format!("k{set}-{}", context.random.random_range(0..KEYS));
        if context.random.random_bool(0.5) {
            put(&client, &mut context, &key, number).await;
        } else {
            let pending = context.lane.invoke("read", json!({"key": key}));
            match client
                .get(&name(&key), read_options(Consistency::Quorum))
                .await
            {
                Ok(read) => pending.ok(shown(&key, &read)),
                Err(problem) => pending.fail(problem.to_string()),
            }
        }
    }
    Ok(())
}

async fn put(client: &Client, context: &mut ClientContext, key: &str, number: u64) {
    let id = format!("{}-{number}", context.id);
    let pending = context.lane.invoke("put", json!({"key": key, "id": id}));
    let options = WriteOptions {
        consistency: Consistency::All,
        strict: true,
        ..WriteOptions::default()
    };
    let value = Value::new("text/plain", id);
    let blind = Context::default();
    match client.put(&name(key), value, &blind, options).await {
        Ok(written) => pending.ok(json!({"copies": written.copies})),
        Err(problem) => not_answered(pending, problem.outcome(), problem.to_string()),
    }
}

async fn finish(
    target: &Target,
    recorder: &Recorder,
    until_now: &History,
) -> Result<(), WorkloadError> {
    let client = target.connect("finish").await?;
    hints_delivered(&client, target).await?;
    let operations = until_now.operations();
    let keys = operations
        .iter()
        .filter_map(|operation| operation.asked.get("key")?.as_str());
    let keys: BTreeSet<String> = keys.map(str::to_owned).collect();
    let client = &client;
    let look = |key: String| async move {
        let read = client
            .get(&name(&key), read_options(Consistency::All))
            .await;
        let read = read.map_err(|problem| problem.to_string())?;
        Ok(shown(&key, &read))
    };
    let asked = |key: &str| json!({"key": key});
    let what = "a key cannot be read from all its replicas";
    final_reads(&keys, recorder, what, asked, look).await
}

fn name(key: &str) -> Key {
    Key::new(BUCKET, key, "")
}

fn read_options(consistency: Consistency) -> ReadOptions {
    ReadOptions {
        consistency,
        strict: true,
        ..ReadOptions::default()
    }
}

fn shown(key: &str, read: &Read) -> Json {
    let id = |value: &Value| String::from_utf8_lossy(&value.data).into_owned();
    json!({"key": key, "id": read.values.first().map(id)})
}
