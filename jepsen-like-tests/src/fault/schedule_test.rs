use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn nodes(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("n{number}")).collect()
}

proptest! {
    #[test]
    fn schedules_repeat_and_heal(
        fault in prop::sample::select(Fault::ALL.to_vec()),
        seed in any::<u64>(),
        time_ms in 1_000..100_000_u64,
        count in 1..6_usize,
    ) {
        let nodes = nodes(count);
        let schedule = Schedule::plan(&[fault], seed, time_ms, &nodes);
        prop_assert_eq!(&schedule, &Schedule::plan(&[fault], seed, time_ms, &nodes));
        prop_assert_eq!(schedule.steps.is_empty(), fault == Fault::None);
        let mut open: BTreeSet<(Action, Vec<String>, Vec<Link>)> = BTreeSet::new();
        let mut last_ms = time_ms / 10;
        for step in &schedule.steps {
            prop_assert!(step.at_ms >= last_ms && step.at_ms <= time_ms * 9 / 10);
            last_ms = step.at_ms;
            let window = (step.action.undo(), step.nodes.clone(), step.links.clone());
            let is_news = if step.action.is_blow() {
                open.insert(window)
            } else {
                open.remove(&window)
            };
            prop_assert!(is_news, "{:?}", step);
            // While members change, one of them is killed.
            let open_max = if fault == Fault::Membership { 2 } else { 1 };
            prop_assert!(open.len() <= open_max, "windows of one fault follow one another");
            let most = match fault {
                Fault::KillMajority => count / 2 + 1,
                Fault::Membership => 2,
                _ => 1,
            };
            prop_assert!(step.nodes.len() <= most);
        }
        prop_assert!(open.is_empty());
        let text = serde_json::to_string(&schedule).unwrap();
        prop_assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
    }
}

#[test]
fn several_faults_have_windows_of_their_own() {
    let both = Schedule::plan(&[Fault::KillOne, Fault::SplitHalves], 7, 60_000, &nodes(3));
    assert!(both.steps.is_sorted_by_key(|step| step.at_ms));
    let count = |action| {
        both.steps
            .iter()
            .filter(|step| step.action == action)
            .count()
    };
    assert_eq!((count(Action::Kill), count(Action::Start)), (6, 6));
    assert_eq!((count(Action::Cut), count(Action::Mend)), (6, 6));
}

#[test]
fn every_action_is_undone_by_one_that_undoes_nothing_else() {
    for action in Action::ALL {
        assert_eq!(action.undo().undo(), action.undo(), "{action:?}");
        assert!(!action.undo().is_blow());
    }
}

#[test]
fn names_are_read_back() {
    for fault in Fault::ALL {
        assert_eq!(fault.as_str().parse(), Ok(fault));
    }
    assert!("meteor".parse::<Fault>().unwrap_err().contains("kill-one"));
}
