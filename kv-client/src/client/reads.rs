//! Reads of single keys and of many at once.

use std::time::Duration;

use souk_kv_proto::kv::{
    BatchGetRequest, batch_get_item, session_request::Body as Question,
    session_response::Body as Answer,
};

use super::{
    Client,
    batch::{Batch, Chosen, Item},
    call::Call,
    check,
    flight::Asked,
};
use crate::{
    attempts::Kind,
    convert::{get_to_wire, key_to_wire, read_from_wire, read_options_to_wire},
    error::RequestError,
    model::{Key, Read, ReadOptions},
};

impl Client {
    /// Reads one key. A missing key is no error: the answer has no values, and a context.
    ///
    /// # Errors
    /// Always `NotApplied`. Another replica was tried if the failure allowed it.
    pub async fn get(&self, key: &Key, options: ReadOptions) -> Result<Read, RequestError> {
        check::key(key)?;
        check::timeout(options.timeout)?;
        let call = Call {
            kind: Kind::Read,
            bucket: &key.bucket,
            partition_key: &key.partition_key,
            deadline: self.shared.deadline(options.timeout),
            double_after: self.double_after(&options),
        };
        let question = |asked: Asked| {
            (
                Question::Get(get_to_wire(key, &options, asked.timeout_ms)),
                0,
            )
        };
        let hear = |answer| match answer {
            Answer::Get(answer) => Some(read_from_wire(answer)),
            _ => None,
        };
        self.shared.call(call, question, hear).await
    }

    /// Reads many keys, each with its own answer, in the order of `keys`. Keys of one node travel
    /// together.
    pub async fn get_many(
        &self,
        keys: &[Key],
        options: ReadOptions,
    ) -> Vec<Result<Read, RequestError>> {
        let items = keys.iter().map(|key| Item {
            bucket: &key.bucket,
            partition_key: &key.partition_key,
            bytes: key.partition_key.len() + key.sort_key.len(),
            refused: check::key(key)
                .and_then(|()| check::timeout(options.timeout))
                .err(),
        });
        let batch = Batch {
            kind: Kind::Read,
            items: items.collect(),
            deadline: self.shared.deadline(options.timeout),
        };
        let question = |chosen: &[Chosen], timeout_ms| {
            Question::BatchGet(BatchGetRequest {
                keys: chosen
                    .iter()
                    .map(|chosen| key_to_wire(&keys[chosen.index]))
                    .collect(),
                options: Some(read_options_to_wire(&options, timeout_ms)),
            })
        };
        let hear = |answer| match answer {
            Answer::BatchGet(answer) => {
                let items = answer.items.into_iter().map(|item| match item.result? {
                    batch_get_item::Result::Found(found) => Some(Ok(read_from_wire(found))),
                    batch_get_item::Result::Error(error) => Some(Err(error)),
                });
                Some(items.collect())
            }
            _ => None,
        };
        self.shared.batch(batch, question, hear).await
    }

    /// When a read asks a second node.
    pub(super) fn double_after(&self, options: &ReadOptions) -> Duration {
        let own = &self.shared.options;
        options
            .hedge_after
            .or(own.hedge_after)
            .unwrap_or(own.attempt_patience)
    }
}
