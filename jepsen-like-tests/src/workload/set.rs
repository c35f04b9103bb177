//! A linearizable set: every element a row of one register group, every read a scan of the group.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde_json::{Value as Json, json};
use souk_kv_client::{
    BucketMode, CasOutcome, Client, Key, ReadOptions, RequestError, ScanQuery, Value, WriteOptions,
};

use super::cart::cart_names;
use super::client::bucket;
use super::failed::not_answered;
use super::settle::final_reads;
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::{Checker, ReadPromise, SetChecker};
use crate::history::{History, Recorder};

const BUCKET: &str = "jepsen-set";
/// Elements of one client in one set; then all go on to the next one.
const ADDS_PER_SET: u64 = 25;
const PAUSE: Duration = Duration::from_millis(20);
/// More than any set holds.
const ELEMENTS_MAX: usize = 100_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Set;

impl Workload for Set {
    fn name(&self) -> &'static str {
        "set"
    }

    fn about(&self) -> &'static str {
        "rows added to register groups; every scan shows all that was acknowledged"
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
            let mut number = 0_u64;
            while context.pause(PAUSE).await {
                let set = format!("s{}", number / ADDS_PER_SET);
                if context.random.random_bool(0.3) {
                    let pending = context.lane.invoke("read", json!([set, null]));
                    match elements(&client, &set).await {
                        Ok(elements) => pending.ok(json!([set, elements])),
                        Err(problem) => pending.fail(problem.to_string()),
                    }
                } else {
                    let element = format!("{}-{number}", context.id);
                    number += 1;
                    add(&client, &mut context, &set, &element).await;
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
        until_now: &'a History,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move {
            let client = target.connect("finish").await?;
            let client = &client;
            let look = |set: String| async move {
                let elements = elements(client, &set).await;
                let elements = elements.map_err(|problem| problem.to_string())?;
                Ok(json!([set, elements]))
            };
            let asked = |set: &str| json!([set, null]);
            let sets = cart_names(until_now);
            final_reads(&sets, recorder, "a set cannot be read", asked, look).await
        }
        .boxed()
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(SetChecker {
            promise: ReadPromise::Every,
        })
    }
}

async fn add(client: &Client, context: &mut ClientContext, set: &str, element: &str) {
    let pending = context.lane.invoke("add", json!([set, element]));
    let key = Key::new(BUCKET, set, element);
    let options = WriteOptions {
        retry_unknown: true,
        ..WriteOptions::default()
    };
    let value = Value::new("text/plain", "there");
    match client.put_if_absent(&key, value, options).await {
        Ok(CasOutcome::Applied { .. }) => pending.ok_as_asked(),
        Ok(CasOutcome::Conflict { .. }) => pending.fail("somebody else added it"),
        Err(problem) => not_answered(pending, problem.outcome(), problem.to_string()),
    }
}

async fn elements(client: &Client, set: &str) -> Result<Vec<Json>, RequestError> {
    let query = ScanQuery::new(BUCKET, set);
    let page = client
        .scan_all(&query, ELEMENTS_MAX, ReadOptions::default())
        .await?;
    let element = |row: &souk_kv_client::Row| json!(String::from_utf8_lossy(&row.sort_key));
    Ok(page.rows.iter().map(element).collect())
}
