//! The shop as its customers see it: a little HTTP.
//!
//! What a status says of a change, as the shop's document promises: below 500 it is decided; 503 was not done,
//! unless it began a purchase; 500 and 504 leave it open, as does silence.

use std::fmt::Write as _;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::{Target, WorkloadError};

/// Longest wait for one answer; a checkout may take fifteen seconds by itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Products of the test catalogue.
pub(super) const PRODUCTS: usize = 60;

/// A customer's view of the shop.
#[derive(Clone, Debug)]
pub(super) struct ShopClient {
    http: Client,
    base: String,
}

/// What the shop answered.
#[derive(Clone, Debug)]
pub(super) enum ShopAnswer {
    /// 2xx.
    Done(u16, Value),
    /// Decided, and not done: 4xx, or never sent.
    Refused(String),
    /// 503: it cannot be done now.
    Unavailable(String),
    /// Nobody knows.
    Unclear(String),
}

impl ShopClient {
    pub(super) fn new(target: &Target) -> Result<ShopClient, WorkloadError> {
        let address = target.shop.as_ref().ok_or(WorkloadError::NoShop)?;
        let http = Client::builder().timeout(ANSWER_WITHIN).build();
        let http = http.map_err(|problem| WorkloadError::Shop {
            what: problem.to_string(),
        })?;
        Ok(ShopClient {
            http,
            base: format!("http://{address}/api/v1"),
        })
    }

    pub(super) async fn get(&self, path: &str) -> ShopAnswer {
        send(self.http.get(format!("{}{path}", self.base))).await
    }

    /// Posts under an idempotency key.
    pub(super) async fn post(&self, path: &str, key: &str, body: &Value) -> ShopAnswer {
        let request = self.http.post(format!("{}{path}", self.base));
        send(request.header("Idempotency-Key", key).json(body)).await
    }
}

async fn send(request: RequestBuilder) -> ShopAnswer {
    let response = match request.send().await {
        Ok(response) => response,
        Err(problem) if problem.is_connect() => return ShopAnswer::Refused(problem.to_string()),
        Err(problem) => return ShopAnswer::Unclear(problem.to_string()),
    };
    let status = response.status().as_u16();
    let text = match response.text().await {
        Ok(text) => text,
        Err(problem) => return ShopAnswer::Unclear(format!("{status}, then {problem}")),
    };
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let said = || format!("{status} {}", body.get("detail").unwrap_or(&json!(text)));
    match status {
        200..=299 => ShopAnswer::Done(status, body),
        503 => ShopAnswer::Unavailable(said()),
        400..=499 => ShopAnswer::Refused(said()),
        _ => ShopAnswer::Unclear(said()),
    }
}

/// The name of a product of the test catalogue.
pub(super) fn product(number: usize) -> String {
    format!("jepsen-{:03}", number % PRODUCTS)
}

/// The test catalogue, as `souk import catalog` reads it.
pub(super) fn catalogue() -> String {
    let mut lines = String::new();
    for number in 0..PRODUCTS {
        let line = json!({"id": product(number), "name": format!("Thing {number}"), "price_minor": 100 + number});
        // Writing to a string cannot fail.
        writeln!(lines, "{line}").ok();
    }
    lines
}
