//! What the node has got since the plan was compiled: gates hang on facts, and a module that tracks
//! connections, a bond or an array may come later than the agent, which starts with the machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Shared, node, run_blocking};
use crate::plan::{Facts, Plan};

/// How often the facts are looked at.
const EVERY: Duration = Duration::from_secs(60);

const TRUE: &str = "true";

/// What there was stays: a device that is gone, or a link that is down, makes its gate no less
/// applicable.
pub(super) fn kept(mut facts: Facts, before: &BTreeMap<String, Option<String>>) -> Facts {
    let there = before.iter().filter(|(_, value)| value.as_deref() == Some(TRUE));
    facts.facts.extend(there.map(|(name, _)| (name.clone(), TRUE.to_owned())));
    facts
}

/// Those that are known now and were not, or that have come true.
fn new(facts: &Facts, before: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let came = |(name, value): (&String, &Option<String>)| {
        let now = facts.facts.get(name)?;
        let came = value.is_none() || now == TRUE && value.as_deref() != Some(TRUE);
        came.then(|| name.clone())
    };
    before.iter().filter_map(came).collect()
}

/// Looks again and again, until `stop`.
pub(super) async fn follow(shared: Shared, plan: Arc<Plan>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => shared.notice(&plan, &stop).await,
        }
    }
}

impl Shared {
    /// Puts the same plan in force anew where the node has something that gates ask for and that it
    /// lacked. Files that say something else by now wait for a reload.
    pub(super) async fn notice(&self, plan: &Plan, stop: &CancellationToken) {
        let paths = self.paths.clone();
        let look = run_blocking(&self.cells, "facts", move || node::plan_facts(&paths));
        let Ok(facts) = look.await else { return };
        let came = new(&facts, &plan.facts);
        if came.is_empty() {
            return;
        }
        let facts = came.join(", ");
        match self.read_anew(&plan.facts).await {
            _ if stop.is_cancelled() => {}
            Ok((now, lacking, _)) if now.digest == plan.digest => {
                tracing::info!(facts, "the node has what it lacked: gates on it apply now");
                self.put_in_force(now, &lacking).await;
            }
            _ => tracing::warn!(
                facts,
                "the node has what it lacked, and the plan's files are others by now: reload to have \
                 it judged"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::record::Record;
    use crate::agent::{Agent, Options};
    use crate::node::Paths;
    use crate::plan::load::Inputs;

    /// Nothing is tracked when the agent starts with the machine; then a container's network is made.
    #[tokio::test]
    async fn a_gate_applies_once_the_node_has_what_it_is_about() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let paths = Paths { procfs: root.join("proc"), sysfs: root.join("sys"), rootfs: root };
        let netfilter = paths.procfs.join("sys/net/netfilter");
        std::fs::create_dir_all(&netfilter).unwrap();
        std::fs::write(paths.procfs.join("stat"), "").unwrap();
        let file = paths.rootfs.join("plan.yaml");
        let gate = "gates: [ { id: g, when: { fact: conntrack }, require: { mean: node.conntrack.fill, over: 5s, below: 90% } } ]\n";
        std::fs::write(&file, gate).unwrap();
        let inputs = Inputs { paths: vec![file.display().to_string()], ..Inputs::default() };
        let plan = Plan::compile(&inputs, &node::plan_facts(&paths)).map_err(|e| e.render(false));
        let plan = Arc::new(plan.unwrap());
        let options = Options { inputs, paths, state: None, listen: None, banner: None };
        let agent = Agent::start(plan.clone(), options).await.unwrap();
        let verdict = async || {
            // What was recorded is taken in first.
            let (reply, answer) = tokio::sync::oneshot::channel();
            assert!(agent.shared.records.send(Record::Settle(reply)).await.is_ok());
            answer.await.unwrap();
            let document = agent.snapshot().await.unwrap().document.clone();
            document.gates[0].verdict.word()
        };
        assert_eq!(verdict().await, "not_applicable");
        let stop = CancellationToken::new();
        agent.shared.notice(&plan, &stop).await;
        assert_eq!(verdict().await, "not_applicable");

        std::fs::write(netfilter.join("nf_conntrack_max"), "100\n").unwrap();
        std::fs::write(netfilter.join("nf_conntrack_count"), "1\n").unwrap();
        // What was edited meanwhile is nobody's plan before a reload.
        std::fs::write(&file, gate.replace("90%", "80%")).unwrap();
        agent.shared.notice(&plan, &stop).await;
        assert_eq!(verdict().await, "not_applicable");
        std::fs::write(&file, gate).unwrap();
        agent.shared.notice(&plan, &stop).await;
        assert_ne!(verdict().await, "not_applicable");
        assert_eq!(agent.snapshot().await.unwrap().document.plan.digest, plan.digest);
    }

    #[test]
    fn what_comes_is_noticed_and_what_goes_is_not() {
        let before = [("a", Some("false")), ("b", Some("true")), ("c", None), ("d", Some("0"))];
        let before: BTreeMap<String, Option<String>> = before
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
            .collect();
        let facts = |each: [(&str, &str); 4]| Facts {
            facts: each.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Facts::default()
        };
        let now = facts([("a", "true"), ("b", "false"), ("c", "false"), ("d", "1")]);
        assert_eq!(new(&now, &before), ["a", "c"]);
        assert_eq!(kept(now, &before).facts["b"], "true");
        let none = facts([("a", "false"), ("b", "false"), ("d", "0"), ("e", "true")]);
        assert_eq!(new(&none, &before), [""; 0]);
    }
}
