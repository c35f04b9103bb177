//! Reads of the rows of one partition key.

use souk_kv_proto::kv::{session_request::Body as Question, session_response::Body as Answer};

use super::{Client, call::Call, check, flight::Asked};
use crate::{
    attempts::Kind,
    convert::{page_from_wire, scan_to_wire},
    error::RequestError,
    model::{Page, ReadOptions, ScanQuery},
};

/// Most rows that one page can have.
const PAGE_ROWS_MAX: usize = 1000;

impl Client {
    /// Reads one page of rows in sort-key order.
    ///
    /// # Errors
    /// Always `NotApplied`.
    pub async fn scan(
        &self,
        query: &ScanQuery,
        options: ReadOptions,
    ) -> Result<Page, RequestError> {
        check::place(&query.bucket, &query.partition_key)?;
        check::timeout(options.timeout)?;
        let call = Call {
            kind: Kind::Read,
            bucket: &query.bucket,
            partition_key: &query.partition_key,
            deadline: self.shared.deadline(options.timeout),
            double_after: self.double_after(&options),
        };
        let question = |asked: Asked| {
            (
                Question::Scan(scan_to_wire(query, &options, asked.timeout_ms)),
                0,
            )
        };
        let hear = |answer| match answer {
            Answer::Scan(answer) => Some(page_from_wire(answer)),
            _ => None,
        };
        self.shared.call(call, question, hear).await
    }

    /// Reads page after page, up to `rows_max` rows; `continuation` is set if there are more. The pages
    /// are read one after another: rows that change meanwhile may show in their old or new state. Each
    /// page has its own deadline. `query.limit` is ignored.
    ///
    /// # Errors
    /// As for [`Client::scan`]; rows read so far are dropped.
    pub async fn scan_all(
        &self,
        query: &ScanQuery,
        rows_max: usize,
        options: ReadOptions,
    ) -> Result<Page, RequestError> {
        let mut query = query.clone();
        let mut all = Page {
            rows: Vec::new(),
            continuation: query.continuation.clone(),
        };
        while all.rows.len() < rows_max {
            let wanted = (rows_max - all.rows.len()).min(PAGE_ROWS_MAX);
            query.limit = u32::try_from(wanted).expect("a page has at most PAGE_ROWS_MAX rows");
            let page = self.scan(&query, options).await?;
            all.rows.extend(page.rows);
            all.continuation.clone_from(&page.continuation);
            if page.continuation.is_none() {
                break;
            }
            query.continuation = page.continuation;
        }
        Ok(all)
    }
}
