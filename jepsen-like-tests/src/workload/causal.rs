//! Puts, deletes and reads of siblings keys by many clients, each write over what its client last read of the key.
//!
//! Three kinds of it, which differ in what they promise and in what they mix: `siblings` puts, `deletes` also deletes and
//! puts again, `session` asks strict quorums, of which every read shows what was acknowledged before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde_json::json;
use souk_kv_client::{
    BucketMode, Client, Consistency, Context, Key, Read, ReadOptions, RequestError, Value,
    WriteOptions, Written,
};

use super::client::bucket;
use super::failed::not_answered;
use super::settle::{final_reads, hints_delivered};
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::{CausalChecker, Checker, ReadPromise};
use crate::history::{History, Pending, Recorder};

/// Keys at first; every so often clients go on to new ones, so that histories of one key stay short.
const KEYS: u64 = 4;
/// A client goes on to the next set of keys after so many requests.
const REQUESTS_PER_SET: u64 = 60;
const PAUSE: Duration = Duration::from_millis(20);

/// Puts beside and over one another.
#[derive(Clone, Copy, Debug)]
pub struct Siblings;

/// Puts, deletes, and puts of what was deleted.
#[derive(Clone, Copy, Debug)]
pub struct Deletes;

/// Strict quorums on both sides.
#[derive(Clone, Copy, Debug)]
pub struct Session;

/// What differs between the three.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    about: &'static str,
    bucket: &'static str,
    delete_share: f64,
    is_strict: bool,
}

const SIBLINGS: Kind = Kind {
    name: "siblings",
    about: "puts beside and over one another; nothing lost, nothing back, no dominated sibling",
    bucket: "jepsen-siblings",
    delete_share: 0.0,
    is_strict: false,
};
const DELETES: Kind = Kind {
    name: "deletes",
    about: "puts, deletes and puts again; what is deleted stays so, what is put again stays",
    bucket: "jepsen-deletes",
    delete_share: 0.35,
    is_strict: false,
};
const SESSION: Kind = Kind {
    name: "session",
    about: "strict quorums: every read shows what anybody was told before, so also one's own",
    bucket: "jepsen-session",
    delete_share: 0.15,
    is_strict: true,
};

macro_rules! causal_workload {
    ($workload:ident, $kind:ident) => {
        impl Workload for $workload {
            fn name(&self) -> &'static str {
                $kind.name
            }

            fn about(&self) -> &'static str {
                $kind.about
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
                $kind.set_up(target).boxed()
            }

            fn run(&self, context: ClientContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
                $kind.run(context).boxed()
            }

            fn finish<'a>(
                &'a self,
                target: &'a Target,
                recorder: &'a Recorder,
                until_now: &'a History,
            ) -> BoxFuture<'a, Result<(), WorkloadError>> {
                $kind.finish(target, recorder, until_now).boxed()
            }

            fn checker(&self) -> Box<dyn Checker> {
                $kind.checker()
            }
        }
    };
}

causal_workload!(Siblings, SIBLINGS);
causal_workload!(Deletes, DELETES);
causal_workload!(Session, SESSION);

/// What a client knows of a key: the values that its last answer covers, and the context that says so.
#[derive(Clone, Default)]
struct Known {
    saw: Vec<String>,
    context: Context,
}

impl Kind {
    async fn set_up(self, target: &Target) -> Result<(), WorkloadError> {
        let bucket = bucket(self.bucket, BucketMode::Siblings);
        target.with_bucket(bucket).await.map(drop)
    }

    async fn run(self, mut context: ClientContext) -> Result<(), WorkloadError> {
        let client = context.target.connect(&context.id.to_string()).await?;
        let mut known: BTreeMap<String, Known> = BTreeMap::new();
        let mut number = 0_u64;
        while context.pause(PAUSE).await {
            number += 1;
            let set = number / REQUESTS_PER_SET;
            let key = format!("k{set}-{}", context.random.random_range(0..KEYS));
            let known = known.entry(key.clone()).or_default();
            let dice: f64 = context.random.random();
            if dice < 0.4 {
                self.read(&client, &mut context, &key, known).await;
            } else if dice < 0.4 + 0.6 * self.delete_share && !known.saw.is_empty() {
                self.delete(&client, &mut context, &key, known).await;
            } else {
                let id = format!("{}-{number}", context.id);
                self.put(&client, &mut context, &key, id, known).await;
            }
        }
        Ok(())
    }

    async fn read(
        self,
        client: &Client,
        context: &mut ClientContext,
        key: &str,
        known: &mut Known,
    ) {
        let pending = context.lane.invoke("read", json!({"key": key}));
        match client.get(&self.key(key), self.read_options(None)).await {
            Ok(read) => {
                *known = known_of(&read);
                pending.ok(json!({"key": key, "ids": known.saw}));
            }
            Err(problem) => pending.fail(problem.to_string()),
        }
    }

    async fn put(
        self,
        client: &Client,
        context: &mut ClientContext,
        key: &str,
        id: String,
        known: &mut Known,
    ) {
        let asked = json!({"key": key, "id": id, "saw": known.saw});
        let pending = context.lane.invoke("put", asked);
        let value = Value::new("text/plain", id.clone());
        let answer = client
            .put(&self.key(key), value, &known.context, self.write_options())
            .await;
        if let Some(written) = finish_write(pending, answer) {
            *known = Known {
                saw: vec![id],
                context: written.context,
            };
        }
    }

    async fn delete(
        self,
        client: &Client,
        context: &mut ClientContext,
        key: &str,
        known: &mut Known,
    ) {
        let asked = json!({"key": key, "saw": known.saw});
        let pending = context.lane.invoke("delete", asked);
        let answer = client
            .delete(&self.key(key), &known.context, self.write_options())
            .await;
        if let Some(written) = finish_write(pending, answer) {
            *known = Known {
                saw: Vec::new(),
                context: written.context,
            };
        }
    }

    async fn finish(
        self,
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
            let all = self.read_options(Some(Consistency::All));
            let read = client.get(&self.key(&key), all).await;
            let read = read.map_err(|problem| problem.to_string())?;
            Ok(json!({"key": key, "ids": known_of(&read).saw}))
        };
        let asked = |key: &str| json!({"key": key});
        let what = "a key cannot be read from all its replicas";
        final_reads(&keys, recorder, what, asked, look).await
    }

    fn checker(self) -> Box<dyn Checker> {
        Box::new(CausalChecker {
            promise: if self.is_strict {
                ReadPromise::Every
            } else {
                ReadPromise::Final
            },
        })
    }

    fn key(self, key: &str) -> Key {
        Key::new(self.bucket, key, "")
    }

    fn read_options(self, last: Option<Consistency>) -> ReadOptions {
        let usual = if self.is_strict {
            Consistency::Quorum
        } else {
            Consistency::Bucket
        };
        ReadOptions {
            consistency: last.unwrap_or(usual),
            strict: self.is_strict || last.is_some(),
            ..ReadOptions::default()
        }
    }

    fn write_options(self) -> WriteOptions {
        WriteOptions {
            consistency: if self.is_strict {
                Consistency::Quorum
            } else {
                Consistency::Bucket
            },
            strict: self.is_strict,
            ..WriteOptions::default()
        }
    }
}

fn known_of(read: &Read) -> Known {
    let id = |value: &Value| String::from_utf8_lossy(&value.data).into_owned();
    let mut saw: Vec<String> = read.values.iter().map(id).collect();
    saw.sort();
    Known {
        saw,
        context: read.context.clone(),
    }
}

fn finish_write(pending: Pending<'_>, answer: Result<Written, RequestError>) -> Option<Written> {
    match answer {
        Ok(written) => {
            pending.ok(json!({"copies": written.copies, "degraded": written.degraded}));
            Some(written)
        }
        Err(problem) => {
            not_answered(pending, problem.outcome(), problem.to_string());
            None
        }
    }
}
