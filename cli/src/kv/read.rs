//! `souk kv get` and `souk kv scan`.

use serde_json::{Value as Json, json};
use souk_kv_client::{Context, Key, Read, ReadOptions, Row, ScanQuery, Value, Version};

use super::words::{bytes_of, shown, token, value_json};
use super::{GetArgs, ScanArgs, explain};
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::show;

/// Most rows of one page; the store's own limit.
const PAGE_ROWS_MAX: u32 = 1000;

/// Reads one key.
pub(crate) async fn get(args: GetArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let key = args.key.key()?;
    let client = args.common.endpoints.connect(cluster).await?;
    let options = ReadOptions {
        consistency: args.wish.consistency(),
        strict: args.wish.strict,
        explain: args.wish.explain,
        ..ReadOptions::default()
    };
    let read = client.get(&key, options).await?;
    if args.common.json {
        let mut document = parts_json(&read.values, &read.context, read.version.as_ref());
        document["found"] = (!read.values.is_empty()).into();
        if let Some(explain) = &read.explain {
            document["explain"] = explain::as_json(explain);
        }
        show::json(&document);
    } else if args.raw {
        return raw(&key, &read);
    } else if !read.values.is_empty() {
        show_parts(
            &read.values,
            &read.context,
            read.version.as_ref(),
            args.key.hex,
        );
    }
    if let (Some(explain), false) = (&read.explain, args.common.json) {
        explain::show(explain);
    }
    if read.values.is_empty() {
        Err(missing(&key))
    } else {
        Ok(())
    }
}

fn raw(key: &Key, read: &Read) -> Result<(), Failure> {
    match &read.values[..] {
        [] => Err(missing(key)),
        [value] => {
            show::bytes(&value.data);
            Ok(())
        }
        several => Err(Failure::Siblings {
            key: key.to_string(),
            count: several.len(),
        }),
    }
}

fn missing(key: &Key) -> Failure {
    Failure::NotFound {
        what: format!("key {key}"),
    }
}

/// Lists rows, page after page.
pub(crate) async fn scan(args: ScanArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let bytes = |word: &str| bytes_of(word, args.hex);
    let mut query = ScanQuery {
        prefix: bytes(&args.prefix)?,
        start: bytes(&args.start)?,
        end: bytes(&args.end)?,
        reverse: args.reverse,
        ..ScanQuery::new(args.bucket.as_str(), bytes(&args.partition_key)?)
    };
    let client = args.common.endpoints.connect(cluster).await?;
    query.limit = args.limit.min(PAGE_ROWS_MAX);
    let all = client
        .scan_all(&query, args.limit as usize, ReadOptions::default())
        .await?;
    show_rows(&all.rows, all.continuation.is_some(), &args);
    Ok(())
}

fn show_rows(rows: &[Row], more: bool, args: &ScanArgs) {
    if args.common.json {
        let row = |row: &Row| {
            let mut document = parts_json(&row.values, &row.context, row.version.as_ref());
            document["sort_key"] = shown(&row.sort_key, args.hex).into();
            document
        };
        show::json(&json!({ "rows": rows.iter().map(row).collect::<Vec<_>>(), "more": more }));
        return;
    }
    for row in rows {
        for value in &row.values {
            show::line(format_args!(
                "{}\t{}",
                shown(&row.sort_key, args.hex),
                shown(&value.data, args.hex)
            ));
        }
    }
    if more {
        show::note(format_args!(
            "{} rows; there are more, see --limit",
            rows.len()
        ));
    }
}

fn show_parts(values: &[Value], context: &Context, version: Option<&Version>, hex: bool) {
    for value in values {
        show::line(format_args!("value    {}", shown(&value.data, hex)));
        if !value.content_type.is_empty() {
            show::line(format_args!("type     {}", value.content_type));
        }
    }
    if let Some(version) = version {
        show::line(format_args!("version  {}", token(&version.0)));
    }
    if !context.is_empty() {
        show::line(format_args!("context  {}", token(&context.0)));
    }
}

fn parts_json(values: &[Value], context: &Context, version: Option<&Version>) -> Json {
    json!({
        "values": values.iter().map(value_json).collect::<Vec<_>>(),
        "context": token(&context.0),
        "version": version.map(|version| token(&version.0)),
    })
}
