//! Callers, answers and breaks in every order, without a network.

use std::task::Waker;

use bytes::Bytes;
use proptest::prelude::*;
use souk_kv_proto::kv::{GetRequest, GetResponse};

use super::*;

fn question() -> Question {
    Question::Get(GetRequest::default())
}

/// An answer that can be told apart.
fn answer(mark: u64) -> Answer {
    let context = Bytes::copy_from_slice(&mark.to_be_bytes());
    Answer::Get(GetResponse {
        context,
        ..GetResponse::default()
    })
}

fn opened() -> Arc<LinkState> {
    let state = Arc::new(LinkState::default());
    state.begin(1);
    state.open();
    state
}

/// The ids of the next frame; `None` when the stream has ended.
fn frame(state: &LinkState, stream: u64) -> Option<Vec<u64>> {
    let mut context = Context::from_waker(Waker::noop());
    match state.poll_frame(stream, &mut context) {
        Poll::Pending => Some(Vec::new()),
        Poll::Ready(frame) => frame.map(|frame| frame.requests.iter().map(|r| r.id).collect()),
    }
}

fn poll(waiting: &mut Waiting) -> Option<Result<Answer, Lost>> {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(waiting).poll(&mut context) {
        Poll::Pending => None,
        Poll::Ready(ended) => Some(ended),
    }
}

#[test]
fn all_that_waits_leaves_in_one_frame() {
    let state = opened();
    let mut waiting: Vec<_> = (0..5)
        .map(|_| state.send(question(), 10).expect("open"))
        .collect();
    let ids = frame(&state, 1).expect("the stream is current");
    assert_eq!(ids.len(), 5);
    assert_eq!(frame(&state, 1), Some(Vec::new()));
    state.deliver(ids.iter().rev().map(|id| (*id, answer(*id))));
    for (waiting, id) in waiting.iter_mut().zip(ids) {
        assert_eq!(poll(waiting), Some(Ok(answer(id))));
    }
}

#[test]
fn large_requests_close_a_frame() {
    let state = opened();
    let _waiting: Vec<_> = (0..3)
        .map(|_| state.send(question(), FRAME_BYTES).expect("open"))
        .collect();
    for _ in 0..3 {
        assert_eq!(frame(&state, 1).map(|ids| ids.len()), Some(1));
    }
}

#[test]
fn what_was_given_up_in_the_queue_never_leaves() {
    let state = opened();
    let first = state.send(question(), 10).expect("open");
    let second = state.send(question(), 10).expect("open");
    drop(first);
    assert_eq!(frame(&state, 1).map(|ids| ids.len()), Some(1));
    assert!(second.give_up(), "it had left");
    let third = state.send(question(), 10).expect("open");
    assert!(!third.give_up(), "it had not left");
    assert_eq!(frame(&state, 1), Some(Vec::new()));
}

#[test]
fn a_late_answer_finds_nobody() {
    let state = opened();
    let first = state.send(question(), 10).expect("open");
    let old = frame(&state, 1).expect("current")[0];
    drop(first);
    let mut second = state.send(question(), 10).expect("open");
    let new = frame(&state, 1).expect("current")[0];
    assert_ne!(old, new);
    state.deliver([(old, answer(1))].into_iter());
    assert_eq!(poll(&mut second), None);
    state.deliver([(new, answer(2)), (u64::MAX, answer(3))].into_iter());
    assert_eq!(poll(&mut second), Some(Ok(answer(2))));
}

#[test]
fn a_break_ends_everything_and_tells_what_had_left() {
    let state = opened();
    let mut left = state.send(question(), 10).expect("open");
    frame(&state, 1);
    let mut queued = state.send(question(), 10).expect("open");
    state.close();
    assert_eq!(poll(&mut left), Some(Err(Lost { sent: true })));
    assert_eq!(poll(&mut queued), Some(Err(Lost { sent: false })));
    assert_eq!(state.send(question(), 10).err(), Some(Lost { sent: false }));
    assert_eq!(frame(&state, 1), None, "the old stream ends");
    state.begin(2);
    assert!(!state.is_open(), "the node has not accepted the stream yet");
    state.open();
    assert_eq!(frame(&state, 2), Some(Vec::new()));
}

proptest! {
    /// Whatever happens in whatever order, every caller hears its own answer or of its own loss, once.
    #[test]
    fn every_caller_ends_once_with_its_own_answer(
        steps in prop::collection::vec((0..6u8, any::<prop::sample::Index>()), 1..200),
    ) {
        let state = opened();
        let mut stream = 1;
        let mut queued: Vec<Waiting> = Vec::new();
        let mut sent: Vec<(u64, Waiting)> = Vec::new();
        for (step, index) in steps {
            match step {
                0 | 1 => queued.push(state.send(question(), 10).expect("open")),
                2 => {
                    let ids = frame(&state, stream).expect("current");
                    prop_assert_eq!(ids.len(), queued.len());
                    sent.extend(ids.into_iter().zip(queued.drain(..)));
                }
                3 if !sent.is_empty() => {
                    let (id, mut waiting) = sent.swap_remove(index.index(sent.len()));
                    prop_assert_eq!(poll(&mut waiting), None);
                    state.deliver([(id, answer(id))].into_iter());
                    prop_assert_eq!(poll(&mut waiting), Some(Ok(answer(id))));
                }
                4 if !queued.is_empty() => {
                    let given_up = queued.remove(index.index(queued.len()));
                    prop_assert!(!given_up.give_up());
                }
                4 if !sent.is_empty() => {
                    drop(sent.swap_remove(index.index(sent.len())));
                }
                5 if index.index(4) == 0 => {
                    state.close();
                    for mut waiting in queued.drain(..) {
                        prop_assert_eq!(poll(&mut waiting), Some(Err(Lost { sent: false })));
                    }
                    for (_, mut waiting) in sent.drain(..) {
                        prop_assert_eq!(poll(&mut waiting), Some(Err(Lost { sent: true })));
                    }
                    stream += 1;
                    state.begin(stream);
                    state.open();
                }
                _ => {}
            }
        }
    }
}
