//! Conditional writes between the wire and the register core.

use bytes::Bytes;
use souk_kv_core::outcome::Outcome;
use souk_kv_core::register::{
    Answer, Condition, Refusal, RequestStamp, Row, RowKey, RowOperation, Transaction, Verdict,
    Version, Write, WrittenVersions,
};
use souk_kv_proto::{
    convert::register::{cell_from_wire, cell_to_wire},
    kv::{
        self, FailedCondition, TransactApplied, TransactNotApplied, TransactRequest,
        TransactResponse, row_operation::Action, transact_response,
    },
};

use super::check;
use crate::{cluster::Bucket, config::Limits, error::RequestError, register::Judged};

/// Builds the transaction that a request describes.
pub(super) fn transaction(
    request: TransactRequest,
    bucket: &Bucket,
    limits: &Limits,
    now_ms: u64,
) -> Result<Transaction, RequestError> {
    let id = check::request_id(request.request_id.as_ref())?;
    let given = request.request_id.unwrap_or_default();
    let stamp = RequestStamp {
        request: id,
        attempt: given.attempt.max(1),
        lowest_unanswered: given.lowest_unanswered,
        issued_unix_ms: if given.issued_unix_ms == 0 {
            now_ms
        } else {
            given.issued_unix_ms
        },
    };
    let operations = request
        .operations
        .into_iter()
        .map(|operation| row_operation(operation, bucket, limits))
        .collect::<Result<Vec<_>, _>>()?;
    Transaction::new(stamp, operations).map_err(|cause| RequestError::Invalid(cause.to_string()))
}

/// What an operation does to its row, and so whether it takes a version number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Puts,
    Deletes,
    Checks,
}

/// What each operation of a transaction does, in order.
pub(super) fn effects(transaction: &Transaction) -> Vec<Effect> {
    let effect = |operation: &RowOperation| match operation.write {
        Some(Write::Put(_)) => Effect::Puts,
        Some(Write::Delete) => Effect::Deletes,
        None => Effect::Checks,
    };
    transaction.operations().iter().map(effect).collect()
}

/// The answer to a judged transaction whose operations had these effects.
pub(super) fn response(
    judged: Judged,
    effects: &[Effect],
) -> Result<TransactResponse, RequestError> {
    let Judged { verdict, outcome } = judged;
    let result = match verdict {
        Verdict::Applied(versions) | Verdict::Replayed(Answer::Applied(versions)) => {
            transact_response::Result::Applied(TransactApplied {
                versions: spread(versions, effects),
            })
        }
        Verdict::NotApplied { failed } => {
            transact_response::Result::NotApplied(TransactNotApplied {
                failed: failed
                    .into_iter()
                    .map(|failed| failed_condition(failed.index, failed.current.as_ref()))
                    .collect(),
            })
        }
        Verdict::Replayed(Answer::NotApplied { failed }) => {
            transact_response::Result::NotApplied(TransactNotApplied {
                failed: failed
                    .into_iter()
                    .map(|failed| FailedCondition {
                        operation: failed.index,
                        version: failed.version.map_or_else(Bytes::new, version_to_wire),
                        value: None,
                    })
                    .collect(),
            })
        }
        Verdict::Refused(refusal) => return Err(refused(refusal, outcome)),
    };
    Ok(TransactResponse {
        result: Some(result),
    })
}

/// A version as clients see it.
pub(super) fn version_to_wire(version: Version) -> Bytes {
    Bytes::copy_from_slice(&version.to_bytes())
}

fn row_operation(
    operation: kv::RowOperation,
    bucket: &Bucket,
    limits: &Limits,
) -> Result<RowOperation, RequestError> {
    check::sort_key(&operation.sort_key)?;
    let condition = match operation.condition.and_then(|condition| condition.test) {
        None | Some(kv::condition::Test::Any(_)) => Condition::Any,
        Some(kv::condition::Test::Missing(_)) => Condition::Absent,
        Some(kv::condition::Test::Present(_)) => Condition::Exists,
        Some(kv::condition::Test::Version(version)) => Condition::Version(
            Version::from_bytes(&version)
                .map_err(|cause| RequestError::Invalid(cause.to_string()))?,
        ),
    };
    let write = match operation.action {
        Some(Action::Put(value)) => {
            check::value_size(bucket, limits, &value.data)?;
            let cell =
                cell_from_wire(value).map_err(|cause| RequestError::Invalid(cause.to_string()))?;
            Some(Write::Put(cell))
        }
        Some(Action::Delete(_)) => Some(Write::Delete),
        Some(Action::Check(_)) => None,
        None => {
            return Err(RequestError::Invalid(
                "an operation says neither put nor delete nor check: fill in one of them"
                    .to_owned(),
            ));
        }
    };
    Ok(RowOperation {
        key: RowKey::user(&operation.sort_key),
        condition,
        write,
    })
}

/// One version per operation: the core numbers puts and deletes, clients see those of puts.
fn spread(versions: WrittenVersions, effects: &[Effect]) -> Vec<Bytes> {
    let mut written = versions.iter();
    let version = |effect: &Effect| match effect {
        Effect::Checks => Bytes::new(),
        Effect::Deletes => {
            written.next();
            Bytes::new()
        }
        Effect::Puts => written.next().map_or_else(Bytes::new, version_to_wire),
    };
    effects.iter().map(version).collect()
}

fn failed_condition(operation: u32, current: Option<&Row>) -> FailedCondition {
    FailedCondition {
        operation,
        version: current.map_or_else(Bytes::new, |row| version_to_wire(row.version)),
        value: current.and_then(|row| row.cell.as_ref()).map(cell_to_wire),
    }
}

/// A refusal says nothing of copies of the request that came earlier: `outcome` does.
fn refused(refusal: Refusal, outcome: Outcome) -> RequestError {
    match refusal {
        Refusal::TooOld => RequestError::RequestTooOld { outcome },
        Refusal::IssuedAhead { .. } | Refusal::GroupFull { .. } | Refusal::MemoryUnreadable(_) => {
            RequestError::TransactionRefused {
                reason: refusal.to_string(),
                outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_at_their_operations() {
        let first = Version {
            counter: 5,
            proposer: 1,
            index: 0,
        };
        let versions = WrittenVersions { first, count: 3 };
        let effects = [Effect::Checks, Effect::Puts, Effect::Deletes, Effect::Puts];
        let at = |index| version_to_wire(Version { index, ..first });
        assert_eq!(
            spread(versions, &effects),
            [Bytes::new(), at(0), Bytes::new(), at(2)]
        );
    }
}
