//! Which node of the fleet runs what is to run once for all of them.

use sha2::{Digest, Sha256};

/// The node that runs the shared check or journey `id`: rendezvous hashing (Thaler and
/// Ravishankar, "Using name-based mappings to increase hit rates", 1998), so that every node finds
/// the same one without talking, and one node more or less moves only its own share. The hash is
/// SHA-256, which no version of Greenlight computes otherwise.
pub(super) fn chosen<'a>(id: &str, nodes: &'a [String]) -> Option<&'a str> {
    let weight = |node: &String| {
        let mut hash = Sha256::new();
        hash.update(node.as_bytes());
        hash.update([0]);
        hash.update(id.as_bytes());
        hash.finalize()
    };
    nodes.iter().max_by_key(|node| weight(node)).map(String::as_str)
}

/// Where it runs if not on this node. A fleet that is not declared is this node.
pub(super) fn elsewhere(shared: bool, id: &str, node: &str, nodes: &[String]) -> Option<String> {
    let chosen = if shared { chosen(id, nodes) } else { None };
    chosen.filter(|chosen| *chosen != node).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn fleet(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("node-{n}")).collect()
    }

    #[test]
    fn every_node_finds_the_same_one_and_each_has_its_share() {
        let nodes = fleet(5);
        let mut backwards = nodes.clone();
        backwards.reverse();
        let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
        for n in 0..1_000 {
            let id = format!("check-{n}");
            let one = chosen(&id, &nodes).unwrap();
            assert_eq!(chosen(&id, &backwards), Some(one));
            let running = nodes.iter().filter(|node| elsewhere(true, &id, node, &nodes).is_none());
            assert_eq!(running.collect::<Vec<_>>(), [one]);
            *shares.entry(one).or_default() += 1;
        }
        assert!(shares.len() == 5 && shares.values().all(|n| (120..280).contains(n)), "{shares:?}");
    }

    #[test]
    fn a_node_that_leaves_moves_its_own_share_only() {
        let (five, four) = (fleet(5), fleet(4));
        for n in 0..1_000 {
            let id = format!("check-{n}");
            let before = chosen(&id, &five).unwrap();
            assert!(before == "node-4" || chosen(&id, &four) == Some(before), "{id}");
        }
    }

    #[test]
    fn what_is_not_shared_runs_everywhere() {
        assert_eq!(elsewhere(false, "a", "x", &fleet(3)), None);
        assert_eq!(elsewhere(true, "a", "x", &[]), None);
        assert!(elsewhere(true, "a", "x", &fleet(3)).is_some());
    }
}
