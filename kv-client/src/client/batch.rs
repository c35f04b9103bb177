//! Runs many requests at once: grouped by node, one frame entry per group, each item with its own end.
//!
//! Shape: rounds. A round groups the open items by the node that each would go to, sends the groups at
//! the same time, and lets each item's `Attempts` decide; items that try again form the next round.
//! Invariants: 1. results are in the order of the items. 2. a group that fails as a whole fails each of
//! its items in the same way. 3. groups are bounded by `GROUP_ITEMS_MAX` and about `GROUP_BYTES`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use souk_kv_proto::kv::{
    Error, session_request::Body as Question, session_response::Body as Answer,
};
use tokio::time::{Instant, timeout_at};

use super::{
    call::pick,
    failure::Failure,
    flight::Flight,
    shared::{Shared, View},
};
use crate::{
    attempts::{Attempts, Kind, Next},
    error::RequestError,
    session::Link,
};

/// Most items of one group.
const GROUP_ITEMS_MAX: usize = 256;
/// A group is closed once its items reach this size.
const GROUP_BYTES: usize = 1 << 20;

pub(super) struct Batch<'a> {
    pub(super) kind: Kind,
    pub(super) items: Vec<Item<'a>>,
    pub(super) deadline: Instant,
}

/// One request of a batch.
pub(super) struct Item<'a> {
    pub(super) bucket: &'a str,
    pub(super) partition_key: &'a [u8],
    pub(super) bytes: usize,
    /// Why it is not sent at all.
    pub(super) refused: Option<RequestError>,
}

/// An item's way so far.
struct Course<T> {
    attempts: Attempts,
    tried: Vec<Arc<Link>>,
    result: Option<Result<T, RequestError>>,
}

/// An item on its way with its group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    /// Into `Batch::items`.
    pub(super) index: usize,
    /// From 1.
    pub(super) attempt: u32,
}

/// Items that go to one node together.
struct Group {
    link: Arc<Link>,
    chosen: Vec<Chosen>,
    bytes: usize,
}

/// What the next round has to wait for.
#[derive(Default)]
struct Pause {
    wait: Duration,
    refresh: bool,
}

impl Shared {
    /// Asks `question` for chosen items; `hear` gives one entry per item asked, in order, or `None` for
    /// an answer to another question. An entry is `None` when the node left it out.
    pub(super) async fn batch<T>(
        &self,
        batch: Batch<'_>,
        question: impl Fn(&[Chosen], u32) -> Question,
        hear: impl Fn(Answer) -> Option<Vec<Option<Result<T, Error>>>>,
    ) -> Vec<Result<T, RequestError>> {
        self.budget.earn(batch.items.len() as u64);
        let mut courses: Vec<_> = batch
            .items
            .iter()
            .map(|item| self.course(&batch, item))
            .collect();
        loop {
            let opened = self.signals.link_opened.notified();
            let view = self.view.load_full();
            let groups = groups(&batch, &mut courses, &view);
            if groups.is_empty() {
                let is_done = courses.iter().all(|course| course.result.is_some());
                if !is_done && timeout_at(batch.deadline, opened).await.is_ok() {
                    continue;
                }
                return finish(courses, &view);
            }
            let answers = join_all(
                groups
                    .iter()
                    .map(|group| fly(group, batch.deadline, &question)),
            )
            .await;
            let mut pause = Pause::default();
            for (group, answer) in groups.iter().zip(answers) {
                let entries = spread(group, answer, &hear);
                for (chosen, entry) in group.chosen.iter().zip(entries) {
                    self.note(
                        &mut courses[chosen.index],
                        group,
                        entry,
                        &batch,
                        &view,
                        &mut pause,
                    );
                }
            }
            self.before_retry(pause.wait, pause.refresh, batch.deadline)
                .await;
        }
    }

    fn course<T>(&self, batch: &Batch<'_>, item: &Item<'_>) -> Course<T> {
        Course {
            attempts: Attempts::new(batch.kind, self.attempt_limits()),
            tried: Vec::new(),
            result: item.refused.clone().map(Err),
        }
    }

    fn note<T>(
        &self,
        course: &mut Course<T>,
        group: &Group,
        entry: Result<T, Failure>,
        batch: &Batch<'_>,
        view: &View,
        pause: &mut Pause,
    ) {
        let failure = match entry {
            Ok(answer) => {
                course.result = Some(Ok(answer));
                return;
            }
            Err(failure) => failure,
        };
        let left = batch.deadline.saturating_duration_since(Instant::now());
        let next = course
            .attempts
            .next(failure.ended, left, self.jitter(), || self.budget.spend());
        match next {
            Next::Fail { outcome } => course.result = Some(Err(failure.into_error(view, outcome))),
            Next::Retry {
                wait,
                elsewhere,
                refresh,
            } => {
                if elsewhere {
                    course.tried.push(Arc::clone(&group.link));
                }
                pause.wait = pause.wait.max(wait);
                pause.refresh |= refresh;
            }
        }
    }
}

/// Groups the open items by node. Empty when nothing is open or no node is connected.
fn groups<T>(batch: &Batch<'_>, courses: &mut [Course<T>], view: &View) -> Vec<Group> {
    let mut full = Vec::new();
    let mut filling: BTreeMap<&str, Group> = BTreeMap::new();
    for (index, (item, course)) in batch.items.iter().zip(courses).enumerate() {
        if course.result.is_some() {
            continue;
        }
        let place = view.topology.place(item.bucket, item.partition_key);
        let Some(link) = pick(view, place, &course.tried) else {
            continue;
        };
        let group = filling
            .entry(link.address())
            .or_insert_with(|| Group::new(link));
        group.chosen.push(Chosen {
            index,
            attempt: course.attempts.launch(),
        });
        group.bytes += item.bytes;
        if group.chosen.len() >= GROUP_ITEMS_MAX || group.bytes >= GROUP_BYTES {
            full.push(std::mem::replace(group, Group::new(link)));
        }
    }
    full.extend(
        filling
            .into_values()
            .filter(|group| !group.chosen.is_empty()),
    );
    full
}

impl Group {
    fn new(link: &Arc<Link>) -> Group {
        Group {
            link: Arc::clone(link),
            chosen: Vec::new(),
            bytes: 0,
        }
    }
}

async fn fly(
    group: &Group,
    deadline: Instant,
    question: impl Fn(&[Chosen], u32) -> Question,
) -> Result<Answer, Failure> {
    let ask = |timeout_ms| (question(&group.chosen, timeout_ms), group.bytes);
    Flight::begin(&group.link, deadline, deadline, ask)
        .await?
        .finish(deadline)
        .await
}

/// One entry per item of the group.
fn spread<T>(
    group: &Group,
    answer: Result<Answer, Failure>,
    hear: impl Fn(Answer) -> Option<Vec<Option<Result<T, Error>>>>,
) -> Vec<Result<T, Failure>> {
    let count = group.chosen.len();
    let nonsense = || Failure::nonsense(&group.link);
    match answer.map(hear) {
        Err(failure) => (0..count).map(|_| Err(failure.clone())).collect(),
        Ok(Some(entries)) if entries.len() == count => {
            let entries = entries.into_iter();
            entries
                .map(|entry| match entry {
                    Some(Ok(answer)) => Ok(answer),
                    Some(Err(error)) => Err(Failure::refused(&group.link, error)),
                    None => Err(nonsense()),
                })
                .collect()
        }
        Ok(_) => (0..count).map(|_| Err(nonsense())).collect(),
    }
}

/// The results; items that never found a connected node fail.
fn finish<T>(courses: Vec<Course<T>>, view: &View) -> Vec<Result<T, RequestError>> {
    let results = courses.into_iter().map(|course| {
        course.result.unwrap_or_else(|| {
            let outcome = course.attempts.outcome_if_stopped();
            Err(Failure::no_connection(view).into_error(view, outcome))
        })
    });
    results.collect()
}
