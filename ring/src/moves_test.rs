use super::*;
use crate::testing::{apart, layout, spec};
use crate::{LayoutParts, MemberChange, ReplicasN};

#[test]
fn counts_gains_and_losses_per_node() {
    let old = layout(8, 3, apart(3));
    let new = old.next(&[MemberChange::Replace {
        id: NodeId(2),
        with: spec("zz", "zone-z", 100),
    }]);
    let plan = MovePlan::between(&old, &new.unwrap()).unwrap();
    assert_eq!(
        (plan.from_epoch(), plan.to_epoch()),
        (LayoutEpoch(1), LayoutEpoch(2))
    );
    assert_eq!(
        (plan.gains_count(), plan.losses_count(), plan.moves().len()),
        (8, 8, 8)
    );
    let gone = NodeMoves {
        gains_count: 0,
        losses_count: 8,
    };
    let came = NodeMoves {
        gains_count: 8,
        losses_count: 0,
    };
    assert_eq!(
        plan.per_node(),
        BTreeMap::from([(NodeId(2), gone), (NodeId(4), came)])
    );
    assert_eq!(plan.moves()[3].gains, vec![NodeId(4)]);
    assert_eq!(plan.moves()[3].losses, vec![NodeId(2)]);
}

#[test]
fn another_order_moves_nothing() {
    let old = layout(4, 3, apart(3));
    let mut parts: LayoutParts = old.to_parts();
    parts
        .assignment
        .iter_mut()
        .for_each(|owners| owners.reverse());
    let new = Layout::from_parts(parts).unwrap();
    assert_ne!(old, new);
    assert!(MovePlan::between(&old, &new).unwrap().is_empty());
}

#[test]
fn refuses_layouts_that_do_not_belong_together() {
    let old = layout(8, 3, apart(3));
    let (count, copies) = (old.partition_count(), ReplicasN::default());
    let other = Layout::initial("other".parse().unwrap(), count, copies, apart(3)).unwrap();
    let message = MovePlan::between(&old, &other).unwrap_err().to_string();
    assert!(
        message.contains("cluster demo") && message.contains("other"),
        "{message}"
    );
    let message = MovePlan::between(&old, &layout(16, 3, apart(3)))
        .unwrap_err()
        .to_string();
    assert!(message.contains("from 8 partitions to 16"), "{message}");
}
