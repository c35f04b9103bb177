//! What operators have staged: one row in a register group that all members vote on.
//!
//! Place: I/O; used by the API for operators. The rules of the list are `souk_kv_core::layout::Staging`'s.
//! Invariants: 1. a change of the list is one conditional write on the version read. 2. what is applied is decided like
//! every layout, and says in itself up to which number it goes: so it does not matter who crashes in between.
//! Not here: which nodes have shown themselves (`newcomers`), words and tables (`crate::api`).

use std::sync::Arc;

use bytes::Bytes;
use souk_kv_core::{
    causality::{ContentType, RequestId},
    layout::{Staging, StagingError},
    outcome::Outcome,
    register::{
        Answer, Cell, Condition, RequestStamp, RowKey, RowOperation, Transaction, Verdict, Version,
        Write,
    },
};
use souk_kv_proto::convert::staging::{decode_staging, encode_staging};
use souk_ring::{Layout, MemberChange, PartitionId, StoreId};
use tokio::time::Instant;
use tracing::info;

use super::{DecideError, Members};
use crate::{
    cluster::Cluster,
    error::RequestError,
    keys::GroupKey,
    register::{GroupPlace, RegisterCoordinator},
    system::SYSTEM_BUCKET,
};

/// Two operators at once cost each other a try.
const TRIES: usize = 8;
/// The only row.
const ROW: &[u8] = b"";

/// The list of staged changes.
#[derive(Debug, Clone)]
pub(crate) struct StagedLayout {
    cluster: Arc<Cluster>,
    members: Arc<Members>,
    registers: RegisterCoordinator,
}

/// What applying has come to.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) layout: Arc<Layout>,
    /// Somebody else was faster.
    pub(crate) before: bool,
}

impl StagedLayout {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        members: Arc<Members>,
        registers: RegisterCoordinator,
    ) -> Self {
        Self {
            cluster,
            members,
            registers,
        }
    }

    /// The group's name: it lives outside all buckets.
    pub(crate) fn key() -> GroupKey {
        GroupKey {
            partition: PartitionId(0),
            bucket: SYSTEM_BUCKET,
            partition_key: Bytes::from_static(b"staged-layout"),
        }
    }

    /// What is staged now.
    pub(crate) async fn read(&self, deadline: Instant) -> Result<Staging, RequestError> {
        Ok(self.read_row(deadline).await?.0)
    }

    /// Adds a change.
    pub(crate) async fn stage(
        &self,
        change: &MemberChange,
        store: Option<StoreId>,
        deadline: Instant,
    ) -> Result<Staging, RequestError> {
        self.change(deadline, |staging, layout| {
            staging.stage(layout, change.clone(), store)
        })
        .await
    }

    /// Wipes the list.
    pub(crate) async fn revert(&self, deadline: Instant) -> Result<Staging, RequestError> {
        self.change(deadline, |staging, layout| Ok(staging.reverted(layout)))
            .await
    }

    /// Gets the layout decided that follows from version `version` of the list.
    pub(crate) async fn apply(
        &self,
        version: u64,
        deadline: Instant,
    ) -> Result<Applied, RequestError> {
        for _ in 0..TRIES {
            let staging = self.read(deadline).await?;
            let layout = self.cluster.layout();
            let wish = match staging.applied(&layout, version) {
                Ok(wish) => wish,
                Err(StagingError::AppliedBefore { .. }) => {
                    let before = true;
                    return Ok(Applied { layout, before });
                }
                Err(cause) => return Err(RequestError::Invalid(cause.to_string())),
            };
            info!(
                version,
                epoch = wish.epoch().0,
                "an operator applies staged changes"
            );
            match self.members.decide(wish).await {
                // It may be somebody else's wish that was decided: the next look tells.
                Ok(chosen) if chosen.changes_applied() == version => {
                    return Ok(Applied {
                        layout: chosen,
                        before: false,
                    });
                }
                Ok(_) | Err(DecideError::Changed) => {}
                Err(cause) => return Err(undecided(&cause)),
            }
        }
        Err(RequestError::Contention {
            outcome: Outcome::Unknown,
        })
    }

    /// Gives up the move that is under way.
    pub(crate) async fn call_off(&self) -> Result<Arc<Layout>, RequestError> {
        let layout = self.cluster.layout();
        let wish = layout
            .called_off()
            .map_err(|cause| RequestError::Invalid(cause.to_string()))?;
        let epoch = wish.epoch();
        match self.members.decide(wish.clone()).await {
            Ok(chosen) if *chosen == wish => Ok(chosen),
            Ok(_) | Err(DecideError::Changed) => Err(RequestError::NotReady(format!(
                "another layout was decided for epoch {epoch}: look at it, then call the move off if it still goes on"
            ))),
            Err(cause) => Err(undecided(&cause)),
        }
    }

    async fn change(
        &self,
        deadline: Instant,
        change: impl Fn(&Staging, &Layout) -> Result<Staging, StagingError>,
    ) -> Result<Staging, RequestError> {
        for _ in 0..TRIES {
            let (staging, version) = self.read_row(deadline).await?;
            let changed = change(&staging, &self.cluster.layout())
                .map_err(|cause| RequestError::Invalid(cause.to_string()))?;
            if self.write_row(&changed, version, deadline).await? {
                return Ok(changed);
            }
        }
        Err(RequestError::Contention {
            outcome: Outcome::NotApplied,
        })
    }

    fn place(&self) -> GroupPlace {
        GroupPlace::new(&self.cluster.layout(), Self::key(), 0)
    }

    async fn read_row(
        &self,
        deadline: Instant,
    ) -> Result<(Staging, Option<Version>), RequestError> {
        let Some(row) = self.registers.row(&self.place(), ROW, deadline).await? else {
            return Ok((Staging::default(), None));
        };
        let bytes = row.cell.map(|cell| cell.bytes).unwrap_or_default();
        let staging = decode_staging(bytes).map_err(|cause| RequestError::Corrupt {
            what: "the staged layout",
            cause: cause.to_string(),
        })?;
        Ok((staging, Some(row.version)))
    }

    /// False when somebody else has changed it meanwhile.
    async fn write_row(
        &self,
        staging: &Staging,
        version: Option<Version>,
        deadline: Instant,
    ) -> Result<bool, RequestError> {
        let cell = Cell {
            content_type: ContentType::octets(),
            bytes: encode_staging(staging),
        };
        let operation = RowOperation {
            key: RowKey::user(ROW),
            condition: version.map_or(Condition::Absent, Condition::Version),
            write: Some(Write::Put(cell)),
        };
        // No memory is needed: after an unknown outcome the list itself shows what became of it.
        let stamp = RequestStamp {
            request: RequestId {
                client: [0; 16],
                sequence: 0,
            },
            attempt: 1,
            lowest_unanswered: 0,
            issued_unix_ms: self.cluster.environment.unix_ms(),
        };
        let transaction = Transaction::new(stamp, vec![operation])
            .map_err(|cause| RequestError::Internal(cause.to_string()))?;
        let place = self.place();
        let judged = self
            .registers
            .transact(&place, transaction, deadline)
            .await?;
        match judged.verdict {
            Verdict::Applied(_) | Verdict::Replayed(Answer::Applied(_)) => Ok(true),
            Verdict::NotApplied { .. } | Verdict::Replayed(Answer::NotApplied { .. }) => Ok(false),
            Verdict::Refused(cause) => Err(RequestError::Internal(cause.to_string())),
        }
    }
}

/// What was proposed may be decided later by somebody else's try.
fn undecided(cause: &DecideError) -> RequestError {
    RequestError::Undecided(cause.to_string())
}
