//! Asks a server whether it is ready, and why not.

use std::time::Duration;

use souk_kv_node::config::Address;

/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Longest reason that is shown, in characters.
const REASON_CHARS_MAX: usize = 300;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It serves requests.
    Ready,
    /// Not yet, in its own words or ours.
    NotReady(String),
}

/// Asks `/readyz`.
pub(crate) async fn ask(http: &reqwest::Client, address: &Address) -> Readiness {
    let request = http
        .get(format!("http://{address}/readyz"))
        .timeout(ANSWER_WITHIN);
    let response = match request.send().await {
        Ok(response) => response,
        Err(problem) if problem.is_connect() => {
            return Readiness::NotReady("not listening yet".to_owned());
        }
        Err(problem) => return Readiness::NotReady(format!("no answer: {problem}")),
    };
    if response.status().is_success() {
        return Readiness::Ready;
    }
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    let reason: String = body.trim().chars().take(REASON_CHARS_MAX).collect();
    Readiness::NotReady(if reason.is_empty() {
        status.to_string()
    } else {
        reason
    })
}
