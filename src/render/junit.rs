//! The report as JUnit XML: a gate is a test case, for the systems that know nothing else.
//!
//! `fail` is a failure, `error` and `open` an error, `waived` and `not_applicable` skipped.

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::sections::{because, measured, why};
use super::text::clean;
use super::verdict;
use crate::gate::Verdict;
use crate::ledger::{Document, GateRow};

pub fn report(document: &Document, banner: Option<&str>) -> String {
    let mut suite = TestSuite::new("gates");
    // RFC 3339 in UTC is what xs:dateTime takes.
    suite.extra.insert("timestamp".into(), document.finished_at.as_str().into());
    suite.extra.insert("hostname".into(), clean(&document.node.name).into());
    let mut property = |name: &str, value: &str| {
        suite.add_property(Property::new(name, clean(value)));
    };
    property("greenlight.decision", document.decision.word());
    property("greenlight.plan.digest", &document.plan.digest);
    property("greenlight.version", &document.tool.version);
    if let Some(banner) = banner {
        property("greenlight.note", banner);
    }
    suite.add_test_cases(document.gates.iter().map(case));
    let name = format!("{}: {}", document.decision.headline(), because(document));
    let mut report = Report::new(clean(&name));
    report.add_test_suite(suite);
    match report.to_string() {
        Ok(xml) => xml,
        // It writes to memory: nothing there can fail.
        Err(error) => format!("<!-- {} -->\n", clean(&error.to_string()).replace("--", "- -")),
    }
}

fn case(gate: &GateRow) -> TestCase {
    let reason = match &gate.reason {
        Some(reason) => why(reason),
        None => verdict(gate.verdict).to_owned(),
    };
    let mut lines = vec![gate.title.to_string(), gate.criterion.to_string()];
    lines.extend(measured(gate));
    lines.extend(gate.first_failing_stage.map(|s| format!("first failing stage: {}", s.word())));
    lines.extend(gate.fix.as_ref().map(|fix| format!("to do: {fix}")));
    let lines: Vec<String> = lines.iter().map(|line| clean(line)).collect();
    let told = |mut status: TestCaseStatus| {
        status.set_message(clean(&reason)).set_type(gate.verdict.word());
        status
    };
    let failed = |kind| {
        let mut status = told(TestCaseStatus::non_success(kind));
        status.set_description(lines.join("\n"));
        status
    };
    let status = match gate.verdict {
        Verdict::Pass | Verdict::Warn => TestCaseStatus::success(),
        Verdict::Fail => failed(NonSuccessKind::Failure),
        Verdict::Error | Verdict::Open => failed(NonSuccessKind::Error),
        Verdict::Waived | Verdict::NotApplicable => told(TestCaseStatus::skipped()),
    };
    let mut case = TestCase::new(clean(&gate.id), status);
    case.set_classname(format!("greenlight.{}", gate.level.word()));
    if gate.verdict == Verdict::Warn {
        case.set_system_out(format!("{}\n{}", clean(&reason), lines.join("\n")));
    }
    case
}
