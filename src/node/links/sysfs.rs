//! Interfaces by sysfs (Documentation/ABI/testing/sysfs-class-net): speed and duplex, which netlink does
//! not tell, and all of it where netlink shows another namespace.
//!
//! Reading speed and duplex takes the kernel's network lock, so a cell reads, now and then.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::node::text::number;
use crate::time::Mono;

/// Megabits to bytes.
const MEGABIT: f64 = 125_000.0;

/// The slaves of a bond; the kernel allows no more than a switch has ports.
const SLAVES_LIMIT: usize = 256;

/// Slaves that are configured, and those of them whose link is up.
pub(super) type Slaves = (u32, u32);

/// The kernel refuses carrier, speed and duplex where an interface is down.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Attributes {
    pub(super) carrier: Option<f64>,
    pub(super) speed: Option<f64>,
    pub(super) half_duplex: Option<bool>,
    pub(super) mtu: Option<f64>,
    pub(super) up: Option<bool>,
    pub(super) bond: Option<Slaves>,
}

impl Attributes {
    /// `index` is the interface's own where it is known: sysfs may be of another namespace, with
    /// an interface of the same name.
    fn read(folder: &Path, index: Option<u32>) -> Self {
        let text = |name: &str| std::fs::read(folder.join(name)).ok();
        let value = |name: &str| number(text(name)?.trim_ascii_end());
        if index.is_some_and(|index| value("ifindex") != Some(u64::from(index))) {
            return Self::default();
        }
        let only_here = Self {
            // An unknown speed is -1, 0 or all ones, whatever the driver's mind.
            speed: value("speed")
                .map(|megabits| megabits as f64)
                .filter(|megabits| (1.0..4e9).contains(megabits))
                .map(|megabits| megabits * MEGABIT),
            half_duplex: match text("duplex").as_deref().map(<[u8]>::trim_ascii_end) {
                Some(b"half") => Some(true),
                Some(b"full") => Some(false),
                _ => None,
            },
            ..Self::default()
        };
        if index.is_some() {
            return only_here;
        }
        Self {
            carrier: value("carrier").filter(|carrier| *carrier <= 1).map(|carrier| carrier as f64),
            mtu: value("mtu").map(|mtu| mtu as f64),
            up: text("operstate").map(|state| state.trim_ascii_end() == b"up"),
            bond: slaves(folder),
            ..only_here
        }
    }
}

/// A slave whose state can't be read counts as missing: it is configured, and not seen to be up.
fn slaves(folder: &Path) -> Option<Slaves> {
    let names = std::fs::read_to_string(folder.join("bonding/slaves")).ok()?;
    let parent = folder.parent()?;
    let (mut configured, mut active) = (0, 0);
    for name in names.split_ascii_whitespace().take(SLAVES_LIMIT) {
        configured += 1;
        let status = parent.join(name).join("bonding_slave/mii_status");
        let up = std::fs::read(status).is_ok_and(|status| status.trim_ascii_end() == b"up");
        active += u32::from(up);
    }
    Some((configured, active))
}

/// One interface, as the cell sees it.
pub(super) struct Watch {
    pub(super) folder: PathBuf,
    index: Option<u32>,
    answer: Mutex<Option<(Mono, Attributes)>>,
}

impl Watch {
    pub(super) fn new(folder: PathBuf, index: Option<u32>) -> Self {
        Self { folder, index, answer: Mutex::new(None) }
    }

    pub(super) fn look(&self) {
        let answer = Attributes::read(&self.folder, self.index);
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some((Mono::now(), answer));
    }

    pub(super) fn answer(&self) -> Option<(Mono, Attributes)> {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
