//! `demo`: an agent and the embedded reference platform in one process, over real sockets.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::{self, FORMATS, SLACK};
use super::output;
use super::run::{Stop, announce, runtime, until_stopped};
use super::{Failure, Global, OutputArgs, WebArgs, exit, node, say};
use crate::agent::{Agent, Options};
use crate::demo::Platform;
use crate::journey::Stage;
use crate::plan::load::Inputs;
use crate::plan::{Plan, packs};
use crate::serve;

/// Said on everything that the demo prints: nobody may take it for a sign-off.
const BANNER: &str = "embedded reference platform: a demonstration, no real platform was checked";

/// The demo's own journeys are included by that of its use cases.
const PACK: &str = "pack:demo-usecases";

pub(super) fn run(
    global: &Global,
    once: bool,
    break_stage: Option<Stage>,
    output: &OutputArgs,
    web: &WebArgs,
) -> Result<u8, Failure> {
    let outputs = output::wanted(&output.output, &FORMATS)?;
    runtime()?.block_on(async {
        let mut stop = Stop::or_hangup()?;
        let platform = Platform::start(break_stage).await.map_err(|fault| {
            Failure::ours(format!("the embedded platform did not start: {fault}"))
        })?;
        let inputs = Inputs {
            texts: vec![(
                PACK.to_owned(),
                packs::built_in("demo-usecases").unwrap_or_default().to_owned(),
            )],
            vars: platform.plan_vars().into_iter().collect::<BTreeMap<_, _>>(),
            ..Inputs::default()
        };
        let plan = Arc::new(Plan::compile(&inputs, &super::facts(global))?);
        // One run may go on beside another, or beside a daemon.
        let listen = match (&web.listen, once) {
            (Some(address), _) => address.clone(),
            (None, true) => "127.0.0.1:0".to_owned(),
            (None, false) => serve::DEFAULT_LISTEN.to_owned(),
        };
        let options = Options {
            inputs,
            paths: node::paths(global),
            state: None,
            listen: Some(super::run::Listen { address: listen, web_config: None }),
            banner: Some(BANNER.to_owned()),
        };
        say(BANNER);
        if let Some(stage) = break_stage {
            say(format_args!("its stage `{}` is broken on purpose", stage.word()));
        }
        let agent = Agent::start(plan.clone(), options).await.map_err(Failure::ours)?;
        announce(&agent);
        if let Some(address) = agent.address() {
            platform.notify(&format!("http://{address}/api/v1/webhook/alertmanager"));
        }
        let code = if once {
            let ended =
                check::until_decided(&agent, plan.covering_time() + SLACK, &mut stop).await?;
            let last = agent.stop().await.map_err(Failure::ours)?;
            check::write(&outputs, &last.document, output.verbose, Some(BANNER))?;
            if ended == check::Ended::Interrupted {
                exit::INCOMPLETE
            } else {
                check::code(&last.document)
            }
        } else {
            say("open the page in a browser; Ctrl-C ends the demo and prints the report");
            until_stopped(&agent, &mut stop, None).await?;
            let last = agent.stop().await.map_err(Failure::ours)?;
            check::write(&outputs, &last.document, output.verbose, Some(BANNER))?;
            exit::SUCCESS
        };
        platform.stop().await;
        Ok(code)
    })
}
