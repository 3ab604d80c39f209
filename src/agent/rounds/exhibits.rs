//! Pictures of what a round's stages showed, made when its fates are decided and before that is told:
//! none of it changes them.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::sides::{Mark, Side, sought};
use super::walking::Round;
use super::{Hands, clock};
use crate::confirm::{Drawn, LookContext};
use crate::journey::exhibit::{Exhibit, Picture};
use crate::spec::trace::Trace;
use crate::time::Wall;

/// A renderer starts a browser, and the next round begins no later for it.
const DRAWING: Duration = Duration::from_secs(10);

impl Round<'_> {
    /// Asks for the pictures that the plan wants, and keeps them.
    pub(super) async fn draw(&mut self, hands: &Hands, trace: &Trace) {
        let next = self.began.mono.plus(self.journey.every);
        for plan in &self.journey.stages {
            let Some(confirmer) = &plan.confirmer else { continue };
            let own = &self.progress.own;
            let Some(Mark::Set(mark)) = own.marks.get(&plan.stage) else { continue };
            let now = clock::now();
            let sent = own.walk.sent();
            let sought = sought(self.journey, Side::Own, &self.run, plan, sent, self.began);
            let timeout = DRAWING.min(next.since(now.mono));
            let on = LookContext { sought: &sought, timeout, clients: &hands.clients, trace, now };
            let drawn = tokio::select! {
                biased;
                () = hands.cancel.cancelled() => return,
                drawn = tokio::time::timeout(timeout, confirmer.draw(mark, on)) => drawn,
            };
            let drawn = match drawn {
                Ok(None) => continue,
                Ok(Some(drawn)) => drawn,
                Err(_) => Drawn { showed: None, png: Err("it took too long".into()) },
            };
            let exhibit = self.exhibit(drawn, now.wall, hands).await;
            trace.note(format_args!("{exhibit}"));
            self.progress.exhibits.insert(plan.stage, exhibit);
        }
    }

    async fn exhibit(&self, drawn: Drawn, at: Wall, hands: &Hands) -> Exhibit {
        let Drawn { showed, png } = drawn;
        let (picture, missing) = match png {
            Ok((png, width, height)) => {
                let sha256: String =
                    Sha256::digest(&png).iter().map(|byte| format!("{byte:02x}")).collect();
                let bytes = png.len() as u64;
                let (file, missing) = match hands.store.keep_exhibit(&sha256, png).await {
                    Ok(Some(file)) => (Some(file), None),
                    Ok(None) => (None, Some("there is no state directory".into())),
                    Err(fault) => (None, Some(fault.text)),
                };
                (Some(Picture { file, sha256, bytes, width, height }), missing)
            }
            Err(why) => (None, Some(why)),
        };
        Exhibit { run: self.run.to_string(), at: at.rfc3339(), showed, picture, missing }
    }
}
