//! What a stage shows to the right tenant and must not show to a wrong one.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AnyConfirmer, Drawn, LookContext};
use crate::client::http::{Api, Auth, Request, expect_success};
use crate::client::rules::Place;
use crate::client::tls;
use crate::journey::{Horizon, Look};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode, Trouble};
use crate::probe::Effect;

/// Under these keys of the mark stand those of the two confirmers.
const SEEN: &str = "seen";
const HIDDEN: &str = "hidden";
/// Why the wrong tenant could not begin; stands under [`HIDDEN`] in place of a mark.
const DENIED: &str = "greenlight_denied";
const BLIND: &str = "greenlight_blind";

/// Where the wrong tenant's credentials are known to be good: a platform that refuses them only
/// proves that tenants are kept apart if it would have let them in.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Proof {
    /// A place that answers 2xx to these credentials, and only to good ones.
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

/// Shows what `seen` sees, once a look of `hidden` that came after could have seen it and did not.
///
/// What both see is wrong. What the wrong tenant's look could not tell is held back: it is looked
/// for again, and stays unseen until it can be told.
pub struct Unseen {
    seen: Arc<dyn AnyConfirmer>,
    hidden: Arc<dyn AnyConfirmer>,
    proof: Option<Api>,
}

impl Unseen {
    pub fn new(
        seen: Arc<dyn AnyConfirmer>,
        hidden: Arc<dyn AnyConfirmer>,
        proof: Option<Proof>,
    ) -> Result<Self, String> {
        let proof = proof.map(|proof| Api::new(&proof.url, proof.auth, proof.tls)).transpose()?;
        Ok(Self { seen, hidden, proof })
    }

    async fn begun(&self, on: LookContext<'_>) -> Result<Value, Fault> {
        let seen = self.seen.begin(half(&on)).await?;
        // A tenant that may not even begin is what is hoped for: it is judged when it is looked.
        let hidden = match self.hidden.begin(half(&on)).await {
            Ok(mark) => mark,
            Err(fault) if fault.code == FaultCode::Denied => json!({ DENIED: fault.text }),
            Err(fault) => json!({ BLIND: fault.text }),
        };
        Ok(json!({ SEEN: seen, HIDDEN: hidden }))
    }

    async fn looked(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let part = |mark: &Value, key| mark.get(key).cloned().unwrap_or_default();
        let (mut seen, mut hidden) = (part(mark, SEEN), part(mark, HIDDEN));
        let before = seen.clone();
        let mut look = self.seen.look(&mut seen, half(&on)).await;
        if look.arrivals.is_empty() {
            *mark = json!({ SEEN: seen, HIDDEN: hidden });
            return look;
        }
        let (exposed, blind) = self.exposed(&mut hidden, &on).await;
        for arrival in &mut look.arrivals {
            if arrival.seq.is_some_and(|seq| exposed.contains(&seq)) {
                let text = format!("the wrong tenant sees it too, by `{}`", self.hidden.kind());
                arrival.wrong = Some(Reason::new(ReasonCode::Exposed, text));
            }
        }
        if let Some(fault) = blind {
            look.arrivals.retain(|arrival| arrival.wrong.is_some());
            seen = before;
            let text = format!("whether the wrong tenant sees it can't be told: {}", fault.text);
            look.horizon = Horizon::Partial(Fault::new(fault.code, text));
        }
        *mark = json!({ SEEN: seen, HIDDEN: hidden });
        look
    }

    /// The events that the wrong tenant sees, and why these may not be all.
    async fn exposed(
        &self,
        mark: &mut Value,
        on: &LookContext<'_>,
    ) -> (BTreeSet<u64>, Option<Fault>) {
        let word = |key| mark.get(key).and_then(Value::as_str).map(str::to_owned);
        let look = if let Some(text) = word(DENIED) {
            Look::blind(Fault::new(FaultCode::Denied, text))
        } else if let Some(text) = word(BLIND) {
            Look::blind(Fault::new(FaultCode::Blind, text))
        } else {
            self.hidden.look(mark, half(on)).await
        };
        let exposed = look.arrivals.iter().filter_map(|arrival| arrival.seq).collect();
        let blind = match look.horizon {
            Horizon::Complete => None,
            Horizon::Blind(fault) if fault.code == FaultCode::Denied => {
                self.unproven(fault, on).await
            }
            Horizon::Partial(fault) | Horizon::Blind(fault) => Some(fault),
        };
        on.trace.note(format_args!("the wrong tenant sees {exposed:?}, {blind:?}"));
        (exposed, blind)
    }

    /// None where a refusal proves that the tenant may not look.
    async fn unproven(&self, denied: Fault, on: &LookContext<'_>) -> Option<Fault> {
        let Some(api) = &self.proof else {
            let text = format!(
                "{}; whether these credentials are good anywhere is not known: name under \
                 `proof:` a place that answers 2xx to them",
                denied.text
            );
            return Some(Fault::new(denied.code, text));
        };
        let request = Request::get(api.base().clone());
        let answer = api.ask(on.clients, request, on.timeout / 4, on.trace).await;
        match answer.and_then(|response| expect_success(&response)) {
            Ok(()) => None,
            Err(trouble) => {
                let text = format!("the wrong tenant's credentials are not proven good: {trouble}");
                let fault = Trouble::fault(FaultCode::Denied, text);
                Some(fault.blind())
            }
        }
    }
}

/// The two looks share a look's time, and leave some for the proof.
fn half<'a>(on: &LookContext<'a>) -> LookContext<'a> {
    LookContext {
        sought: on.sought,
        timeout: on.timeout.mul_f64(0.4),
        clients: on.clients,
        trace: on.trace,
        now: on.now,
    }
}

impl AnyConfirmer for Unseen {
    fn rule(&self) -> Option<Place> {
        None
    }
    fn kind(&self) -> &'static str {
        self.seen.kind()
    }

    fn effects(&self) -> Vec<Effect> {
        let wrong = self.hidden.effects().into_iter().map(|effect| Effect {
            what: format!("as a tenant that must see nothing: {}", effect.what),
            needs: effect.needs,
        });
        let proof = self.proof.iter().map(|api| Effect {
            what: format!("asks {} whether that tenant's credentials are good", api.base()),
            needs: None,
        });
        self.seen.effects().into_iter().chain(wrong).chain(proof).collect()
    }

    fn purge(&self) -> Option<String> {
        self.seen.purge()
    }

    fn keeps(&self) -> bool {
        self.seen.keeps()
    }

    fn stamps(&self) -> bool {
        self.seen.stamps()
    }

    fn tells_whose(&self) -> bool {
        self.seen.tells_whose()
    }

    fn ends(&self) -> bool {
        self.seen.ends()
    }

    fn begin<'a>(
        &'a self,
        on: LookContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Value, Fault>> + Send + 'a>> {
        Box::pin(self.begun(on))
    }

    fn look<'a>(
        &'a self,
        mark: &'a mut Value,
        on: LookContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Look> + Send + 'a>> {
        Box::pin(self.looked(mark, on))
    }

    fn draw<'a>(
        &'a self,
        mark: &'a Value,
        on: LookContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Option<Drawn>> + Send + 'a>> {
        self.seen.draw(mark.get(SEEN).unwrap_or(&Value::Null), on)
    }
}
