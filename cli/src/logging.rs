//! Log lines on standard error, as text or JSON.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// Names the environment variable that chooses log lines.
const FILTER_VARIABLE: &str = "SOUK_LOG";

/// Of a server: warnings of everything, and what our own rooms tell.
const SERVER_FILTER: &str = "warn,souk=info,souk_kv_node=info,souk_commerce_api=info";

/// Of a command that a person waits for: its own output says the rest.
const COMMAND_FILTER: &str = "warn";

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// One readable line each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// Starts logging for the whole process. A filter that makes no sense is named and replaced by the usual one.
pub(crate) fn start(format: LogFormat, is_server: bool) {
    let usual = if is_server {
        SERVER_FILTER
    } else {
        COMMAND_FILTER
    };
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| usual.to_owned());
    let (filter, problem) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(problem) => (EnvFilter::new(usual), Some(problem)),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    if let Some(problem) = problem {
        tracing::warn!(%problem, "{FILTER_VARIABLE} is not a filter; write for example `info,souk_kv_node=debug`");
    }
}
