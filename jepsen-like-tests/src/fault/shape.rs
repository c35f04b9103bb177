//! Shapes of network splits, as the links that they cut. A link is one direction between two nodes.
//!
//! Place: pure. Source: Jepsen, `nemesis.clj` (complete grudges, bridge, majorities ring).
//! Invariants: 1. a shape names links between different nodes only, each once. 2. with fewer than two nodes there is
//! nothing to cut.

use super::Link;

/// Everybody but one.
pub(super) fn others(node: &str, all: &[String]) -> Vec<String> {
    all.iter().filter(|other| *other != node).cloned().collect()
}

/// All links between the nodes of one group and those of another one.
pub(super) fn both_ways(left: &[String], right: &[String]) -> Vec<Link> {
    let mut links = Vec::new();
    for a in left {
        for b in right {
            links.push((a.clone(), b.clone()));
            links.push((b.clone(), a.clone()));
        }
    }
    links
}

/// The links to a node, or from it.
pub(super) fn one_way(node: &str, others: &[String], is_deaf: bool) -> Vec<Link> {
    let link = |other: &String| match is_deaf {
        true => (other.clone(), node.to_owned()),
        false => (node.to_owned(), other.clone()),
    };
    others.iter().map(link).collect()
}

/// All links.
pub(crate) fn all(nodes: &[String]) -> Vec<Link> {
    let mut links = Vec::new();
    for (position, node) in nodes.iter().enumerate() {
        links.extend(both_ways(
            std::slice::from_ref(node),
            &nodes[position + 1..],
        ));
    }
    links
}

/// The first half sees nothing of the second one.
pub(super) fn halves(nodes: &[String]) -> Vec<Link> {
    let (left, right) = nodes.split_at(nodes.len() / 2);
    both_ways(left, right)
}

/// The first node sees both halves of the others, which do not see each other.
pub(super) fn bridge(nodes: &[String]) -> Vec<Link> {
    halves(nodes.get(1..).unwrap_or_default())
}

/// On a round table each node sees its nearest neighbours, as few on either side as make a majority with itself;
/// where two nodes differ in whether they see each other, they do.
pub(super) fn majorities_ring(nodes: &[String]) -> Vec<Link> {
    let count = nodes.len();
    let reach = (count / 2).div_ceil(2);
    let mut links = Vec::new();
    for (i, a) in nodes.iter().enumerate() {
        for (j, b) in nodes.iter().enumerate().skip(i + 1) {
            let distance = (j - i).min(count - (j - i));
            if distance > reach {
                links.extend(both_ways(std::slice::from_ref(a), std::slice::from_ref(b)));
            }
        }
    }
    // Three around a table are all neighbours: then one pair is parted, which leaves majorities that differ.
    if links.is_empty() && count >= 3 {
        return bridge(nodes);
    }
    links
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn nodes(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("n{number}")).collect()
    }

    /// How many nodes `node` still exchanges messages with, itself included.
    fn seen(node: &String, count: usize, cut: &[Link]) -> usize {
        let is_open = |other: &String| {
            !cut.contains(&(node.clone(), other.clone()))
                && !cut.contains(&(other.clone(), node.clone()))
        };
        1 + nodes(count)
            .iter()
            .filter(|other| *other != node && is_open(other))
            .count()
    }

    #[test]
    fn shapes_name_each_link_once_and_no_loops() {
        for count in 0..8 {
            let nodes = nodes(count);
            for links in [
                all(&nodes),
                halves(&nodes),
                bridge(&nodes),
                majorities_ring(&nodes),
            ] {
                assert!(links.iter().all(|(a, b)| a != b));
                let distinct: BTreeSet<_> = links.iter().collect();
                assert_eq!(distinct.len(), links.len());
            }
        }
    }

    #[test]
    fn everybody_in_the_ring_sees_a_majority_but_not_everybody() {
        for count in 4..10 {
            let cut = majorities_ring(&nodes(count));
            for node in nodes(count) {
                let seen = seen(&node, count, &cut);
                assert!(seen > count / 2, "{count} {node} {seen}");
                assert!(count < 5 || seen < count, "{count} {node} {seen}");
            }
        }
    }

    #[test]
    fn the_bridge_sees_everybody_and_nobody_else_does() {
        for count in [3, 5, 7] {
            let nodes = nodes(count);
            let cut = bridge(&nodes);
            assert_eq!(seen(&nodes[0], count, &cut), count);
            for node in &nodes[1..] {
                assert!(seen(node, count, &cut) < count);
            }
        }
    }

    #[test]
    fn one_way_cuts_no_answerer() {
        let cut = one_way("n0", &nodes(3)[1..], true);
        assert_eq!(
            cut,
            [
                ("n1".to_owned(), "n0".to_owned()),
                ("n2".to_owned(), "n0".to_owned())
            ]
        );
    }
}
