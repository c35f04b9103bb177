//! Transfers between the accounts of one register group, each account a row, by atomic batches with conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde_json::json;
use souk_kv_client::{
    BucketMode, Client, Condition, ReadOptions, RequestError, RowOperation, ScanQuery,
    TransactOutcome, Transaction, Value, Version, WriteOptions,
};

use super::client::bucket;
use super::failed::not_answered;
use super::settle::final_reads;
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::{Checker, LedgerChecker};
use crate::history::{History, Recorder};

const BUCKET: &str = "jepsen-ledger";
const LEDGERS: u32 = 2;
const ACCOUNTS: u32 = 5;
const OPENING: i64 = 100;
const AMOUNT_MAX: i64 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Ledger;

/// Balance and version of each account.
type Accounts = BTreeMap<String, (i64, Version)>;

impl Workload for Ledger {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn about(&self) -> &'static str {
        "transfers between accounts of one group; every read shows the same sum"
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
        recorder: &'a Recorder,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move {
            let bucket = bucket(BUCKET, BucketMode::Register);
            let client = target.with_bucket(bucket).await?;
            let mut lane = recorder.lane();
            for ledger in 0..LEDGERS {
                let ledger = name(ledger);
                let accounts: BTreeMap<String, i64> = (0..ACCOUNTS)
                    .map(|number| (account(number), OPENING))
                    .collect();
                let asked = json!({"ledger": ledger, "accounts": accounts});
                let pending = lane.invoke("open", asked);
                let open = |name: &String| {
                    let value = Value::new("text/plain", OPENING.to_string());
                    RowOperation::put(name, Condition::Missing, value)
                };
                let opening =
                    Transaction::new(BUCKET, &ledger, accounts.keys().map(open).collect());
                let options = WriteOptions {
                    retry_unknown: true,
                    ..WriteOptions::default()
                };
                let opened = client.transact(&opening, options).await;
                opened.map_err(|source| WorkloadError::Request {
                    what: "open a ledger",
                    source,
                })?;
                pending.ok_as_asked();
            }
            Ok(())
        }
        .boxed()
    }

    fn run(&self, mut context: ClientContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        async move {
            let client = context.target.connect(&context.id.to_string()).await?;
            while context.pause(PAUSE).await {
                let ledger = name(context.random.random_range(0..LEDGERS));
                let pending = context.lane.invoke("read", json!({"ledger": ledger}));
                match read(&client, &ledger).await {
                    Ok(accounts) => {
                        pending.ok(told(&ledger, &accounts));
                        transfer(&client, &mut context, &ledger, &accounts).await;
                    }
                    Err(problem) => pending.fail(problem.to_string()),
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
            let client = &client;
            let ledgers: BTreeSet<String> = (0..LEDGERS).map(name).collect();
            let look = |ledger: String| async move {
                let accounts = read(client, &ledger).await;
                let accounts = accounts.map_err(|problem| problem.to_string())?;
                Ok(told(&ledger, &accounts))
            };
            let asked = |ledger: &str| json!({"ledger": ledger});
            final_reads(&ledgers, recorder, "a ledger cannot be read", asked, look).await
        }
        .boxed()
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(LedgerChecker)
    }
}

async fn read(client: &Client, ledger: &str) -> Result<Accounts, RequestError> {
    let query = ScanQuery::new(BUCKET, ledger);
    let page = client.scan(&query, ReadOptions::default()).await?;
    let account = |row: souk_kv_client::Row| {
        let name = String::from_utf8_lossy(&row.sort_key).into_owned();
        let value = row.values.first()?;
        let balance = String::from_utf8_lossy(&value.data).parse().ok()?;
        Some((name, (balance, row.version?)))
    };
    Ok(page.rows.into_iter().filter_map(account).collect())
}

/// Moves something between two accounts, if they still are as they were read.
async fn transfer(client: &Client, context: &mut ClientContext, ledger: &str, accounts: &Accounts) {
    let (from, to) = (
        context.random.random_range(0..ACCOUNTS),
        context.random.random_range(0..ACCOUNTS),
    );
    let (from, to) = (account(from), account(to));
    let (Some(source), Some(sink)) = (accounts.get(&from), accounts.get(&to)) else {
        return;
    };
    let amount = context.random.random_range(1..=AMOUNT_MAX).min(source.0);
    if from == to || amount <= 0 {
        return;
    }
    let retry_unknown = context.random.random_bool(0.5);
    let asked = json!({"ledger": ledger, "from": from, "to": to, "amount": amount});
    let pending = context.lane.invoke("transfer", asked);
    let becomes = |name: &str, (balance, version): &(i64, Version), change: i64| {
        let value = Value::new("text/plain", (balance + change).to_string());
        RowOperation::put(name, Condition::Version(version.clone()), value)
    };
    let operations = vec![becomes(&from, source, -amount), becomes(&to, sink, amount)];
    let options = WriteOptions {
        retry_unknown,
        ..WriteOptions::default()
    };
    match client
        .transact(&Transaction::new(BUCKET, ledger, operations), options)
        .await
    {
        Ok(TransactOutcome::Applied { .. }) => pending.ok_as_asked(),
        Ok(TransactOutcome::NotApplied { .. }) => pending.condition_failed(json!(null)),
        Err(problem) => not_answered(pending, problem.outcome(), problem.to_string()),
    }
}

fn told(ledger: &str, accounts: &Accounts) -> serde_json::Value {
    let balances: BTreeMap<&String, i64> = accounts
        .iter()
        .map(|(name, (balance, _))| (name, *balance))
        .collect();
    json!({"ledger": ledger, "accounts": balances})
}

fn name(ledger: u32) -> String {
    format!("l{ledger}")
}

fn account(number: u32) -> String {
    format!("a{number}")
}
