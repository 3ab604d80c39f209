//! A picture of what a stage showed: an exhibit beside its number, by which nothing is judged.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a stage showed of one round, as a picture; or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Exhibit {
    /// The round.
    pub run: String,
    /// When the picture was asked for: RFC 3339, UTC. The number had been read before, of the same
    /// range and variables.
    pub at: String,
    /// What was read as the number; null where nothing was.
    pub showed: Option<String>,
    pub picture: Option<Picture>,
    /// Why there is no picture, or why it is not kept.
    pub missing: Option<String>,
}

/// A PNG, by what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Picture {
    /// Under the state directory; null where it is not kept.
    pub file: Option<String>,
    /// Of the file, in hexadecimal digits.
    pub sha256: String,
    pub bytes: u64,
    /// In pixels.
    pub width: u32,
    pub height: u32,
}

impl fmt::Display for Exhibit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, showed, picture, missing, .. } = self;
        let of = showed.as_ref().map(|text| format!(" of {text:?}")).unwrap_or_default();
        let missing = missing.as_deref().unwrap_or("it is not told why");
        let Some(picture) = picture else { return write!(f, "no picture{of}: {missing}") };
        let Picture { file, sha256, bytes, width, height } = picture;
        write!(f, "a picture{of}, drawn at {at}: {width} × {height} pixels, {bytes} bytes, ")?;
        match file {
            Some(file) => write!(f, "kept in the state directory as {file}, by its SHA-256"),
            None => write!(f, "SHA-256 {sha256}, not kept: {missing}"),
        }
    }
}
