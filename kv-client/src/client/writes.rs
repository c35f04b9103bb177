//! Plain writes: puts and deletes of `siblings` and `lww` keys.
//!
//! Every write carries a request id, kept over its attempts, so that a copy of it changes nothing.

use souk_kv_proto::kv::{
    BatchPutRequest, DeleteRequest, batch_put_item, session_request::Body as Question,
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
    convert::{key_to_wire, put_to_wire, write_options_to_wire, written_from_wire},
    error::RequestError,
    model::{Context, Key, Put, Value, WriteOptions, Written},
};

impl Client {
    /// Writes one key. The write replaces what `context` has seen and stands beside everything else.
    ///
    /// # Errors
    /// `outcome` says whether the write can have been applied; an `Unknown` one may still appear later.
    pub async fn put(
        &self,
        key: &Key,
        value: Value,
        context: &Context,
        options: WriteOptions,
    ) -> Result<Written, RequestError> {
        check::key(key)?;
        check::timeout(options.timeout)?;
        let ticket = self.shared.ticket();
        let bytes = value.data.len();
        let put = Put {
            key: key.clone(),
            value,
            context: context.clone(),
        };
        let question = |asked: Asked| {
            let request_id = ticket.request_id(asked.attempt);
            (
                Question::Put(put_to_wire(&put, &options, request_id, asked.timeout_ms)),
                bytes,
            )
        };
        self.shared
            .call(self.write_call(key, &options), question, hear_written)
            .await
    }

    /// Deletes what `context` has seen of one key; concurrent values stay.
    ///
    /// # Errors
    /// As for [`Client::put`].
    pub async fn delete(
        &self,
        key: &Key,
        context: &Context,
        options: WriteOptions,
    ) -> Result<Written, RequestError> {
        check::key(key)?;
        check::timeout(options.timeout)?;
        let ticket = self.shared.ticket();
        let question = |asked: Asked| {
            let request = DeleteRequest {
                key: Some(key_to_wire(key)),
                context: context.0.clone(),
                options: Some(write_options_to_wire(&options, asked.timeout_ms)),
                request_id: Some(ticket.request_id(asked.attempt)),
            };
            (Question::Delete(request), 0)
        };
        self.shared
            .call(self.write_call(key, &options), question, hear_written)
            .await
    }

    /// Writes many keys, each with its own answer, in the order of `puts`. Keys of one node travel
    /// together. Not atomic; of two puts of one key either may come first.
    pub async fn put_many(
        &self,
        puts: Vec<Put>,
        options: WriteOptions,
    ) -> Vec<Result<Written, RequestError>> {
        let tickets: Vec<_> = puts.iter().map(|_| self.shared.ticket()).collect();
        let items = puts.iter().map(|put| Item {
            bucket: &put.key.bucket,
            partition_key: &put.key.partition_key,
            bytes: put.key.partition_key.len() + put.key.sort_key.len() + put.value.data.len(),
            refused: check::key(&put.key)
                .and_then(|()| check::timeout(options.timeout))
                .err(),
        });
        let batch = Batch {
            kind: Kind::Plain,
            items: items.collect(),
            deadline: self.shared.deadline(options.timeout),
        };
        let question = |chosen: &[Chosen], timeout_ms| {
            let puts = chosen.iter().map(|Chosen { index, attempt }| {
                let request_id = tickets[*index].request_id(*attempt);
                put_to_wire(&puts[*index], &options, request_id, timeout_ms)
            });
            Question::BatchPut(BatchPutRequest {
                puts: puts.collect(),
            })
        };
        let hear = |answer| match answer {
            Answer::BatchPut(answer) => {
                let items = answer.items.into_iter().map(|item| match item.result? {
                    batch_put_item::Result::Written(written) => {
                        Some(Ok(written_from_wire(written)))
                    }
                    batch_put_item::Result::Error(error) => Some(Err(error)),
                });
                Some(items.collect())
            }
            _ => None,
        };
        self.shared.batch(batch, question, hear).await
    }

    fn write_call<'a>(&self, key: &'a Key, options: &WriteOptions) -> Call<'a> {
        Call {
            kind: Kind::Plain,
            bucket: &key.bucket,
            partition_key: &key.partition_key,
            deadline: self.shared.deadline(options.timeout),
            double_after: self.shared.options.attempt_patience,
        }
    }
}

fn hear_written(answer: Answer) -> Option<Written> {
    match answer {
        Answer::Put(answer) => Some(written_from_wire(answer)),
        _ => None,
    }
}
