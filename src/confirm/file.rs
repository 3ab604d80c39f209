//! A file on this node: what was appended since the round began, over rotations; events of a log, or
//! notifications that something writes down.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::alert::{self, Alert};
use super::found::{Found, Record, plain};
use super::{Confirmer, LookContext};
use crate::client::tail::{Limits, Mark, Seen, tail};
use crate::journey::Look;
use crate::journey::fields::lookup;
use crate::outcome::{Fault, FaultCode};
use crate::probe::Effect;

/// One look reads so much of the file; the next look goes on from there.
const LIMITS: Limits = Limits { bytes: 64 * 1024 * 1024, line: 1024 * 1024 };

/// Reads what is appended to a file on this node. A file that is renamed or copied and cut
/// (logrotate's `copytruncate`) is followed, as long as the old one stays in the same folder,
/// under a name that begins with the file's own, and is not compressed at once.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The file. It need not exist before the first event is written.
    pub path: PathBuf,
    /// The field of a JSON line that holds the event's text; without it, the whole line is it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Fields that a JSON line must have, and their values; {run} is the round's name. At `alerted` and
    /// `notified` each line that names the round is one alert or notification.
    #[serde(default, rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

pub struct File {
    path: Arc<PathBuf>,
    text: Option<String>,
    fields: BTreeMap<String, String>,
}

impl Confirmer for File {
    const KIND: &'static str = "file";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        if !spec.path.is_absolute() || spec.path.file_name().is_none() {
            return Err(format!("{:?} is no file's path from the root on", spec.path));
        }
        if spec.text.as_deref().is_some_and(str::is_empty) {
            return Err("`text` is empty; name a field, or leave it out".into());
        }
        Ok(Self { path: Arc::new(spec.path), text: spec.text, fields: spec.fields })
    }

    fn effects(&self) -> Vec<Effect> {
        let needs = Some("to read the file and its folder; without that the stage is not seen");
        vec![Effect {
            what: format!("reads what is new in {}", self.path.display()),
            needs: needs.map(str::to_owned),
        }]
    }

    async fn begin(&self, on: LookContext<'_>) -> Result<Value, Fault> {
        let path = self.path.clone();
        let mark = self.in_a_cell(&on, move || Mark::at_end(&path)).await??;
        Ok(serde_json::to_value(mark).unwrap_or_default())
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let Ok(from) = Mark::deserialize(&*mark) else {
            return Look::blind(Fault::new(
                FaultCode::Garbled,
                format!("{}: the stored place makes no sense: {mark}", self.path.display()),
            ));
        };
        let (path, run) = (self.path.clone(), on.sought.run.clone());
        let read = self.in_a_cell(&on, move || tail(&path, from, run.as_bytes(), LIMITS)).await;
        let seen = match read {
            Ok(Ok(seen)) => seen,
            Ok(Err(fault)) | Err(fault) => return Look::blind(fault),
        };
        let Seen { lines, mark: next, lacking } = seen;
        *mark = serde_json::to_value(next).unwrap_or_default();
        on.trace.note(format_args!("{} lines of the round, {lacking:?}", lines.len()));
        let wanted = alert::filled(&self.fields, &on);
        let suits = |record: &Record| {
            let empty = Map::new();
            alert::matches(record.fields.as_ref().unwrap_or(&empty), &wanted)
        };
        let records = lines.into_iter().map(|line| self.record(line.place, &line.bytes));
        let records = records.filter(suits);
        if on.sought.stage.counts_things() {
            let mut told: Vec<Alert> = records.map(told).collect();
            let most = alert::LIMIT;
            let more = || format!("there are more than {most} notifications in one look");
            let lacking = lacking.or_else(|| (told.len() > most).then(more));
            told.truncate(most);
            return alert::look(told, lacking, &on);
        }
        let mut found = Found::new(on.sought);
        records.for_each(|record| found.take(record));
        if let Some(why) = lacking {
            found.lacks(why);
        }
        found.look()
    }
}

impl File {
    /// A disk that hangs costs this file's looks, and nothing else.
    async fn in_a_cell<T: Send + 'static>(
        &self,
        on: &LookContext<'_>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let resource = format!("file {}", self.path.display());
        on.clients.cells().run(&resource, on.timeout.mul_f64(0.9), work).await
    }

    fn record(&self, id: String, line: &[u8]) -> Record {
        let whole = String::from_utf8_lossy(line).into_owned();
        let fields: Option<Map<String, Value>> = serde_json::from_slice(line).ok();
        let text = match (&fields, &self.text) {
            (Some(fields), Some(path)) => lookup(fields, path).map(plain),
            _ => None,
        };
        Record { text: text.or(Some(whole)), fields, id: Some(id) }
    }
}

fn told(line: Record) -> Alert {
    let Record { fields, text, id } = line;
    Alert { text, ..Alert::new(id.unwrap_or_default(), None, fields.unwrap_or_default()) }
}
