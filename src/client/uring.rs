//! A queue of reads and writes by io_uring: as many under way as the depth says, from one thread.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

use super::disk::buffer::Buffer;
use crate::time::Mono;

/// One request of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub write: bool,
    pub offset: u64,
}

/// A request that has come to its end: when it was started, and how many bytes it moved.
pub type Done = (Mono, io::Result<usize>);

/// A ring, and the buffers that its requests use. Nothing of it is freed while the kernel works
/// with it.
pub struct Ring {
    ring: IoUring,
    /// One a slot; behind a box each, so that they stay where they are.
    buffers: Vec<Buffer>,
    /// When each slot's request was started; None while the slot is free.
    began: Vec<Option<Mono>>,
}

impl Ring {
    /// EPERM and ENOSYS where the kernel, its settings or a container's seccomp profile don't
    /// let us have one.
    pub fn new(depth: usize, block: usize, align: usize) -> io::Result<Self> {
        let entries = u32::try_from(depth).map_err(io::Error::other)?;
        let ring = IoUring::new(entries.next_power_of_two())?;
        Ok(Self {
            ring,
            buffers: (0..depth).map(|_| Buffer::new(block, align)).collect(),
            began: vec![None; depth],
        })
    }

    pub fn under_way(&self) -> usize {
        self.began.iter().flatten().count()
    }

    /// When the oldest request under way was started.
    pub fn oldest(&self) -> Option<Mono> {
        self.began.iter().flatten().min().copied()
    }

    /// Starts a request in a free slot; false where none is free.
    pub fn start(&mut self, file: &File, request: Request) -> io::Result<bool> {
        let free = self.began.iter().position(Option::is_none);
        let Some(slot) = free else { return Ok(false) };
        let (Some(buffer), Some(began)) = (self.buffers.get_mut(slot), self.began.get_mut(slot))
        else {
            return Ok(false);
        };
        let fd = types::Fd(file.as_raw_fd());
        let bytes = buffer.bytes_mut();
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let entry = if request.write {
            opcode::Write::new(fd, bytes.as_ptr(), length).offset(request.offset).build()
        } else {
            opcode::Read::new(fd, bytes.as_mut_ptr(), length).offset(request.offset).build()
        };
        let entry = entry.user_data(slot as u64);
        let now = Mono::now();
        // SAFETY: the buffer is of this length and belongs to the slot alone until its completion
        // was seen: `began` keeps the slot taken, and `drop` waits for all that is under way. The
        // descriptor is open until the entry was submitted, just below.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            return Ok(false);
        }
        *began = Some(now);
        self.ring.submit()?;
        Ok(true)
    }

    /// Waits for at least one request under way, and hands over each that has ended.
    pub fn finish(&mut self, mut each: impl FnMut(Done)) -> io::Result<()> {
        if self.under_way() == 0 {
            return Ok(());
        }
        if let Err(error) = self.ring.submit_and_wait(1)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for entry in self.ring.completion() {
            let slot = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let Some(began) = self.began.get_mut(slot).and_then(Option::take) else { continue };
            let result = usize::try_from(entry.result())
                .map_err(|_| io::Error::from_raw_os_error(entry.result().saturating_neg()));
            each((began, result));
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.under_way() > 0 {
            if self.finish(drop).is_err() {
                // The kernel may still write into them.
                std::mem::forget(std::mem::take(&mut self.buffers));
                return;
            }
        }
    }
}
