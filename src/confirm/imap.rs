//! Notifications that reached a mailbox.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::alert::{self, Alert};
use super::{Confirmer, LookContext};
use crate::client::imap::{Account, Place, Proof, Way, end, parse, since};
use crate::client::mail::Mail;
use crate::client::tls;
use crate::journey::{Arrival, Horizon, Look};
use crate::outcome::{Fault, FaultCode, Trouble};
use crate::probe::Effect;
use crate::spec::Secret;

/// Under these keys of the mark stand the place in the mailbox and why not all can be seen of it.
const VALIDITY: &str = "validity";
const NEXT: &str = "next";
const LOST: &str = "lost";
/// And this under those that told of an alert, so that its end is known for one.
const RAISED: &str = "raised";
/// Alertmanager and Grafana begin the subject of a mail that tells of an end so.
const RESOLVED: &str = "[RESOLVED";

/// Reads the mails that came since the round began. The mailbox is opened read-only: nothing is
/// marked as read.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Where the mailbox is: `imaps://HOST[:993]`, or `imap://HOST[:143]`, which begins in clear
    /// and goes over to TLS (STARTTLS) before the login.
    pub url: String,
    pub user: String,
    /// By LOGIN, or by AUTHENTICATE PLAIN where the server takes no LOGIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A token of OAuth 2 in place of a password (OAUTHBEARER or XOAUTH2); one in a
    /// file is read anew at each login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The mailbox, `INBOX` where nothing is given.
    #[serde(default = "inbox")]
    pub mailbox: String,
    /// Headers that the mail must have, each with a text that must stand in it, in whatever case;
    /// {run} is the round's name. A mail counts where it names the round, or names none and came
    /// after the round began.
    #[serde(default, rename = "match")]
    pub headers: BTreeMap<String, String>,
    /// With `imap://`: never go over to TLS. The password or token is sent in clear.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clear: bool,
    #[serde(default)]
    pub tls: tls::Options,
}

fn inbox() -> String {
    String::from("INBOX")
}

pub struct Imap {
    account: Account,
    headers: BTreeMap<String, String>,
}

impl Confirmer for Imap {
    const KIND: &'static str = "imap";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        let (tls, host, port) = parse(&spec.url)?;
        spec.tls.validate()?;
        let way = match (tls, spec.clear) {
            (true, true) => return Err("`clear` has no use with imaps://".into()),
            (true, false) => Way::Tls,
            (false, true) => Way::Clear,
            (false, false) => Way::StartTls,
        };
        if spec.user.is_empty() || spec.mailbox.is_empty() {
            return Err("`user` or `mailbox` is empty".into());
        }
        if !spec.mailbox.is_ascii() {
            let why = "is not ASCII; write it as the server has it, in modified UTF-7";
            return Err(format!("the mailbox {:?} {why}", spec.mailbox));
        }
        let proof = match (spec.password, spec.token) {
            (Some(password), None) => Proof::Password(password),
            (None, Some(token)) => Proof::Token(token),
            _ => return Err("one of `password` and `token` is needed".into()),
        };
        let account = Account {
            host,
            port,
            way,
            user: spec.user,
            proof,
            mailbox: spec.mailbox,
            tls: spec.tls,
        };
        Ok(Self { account, headers: spec.headers })
    }

    fn effects(&self) -> Vec<Effect> {
        let Account { user, mailbox, .. } = &self.account;
        let what = format!("reads new mail in {mailbox} of {user} at {}", self.account);
        vec![Effect { what, needs: None }]
    }

    fn ends(&self) -> bool {
        true
    }

    /// What is there before the round is none of its mail.
    async fn begin(&self, on: LookContext<'_>) -> Result<Value, Fault> {
        let end = end(&self.account, on.clients, on.timeout, on.trace).await;
        let place = end.map_err(Trouble::blind)?;
        Ok(json!({ VALIDITY: place.validity, NEXT: place.next }))
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let number = |key| mark.get(key).and_then(Value::as_u64).and_then(|n| n.try_into().ok());
        let (Some(validity), Some(next)) = (number(VALIDITY), number(NEXT)) else {
            let text = "where the mailbox ended before the round is not known";
            return Look::blind(Fault::new(FaultCode::Blind, text));
        };
        let mut place = Place { validity, next };
        let new = since(&self.account, &mut place, on.clients, on.timeout, on.trace).await;
        let new = match new {
            Ok(new) => new,
            Err(trouble) => return Look::blind(trouble.blind()),
        };
        on.trace.note(format_args!("{} new mails", new.mails.len()));
        let headers = alert::filled(&self.headers, &on);
        let alerts = new
            .mails
            .into_iter()
            .filter(|(_, mail)| matches(mail, &headers))
            .map(|(uid, mail)| shown(format!("{validity}/{uid}"), mail, &on));
        let mut look = alert::look(alerts.collect::<Vec<_>>(), new.lacking, &on);
        // What was not read of the mailbox is not read by a later look either.
        let before = mark.get(LOST).and_then(Value::as_str).map(str::to_owned);
        let lost = before.or(new.lost);
        let raised = raised(&mut look, mark.get(RAISED));
        *mark = json!({ VALIDITY: place.validity, NEXT: place.next, RAISED: raised });
        if let (Some(lost), Some(mark)) = (lost, mark.as_object_mut()) {
            look.horizon = Horizon::Partial(Fault::new(FaultCode::Blind, lost.as_str()));
            mark.insert(LOST.into(), lost.into());
        }
        look
    }
}

/// All mails of the round that told of an alert: an end is the end of each of them.
fn raised(look: &mut Look, before: Option<&Value>) -> Vec<String> {
    let before = before.and_then(Value::as_array).into_iter().flatten();
    let mut raised: Vec<String> = before.filter_map(Value::as_str).map(str::to_owned).collect();
    let (ends, tells): (Vec<_>, Vec<_>) =
        std::mem::take(&mut look.arrivals).into_iter().partition(|arrival| arrival.ended);
    raised.extend(tells.iter().map(|arrival| arrival.copy.clone()));
    raised.truncate(alert::LIMIT);
    look.arrivals = tells;
    if let Some(end) = ends.first() {
        let each = raised.iter().map(|copy| Arrival { copy: copy.clone(), ..end.clone() });
        look.arrivals.extend(each);
    }
    raised
}

fn matches(mail: &Mail, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, text)| {
        let header = mail.header(name).unwrap_or_default().to_lowercase();
        header.contains(&text.to_lowercase())
    })
}

fn shown(copy: String, mail: Mail, on: &LookContext<'_>) -> Alert {
    let subject = mail.header("subject").unwrap_or_default().to_owned();
    let headers: Map<String, Value> =
        mail.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    let mut fields = Map::new();
    fields.insert("headers".into(), headers.into());
    // It came after the round began, whatever its own clock says.
    let after = on.span(Duration::ZERO).1;
    let alert = Alert::new(copy, Some(after), fields);
    let ended = subject.starts_with(RESOLVED);
    Alert { text: Some(mail.text), ended, ..alert }.named(Some(&subject.into()), None)
}
