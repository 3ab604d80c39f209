//! `run`: the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, Global, PlanArgs, WebArgs, exit, node, say};
pub(super) use crate::agent::Listen;
use crate::agent::{Agent, Options};
use crate::client::kernel;
use crate::serve;

/// By then most of what is done again and again has been done.
const SETTLED: Duration = Duration::from_secs(10);
/// However short systemd's patience is.
const FED_AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// How often memory that is not used is given back in the end.
const GIVE_BACK: Duration = Duration::from_secs(300);

pub(super) fn run(
    global: &Global,
    plan: &PlanArgs,
    state: &Path,
    web: &WebArgs,
    web_config: Option<PathBuf>,
) -> Result<u8, Failure> {
    kernel::share_arenas();
    let (inputs, plan) = plan.compile(global)?;
    let plan = Arc::new(plan);
    if let Some(file) = &web_config {
        // The agent reads it again; a mistake in it is one of configuration, not our own fault.
        let said = |text: String| format!("{}; nothing was started\n", text.trim_end());
        serve::WebConfig::load(file).map_err(|text| Failure::config(said(text)))?;
    }
    runtime()?.block_on(async {
        let (mut stop, mut hangup) = (Stop::listen()?, hangups()?);
        let options = Options {
            inputs,
            paths: node::paths(global),
            state: Some(state.to_owned()),
            listen: Some(Listen {
                address: web.listen.clone().unwrap_or_else(|| serve::DEFAULT_LISTEN.to_owned()),
                web_config,
            }),
            banner: None,
        };
        let agent = Agent::start(plan.clone(), options).await.map_err(Failure::ours)?;
        announce(&agent);
        kernel::give_back_memory();
        tracing::info!(
            digest = plan.digest,
            checks = plan.checks.len(),
            journeys = plan.journeys.len(),
            gates = plan.gates.len(),
            "the plan is in force"
        );
        tell_systemd(&[sd_notify::NotifyState::Ready]);
        until_stopped(&agent, &mut stop, Some(&mut hangup)).await?;
        tell_systemd(&[sd_notify::NotifyState::Stopping]);
        agent.stop().await.map_err(Failure::ours)?;
        Ok(exit::SUCCESS)
    })
}

/// One thread for everything that touches sockets: a scrape is answered sooner by one than by two.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::ours(format!("can't start: {error}")))
}

/// By contract, on standard error.
pub(super) fn announce(agent: &Agent) {
    if let Some(url) = agent.url() {
        say(format_args!("listening on {url}"));
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::ours(format!("no signals: {error}")))
}

fn hangups() -> Result<Signal, Failure> {
    listen(SignalKind::hangup())
}

/// SIGTERM and SIGINT, and SIGHUP where there is nothing to reload. Listened for before anything
/// starts, so that who stops what has only just said where it listens does not kill it.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: None,
        })
    }

    /// Of what runs in a terminal: one that is closed is an end too, unless nohup said otherwise.
    pub(super) fn or_hangup() -> Result<Self, Failure> {
        let hangup = if ignores_hangups() { None } else { Some(hangups()?) };
        Ok(Self { hangup, ..Self::listen()? })
    }

    /// Ends with the first of them.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = hung_up(self.hangup.as_mut()) => {}
        }
    }
}

async fn hung_up(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether who started this process had SIGHUP, the first of the mask, ignored (proc(5)).
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 > 0)
}

/// Serves until it is asked to stop; reloads on a SIGHUP that is given; feeds systemd's watchdog.
pub(super) async fn until_stopped(
    agent: &Agent,
    stop: &mut Stop,
    hangup: Option<&mut Signal>,
) -> Result<(), Failure> {
    tokio::select! {
        ended = looked_after(agent, stop, hangup) => ended,
        never = feed_watchdog(agent) => never,
    }
}

/// Three times in what systemd waits for, as long as the recorder answers: an agent that judges no
/// more is dead.
async fn feed_watchdog(agent: &Agent) -> ! {
    if let Some(limit) = sd_notify::watchdog_enabled() {
        while agent.is_alive().await {
            tell_systemd(&[sd_notify::NotifyState::Watchdog]);
            tokio::time::sleep((limit / 3).max(FED_AT_MOST_EVERY)).await;
        }
    }
    std::future::pending().await
}

async fn looked_after(
    agent: &Agent,
    stop: &mut Stop,
    mut hangup: Option<&mut Signal>,
) -> Result<(), Failure> {
    let mut judged = agent.judged();
    // Once everything has been done for the first time, and then six times as long after each time: most
    // of what it takes from what goes on working has to come back.
    let mut pause = SETTLED;
    let mut give_back = tokio::time::interval(GIVE_BACK);
    give_back.reset_after(pause);
    // A reload may wait for the command of a secret; signals and the watchdog do not wait with it.
    let mut reload = None;
    let mut once_more = false;
    loop {
        if once_more && reload.is_none() {
            reload = Some(Box::pin(agent.reload()));
            once_more = false;
        }
        let reloaded = async {
            match reload.as_mut() {
                Some(reload) => drop(reload.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.asked() => break,
            () = hung_up(hangup.as_deref_mut()) => once_more = true,
            _ = give_back.tick() => {
                kernel::give_back_memory();
                pause = (pause * 6).min(GIVE_BACK);
                give_back.reset_after(pause);
            }
            // The log says what came of it.
            () = reloaded => {
                reload = None;
                kernel::give_back_memory();
            }
            changed = judged.changed() => {
                if changed.is_err() {
                    return Err(Failure::ours("the recorder ended; see the log"));
                }
            }
        }
    }
    tracing::info!("stopping");
    Ok(())
}

fn tell_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
