//! One attempt: the deadline, the panic that stays inside, the cancellation.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::clock;
use crate::client::Clients;
use crate::outcome::{Fault, FaultCode, Observation, Reading, Reason, ReasonCode, TargetName};
use crate::plan::Check;
use crate::probe::Attempt;
use crate::spec::trace::Trace;
use crate::spec::units::Period;

/// A probe may use all of its time to say what it waited for; only then is it cut off.
const MARGIN: Duration = Duration::from_millis(100);

/// Runs one attempt of `check` on `target`. It always yields an observation.
pub async fn attempt(
    check: &Check,
    target: &TargetName,
    clients: &Clients,
    trace: &Trace,
    cancel: &CancellationToken,
) -> Observation {
    let at = clock::now();
    let on = Attempt { target, timeout: check.timeout, clients, trace };
    let work = AssertUnwindSafe(check.probe.attempt(on)).catch_unwind();
    let reading = tokio::select! {
        biased;
        () = cancel.cancelled() => Fault::new(
            FaultCode::Cancelled, "the attempt was cancelled by a stop or a reload").into(),
        done = tokio::time::timeout(check.timeout + MARGIN, work) => match done {
            Ok(Ok(reading)) => reading,
            Ok(Err(panic)) => panicked(check, &*panic),
            Err(_) => Reason::new(
                ReasonCode::Timeout,
                format!("no result within {}", Period(check.timeout)),
            ).into(),
        },
    };
    let took = crate::time::Mono::now().since(at.mono);
    let (id, evidence) = (check.id.clone(), check.evidence.clone());
    Observation { check: id, target: target.clone(), evidence, at, took, reading }
}

fn panicked(check: &Check, panic: &(dyn Any + Send)) -> Reading {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(check = &*check.id, panic = text, "an attempt panicked; please report this");
    Fault::new(FaultCode::Panicked, format!("the {} probe panicked: {text}", check.probe.kind()))
        .into()
}
