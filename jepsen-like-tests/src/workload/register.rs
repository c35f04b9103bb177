//! Conditional writes on few rows, by many clients at once.
//!
//! Clients remember the version that they saw last of each row, so that many of their conditions hold, and many
//! have just ceased to. Three kinds of it, which differ in how many register groups share the load: all of it on one, some
//! on each of a few, hardly any two requests at once on the same of a hundred.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde_json::{Value as Json, json};
use souk_kv_client::{
    BucketMode, Client, Condition, Key, ReadOptions, RequestError, RowOperation, TransactOutcome,
    Transaction, Value, Version, Versioned, WriteOptions,
};

use super::client::bucket;
use super::failed::not_answered;
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::linear::VersionedMap;
use crate::checker::{Checker, Linearizable};
use crate::history::{History, Pending, Recorder};

const BUCKET: &str = "jepsen-register";
/// Rows of each.
const ROWS: u32 = 2;
/// Pause between two requests of a client.
const PAUSE: Duration = Duration::from_millis(15);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    name: &'static str,
    about: &'static str,
    /// Register groups.
    groups: u32,
}

impl Register {
    /// A few groups.
    pub const FEW: Register = Register {
        name: "register",
        about: "gets, puts, deletes and compare-and-sets of few rows; judged linearizable",
        groups: 3,
    };
    /// One group for all clients.
    pub const HOT: Register = Register {
        name: "register-hot",
        about: "as register, with all clients on one register group",
        groups: 1,
    };
    /// A hundred groups.
    pub const WIDE: Register = Register {
        name: "register-wide",
        about: "as register, over a hundred register groups",
        groups: 100,
    };
}

impl Workload for Register {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn crowd(&self) -> Crowd {
        Crowd {
            workers: 2,
            lanes: 4,
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
        let groups = self.groups;
        async move {
            let client = context.target.connect(&context.id.to_string()).await?;
            let mut seen: BTreeMap<Place, Version> = BTreeMap::new();
            let mut number = 0_u64;
            while context.pause(PAUSE).await {
                number += 1;
                let group = context.random.random_range(0..groups);
                let row = context.random.random_range(0..ROWS);
                let place = (format!("g{group}"), format!("r{row}"));
                if context.random.random_bool(0.4) {
                    get(&client, &mut context, place, &mut seen).await;
                } else {
                    let value = format!("{}-{number}", context.id);
                    change(&client, &mut context, place, value, &mut seen).await;
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
            for group in 0..self.groups {
                for row in 0..ROWS {
                    let place = (format!("g{group}"), format!("r{row}"));
                    let pending = lane.invoke("get", json!({"key": place.0, "row": place.1}));
                    finish_get(
                        pending,
                        &place,
                        client.get_row(&key(&place), patient()).await,
                    );
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(Linearizable::new(VersionedMap))
    }
}

/// Group and row.
type Place = (String, String);

fn key(place: &Place) -> Key {
    Key::new(BUCKET, &place.0, &place.1)
}

fn patient() -> ReadOptions {
    ReadOptions {
        timeout: Some(Duration::from_secs(30)),
        ..ReadOptions::default()
    }
}

async fn get(
    client: &Client,
    context: &mut ClientContext,
    place: Place,
    seen: &mut BTreeMap<Place, Version>,
) {
    let pending = context
        .lane
        .invoke("get", json!({"key": place.0, "row": place.1}));
    let answer = client.get_row(&key(&place), ReadOptions::default()).await;
    if let Some(version) = finish_get(pending, &place, answer) {
        seen.insert(place, version);
    }
}

/// A read that was not answered had no effect.
fn finish_get(
    pending: Pending<'_>,
    place: &Place,
    answer: Result<Option<Versioned>, RequestError>,
) -> Option<Version> {
    match answer {
        Ok(row) => {
            let mut told = json!({"key": place.0, "row": place.1});
            show(&mut told, row.as_ref());
            pending.ok(told);
            row.map(|row| row.version)
        }
        Err(problem) => {
            pending.fail(problem.to_string());
            None
        }
    }
}

async fn change(
    client: &Client,
    context: &mut ClientContext,
    place: Place,
    value: String,
    seen: &mut BTreeMap<Place, Version>,
) {
    let condition = match (context.random.random_range(0..10), seen.get(&place)) {
        (0, _) => Condition::Any,
        (1..=8, Some(version)) => Condition::Version(version.clone()),
        (_, _) => Condition::Missing,
    };
    let is_delete = condition != Condition::Missing && context.random.random_bool(0.15);
    // With it, a time-out is followed by the same request under the same id, which must not be applied twice.
    let retry_unknown = context.random.random_bool(0.5);
    let mut asked = json!({"key": place.0, "row": place.1});
    match &condition {
        Condition::Missing => asked["if"] = json!("absent"),
        Condition::Version(version) => asked["if"] = json!(hex(version)),
        Condition::Any | Condition::Present => {}
    }
    let operation = if is_delete {
        RowOperation::delete(&place.1, condition)
    } else {
        asked["value"] = json!(value);
        RowOperation::put(&place.1, condition, Value::bytes(value))
    };
    let transaction = Transaction::new(BUCKET, &place.0, vec![operation]);
    let options = WriteOptions {
        retry_unknown,
        ..WriteOptions::default()
    };
    let pending = context
        .lane
        .invoke(if is_delete { "delete" } else { "put" }, asked);
    match client.transact(&transaction, options).await {
        Ok(TransactOutcome::Applied { versions }) => {
            let version = versions.into_iter().next().flatten();
            let told = version
                .as_ref()
                .map_or(Json::Null, |version| json!({"version": hex(version)}));
            pending.ok(told);
            match version {
                Some(version) => seen.insert(place, version),
                None => seen.remove(&place),
            };
        }
        Ok(TransactOutcome::NotApplied { failed }) => {
            let current = failed.into_iter().next().and_then(|failed| failed.current);
            let mut told = json!({});
            let shown = if retry_unknown {
                // The answer may come from memory, and the row beside it from later. What the history does not show, the
                // client must not know either: no checker could tell where it has a version from.
                told["unseen"] = json!(true);
                None
            } else {
                show(&mut told, current.as_ref());
                current
            };
            pending.condition_failed(told);
            match shown {
                Some(row) => seen.insert(place, row.version),
                None => seen.remove(&place),
            };
        }
        Err(problem) => not_answered(pending, problem.outcome(), problem.to_string()),
    }
}

fn show(told: &mut Json, row: Option<&Versioned>) {
    if let Some(row) = row {
        told["value"] = json!(String::from_utf8_lossy(&row.value.data));
        told["version"] = json!(hex(&row.version));
    }
}

fn hex(version: &Version) -> String {
    version.0.iter().map(|byte| format!("{byte:02x}")).collect()
}
