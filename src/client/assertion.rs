//! What is asked of an answer's text and JSON: substrings, regular expressions, jq programs.

use std::fmt;

use jaq_core::data::JustLut;
use jaq_core::load::lex::{Lexer, Tok, Token};
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, compile, unwrap_valr};
use jaq_json::Val;
use serde_json::Value;

/// A program's text is written by hand; more is a mistake.
const PROGRAM_LIMIT: usize = 16 * 1024;

/// The most values that one run may yield: more hits than a look asks for are never in one answer.
pub const OUTPUTS_LIMIT: usize = 20_000;

/// The most text that the values of one run may have together.
const OUTPUT_BYTES_LIMIT: usize = 32 * 1024 * 1024;

/// A regular expression compiles to at most this (the crate's own default is 10 MiB).
const REGEX_LIMIT: usize = 1024 * 1024;

/// What may run without an end, or reaches beyond its input. A program runs to its end on the one
/// runtime thread and can't be interrupted, so it must be one that ends by itself.
const REFUSED: &[(&str, &str)] = &[
    ("def", "definitions may recurse without an end"),
    ("repeat", "it never ends"),
    ("while", "it may never end"),
    ("until", "it may never end"),
    ("range", "it may yield without an end"),
    ("combinations", "it grows exponentially"),
    ("recurse(f)", "it may never end; `recurse` and `..` do"),
    ("input", "there is one input only: `.`"),
    ("inputs", "there is one input only: `.`"),
    ("env", "the environment may hold secrets"),
    ("halt", "it has no meaning here"),
    ("halt_error", "it has no meaning here"),
    ("debug", "it has no meaning here"),
    ("stderr", "it has no meaning here"),
];

/// A compiled jq program (jaq's dialect).
pub struct Jq {
    text: String,
    filter: compile::Filter<jaq_core::Native<JustLut<Val>>>,
}

impl fmt::Debug for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jq").field(&self.text).finish()
    }
}

impl Jq {
    /// Compiles a program; the error names the part that is wrong.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > PROGRAM_LIMIT {
            return Err(format!("a jq program of more than {PROGRAM_LIMIT} bytes"));
        }
        let wrong = |why: String| format!("the jq program `{text}` is wrong: {why}");
        if let Ok(tokens) = Lexer::new(text).lex() {
            refused(&tokens).map_err(wrong)?;
        }
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(defs)
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| wrong(not_loaded(&errors)))?;
        let filter = Compiler::default()
            .with_funs(funs)
            .compile(modules)
            .map_err(|errors| wrong(not_compiled(&errors)))?;
        Ok(Self { text: text.to_owned(), filter })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// All values that the program yields for one input, within limits.
    pub fn run(&self, input: &Value) -> Result<Vec<Value>, String> {
        let failed = |why: &dyn fmt::Display| format!("`{}` failed: {why}", self.text);
        let input: Val = serde::Deserialize::deserialize(input).map_err(|e| failed(&e))?;
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let mut values = Vec::new();
        let mut bytes = 0_usize;
        for value in self.filter.id.run((context, input)).map(unwrap_valr) {
            let text = value.map_err(|error| failed(&shortened(&error.to_string())))?.to_string();
            bytes = bytes.saturating_add(text.len());
            if values.len() >= OUTPUTS_LIMIT || bytes > OUTPUT_BYTES_LIMIT {
                return Err(failed(&format!("it yields more than {OUTPUTS_LIMIT} values")));
            }
            values.push(serde_json::from_str(&text).map_err(|_| {
                failed(&format!("it yields what is no JSON: {}", shortened(&text)))
            })?);
        }
        Ok(values)
    }

    /// Whether the program yields `true` and nothing else. The error says what it yields instead.
    pub fn holds(&self, input: &Value) -> Result<(), String> {
        let values = self.run(input)?;
        if values.is_empty() {
            return Err(format!("`{}` yields nothing, and should yield true", self.text));
        }
        match values.iter().find(|value| **value != Value::Bool(true)) {
            None => Ok(()),
            Some(other) => Err(format!(
                "`{}` yields {}, and should yield true",
                self.text,
                shortened(&other.to_string())
            )),
        }
    }
}

fn refused(tokens: &[Token<&str>]) -> Result<(), String> {
    let mut before = "";
    for (index, Token(text, kind)) in tokens.iter().enumerate() {
        match kind {
            // After a point it is the name of a field.
            Tok::Word if before != "." => {
                let with_arguments = matches!(
                    tokens.get(index + 1),
                    Some(Token(next, Tok::Block(_))) if next.starts_with('(')
                );
                let name = if *text == "recurse" && with_arguments { "recurse(f)" } else { text };
                if let Some((name, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
                    return Err(format!("`{name}` can't be used: {why}"));
                }
            }
            Tok::Block(inner) => refused(inner)?,
            Tok::Str(parts) => {
                for part in parts {
                    if let load::lex::StrPart::Term(inner) = part {
                        refused(std::slice::from_ref(inner))?;
                    }
                }
            }
            _ => {}
        }
        before = text;
    }
    Ok(())
}

fn not_loaded(errors: &load::Errors<&str, ()>) -> String {
    let near = |at: &str| {
        if at.is_empty() { "its end".to_owned() } else { format!("`{}`", shortened(at)) }
    };
    for (_, error) in errors {
        match error {
            load::Error::Lex(found) => {
                if let Some((_, at)) = found.first() {
                    return format!("no token is like what stands at {}", near(at));
                }
            }
            load::Error::Parse(found) => {
                if let Some((expected, at)) = found.first() {
                    return format!("{} was expected at {}", expected.as_str(), near(at));
                }
            }
            load::Error::Io(_) => return "it can't import modules".to_owned(),
        }
    }
    "it can't be read".to_owned()
}

fn not_compiled(errors: &compile::Errors<&str, ()>) -> String {
    errors.iter().flat_map(|(_, found)| found).next().map_or_else(
        || "it can't be compiled".to_owned(),
        |(name, kind)| format!("there is no {} `{name}`", kind.as_str()),
    )
}

fn shortened(text: &str) -> String {
    super::http::excerpt(text.as_bytes())
}

/// A regular expression with a bounded size.
pub fn regex(text: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(text)
        .size_limit(REGEX_LIMIT)
        .build()
        .map_err(|error| format!("the regular expression `{text}` is wrong: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_that_hold_and_that_do_not() {
        let input = json!({"status": "green", "nodes": [{"up": true}, {"up": true}], "range": 3});
        for text in [
            ".status == \"green\"",
            ".nodes | length == 2",
            ".nodes[] | .up",
            "all(.nodes[]; .up)",
            ".range == 3",
            "[..] | length == 8",
            "\"\\(.range)\" == \"3\"",
        ] {
            assert_eq!(Jq::compile(text).unwrap().holds(&input), Ok(()), "{text}");
        }
        for (text, shown) in [
            (".status == \"red\"", "yields false"),
            (".status", "yields \"green\""),
            ("empty", "yields nothing"),
            (".nodes[] | .up, .down", "yields null"),
            (".status.x", "failed"),
            ("[limit(5; .nodes[])] | length / 0 | . > 1 | not, 0 / 0", "yields"),
        ] {
            let why = Jq::compile(text).unwrap().holds(&input).unwrap_err();
            assert!(why.contains(shown) && why.contains(text), "{text}: {why}");
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_text() {
        for (text, shown) in [
            (".a | ", "its end"),
            ("", "its end"),
            (".a[", "no token"),
            ("frobnicate", "`frobnicate`"),
            (".a == $b", "`$b`"),
            ("import \"x\" as x; .", "import"),
            ("def f: f; f", "`def`"),
            ("[.[] | (while(true; .))]", "`while`"),
            ("\"\\(repeat(1))\"", "`repeat`"),
            ("recurse(.)", "recurse(f)"),
            ("env.HOME", "secrets"),
        ] {
            let why = Jq::compile(text).map(|_| ()).unwrap_err();
            assert!(why.contains(shown), "{text}: {why}");
        }
        assert!(regex("(").unwrap_err().contains("`(`"));
        assert!(regex("(a{1000}){1000}").is_err());
    }

    #[test]
    fn outputs_are_bounded() {
        let many: Vec<u32> = (0..=u32::try_from(OUTPUTS_LIMIT).unwrap()).collect();
        let why = Jq::compile(".[]").unwrap().run(&json!(many)).unwrap_err();
        assert!(why.contains("more than"), "{why}");
    }

    #[test]
    fn no_text_makes_the_compiler_panic() {
        let tried = std::cell::Cell::new(0);
        proptest!(ProptestConfig::with_cases(600), |(text in "[-.a-z0-9$@\"\\\\|,;:(){}\\[\\] =<>?/*+]{0,24}")| {
            tried.set(tried.get() + 1);
            if let Ok(program) = Jq::compile(&text) {
                drop(program.run(&json!({"a": [1, "x", null]})));
            }
        });
        eprintln!("property jq programs: {} inputs", tried.get());
        assert!(tried.get() >= 600);
    }
}
