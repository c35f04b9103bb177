//! How an attempt failed, in the words that a caller finally hears.

use std::{sync::Arc, time::Duration};

use souk_kv_core::outcome::Outcome;
use souk_kv_proto::kv::{self, Error, ErrorCode};

use super::shared::View;
use crate::{attempts::Ended, convert::outcome_from_wire, error::RequestError, session::Link};

/// One failed attempt.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) ended: Ended,
    /// The node that it went to, if it left.
    link: Option<Arc<Link>>,
    code: ErrorCode,
    message: String,
    retry_after: Option<Duration>,
    retryable: bool,
}

impl Failure {
    /// No node is connected.
    pub(super) fn no_connection(view: &View) -> Failure {
        let told = view
            .all_links()
            .map(|link| format!("{}: {}", link.address(), link.problem()));
        let told = told.collect::<Vec<_>>().join("; ");
        Failure::local(
            Ended::NotSent,
            ErrorCode::Unavailable,
            format!("no node is connected ({told})"),
        )
    }

    /// The node has `in_flight_max` unanswered requests and no room became free in time.
    pub(super) fn crowded(link: &Link) -> Failure {
        let message = format!(
            "too many unanswered requests at {}; slow down or raise `in_flight_max`",
            link.address()
        );
        Failure::local(Ended::NotSent, ErrorCode::Overloaded, message)
    }

    /// The connection broke before the request left, or it still waited to leave at its deadline.
    pub(super) fn not_sent(link: &Link) -> Failure {
        let message = format!("the request could not be sent to {}", link.address());
        Failure::local(Ended::NotSent, ErrorCode::Unavailable, message)
    }

    /// The connection broke before the answer came.
    pub(super) fn broken(link: &Arc<Link>) -> Failure {
        let message = format!(
            "the connection to {} broke before the answer came",
            link.address()
        );
        Failure {
            link: Some(Arc::clone(link)),
            ..Failure::local(Ended::Broken, ErrorCode::ConnectionLost, message)
        }
    }

    /// No answer came in time.
    pub(super) fn silent(link: &Arc<Link>, waited: Duration) -> Failure {
        let message = format!(
            "no answer from {} within {} ms",
            link.address(),
            waited.as_millis()
        );
        Failure {
            link: Some(Arc::clone(link)),
            ..Failure::local(Ended::Silent, ErrorCode::Timeout, message)
        }
    }

    /// The node answered with an error.
    pub(super) fn refused(link: &Arc<Link>, error: Error) -> Failure {
        let code = error.code();
        let retry_after = (error.retry_after_ms > 0)
            .then(|| Duration::from_millis(u64::from(error.retry_after_ms)));
        let outcome = outcome_from_wire(error.outcome());
        Failure {
            ended: Ended::Refused {
                code,
                outcome,
                retryable: error.retryable,
                retry_after,
            },
            link: Some(Arc::clone(link)),
            code,
            message: error.message,
            retry_after,
            retryable: error.retryable,
        }
    }

    /// The node answered the question with an answer to another one.
    pub(super) fn nonsense(link: &Arc<Link>) -> Failure {
        let message =
            "the node's answer does not fit the request; its version may differ from ours";
        Failure::refused(
            link,
            Error::new(ErrorCode::Internal, kv::Outcome::Unknown, message),
        )
    }

    /// A failure that no node reported.
    fn local(ended: Ended, code: ErrorCode, message: String) -> Failure {
        Failure {
            ended,
            link: None,
            code,
            message,
            retry_after: None,
            retryable: code.is_retryable(),
        }
    }

    /// True when the node itself is the problem, so that others should be preferred for a moment.
    pub(super) fn is_node_unfit(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::NotReady | ErrorCode::Disk | ErrorCode::WrongCluster
        )
    }

    pub(super) fn into_error(self, view: &View, outcome: Outcome) -> RequestError {
        RequestError {
            code: self.code,
            outcome,
            message: self.message,
            retry_after: self.retry_after,
            node: self.link.map(|link| view.name_of(&link)),
            retryable: self.retryable,
        }
    }
}
