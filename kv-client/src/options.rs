//! Settings of a client, with their ranges.
//!
//! Place: plain data, checked once by `Client::connect`.

use std::{path::PathBuf, time::Duration};

use souk_kv_tls::BearerFiles;

use crate::error::ClientError;

/// Longest deadline of a request; the wire refuses longer ones.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Largest number of attempts of one request.
pub const ATTEMPTS_MAX: u32 = 16;
/// Largest number of unanswered requests per node.
pub const IN_FLIGHT_MAX: usize = 1 << 16;

/// Settings of a client. Start from the default and change what differs.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientOptions {
    /// `host:port` of one or more nodes, to learn the others from. Not empty.
    pub endpoints: Vec<String>,
    /// Tells this client apart in logs. Default `souk-client`.
    pub name: String,
    /// Deadline of a request over all its attempts, 1 ms..=60 s. Default 2 s.
    pub request_timeout: Duration,
    /// How long a read or a plain write waits for one node before it asks another one,
    /// 1 ms..=60 s. Conditional writes wait for their whole deadline instead. Default 750 ms.
    pub attempt_patience: Duration,
    /// Longest wait for one connection to open, 1 ms..=60 s. Default 1 s.
    pub connect_timeout: Duration,
    /// How long `Client::connect` waits for some node to answer, 1 ms..=10 min. Default 10 s.
    pub startup_timeout: Duration,
    /// Most attempts of one request, the first included, 1..=16. Default 4.
    pub attempts_max: u32,
    /// Retries and hedges earned by each request, 0.0..=1.0. Default 0.1: retries add at most a tenth
    /// to the load in the long run.
    pub retry_budget_ratio: f64,
    /// Retries and hedges that may be saved up, 0..=100,000. Default 100.
    pub retry_budget_burst: u32,
    /// Shortest and longest wait before a retry, jittered; 1 ms..=10 s each. Default 5 ms and 500 ms.
    pub backoff_min: Duration,
    /// See [`ClientOptions::backoff_min`].
    pub backoff_max: Duration,
    /// Most unanswered requests per node, 1..=65,536; further ones wait within their deadline.
    /// Default 4,096.
    pub in_flight_max: usize,
    /// Ask a second replica when a read has no answer after this time; `None` (the default) means never:
    /// the coordinating node hedges too.
    pub hedge_after: Option<Duration>,
    /// Seeds the client's identity and jitter, so that a simulated run can be repeated.
    /// `None` (the default) takes them from the operating system: two clients must never share a seed.
    pub seed: Option<u64>,
    /// Certificates of this client and of the authorities that it trusts: then it speaks TLS, and takes new files up
    /// without a restart. `None` (the default) speaks to nodes that have none. Not on a pretended network.
    pub certificates: Option<BearerFiles>,
    /// File with the token to show, which is read again when it changes; only together with certificates. `None` (the
    /// default) shows none.
    pub token_file: Option<PathBuf>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            name: "souk-client".to_owned(),
            request_timeout: Duration::from_secs(2),
            attempt_patience: Duration::from_millis(750),
            connect_timeout: Duration::from_secs(1),
            startup_timeout: Duration::from_secs(10),
            attempts_max: 4,
            retry_budget_ratio: 0.1,
            retry_budget_burst: 100,
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(500),
            in_flight_max: 4096,
            hedge_after: None,
            seed: None,
            certificates: None,
            token_file: None,
        }
    }
}

impl ClientOptions {
    /// The default options with these nodes to begin with.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> ClientOptions {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        ClientOptions {
            endpoints,
            ..ClientOptions::default()
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// `ClientError::Option` names the first field out of its range and the values allowed.
    pub fn validate(&self) -> Result<(), ClientError> {
        if self.endpoints.is_empty() {
            return Err(refuse(
                "endpoints",
                "is empty; give `host:port` of at least one node",
            ));
        }
        self.endpoints
            .iter()
            .try_for_each(|endpoint| check_endpoint(endpoint))?;
        for (option, value, longest) in [
            ("request_timeout", self.request_timeout, REQUEST_TIMEOUT_MAX),
            (
                "attempt_patience",
                self.attempt_patience,
                REQUEST_TIMEOUT_MAX,
            ),
            ("connect_timeout", self.connect_timeout, REQUEST_TIMEOUT_MAX),
            (
                "startup_timeout",
                self.startup_timeout,
                Duration::from_secs(600),
            ),
            ("backoff_min", self.backoff_min, Duration::from_secs(10)),
            ("backoff_max", self.backoff_max, Duration::from_secs(10)),
        ] {
            check_duration(option, value, longest)?;
        }
        if self.backoff_min > self.backoff_max {
            return Err(refuse("backoff_min", "is longer than backoff_max"));
        }
        check_range(
            "attempts_max",
            u64::from(self.attempts_max),
            1,
            u64::from(ATTEMPTS_MAX),
        )?;
        check_range(
            "in_flight_max",
            self.in_flight_max as u64,
            1,
            IN_FLIGHT_MAX as u64,
        )?;
        check_range(
            "retry_budget_burst",
            u64::from(self.retry_budget_burst),
            0,
            100_000,
        )?;
        if !(0.0..=1.0).contains(&self.retry_budget_ratio) {
            return Err(refuse("retry_budget_ratio", "is outside 0.0..=1.0"));
        }
        if self.token_file.is_some() && self.certificates.is_none() {
            return Err(refuse(
                "token_file",
                "is named without certificates; a token is never shown on a connection that others can read",
            ));
        }
        if let Some(hedge_after) = self.hedge_after {
            check_duration("hedge_after", hedge_after, REQUEST_TIMEOUT_MAX)?;
        }
        Ok(())
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), ClientError> {
    let port = endpoint
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(port)) if port != 0 => Ok(()),
        _ => Err(refuse(
            "endpoints",
            format!("`{endpoint}` is not `host:port`"),
        )),
    }
}

fn check_duration(
    option: &'static str,
    value: Duration,
    longest: Duration,
) -> Result<(), ClientError> {
    if value < Duration::from_millis(1) || value > longest {
        return Err(refuse(
            option,
            format!("is {value:?}; allowed are 1ms to {longest:?}"),
        ));
    }
    Ok(())
}

fn check_range(option: &'static str, value: u64, low: u64, high: u64) -> Result<(), ClientError> {
    if value < low || value > high {
        return Err(refuse(
            option,
            format!("is {value}; allowed are {low} to {high}"),
        ));
    }
    Ok(())
}

fn refuse(option: &'static str, problem: impl Into<String>) -> ClientError {
    ClientError::Option {
        option,
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut ClientOptions), option: &str) {
        let mut options = ClientOptions::new(["127.0.0.1:7101"]);
        options.validate().expect("the default is valid");
        change(&mut options);
        let error = options.validate().expect_err("out of range").to_string();
        assert!(error.contains(option), "`{error}` does not name {option}");
    }

    #[test]
    fn every_range_is_checked_and_named() {
        check_refused(|o| o.endpoints.clear(), "endpoints");
        check_refused(|o| o.endpoints.push("localhost".into()), "`localhost`");
        check_refused(|o| o.endpoints.push(":7101".into()), "`:7101`");
        check_refused(|o| o.endpoints.push("n1:0".into()), "`n1:0`");
        check_refused(|o| o.request_timeout = Duration::ZERO, "request_timeout");
        check_refused(
            |o| o.request_timeout = Duration::from_secs(61),
            "request_timeout",
        );
        check_refused(|o| o.attempt_patience = Duration::ZERO, "attempt_patience");
        check_refused(|o| o.attempts_max = 0, "attempts_max");
        check_refused(|o| o.attempts_max = 17, "attempts_max");
        check_refused(|o| o.in_flight_max = 0, "in_flight_max");
        check_refused(|o| o.retry_budget_ratio = 1.5, "retry_budget_ratio");
        check_refused(|o| o.retry_budget_ratio = f64::NAN, "retry_budget_ratio");
        check_refused(|o| o.backoff_min = Duration::from_secs(9), "backoff_min");
        check_refused(|o| o.token_file = Some("token".into()), "token_file");
        check_refused(|o| o.hedge_after = Some(Duration::ZERO), "hedge_after");
    }
}
