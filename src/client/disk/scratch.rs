//! The file that is measured with: without a name, small, and only where there is room.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::client::kernel;
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode, Trouble};

/// No file is larger.
pub const SIZE_MOST: u64 = 64 << 20;

/// With less than this share free, writing more is no test any more but the fault itself.
const FREE_LEAST: f64 = 0.10;

/// The share of what is free that a file may take.
const FREE_SHARE: f64 = 0.01;

/// A smaller file measures caches.
const SIZE_LEAST: u64 = 1 << 20;

/// What O_DIRECT asks for where the kernel does not say (before Linux 6.1).
const ALIGN_USUAL: usize = 4096;

/// The device that a directory is on, as `st_dev` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    pub major: u64,
    pub minor: u64,
}

impl Device {
    pub fn of(directory: &Path) -> Result<Self, Trouble> {
        let metadata = fs::metadata(directory)
            .map_err(|error| trouble(&error, &format!("looking at {}", directory.display())))?;
        if !metadata.is_dir() {
            let text = format!("{} is no directory", directory.display());
            return Err(Trouble::fault(FaultCode::Unreadable, text));
        }
        let device = metadata.dev();
        Ok(Self { major: nix::sys::stat::major(device), minor: nix::sys::stat::minor(device) })
    }
}

/// Keeps every other prober off a device, of this process and of others: a name that the kernel
/// forgets with the process.
pub struct Lease(#[expect(dead_code, reason = "it is the holding that counts")] UnixDatagram);

impl Lease {
    /// None while another has it.
    pub fn take(device: Device) -> Result<Option<Self>, Fault> {
        let name = format!("greenlight-disk-{}:{}", device.major, device.minor);
        let bound = SocketAddr::from_abstract_name(name)
            .and_then(|address| UnixDatagram::bind_addr(&address));
        match bound {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(Fault::new(
                FaultCode::Exhausted,
                format!("no lock for one prober a device could be had: {error}"),
            )),
        }
    }
}

/// The file, and what is known of where it is.
pub struct Scratch {
    pub file: File,
    pub size: u64,
    /// Of addresses, offsets and lengths; 1 where the cache is used.
    pub align: usize,
}

impl Scratch {
    /// A file of at most `most` bytes, all of them allocated.
    pub fn new(directory: &Path, most: u64, direct: bool) -> Result<Self, Trouble> {
        let size = room(directory)?.min(most).min(SIZE_MOST);
        let place = directory.display();
        let mut flags = OFlag::O_TMPFILE;
        if direct {
            flags |= OFlag::O_DIRECT;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(flags.bits())
            .open(directory)
            .map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
                // EISDIR is what a kernel or a filesystem says that knows no O_TMPFILE.
                Some(Errno::EOPNOTSUPP | Errno::EISDIR) => Trouble::fault(
                    FaultCode::Unsupported,
                    format!(
                        "the filesystem of {place} has no files without a name (O_TMPFILE), and a \
                         named one could be left behind"
                    ),
                ),
                Some(Errno::EINVAL) if direct => Trouble::fault(
                    FaultCode::Unsupported,
                    format!("the filesystem of {place} does not let the cache be passed by (O_DIRECT: EINVAL)"),
                ),
                _ => trouble(&error, &format!("making a file in {place}")),
            })?;
        let length = i64::try_from(size).unwrap_or(i64::MAX);
        // As fio and etcd do before they write; where the filesystem can't, the file only has the
        // length.
        match nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, length) {
            Ok(()) => {}
            Err(Errno::EOPNOTSUPP) => file
                .set_len(size)
                .map_err(|error| trouble(&error, &format!("making a file in {place}")))?,
            Err(errno) => {
                return Err(trouble(&errno.into(), &format!("allocating a file in {place}")));
            }
        }
        let align = match direct {
            false => 1,
            true => kernel::direct_align(&file).map_or(ALIGN_USUAL, |align| align as usize),
        };
        Ok(Self { file, size, align })
    }
}

/// The size of a filesystem and what of it is available, in bytes.
pub fn space(directory: &Path) -> Result<(f64, f64), Trouble> {
    let space = nix::sys::statvfs::statvfs(directory)
        .map_err(|errno| trouble(&errno.into(), &format!("statvfs of {}", directory.display())))?;
    let unit = space.fragment_size() as f64;
    Ok((space.blocks() as f64 * unit, space.blocks_available() as f64 * unit))
}

/// How many bytes may be written here.
fn room(directory: &Path) -> Result<u64, Trouble> {
    let place = directory.display();
    let (size, free) = space(directory)?;
    let exhausted = |text: String| Trouble::fault(FaultCode::Exhausted, text);
    if size <= 0.0 || free < size * FREE_LEAST {
        return Err(exhausted(format!(
            "{place} has {:.1} % free: below {:.0} % nothing is written to it; free space first",
            100.0 * free / size.max(1.0),
            100.0 * FREE_LEAST
        )));
    }
    let room = (free * FREE_SHARE) as u64;
    if room < SIZE_LEAST {
        return Err(exhausted(format!(
            "a hundredth of what is free in {place} is {room} bytes: too small a file to measure with"
        )));
    }
    Ok(room)
}

/// Whose fault an error of the filesystem is.
pub fn trouble(error: &io::Error, doing: &str) -> Trouble {
    let text = format!("{doing}: {error}");
    match error.raw_os_error().map(Errno::from_raw) {
        Some(
            Errno::EIO
            | Errno::ENXIO
            | Errno::ENODEV
            | Errno::ESTALE
            | Errno::ENOTCONN
            | Errno::EROFS
            | Errno::EUCLEAN
            | Errno::EBADMSG
            | Errno::ESHUTDOWN
            | Errno::ETIMEDOUT,
        ) => Reason::new(ReasonCode::IoError, text).into(),
        Some(Errno::EACCES | Errno::EPERM) => Trouble::fault(
            FaultCode::Permission,
            format!("{text}; let the agent's user write to the directory"),
        ),
        Some(Errno::ENOSPC | Errno::EDQUOT | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => {
            Trouble::fault(FaultCode::Exhausted, text)
        }
        Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            Trouble::fault(FaultCode::Unsupported, text)
        }
        _ => Trouble::fault(FaultCode::Unreadable, text),
    }
}
