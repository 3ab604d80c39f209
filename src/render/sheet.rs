//! What `once` and `plan` tell, in the forms of a report: their text says all of it, and each thing
//! that it is about is a line of its own.

use maud::html;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::Form;
use super::html::{framed, policy};
use super::text::{clean, lines};

/// What is told of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Success,
    Failure,
    /// It could not be told.
    Error,
    /// It was not tried.
    Skipped,
}

impl Told {
    const fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "inconclusive",
            Self::Skipped => "not tried",
        }
    }
}

/// A target, a stage, a gate.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub told: Told,
    pub why: String,
}

#[derive(Clone, Debug)]
pub struct Sheet {
    /// The command and what it was about.
    pub title: String,
    pub lines: Vec<Line>,
    pub text: String,
}

impl Sheet {
    /// In every form but JSON, which each command has of its own.
    pub fn render(&self, form: Form) -> String {
        match form {
            Form::Terminal | Form::Json => lines(&self.text),
            Form::Markdown => self.markdown(),
            Form::Junit => self.junit(),
            Form::Html => self.html(),
        }
    }

    fn markdown(&self) -> String {
        let cell = |text: &str| super::markdown::escape(text);
        let mut out = format!("# {}\n\n", cell(&self.title));
        if !self.lines.is_empty() {
            out.push_str("| What | Outcome | Why |\n|---|---|---|\n");
        }
        for line in &self.lines {
            let (name, why) = (cell(&line.name), cell(&line.why));
            out.push_str(&format!("| {name} | {} | {why} |\n", line.told.word()));
        }
        let text = lines(&self.text);
        // A fence is longer than any that stands in what it holds.
        let ticks = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
        let fence = "`".repeat(ticks.max(2) + 1);
        out.push_str(&format!("\n{fence}text\n{}\n{fence}\n", text.trim_end()));
        out
    }

    fn junit(&self) -> String {
        let mut suite = TestSuite::new(clean(&self.title));
        suite.set_system_out(lines(&self.text));
        suite.add_test_cases(self.lines.iter().map(|line| {
            let mut status = match line.told {
                Told::Success => TestCaseStatus::success(),
                Told::Failure => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Told::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
                Told::Skipped => TestCaseStatus::skipped(),
            };
            if line.told != Told::Success {
                status.set_message(clean(&line.why)).set_type(line.told.word());
            }
            TestCase::new(clean(&line.name), status)
        }));
        let mut report = Report::new(clean(&self.title));
        report.add_test_suite(suite);
        match report.to_string() {
            Ok(xml) => xml,
            // It writes to memory: nothing there can fail.
            Err(error) => format!("<!-- {} -->\n", clean(&error.to_string()).replace("--", "- -")),
        }
    }

    fn html(&self) -> String {
        let title = clean(&self.title);
        let body = html! {
            main {
                h1 { (title) }
                @if !self.lines.is_empty() {
                    table {
                        tr { th { "What" } th { "Outcome" } th { "Why" } }
                        @for line in &self.lines {
                            tr {
                                td { (clean(&line.name)) }
                                td { (line.told.word()) }
                                td { (clean(&line.why)) }
                            }
                        }
                    }
                }
                pre { (lines(&self.text)) }
            }
        };
        framed(&format!("{title} · Greenlight"), policy(), "", &body).into_string()
    }
}
