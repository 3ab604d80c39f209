//! The command line: what was typed, and the exit code. One file a subcommand.

mod check;
mod demo;
mod import;
mod load;
mod node;
mod once;
mod output;
mod plan;
mod privileges;
mod reference;
mod replay;
mod report;
mod run;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::gate::load::{LoadWindow, declare};
use crate::journey::Stage;
use crate::plan::load::{Inputs, STDIN, read_plan};
use crate::plan::{Facts, Invalid, Plan};
use crate::spec::units::{Period, Size};
use output::Output;

/// Exit codes, by the contract.
pub mod exit {
    pub const SUCCESS: u8 = 0;
    pub const FAILURE: u8 = 1;
    pub const INCOMPLETE: u8 = 2;
    pub const USAGE: u8 = 64;
    pub const OURS: u8 = 70;
    pub const CONFIG: u8 = 78;
}

#[derive(Parser)]
#[command(
    name = "greenlight",
    version,
    about = "Proves that a platform is ready to go live, and keeps proving it",
    after_help = "Try it with nothing installed: greenlight demo --once",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct Global {
    /// Least severe message that is logged
    #[arg(long = "log.level", global = true, default_value = "info", value_enum)]
    log_level: LogLevel,
    /// How messages are written to standard error
    #[arg(long = "log.format", global = true, default_value = "logfmt", value_enum)]
    log_format: LogFormat,
    /// Where procfs is mounted
    #[arg(long = "path.procfs", global = true, default_value = "/proc", value_name = "DIR")]
    procfs: PathBuf,
    /// Where sysfs is mounted
    #[arg(long = "path.sysfs", global = true, default_value = "/sys", value_name = "DIR")]
    sysfs: PathBuf,
    /// Where the host's root is mounted
    #[arg(long = "path.rootfs", global = true, default_value = "/", value_name = "DIR")]
    rootfs: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum LogFormat {
    Logfmt,
    Json,
}

#[derive(Args, Clone, Default)]
struct PlanArgs {
    /// A plan file or folder, `-` for standard input; may be repeated [default: /etc/greenlight]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Vec<String>,
    /// Sets a variable of the plan; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable)]
    var: Vec<(String, String)>,
}

#[derive(Args, Clone)]
struct WebArgs {
    /// Address to listen on; `:PORT` listens on all addresses, port 0 picks one
    /// [default: 127.0.0.1:9765; `demo --once` picks a free port]
    #[arg(long = "web.listen-address", value_name = "ADDR", value_parser = address)]
    listen: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Everything at once on an embedded reference platform, with nothing installed
    Demo {
        /// Run the rounds, print the report and exit with the decision's code
        #[arg(long)]
        once: bool,
        /// Make one stage of the embedded platform fail
        #[arg(long = "break", value_name = "STAGE", value_parser = stage)]
        break_stage: Option<Stage>,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        web: WebArgs,
    },
    /// The daemon
    Run {
        #[command(flatten)]
        plan: PlanArgs,
        /// Where state is kept
        #[arg(long, value_name = "DIR", default_value = "/var/lib/greenlight")]
        state: PathBuf,
        #[command(flatten)]
        web: WebArgs,
        /// TLS and users, in exporter-toolkit's format
        #[arg(long = "web.config.file", value_name = "FILE")]
        web_config: Option<PathBuf>,
    },
    /// One-shot acceptance: runs until every gate is decided, prints the report
    Check {
        #[command(flatten)]
        plan: PlanArgs,
        /// The longest time to run [default: what the slowest gate needs]
        #[arg(long = "for", value_name = "DURATION", value_parser = period)]
        at_most: Option<Period>,
        /// Where state is kept [default: in memory]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// When a load is on, for gates with `during: load`: RFC 3339, `now`, `+10m` (an end so
        /// long after the start); may be repeated
        #[arg(long, value_name = "START/END", value_parser = load_window, allow_hyphen_values = true)]
        load: Vec<LoadText>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// One attempt of a check, or one round of a journey, with what it saw
    Once {
        /// The id of a check or a journey
        #[arg(value_name = "CHECK|JOURNEY")]
        id: String,
        #[command(flatten)]
        plan: PlanArgs,
        /// Show everything that was seen
        #[arg(long)]
        debug: bool,
        /// Outside of its allowed times too
        #[arg(long)]
        any_time: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Sends recorded log lines through a journey's way in, with their times moved to now and a
    /// token in each
    Replay {
        /// The recorded lines; `-` reads standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The journey whose way in is used
        #[arg(long, value_name = "ID")]
        journey: String,
        #[command(flatten)]
        plan: PlanArgs,
        /// Lines a second [default: as far apart as they were recorded]
        #[arg(long, value_name = "N", value_parser = positive)]
        rate: Option<f64>,
        /// So many times as fast as recorded
        #[arg(long, value_name = "X", value_parser = positive, default_value = "1")]
        speed: f64,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Proves that a platform takes a rate: sends a journey's events when they are due, whatever
    /// the platform does, and follows each through the journey's stages
    Load {
        /// The id of a journey
        #[arg(value_name = "JOURNEY")]
        journey: String,
        #[command(flatten)]
        plan: PlanArgs,
        #[command(flatten)]
        load: load::LoadArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// What would be done, and every side effect before it happens
    Plan {
        #[command(flatten)]
        plan: PlanArgs,
        /// What each check needs from this node, and what is lost without it
        #[arg(long)]
        privileges: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// The go-live report from a state directory
    Report {
        #[command(flatten)]
        plan: PlanArgs,
        /// Where state is kept
        #[arg(long, value_name = "DIR", default_value = "/var/lib/greenlight")]
        state: PathBuf,
        /// A layer of the ATT&CK Navigator: which techniques alerted, how often and in time
        #[arg(long, value_name = "FILE")]
        attack_layer: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Acceptance tests made of detection rules
    #[command(subcommand)]
    Import(Import),
    /// Prometheus alert rules for every gate, on standard output
    Rules {
        #[command(flatten)]
        plan: PlanArgs,
    },
    /// The JSON Schema of the plan file, or its reference as Markdown
    Schema {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// The reference of every metric
    Metrics,
    /// Completions for a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// The version of this binary
    Version,
}

#[derive(Subcommand)]
enum Import {
    /// Makes a use case of each Sigma rule: an event that matches, a twin that does not, the alert
    Sigma(import::ImportArgs),
}

#[derive(Args, Clone, Default)]
struct OutputArgs {
    /// terminal, json, markdown, junit or html; FORMAT=FILE writes to a file; may be repeated
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_parser = Output::parse)]
    output: Vec<Output>,
    /// Every gate in full, on the terminal
    #[arg(short = 'v', long)]
    verbose: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (1e-3..=1e9).contains(&number) => Ok(number),
        _ => Err("write a number from 0.001 to 1000000000".to_owned()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Whether it can be an address at all; that it can be listened on shows at the start.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':').map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("write HOST:PORT or :PORT, with a port from 0 to 65535".to_owned()),
    }
}

fn stage(text: &str) -> Result<Stage, String> {
    Stage::parse(text).ok_or_else(|| {
        let words: Vec<_> = Stage::ALL.iter().map(|stage| stage.word()).collect();
        format!("expected one of {}", words.join(", "))
    })
}

/// When a load is on, in words: `now` is when it is declared to an agent that looks already, for what
/// was on before nobody saw.
#[derive(Clone, Debug)]
struct LoadText {
    start: String,
    end: String,
}

impl LoadText {
    fn window(&self) -> Result<LoadWindow, String> {
        declare(&self.start, &self.end, "check --load", crate::agent::clock::now())
    }
}

fn load_window(text: &str) -> Result<LoadText, String> {
    let (start, end) = text
        .split_once('/')
        .ok_or("write START/END, such as `now/+10m` or two instants of RFC 3339")?;
    let text = LoadText { start: start.to_owned(), end: end.to_owned() };
    text.window().map(|_| text)
}

fn period(text: &str) -> Result<Period, String> {
    text.parse::<Period>().map_err(|error| error.to_string())
}

fn size(text: &str) -> Result<Size, String> {
    text.parse::<Size>().map_err(|error| error.to_string())
}

/// Parses, runs, and turns everything into an exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, everything else is wrong usage.
            let code = if error.use_stderr() { exit::USAGE } else { exit::SUCCESS };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let asks_nothing =
        matches!(cli.command, Command::Run { .. } | Command::Demo { once: false, .. });
    start_logging(&cli.global, asks_nothing);
    let global = cli.global;
    let done = match cli.command {
        Command::Demo { once, break_stage, output, web } => {
            demo::run(&global, once, break_stage, &output, &web)
        }
        Command::Run { plan, state, web, web_config } => {
            run::run(&global, &plan, &state, &web, web_config)
        }
        Command::Check { plan, at_most, state, load, output } => {
            check::run(&global, &plan, at_most, state.as_deref(), &load, &output)
        }
        Command::Once { id, plan, debug, any_time, output } => {
            once::run(&global, &id, &plan, once::How { debug, any_time }, &output.output)
        }
        Command::Replay { file, journey, plan, rate, speed, output } => {
            let pace = replay::Pace { rate, speed };
            replay::run(&global, &file, &journey, &plan, &pace, &output.output)
        }
        Command::Load { journey, plan, load, output } => {
            load::run(&global, &journey, &plan, &load, &output.output)
        }
        Command::Plan { plan, privileges, output } => {
            plan::run(&global, &plan, privileges, &output.output)
        }
        Command::Report { plan, state, attack_layer, output } => {
            report::run(&global, &plan, &state, &output, attack_layer.as_deref())
        }
        Command::Import(Import::Sigma(arguments)) => import::run(arguments),
        Command::Rules { plan } => plan::rules(&global, &plan),
        Command::Schema { output } => reference::schema(&output.output),
        Command::Metrics => reference::metrics(),
        Command::Completions { shell } => reference::completions(shell),
        Command::Version => reference::version(),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(failure.text.trim_end());
            ExitCode::from(failure.code)
        }
    }
}

/// A line on standard error. What a command decides does not depend on whether anybody reads along:
/// a reader that went away, or a full disk behind it, is no fault.
fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Why a command ended early: the words for standard error and the exit code.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub text: String,
}

impl Failure {
    fn usage(text: impl Into<String>) -> Self {
        Self { code: exit::USAGE, text: format!("greenlight: {}", text.into()) }
    }
    fn ours(text: impl Into<String>) -> Self {
        Self { code: exit::OURS, text: format!("greenlight: {}", text.into()) }
    }
    fn config(text: impl Into<String>) -> Self {
        Self { code: exit::CONFIG, text: text.into() }
    }
}

impl From<Box<Invalid>> for Failure {
    fn from(invalid: Box<Invalid>) -> Self {
        Self::config(invalid.render(colour(std::io::stderr().is_terminal())))
    }
}

/// Whether colour is wanted on a stream.
fn colour(is_terminal: bool) -> bool {
    is_terminal
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|kind| kind != "dumb")
}

impl PlanArgs {
    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs { paths: self.config.clone(), ..Inputs::default() };
        if inputs.paths.is_empty() {
            inputs.paths.push("/etc/greenlight".to_owned());
        }
        inputs.vars = self.var.iter().cloned().collect();
        if inputs.paths.iter().any(|path| path == "-") {
            inputs.stdin = Some(read_plan(std::io::stdin(), STDIN));
        }
        inputs
    }

    fn compile(&self, global: &Global) -> Result<(Inputs, Plan), Failure> {
        let inputs = self.inputs();
        let plan = Plan::compile(&inputs, &facts(global))?;
        if !plan.warnings.is_empty() {
            say(&plan.warnings);
        }
        Ok((inputs, plan))
    }
}

fn facts(global: &Global) -> Facts {
    crate::agent::node::plan_facts(&node::paths(global))
}

fn start_logging(global: &Global, verbose: bool) {
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;

    // A one-shot command speaks through its report; its log is for what went wrong.
    let level = match global.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info if verbose => LevelFilter::INFO,
        LogLevel::Info => LevelFilter::WARN,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // A log that can't be written must not end what it tells of: the layers would say so by a macro
    // that panics where standard error is full or gone.
    let started = match global.log_format {
        LogFormat::Logfmt => tracing_subscriber::registry()
            .with(level)
            .with(
                tracing_logfmt::builder()
                    .layer()
                    .with_writer(std::io::stderr)
                    .log_internal_errors(false),
            )
            .try_init(),
        LogFormat::Json => tracing_subscriber::registry()
            .with(level)
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .with_writer(std::io::stderr)
                    .log_internal_errors(false),
            )
            .try_init(),
    };
    if let Err(error) = started {
        say(format_args!("greenlight: no log: {error}"));
    }
}
