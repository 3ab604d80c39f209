//! One writer a state directory: a lock that names its process and goes with it, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::time::Wall;

/// The name of the lock's file.
const FILE: &str = "lock";

/// Held while this lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

pub(super) enum Refusal {
    /// Who holds it.
    Held(String),
    Io(std::io::Error),
}

impl Lock {
    pub(super) fn take(dir: &Path, now: Wall) -> Result<Self, Refusal> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(FILE))
            .map_err(Refusal::Io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let text = format!("process {} (since {})\n", std::process::id(), now.rfc3339());
                // The lock is what counts; its text is for people, and a full disk may eat it.
                let written = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| file.write_all(text.as_bytes()));
                if let Err(error) = written {
                    tracing::debug!(%error, "the lock's file could not be written");
                }
                Ok(Self { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let holder =
                    match std::io::Read::by_ref(&mut file).take(200).read_to_string(&mut text) {
                        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
                        _ => String::from("another process"),
                    };
                Err(Refusal::Held(holder))
            }
            Err((_, errno)) => Err(Refusal::Io(errno.into())),
        }
    }
}
