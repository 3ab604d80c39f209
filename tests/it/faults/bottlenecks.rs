//! Processors that are short under a declared load.

use super::Agent;
use crate::load::post;
use crate::machine::{PATIENCE, alone, burnt};

const S3: &str = "partner.cluster.cpu";

/// Two agents watch the same fault, so that the run queue and the pressure each decide once by
/// themselves. The thresholds leave room for what other tests do meanwhile.
#[test]
fn burnt_processors_under_load_turn_the_partners_gate_red_and_green_again() {
    let _alone = alone();
    let lax = |own: &'static str| {
        let mut vars = vec!["cpu_wait_most=1000", "cpu_steal_most=100%", "cpu_throttled_most=100%"];
        for other in ["cpu_queue_most=1000", "cpu_pressure_most=100%"] {
            if other.split('=').next() != own.split('=').next() {
                vars.push(other);
            }
        }
        vars.push(own);
        Agent::start("include: [ 'pack:partner-platform' ]", &vars, &[])
    };
    let agents = [lax("cpu_queue_most=4"), lax("cpu_pressure_most=98%")];
    for agent in &agents {
        let row = agent.wait(S3, PATIENCE, |row| row["reason"]["code"] == "no_load");
        assert_eq!(row.expect("no load was declared")["verdict"], "open");
        let (status, row) =
            post(&agent.daemon.address, r#"{"start": "now", "end": "+2h", "source": "test"}"#);
        assert_eq!(status, 200, "{row}");
        agent.green(&[S3]);
    }
    burnt(8, || {
        for (agent, series) in agents.iter().zip(["node.cpu.running_per_core", "node.psi.cpu.some"])
        {
            let row = agent.red(S3, None);
            let text = row["reason"]["text"].as_str().unwrap_or_default();
            assert!(text.contains(series), "another criterion decides: {row:#}");
        }
    });
    for agent in &agents {
        agent.green(&[S3]);
    }
}
