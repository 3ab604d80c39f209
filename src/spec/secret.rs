//! Secrets by reference: what is written, printed, stored and digested is where a secret is,
//! never what it is.

use std::cell::RefCell;
use std::fmt;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Deserializer, Serialize};

use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// The name under which the decoder knows the type, so that it never shows what stands there.
pub(super) const NAME: &str = "greenlight::Secret";
/// The one reference that is written as a list.
pub(super) const COMMAND: &str = "command";

/// Tokens, keys and certificates are far smaller.
const LIMIT: u64 = 64 << 10;
/// A vault's client that takes longer is as good as down, and the start waits for it.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

/// Where a secret is.
#[derive(Clone)]
pub struct Secret {
    reference: Reference,
    /// What came of the command when it was last run; shared by all copies.
    cached: Arc<Mutex<Option<Result<Revealed, Fault>>>>,
}

/// A secret is never written in the plan, only where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", rename = "greenlight::Secret")]
#[schemars(rename = "Secret")]
enum Reference {
    /// The name of an environment variable of the agent.
    Env(String),
    /// The path of a file; the newline at its end is no part of the secret.
    File(String),
    /// A program with its arguments, run when the agent starts, and again and again until it has
    /// given a secret once; the newline at the end of what it prints is no part of the secret.
    Command(Vec<String>),
}

/// The secret itself, in clear. It prints as `[secret]`, can't be serialised, and is overwritten
/// when it is dropped.
#[derive(Clone)]
pub struct Revealed(String);

impl Revealed {
    fn new(bytes: Vec<u8>) -> Result<Self, ()> {
        let mut text = String::from_utf8(bytes).map_err(|error| wipe(error.into_bytes()))?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(Self(text))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Overwrites what is not needed any more; `black_box` keeps the compiler from leaving it out.
fn wipe(mut bytes: Vec<u8>) {
    bytes.fill(0);
    std::hint::black_box(&bytes);
}

impl Drop for Revealed {
    fn drop(&mut self) {
        wipe(std::mem::take(&mut self.0).into_bytes());
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Secret {
    pub fn env(name: impl Into<String>) -> Self {
        Self::from(Reference::Env(name.into()))
    }

    pub fn file(path: impl Into<String>) -> Self {
        Self::from(Reference::File(path.into()))
    }

    pub fn command(words: Vec<String>) -> Self {
        Self::from(Reference::Command(words))
    }

    /// Whether `load` has to run something before this can be revealed.
    pub fn is_command(&self) -> bool {
        matches!(self.reference, Reference::Command(_))
    }

    /// Makes sure that it can be revealed: runs the command, up to ten seconds, where it has not
    /// given a secret yet. It blocks, so it is called where that harms nobody: in a cell, or before
    /// anything runs.
    pub fn load(&self) -> Result<(), Fault> {
        if let Reference::Command(words) = &self.reference
            && self.reveal().is_err()
        {
            let answer = run(words);
            *self.cached() = Some(answer);
        }
        self.reveal().map(drop)
    }

    /// Like `load`, but a command is run again though it has given a secret before: for what
    /// expires. Where it fails now, what it gave before is not used any more. It blocks as well.
    pub fn renew(&self) -> Result<(), Fault> {
        if let Reference::Command(words) = &self.reference {
            let answer = run(words);
            *self.cached() = Some(answer);
        }
        self.reveal().map(drop)
    }

    fn cached(&self) -> MutexGuard<'_, Option<Result<Revealed, Fault>>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The secret itself. Variables and files are read anew, so that a rotated secret is found;
    /// a command's answer is the one that `load` got. One that is empty is none: a peer would refuse
    /// it, and that would be told as the peer's fault.
    pub fn reveal(&self) -> Result<Revealed, Fault> {
        match &self.reference {
            Reference::Env(name) => match std::env::var(name) {
                Ok(value) if value.is_empty() => {
                    Err(unreadable(format!("the environment variable `{name}` is empty")))
                }
                Ok(value) => Ok(Revealed(value)),
                Err(std::env::VarError::NotPresent) => {
                    Err(unreadable(format!("the environment variable `{name}` is not set")))
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(unreadable(format!("the environment variable `{name}` is not UTF-8 text")))
                }
            },
            Reference::File(path) => read(path),
            Reference::Command(words) => self.cached().clone().unwrap_or_else(|| {
                let name = program(words);
                Err(unreadable(format!("the secret of command `{name}`: it has given none yet")))
            }),
        }
    }
}

fn unreadable(text: String) -> Fault {
    Fault::new(FaultCode::Unreadable, text)
}

fn read(path: &str) -> Result<Revealed, Fault> {
    let failed = |error: std::io::Error| unreadable(format!("the secret in `{path}`: {error}"));
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        // A pipe would keep the agent waiting.
        return Err(unreadable(format!("the secret in `{path}`: this is no file")));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        wipe(bytes);
        return Err(unreadable(format!("the secret in `{path}` is larger than 64 KiB")));
    }
    let revealed = Revealed::new(bytes)
        .map_err(|()| unreadable(format!("the secret in `{path}` is not UTF-8 text")))?;
    match revealed.0.is_empty() {
        true => Err(unreadable(format!("the secret in `{path}` is empty"))),
        false => Ok(revealed),
    }
}

fn program(words: &[String]) -> &str {
    words.first().map_or("", String::as_str)
}

/// Runs a command and takes what it prints. Its arguments may be secrets too: only the program is
/// ever named. What it writes to standard error goes nowhere.
fn run(words: &[String]) -> Result<Revealed, Fault> {
    let name = program(words);
    let fault = |text: String| unreadable(format!("the secret of command `{name}`: {text}"));
    let mut child = Command::new(name)
        .args(words.iter().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| fault(error.to_string()))?;
    let answer = answer(&mut child);
    if answer.is_err() {
        // Both fail only where it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
    let bytes = answer.map_err(fault)?;
    let revealed = Revealed::new(bytes).map_err(|()| fault("it printed no UTF-8 text".into()))?;
    match revealed.0.is_empty() {
        true => Err(fault("it printed nothing".into())),
        false => Ok(revealed),
    }
}

fn answer(child: &mut Child) -> Result<Vec<u8>, String> {
    let until = Mono::now().plus(COMMAND_DEADLINE);
    let late = || format!("no answer within {} s", COMMAND_DEADLINE.as_secs());
    let mut output = child.stdout.take().ok_or("its output can't be read")?;
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let left = until.since(Mono::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut ready = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) => return Err(late()),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.to_string()),
        }
        let count = output.read(&mut buffer).map_err(|error| error.to_string())?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if bytes.len() as u64 > LIMIT {
            wipe(bytes);
            return Err("it printed more than 64 KiB".into());
        }
    }
    wipe(buffer.to_vec());
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(bytes),
            Some(status) => {
                wipe(bytes);
                return Err(format!("it ended with {status}"));
            }
            None if Mono::now() >= until => return Err(late()),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl From<Reference> for Secret {
    fn from(reference: Reference) -> Self {
        Self { reference, cached: Arc::default() }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.reference == other.reference
    }
}

impl Eq for Secret {}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Reference::Env(name) => write!(f, "{{env: {name}}}"),
            Reference::File(path) => write!(f, "{{file: {path}}}"),
            Reference::Command(words) => write!(f, "{{command: [{}]}}", words.join(", ")),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.reference.serialize(serializer)
    }
}

thread_local! {
    /// The secrets that are decoded on this thread, while somebody collects them.
    static MADE: RefCell<Vec<Secret>> = const { RefCell::new(Vec::new()) };
}

/// Runs something that decodes, and returns the secrets it met.
pub(super) fn collect<T>(decode: impl FnOnce() -> T) -> (T, Vec<Secret>) {
    MADE.take();
    let made = decode();
    (made, MADE.take())
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let reference = Reference::deserialize(deserializer)?;
        let empty = match &reference {
            Reference::Env(name) => name.is_empty().then_some("the name of the variable is empty"),
            Reference::File(path) => path.is_empty().then_some("the path is empty"),
            Reference::Command(words) => {
                program(words).is_empty().then_some("the command names no program")
            }
        };
        if let Some(text) = empty {
            return Err(serde::de::Error::custom(text));
        }
        let secret = Self::from(reference);
        MADE.with_borrow_mut(|made| made.push(secret.clone()));
        Ok(secret)
    }
}

impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Reference::json_schema(generator)
    }
}

#[cfg(test)]
mod tests;
