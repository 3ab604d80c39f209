//! `plan --privileges`: what each check and each signal needs from this node, whether this process
//! has it, and the smallest grant that would lift what is missing.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Global, node};
use crate::agent::clock;
use crate::node::privileges::{self, Rights, Unseen};
use crate::plan::{Plan, UNKNOWN_FACT};
use crate::render::sheet::{Line, Told};

/// One check or journey that needs something.
struct Need {
    /// The key that names it in the effects: check or journey.
    kind: &'static str,
    id: String,
    needs: String,
    granted: Option<bool>,
}

/// All of it, tested against this process and this node.
pub(super) struct Privileges {
    rights: Rights,
    needs: Vec<Need>,
    unseen: Vec<Unseen>,
    /// The smallest set of capabilities that would lift what is missing.
    missing: Vec<&'static str>,
}

impl Privileges {
    pub(super) fn of(plan: &Plan, global: &Global) -> Self {
        let rights = Rights::own();
        let effects = plan.json.get("effects").and_then(Value::as_array);
        let mut needs: Vec<Need> = Vec::new();
        for effect in effects.into_iter().flatten() {
            let field = |name| effect.get(name).and_then(Value::as_str).unwrap_or_default();
            if field("needs").is_empty() {
                continue;
            }
            let kind = if field("check").is_empty() { "journey" } else { "check" };
            let (id, text) = (field(kind), field("needs"));
            if !needs.iter().any(|need| need.kind == kind && need.id == id && need.needs == text) {
                let granted = rights.meet(text);
                needs.push(Need { kind, id: id.to_owned(), needs: text.to_owned(), granted });
            }
        }
        let mut unseen = privileges::unseen(&node::paths(global), clock::now, std::thread::sleep);
        let unknown = plan.facts.iter().filter(|(_, value)| value.is_none());
        unseen.extend(unknown.map(|(name, _)| Unseen {
            what: format!("the fact `{name}`"),
            instances: Vec::new(),
            why: UNKNOWN_FACT.to_owned(),
            needs: None,
        }));
        let mut missing: Vec<&'static str> = Vec::new();
        let asked = needs.iter().filter(|need| need.granted == Some(false));
        // Of several ways that a check names, one is enough.
        let of_checks = asked.filter_map(|need| privileges::named(&need.needs).first().copied());
        let of_node = unseen.iter().filter_map(|unseen| unseen.needs);
        for capability in of_checks.chain(of_node) {
            if !missing.contains(&capability) && !rights.has(capability) {
                missing.push(capability);
            }
        }
        Self { rights, needs, unseen, missing }
    }

    /// The compiled plan, and beside it what this process may do of it.
    pub(super) fn json(&self, plan: &Plan) -> Value {
        let mut whole = (*plan.json).clone();
        let needs = self.needs.iter().map(
            |need| json!({ need.kind: need.id, "needs": need.needs, "granted": need.granted }),
        );
        let lift = self.lift().map(|[setcap, systemd, sudoers]| {
            json!({ "setcap": setcap, "systemd": systemd, "sudoers": sudoers })
        });
        if let Some(whole) = whole.as_object_mut() {
            whole.insert(
                "privileges".to_owned(),
                json!({
                    "user": self.rights.user,
                    "held": self.rights.held(),
                    "checks": needs.collect::<Vec<_>>(),
                    "node": self.unseen,
                    "missing": self.missing,
                    "lift": lift,
                }),
            );
        }
        whole
    }

    /// How the missing capabilities are granted: to the file, to the service, and by whom.
    fn lift(&self) -> Option<[String; 3]> {
        if self.missing.is_empty() {
            return None;
        }
        let program = std::env::current_exe()
            .map_or_else(|_| "/usr/bin/greenlight".to_owned(), |path| path.display().to_string());
        let lower: Vec<String> = self.missing.iter().map(|name| name.to_lowercase()).collect();
        let names = self.missing.join(" ");
        // In sudoers(5) a comma and an equals sign in a command's arguments are escaped, and a
        // user is named by `#` and its number.
        let escaped = lower.join("\\,");
        Some([
            format!("setcap {}=ep {program}", lower.join(",")),
            format!("AmbientCapabilities={names}\nCapabilityBoundingSet={names}"),
            format!(
                "#{} ALL=(root) NOPASSWD: /usr/sbin/setcap {escaped}\\=ep {program}",
                self.rights.user
            ),
        ])
    }

    /// Each need and each signal by itself.
    pub(super) fn lines(&self) -> Vec<Line> {
        let needs = self.needs.iter().map(|need| {
            let told = match need.granted {
                Some(true) => Told::Success,
                Some(false) => Told::Failure,
                None => Told::Skipped,
            };
            Line { name: need.id.clone(), told, why: need.needs.clone() }
        });
        let unseen = self.unseen.iter().map(|unseen| {
            let told = if unseen.needs.is_some() { Told::Failure } else { Told::Error };
            Line { name: unseen.what.to_string(), told, why: unseen.why.to_string() }
        });
        needs.chain(unseen).collect()
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from(
            "What each check needs from this node beyond an ordinary user, and what is lost without it:\n",
        );
        for need in &self.needs {
            let _ = writeln!(text, "  {}: {}", need.id, need.needs);
            let has = match need.granted {
                Some(true) => "this process has it",
                Some(false) => "MISSING",
                None => "not tested here",
            };
            let _ = writeln!(text, "    {has}");
        }
        if self.needs.is_empty() {
            text.push_str("  nothing\n");
        }
        text.push_str("\nWhat this process can't see of this node, signal by signal:\n");
        for unseen in &self.unseen {
            let instances = unseen.instances.join(", ");
            let instances =
                if instances.is_empty() { instances } else { format!(" ({instances})") };
            let _ = writeln!(text, "  {}{instances}: {}", unseen.what, unseen.why);
            match unseen.needs {
                Some(needs) => _ = writeln!(text, "    MISSING: {needs}"),
                None => text
                    .push_str("    no right lifts it: gates on it say so and stay red or open\n"),
            }
        }
        if self.unseen.is_empty() {
            text.push_str("  nothing: every signal can be read\n");
        }
        let held = self.rights.held();
        let held = match held.len() {
            0 => "no capability".to_owned(),
            many if many > 30 => "all capabilities but a few, or all of them".to_owned(),
            _ => held.join(" "),
        };
        let _ = writeln!(text, "\nThis process is user {} with {held}.", self.rights.user);
        match self.lift() {
            None => text.push_str("No capability would lift anything that is missing.\n"),
            Some([setcap, systemd, sudoers]) => {
                let _ = writeln!(
                    text,
                    "The smallest set that lifts what is missing: {}\n\
                     \n  for the program:\n    {setcap}\n\
                     \n  in the unit of a service:\n    {}\n\
                     \n  for this user, by sudoers:\n    {sudoers}",
                    self.missing.join(" "),
                    systemd.replace('\n', "\n    "),
                );
            }
        }
        text
    }
}
