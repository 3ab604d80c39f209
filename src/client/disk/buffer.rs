//! Memory that O_DIRECT takes: aligned, and filled with what no device can compress.

/// Bytes at an address that is a multiple of the alignment.
pub struct Buffer {
    memory: Vec<u8>,
    from: usize,
    length: usize,
}

impl Buffer {
    pub fn new(length: usize, align: usize) -> Self {
        let align = align.max(1);
        let mut memory = vec![0; length + align];
        let from = memory.as_ptr().align_offset(align).min(align);
        let mut random = Random::new(memory.as_ptr() as u64);
        for word in memory.chunks_exact_mut(8) {
            word.copy_from_slice(&random.draw().to_le_bytes());
        }
        Self { memory, from, length }
    }

    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.from..self.from + self.length).unwrap_or_default()
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.from..self.from + self.length).unwrap_or_default()
    }
}

/// Numbers that are random enough for offsets and contents (xorshift64, Marsaglia 2003).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below this number, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_differ() {
        for align in [1, 512, 4096] {
            let mut buffer = Buffer::new(8192, align);
            assert_eq!((buffer.bytes().len(), buffer.bytes().as_ptr() as usize % align), (8192, 0));
            assert_ne!(buffer.bytes()[..4096], buffer.bytes()[4096..]);
            assert_eq!(buffer.bytes_mut().len(), 8192);
        }
        let mut random = Random::new(0);
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
    }
}
