//! A tour of the client: concurrent values of a cart, then compare-and-set on a register.
//!
//! Start a cluster with `cargo run --release -- up`, then `cargo run -p souk-kv-client --example tour`.

use souk_kv_client::{
    BucketConfig, BucketMode, CasOutcome, Client, ClientOptions, Context, Key, ReadOptions, Value,
    WriteOptions,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7101".to_owned());
    let client = Client::connect(ClientOptions::new([endpoint])).await?;
    for (name, mode) in [
        ("tour-carts", BucketMode::Siblings),
        ("tour-stock", BucketMode::Register),
    ] {
        let config = BucketConfig {
            name: name.to_owned(),
            mode: mode.into(),
            ..BucketConfig::default()
        };
        client.admin().create_bucket(config).await?;
    }

    // Two devices that have seen nothing of each other write the same key.
    let cart = Key::new("tour-carts", "customer-17", "");
    for text in ["a teapot", "two cups"] {
        let value = Value::new("text/plain", text);
        client
            .put(&cart, value, &Context::default(), WriteOptions::default())
            .await?;
    }
    let read = client.get(&cart, ReadOptions::default()).await?;
    println!("{cart} holds {} concurrent values:", read.values.len());
    for value in &read.values {
        println!("  {}", String::from_utf8_lossy(&value.data));
    }
    // The context of that read lets one write replace them all.
    let merged = Value::new("text/plain", "a teapot and two cups");
    let written = client
        .put(&cart, merged, &read.context, WriteOptions::default())
        .await?;
    println!("merged, held by {} nodes", written.copies);

    // Of two conditional writes on the same version only one is applied.
    let stock = Key::new("tour-stock", "teapot", "");
    let units = Value::new("text/plain", "10");
    if let CasOutcome::Conflict { .. } = client
        .put_if_absent(&stock, units, WriteOptions::default())
        .await?
    {
        println!("{stock} was there already");
    }
    let row = client
        .get_row(&stock, ReadOptions::default())
        .await?
        .ok_or("somebody deleted the row")?;
    for text in ["9", "8"] {
        let value = Value::new("text/plain", text);
        match client
            .put_if_version(&stock, &row.version, value, WriteOptions::default())
            .await?
        {
            CasOutcome::Applied { version } => println!("{stock} = {text}, now {version:?}"),
            CasOutcome::Conflict { current } => {
                let holds =
                    current.map(|row| String::from_utf8_lossy(&row.value.data).into_owned());
                println!("{stock} was changed first, and holds {holds:?}");
            }
        }
    }
    Ok(())
}
