//! `souk kv put`, `delete` and `cas`.

use std::time::Duration;

use serde_json::json;
use souk_kv_client::{
    CasOutcome, Client, Context, Key, ReadOptions, Versioned, WriteOptions, Written,
};

use super::words::{context_of, shown, token, value_json, version_of};
use super::{CasArgs, CommonArgs, DeleteArgs, PutArgs, explain};
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::show;

/// Writes one key.
pub(crate) async fn put(args: PutArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let (key, value) = (args.key.key()?, args.content.read(args.key.hex)?);
    let given = args.context.as_deref().map(context_of).transpose()?;
    let client = args.common.endpoints.connect(cluster).await?;
    let context = match given {
        Some(context) => context,
        None if args.replace => current(&client, &key).await?,
        None => Context::default(),
    };
    let options = WriteOptions {
        ttl: args.ttl_ms.map(Duration::from_millis),
        consistency: args.wish.consistency(),
        strict: args.wish.strict,
        explain: args.wish.explain,
        ..WriteOptions::default()
    };
    let written = client.put(&key, value, &context, options).await?;
    show_written(&written, &args.common);
    Ok(())
}

/// Deletes one key.
pub(crate) async fn delete(args: DeleteArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let key = args.key.key()?;
    let given = args.context.as_deref().map(context_of).transpose()?;
    let client = args.common.endpoints.connect(cluster).await?;
    let context = match given {
        Some(context) => context,
        None => current(&client, &key).await?,
    };
    let written = client
        .delete(&key, &context, WriteOptions::default())
        .await?;
    show_written(&written, &args.common);
    Ok(())
}

async fn current(client: &Client, key: &Key) -> Result<Context, Failure> {
    Ok(client.get(key, ReadOptions::default()).await?.context)
}

fn show_written(written: &Written, common: &CommonArgs) {
    let context = token(&written.context.0);
    if common.json {
        let mut document =
            json!({ "copies": written.copies, "degraded": written.degraded, "context": context });
        if let Some(explain) = &written.explain {
            document["explain"] = explain::as_json(explain);
        }
        show::json(&document);
        return;
    }
    let degraded = if written.degraded {
        ", degraded: fewer than asked for"
    } else {
        ""
    };
    show::line(format_args!("copies   {}{degraded}", written.copies));
    show::line(format_args!("context  {context}"));
    written.explain.iter().for_each(explain::show);
}

/// Writes or deletes a row on a condition.
pub(crate) async fn cas(args: CasArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let key = args.key.key()?;
    let version = args.if_version.as_deref().map(version_of).transpose()?;
    let value = if args.delete {
        None
    } else {
        Some(args.content.read(args.key.hex)?)
    };
    let client = args.common.endpoints.connect(cluster).await?;
    let options = WriteOptions::default();
    let outcome = match (version, value) {
        (Some(version), Some(value)) => {
            client
                .put_if_version(&key, &version, value, options)
                .await?
        }
        (Some(version), None) => client.delete_if_version(&key, &version, options).await?,
        (None, Some(value)) => client.put_if_absent(&key, value, options).await?,
        (None, None) => {
            return Err(Failure::usage(
                "--delete needs a version",
                "add --if-version",
            ));
        }
    };
    match outcome {
        CasOutcome::Applied { version } => {
            let version = version.map(|version| token(&version.0));
            if args.common.json {
                show::json(&json!({ "applied": true, "version": version }));
            } else {
                show::line("applied");
                version
                    .iter()
                    .for_each(|version| show::line(format_args!("version  {version}")));
            }
            Ok(())
        }
        CasOutcome::Conflict { current } => {
            show_conflict(current.as_ref(), &args);
            Err(Failure::Condition {
                key: key.to_string(),
            })
        }
    }
}

fn show_conflict(current: Option<&Versioned>, args: &CasArgs) {
    if args.common.json {
        let row = current.map(
            |row| json!({ "value": value_json(&row.value), "version": token(&row.version.0) }),
        );
        show::json(&json!({ "applied": false, "current": row }));
        return;
    }
    match current {
        Some(row) => {
            show::line("not applied; the row is");
            show::line(format_args!(
                "value    {}",
                shown(&row.value.data, args.key.hex)
            ));
            show::line(format_args!("version  {}", token(&row.version.0)));
        }
        None => show::line("not applied; there is no such row"),
    }
}
