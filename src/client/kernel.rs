//! What the kernel tells by system calls that no crate wraps safely.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// The kernel's own view of its clock, by adjtimex(2). It tells what a daemon on this node has
/// told the kernel, and so never more than that daemon knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClockState {
    /// Between the clock and what the daemon takes for the time, in seconds.
    pub offset: f64,
    /// The largest error that is possible, in seconds.
    pub max_error: f64,
    pub estimated_error: f64,
    /// How much faster the clock is made to run than it would by itself: 1e-6 is 1 ppm.
    pub frequency: f64,
    pub synchronised: bool,
}

/// Reads the state of the clock; changes nothing, and needs no privilege.
pub fn clock_state() -> Result<ClockState, Errno> {
    // SAFETY: `timex` is integers only, for which zeros are values; with `modes` 0 nothing is set.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes into the structure, which lives and is ours alone for the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state == -1 {
        return Err(Errno::last());
    }
    let (offset, max, estimated, frequency) =
        (timex.offset as f64, timex.maxerror as f64, timex.esterror as f64, timex.freq as f64);
    let unit = if timex.status & libc::STA_NANO == 0 { 1e-6 } else { 1e-9 };
    Ok(ClockState {
        offset: offset * unit,
        max_error: max * 1e-6,
        estimated_error: estimated * 1e-6,
        // Parts per million with 16 bits behind the point.
        frequency: frequency / 65536.0 * 1e-6,
        synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
    })
}

/// Bytes of NVMe's page of health (NVM Express Base Specification 1.4, figure 194).
pub const NVME_HEALTH: usize = 512;

/// struct nvme_admin_cmd of linux/nvme_ioctl.h.
#[repr(C)]
#[derive(Default)]
struct NvmeAdmin {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_length: u32,
    data_length: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// _IOWR('N', 0x41, struct nvme_admin_cmd)
const NVME_ADMIN: u64 = 0xc048_4e41;

/// How long the controller may take; the kernel's own default is a minute.
const NVME_PATIENCE_MS: u32 = 5_000;

/// Reads the page of health of an NVMe controller, opened as /dev/nvmeN. Needs CAP_SYS_ADMIN and
/// changes nothing. EIO where the controller refuses.
pub fn nvme_health(controller: &File) -> Result<[u8; NVME_HEALTH], Errno> {
    let mut page = [0u8; NVME_HEALTH];
    let mut command = NvmeAdmin {
        // Get Log Page, of the whole controller; page 2, so many words less one.
        opcode: 0x02,
        namespace: u32::MAX,
        address: page.as_mut_ptr() as u64,
        data_length: NVME_HEALTH as u32,
        cdw10: 0x02 | ((NVME_HEALTH as u32 / 4 - 1) << 16),
        timeout_ms: NVME_PATIENCE_MS,
        ..NvmeAdmin::default()
    };
    // SAFETY: the descriptor is open; `command` is laid out as the kernel has it, and what it
    // points to is writable, of the length that it says, and outlives the call.
    let answer =
        unsafe { libc::ioctl(controller.as_raw_fd(), NVME_ADMIN as libc::Ioctl, &raw mut command) };
    match answer {
        0 => Ok(page),
        // A status of the controller and not of the kernel.
        1.. => Err(Errno::EIO),
        _ => Err(Errno::last()),
    }
}

/// What O_DIRECT asks of addresses, offsets and lengths on this file (statx with STATX_DIOALIGN,
/// Linux 6.1). None where the kernel or the filesystem does not say. By number, as the C library
/// has had statx only since glibc 2.28.
pub fn direct_align(file: &File) -> Option<u32> {
    const STATX_DIOALIGN: libc::c_uint = 0x2000;
    // SAFETY: zeros are a valid value of a struct of integers.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path is an empty string with its end, and the answer is
    // writable and of the kernel's layout.
    let said = unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            STATX_DIOALIGN,
            &raw mut answer,
        )
    };
    let told = said == 0 && answer.stx_mask & STATX_DIOALIGN != 0;
    let align = answer.stx_dio_mem_align.max(answer.stx_dio_offset_align);
    Some(align).filter(|align| told && align.is_power_of_two())
}

/// The echo library's socket, which it shows by number only.
pub fn borrowed(socket: &surge_ping::AsyncSocket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns the descriptor and outlives what borrows it.
    unsafe { BorrowedFd::borrow_raw(socket.get_native_sock()) }
}

/// Lets this thread's I/O go behind everybody else's (ioprio_set(2), honoured by bfq and, since
/// Linux 5.14, by mq-deadline), or takes that back. Where it is refused, nothing is lost.
pub fn yield_to_others(yielding: bool) {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    let priority = if yielding { CLASS_IDLE } else { 0 };
    // SAFETY: three integers; 0 is the calling thread.
    let _ = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) };
}

/// Lets the threads of a daemon share two arenas of the allocator, before the first of them starts.
/// By itself each gets its own, up to eight a processor (mallopt(3)), and of each it touches a
/// hundred kilobytes and more for the little that a lane allocates.
pub fn share_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two integers, of which the allocator knows the first.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

/// Gives the kernel back what starting took: memory that was allocated for a while and is free
/// again, and the mapped code and constants of this program and its libraries, of which what goes on
/// working soon comes back from the page cache, and what reading a plan took does not. Takes a
/// millisecond.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only looks at what is free, under the allocator's own locks.
    let _ = unsafe { libc::malloc_trim(0) };
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for range in unchanged(&maps) {
        let (start, length) = (range.start as *mut libc::c_void, range.end - range.start);
        // SAFETY: pages of a file that is mapped privately and can't be written to, and of which
        // none is a copy: each holds what the file holds, before and after. It can fail only where
        // the range is none, and then does nothing.
        let _ = unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
}

/// Where files are mapped so that nothing can have been changed in memory (proc_pid_smaps(5)): not
/// writable, and no page a copy of its own, as those are that a loader has written to.
fn unchanged(maps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open = None;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if first == "Anonymous:" {
            found.extend(open.take().filter(|_| words.next() == Some("0")));
        } else if let Some((start, end)) = first.split_once('-') {
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            let readable = words.next().is_some_and(|how| how.starts_with("r-"));
            // Memory has no name, or one in brackets.
            let is_file = words.nth(3).is_some_and(|name| name.starts_with('/'));
            open = number(start)
                .zip(number(end))
                .filter(|(start, end)| readable && is_file && start < end)
                .map(|(start, end)| start..end);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_is_given_back() {
        let maps = "\
00200000-00500000 r--p 00000000 08:01 9 /usr/bin/greenlight
Rss:                 300 kB
Anonymous:             0 kB
00500000-01600000 r-xp 00300000 08:01 9 /usr/bin/greenlight
Anonymous:             0 kB
01600000-01700000 r--p 01400000 08:01 9 /usr/bin/greenlight
Anonymous:          1024 kB
01700000-01720000 rw-p 01500000 08:01 9 /usr/bin/greenlight
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 08:01 10 /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000200000-7f0000300000 r-xp 00000000 00:00 0
Anonymous:             0 kB
zz-1 r-xp 00000000 08:01 9 /usr/bin/greenlight
Anonymous:             0 kB
";
        let found = unchanged(maps);
        assert_eq!(found.len(), 3);
        assert_eq!(found[..2], [0x20_0000..0x50_0000, 0x50_0000..0x160_0000]);
        assert_eq!(found[2], 0x7f00_0000_0000..0x7f00_0010_0000, "a library");
        assert!(unchanged("").is_empty());
        let own = std::fs::read_to_string("/proc/self/smaps").expect("this kernel has it");
        assert!(!unchanged(&own).is_empty(), "{own}");
        give_back_memory();
    }

    #[test]
    fn the_kernel_tells_the_state_of_its_clock() {
        let state = clock_state().unwrap();
        // Documentation of adjtimex(2): the kernel limits the error to 16 s, where it also says
        // that it is not synchronised, and the frequency to 500 ppm.
        assert!((0.0..=16.001).contains(&state.max_error), "{state:?}");
        assert!(state.synchronised || state.max_error > 0.0, "{state:?}");
        assert!(state.offset.abs() <= 0.5 && state.frequency.abs() <= 500e-6, "{state:?}");
    }

    #[test]
    fn alignment_is_that_of_a_device_or_unknown() {
        let file = tempfile::tempfile().unwrap();
        assert!(direct_align(&file).is_none_or(|align| (1..=65536).contains(&align)));
        assert_eq!(direct_align(&File::open("/proc/stat").unwrap()), None);
    }

    #[test]
    fn what_is_no_controller_is_refused() {
        assert_eq!(std::mem::size_of::<NvmeAdmin>(), 72, "as the ioctl's number says");
        let null = File::open("/dev/null").unwrap();
        assert_eq!(nvme_health(&null), Err(Errno::ENOTTY));
    }
}
