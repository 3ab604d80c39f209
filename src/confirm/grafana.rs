//! The number that a Grafana panel shows, against what was sent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Confirmer, Drawn, LookContext, reading};
use crate::client::grafana::{Asked, Display, Panel, Reducer, Render, View, picture, read};
use crate::client::http::{Api, Auth, excerpt};
use crate::client::tls;
use crate::journey::{Horizon, Look};
use crate::outcome::{Fault, FaultCode, Trouble};
use crate::probe::Effect;
use crate::spec::Period;

pub use direct::Direct;

mod direct;

/// Under this key of the mark stands what the panel showed before the round.
const BEFORE: &str = "before";
/// And under this what the data source itself had then.
const DIRECT: &str = "direct";
/// And under this what was read last, or what was as expected, where a picture of it is wanted.
const READ: &str = "read";

/// A browser that has less than this draws nothing.
const DRAWING_LEAST: Duration = Duration::from_secs(1);

/// What a picture is to show.
#[derive(Serialize, Deserialize)]
struct Read {
    view: Option<View>,
    showed: String,
    /// It was as expected: what is read later says nothing of it.
    met: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Grafana's base URL.
    pub url: String,
    /// The dashboard's uid: the part of its address after `/d/`.
    pub dashboard: String,
    /// The panel's title, or its id.
    pub panel: String,
    /// Values for the dashboard's variables, instead of those saved with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// How far back the panel looks; the panel's or the dashboard's own range where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Period>,
    /// How the panel's values become one number, by a reducer of Grafana such as `lastNotNull`, `sum`
    /// or `p95`; the panel's own way where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce: Option<String>,
    /// The name of the series, or of a table's column, where the panel shows several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Which row of a table or which bar: columns, and the text that each has there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub row: BTreeMap<String, String>,
    /// How far the number may be from the expected one.
    #[serde(default)]
    pub tolerance: f64,
    /// Compare by how much the number has grown since the round began, for panels that show other
    /// traffic too.
    #[serde(default)]
    pub delta: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<Direct>,
    /// Has the panel drawn once the round is over, of the range and the variables that its number was
    /// read with, by Grafana's image renderer. The PNG is kept in the state directory under its SHA-256,
    /// and the report names it; nothing is judged by it. `{}` draws 1000 by 500 pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render: Option<Render>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

pub struct Grafana {
    spec: Spec,
    reduce: Option<Reducer>,
    beside: Option<direct::Beside>,
    api: Api,
}

impl Confirmer for Grafana {
    const KIND: &'static str = "grafana";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        reading::check_tolerance(spec.tolerance)?;
        let uid = spec.dashboard.bytes();
        // Grafana's own rule for uids; a title with blanks is the usual mistake.
        if spec.dashboard.is_empty()
            || !uid.into_iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        {
            return Err(format!(
                "{:?} is no dashboard's uid; it is the part of its address after `/d/`",
                spec.dashboard
            ));
        }
        if let Some(render) = &spec.render {
            render.check()?;
        }
        let api = Api::new(&spec.url, spec.auth.clone(), spec.tls.clone())?;
        let reduce = spec.reduce.as_deref().map(Reducer::of).transpose()?;
        let beside = spec.direct.clone().map(direct::Beside::new).transpose()?;
        Ok(Self { spec, reduce, beside, api })
    }

    fn tells_whose(&self) -> bool {
        false
    }

    fn effects(&self) -> Vec<Effect> {
        let Spec { panel, dashboard, .. } = &self.spec;
        let drawn = if self.spec.render.is_some() {
            ", and has it drawn when the round is over"
        } else {
            ""
        };
        let what = format!(
            "runs the queries of the panel {panel:?} of {dashboard} on {}{drawn}",
            self.api.base()
        );
        let beside = self.beside.as_ref().map(direct::Beside::what);
        [Some(what), beside]
            .into_iter()
            .flatten()
            .map(|what| Effect { what, needs: None })
            .collect()
    }

    async fn begin(&self, on: LookContext<'_>) -> Result<Value, Fault> {
        if !self.spec.delta {
            return Ok(Value::Null);
        }
        let (before, _) = self.read(&on).await.map_err(Trouble::blind)?;
        let mut mark = match before {
            Panel::Shows(shown) => match shown.number {
                Some(before) => json!({ BEFORE: before }),
                None => json!({ reading::SAW: no_number(&shown) }),
            },
            // A counter that is not born yet stands at 0.
            Panel::NoData(_) => json!({ BEFORE: 0.0 }),
            // It is broken for a person, too: the round goes on, and will say so.
            Panel::Broken(why) => json!({ reading::SAW: why }),
        };
        if let Some(beside) = &self.beside {
            // The round goes on where it can't be asked now: what is compared with it is not known then.
            match beside.read(&on).await {
                Ok(before) => mark[DIRECT] = before.into(),
                Err(trouble) => on.trace.note(format_args!("the data source: {}", trouble.blind())),
            }
        }
        Ok(mark)
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let complete = |arrivals| Look { arrivals, horizon: Horizon::Complete };
        let (panel, view) = match self.read(&on).await {
            Ok(read) => read,
            Err(trouble) => return Look::blind(trouble.blind()),
        };
        let (showed, value) = match (panel, on.sought.equals) {
            (Panel::Shows(shown), None) => {
                self.to_draw(mark, view, shown.text, true);
                return complete(vec![reading::arrival()]);
            }
            (Panel::Shows(shown), Some(_)) => (shown.text.clone(), self.grown(&shown, mark)),
            (Panel::NoData(names), _) => ("no data".into(), Err(self.nothing(&names))),
            (Panel::Broken(why), _) => (why.clone(), Err(why)),
        };
        let expected = on.sought.equals.zip(value.as_ref().ok());
        let met = expected.is_some_and(|(expected, (value, _))| {
            reading::is(*value, expected, self.spec.tolerance)
        });
        self.to_draw(mark, view.clone(), showed.clone(), false);
        let saw = match (value, on.sought.equals) {
            (Ok((value, _)), Some(expected)) if met => match self.beside(mark, &on).await {
                Some(Err(why)) => {
                    let text = format!("it shows {value}, as expected; {why}");
                    return Look::blind(Fault::new(FaultCode::Blind, text));
                }
                Some(Ok(itself)) if !reading::is(itself, expected, self.spec.tolerance) => {
                    format!(
                        "it shows {value}, as expected, and the data source itself has {itself}: \
                             the dashboard does not show its data"
                    )
                }
                _ => {
                    on.trace.note(format_args!("it shows {value}, as expected"));
                    self.to_draw(mark, view, showed, true);
                    return complete(vec![reading::arrival()]);
                }
            },
            (Ok((value, text)), expected) => {
                let text = if text.is_empty() { text } else { format!(" ({text:?})") };
                let beside = self.told_apart(Some(value), mark, &on).await;
                format!(
                    "it shows {value}{text} instead of {}{beside}",
                    expected.unwrap_or_default()
                )
            }
            (Err(why), _) => why + &self.told_apart(None, mark, &on).await,
        };
        reading::remember(mark, &saw, on.trace);
        complete(Vec::new())
    }

    async fn draw(&self, mark: &Value, on: LookContext<'_>) -> Option<Drawn> {
        let render = self.spec.render.as_ref()?;
        let read = mark.get(READ).and_then(|read| Read::deserialize(read).ok());
        let Some(Read { view, showed, .. }) = read else {
            let png = Err("the panel could not be read".into());
            return Some(Drawn { showed: None, png });
        };
        let png = match &view {
            Some(_) if on.timeout < DRAWING_LEAST => Err("the next round was due".into()),
            Some(view) => {
                let of = (self.spec.dashboard.as_str(), view);
                let png = picture(&self.api, on.clients, of, render, on.timeout, on.trace).await;
                png.map(|png| (png, render.width, render.height))
            }
            None => Err("the panel can't be named to Grafana".into()),
        };
        Some(Drawn { showed: Some(showed), png })
    }
}

fn no_number(shown: &Display) -> String {
    format!("it shows {:?}, which is no number", shown.text)
}

impl Grafana {
    /// Remembers what a picture is to show.
    fn to_draw(&self, mark: &mut Value, view: Option<View>, showed: String, met: bool) {
        let was_met = mark.get(READ).is_some_and(|read| read["met"] == true);
        if self.spec.render.is_some() && (met || !was_met) {
            let showed = excerpt(showed.as_bytes());
            reading::keep(mark, READ, json!(Read { view, showed, met }));
        }
    }

    fn nothing(&self, names: &[String]) -> String {
        match &self.spec.series {
            Some(wanted) if !names.is_empty() => {
                let names = excerpt(names.join(", ").as_bytes());
                format!("it shows no {wanted:?}, but {names}")
            }
            _ => "it shows no data".into(),
        }
    }

    /// The number, or by how much it has grown, and its text where that says something else.
    fn grown(&self, shown: &Display, mark: &Value) -> Result<(f64, String), String> {
        let Some(value) = shown.number else { return Err(no_number(shown)) };
        if self.spec.delta {
            let before = mark.get(BEFORE).and_then(Value::as_f64);
            let before = before.ok_or("what it showed before the round is not known")?;
            return Ok((value - before, String::new()));
        }
        let plain = value.to_string() == shown.text;
        Ok((value, if plain { String::new() } else { shown.text.clone() }))
    }

    /// What the data source itself has, by how much it has grown where that is compared; None where it
    /// is not asked.
    async fn beside(&self, mark: &Value, on: &LookContext<'_>) -> Option<Result<f64, String>> {
        let beside = self.beside.as_ref()?;
        Some(match beside.read(on).await {
            Ok(value) if self.spec.delta => {
                let before = mark.get(DIRECT).and_then(Value::as_f64);
                let before =
                    before.ok_or_else(|| "what the data source had before is not known".into());
                before.map(|before| value - before)
            }
            Ok(value) => Ok(value),
            Err(trouble) => {
                Err(format!("the data source itself can't be asked: {}", trouble.blind()))
            }
        })
    }

    /// What the data source itself says, in the words that the reason ends with.
    async fn told_apart(&self, shown: Option<f64>, mark: &Value, on: &LookContext<'_>) -> String {
        let Some(expected) = on.sought.equals else { return String::new() };
        let value = match self.beside(mark, on).await {
            None => return String::new(),
            Some(Ok(value)) => value,
            Some(Err(why)) => return format!("; {why}"),
        };
        let is = |wanted: f64| reading::is(value, wanted, self.spec.tolerance);
        if is(expected) {
            format!("; the data source itself has {value}: the dashboard is wrong")
        } else if shown.is_some_and(is) {
            format!("; the data source itself has {value}, too: the data is wrong")
        } else {
            format!("; the data source itself has {value}")
        }
    }

    async fn read(&self, on: &LookContext<'_>) -> Result<(Panel, Option<View>), Trouble> {
        let asked = Asked {
            dashboard: &self.spec.dashboard,
            panel: &self.spec.panel,
            variables: &self.spec.variables,
            back: self.spec.from.map(|from| from.0),
            reduce: self.reduce,
            series: self.spec.series.as_deref(),
            row: &self.spec.row,
            now: on.now.wall,
        };
        read(&self.api, on.clients, &asked, on.timeout, on.trace).await
    }
}
