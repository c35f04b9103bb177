//! Asks a server whether it is ready, and why not.

use std::time::Duration;

/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Asks `/readyz` of `host:port`.
///
/// # Errors
/// Its reason, or ours, why it is not ready.
pub(super) async fn ask(http: &reqwest::Client, address: &str) -> Result<(), String> {
    let request = http
        .get(format!("http://{address}/readyz"))
        .timeout(ANSWER_WITHIN);
    let response = request.send().await.map_err(|problem| {
        if problem.is_connect() {
            "it does not listen yet".to_owned()
        } else {
            format!("no answer: {problem}")
        }
    })?;
    if response.status().is_success() {
        return Ok(());
    }
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    Err(format!("{status} {}", body.trim()))
}
