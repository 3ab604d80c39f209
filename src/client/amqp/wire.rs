//! AMQP 0-9-1 on the wire (the specification's section 4.2): frames, methods and their arguments.

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
/// The last byte of every frame.
const END: u8 = 0xce;
/// Type, channel, size and the end.
pub(super) const OVERHEAD: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) channel: u16,
    pub(super) payload: Bytes,
}

/// Takes the first frame out of `bytes`; None where it is not whole yet.
pub(super) fn take(bytes: &mut BytesMut, limit: usize) -> Result<Option<Frame>, &'static str> {
    let Some(head) = bytes.first_chunk::<7>() else {
        // A server that wants another version says so with its own header, and closes.
        return if bytes.starts_with(b"AMQP") { Err("it wants another version") } else { Ok(None) };
    };
    let [kind, c0, c1, s0, s1, s2, s3] = *head;
    if !matches!(kind, METHOD | HEADER | BODY | 8) {
        return Err("this is no frame");
    }
    let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    if size > limit {
        return Err("a frame is larger than was agreed");
    }
    if bytes.len() < size + OVERHEAD {
        return Ok(None);
    }
    let mut frame = bytes.split_to(size + OVERHEAD);
    frame.advance(7);
    let end = frame.split_off(size);
    if end.first() != Some(&END) {
        return Err("a frame does not end where it says");
    }
    Ok(Some(Frame { kind, channel: u16::from_be_bytes([c0, c1]), payload: frame.freeze() }))
}

/// Writes a frame.
pub(super) fn put(out: &mut BytesMut, kind: u8, channel: u16, payload: &[u8]) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.put_slice(payload);
    out.put_u8(END);
}

/// The arguments of a method, as they are written.
pub(super) struct Arguments(BytesMut);

impl Arguments {
    pub(super) fn of(class: u16, method: u16) -> Self {
        let mut bytes = BytesMut::new();
        bytes.put_u16(class);
        bytes.put_u16(method);
        Self(bytes)
    }

    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.put_u8(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.put_u16(value);
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    /// At most 255 bytes; the plan's names are checked to be shorter.
    pub(super) fn short(mut self, text: &str) -> Self {
        let text = text.as_bytes().get(..255).unwrap_or(text.as_bytes());
        self.0.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.put_slice(text);
        self
    }

    pub(super) fn long(mut self, bytes: &[u8]) -> Self {
        self.0.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.put_slice(bytes);
        self
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.freeze()
    }
}

/// A field table: texts and truths are all that we write.
#[derive(Default)]
pub(super) struct Table(BytesMut);

impl Table {
    fn name(&mut self, name: &str, kind: u8) {
        self.0.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        self.0.put_slice(name.as_bytes());
        self.0.put_u8(kind);
    }

    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name, b'S');
        self.0.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.put_slice(value.as_bytes());
        self
    }

    pub(super) fn truth(mut self, name: &str) -> Self {
        self.name(name, b't');
        self.0.put_u8(1);
        self
    }

    pub(super) fn table(mut self, name: &str, inner: &Self) -> Self {
        self.name(name, b'F');
        self.0.put_u32(u32::try_from(inner.0.len()).unwrap_or(u32::MAX));
        self.0.put_slice(&inner.0);
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What stands in a payload, read from its front; None where it ends too early.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn short(&mut self) -> Option<String> {
        let length = self.u8()?;
        Some(String::from_utf8_lossy(self.take(length.into())?).into_owned())
    }

    pub(super) fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }
}

/// What a server says, as far as a publisher cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Start {
        mechanisms: String,
    },
    Tune {
        channel_max: u16,
        frame_max: u32,
    },
    ConnectionClose {
        code: u16,
        text: String,
    },
    ChannelClose {
        code: u16,
        text: String,
    },
    Blocked {
        reason: String,
    },
    Unblocked,
    /// An unroutable message comes back; its content follows.
    Return {
        code: u16,
        text: String,
    },
    /// The header of a content, with the message's id.
    Content {
        size: u64,
        id: Option<String>,
    },
    Body {
        size: usize,
    },
    Ack {
        tag: u64,
        multiple: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
    },
    /// A method without arguments that matter: the answer to what we asked.
    Done {
        class: u16,
        method: u16,
    },
}

/// Reads what a frame says.
pub(super) fn read(frame: &Frame) -> Option<Said> {
    let mut reader = Reader(&frame.payload);
    match frame.kind {
        HEADER => return content(&mut reader),
        BODY => return Some(Said::Body { size: frame.payload.len() }),
        METHOD => {}
        // A heartbeat.
        _ => return Some(Said::Done { class: 0, method: 0 }),
    }
    let (class, method) = (reader.u16()?, reader.u16()?);
    Some(match (class, method) {
        (10, 10) => {
            let _version = reader.u16()?;
            let _properties = reader.long()?;
            let mechanisms = String::from_utf8_lossy(reader.long()?).into_owned();
            Said::Start { mechanisms }
        }
        (10, 30) => Said::Tune { channel_max: reader.u16()?, frame_max: reader.u32()? },
        (10, 50) => Said::ConnectionClose { code: reader.u16()?, text: reader.short()? },
        (10, 60) => Said::Blocked { reason: reader.short()? },
        (10, 61) => Said::Unblocked,
        (20, 40) => Said::ChannelClose { code: reader.u16()?, text: reader.short()? },
        (60, 50) => Said::Return { code: reader.u16()?, text: reader.short()? },
        (60, 80) => Said::Ack { tag: reader.u64()?, multiple: reader.u8()? & 1 == 1 },
        (60, 120) => Said::Nack { tag: reader.u64()?, multiple: reader.u8()? & 1 == 1 },
        (class, method) => Said::Done { class, method },
    })
}

/// Which of a content's properties are there; the others that we write come before the id.
const CONTENT_TYPE: u16 = 1 << 15;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const MESSAGE_ID: u16 = 1 << 7;

fn content(reader: &mut Reader<'_>) -> Option<Said> {
    let (_class, _weight, size) = (reader.u16()?, reader.u16()?, reader.u64()?);
    let flags = reader.u16()?;
    let known = CONTENT_TYPE | HEADERS | DELIVERY_MODE | MESSAGE_ID;
    let id = if flags & !known == 0 { id(flags, reader) } else { None };
    Some(Said::Content { size, id })
}

fn id(flags: u16, reader: &mut Reader<'_>) -> Option<String> {
    if flags & CONTENT_TYPE != 0 {
        reader.short()?;
    }
    if flags & HEADERS != 0 {
        reader.long()?;
    }
    if flags & DELIVERY_MODE != 0 {
        reader.u8()?;
    }
    if flags & MESSAGE_ID != 0 { reader.short() } else { None }
}

/// The header of a content with the properties that `id` reads.
pub(super) fn content_header(size: usize, kind: &str, headers: &Table, id: &str) -> Bytes {
    // Weight 0; delivery mode 2 is "persistent".
    let arguments = Arguments::of(60, 0)
        .u64(size as u64)
        .u16(CONTENT_TYPE | HEADERS | DELIVERY_MODE | MESSAGE_ID)
        .short(kind)
        .long(headers.bytes())
        .u8(2)
        .short(id);
    arguments.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;

    fn framed(kind: u8, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        put(&mut out, kind, 1, payload);
        out
    }

    #[test]
    fn what_is_written_is_read_and_half_a_frame_is_waited_for() {
        let headers = Table::default().text("greenlight-id", "gl1").truth("x");
        let header = content_header(300, "application/json", &headers, "gl1");
        let mut bytes = framed(HEADER, &header);
        let whole = bytes.clone();
        for part in 0..whole.len() {
            let mut half = BytesMut::from(&whole[..part]);
            assert_eq!(take(&mut half, 4096), Ok(None), "{part}");
        }
        let frame = take(&mut bytes, 4096).unwrap().unwrap();
        assert!(bytes.is_empty());
        assert_eq!(read(&frame), Some(Said::Content { size: 300, id: Some("gl1".into()) }));
        let ack = Arguments::of(60, 80).u64(7).u8(1).finish();
        let frame = take(&mut framed(METHOD, &ack), 4096).unwrap().unwrap();
        assert_eq!(read(&frame), Some(Said::Ack { tag: 7, multiple: true }));
        let mut large = framed(BODY, &[0; 100]);
        assert!(take(&mut large, 99).is_err());
        let mut other = BytesMut::from(&b"AMQP\0\0\x09"[..6]);
        assert!(take(&mut other, 4096).is_err(), "another version");
        assert!(take(&mut BytesMut::from(&b"HTTP/1.1 400 Bad Request"[..]), 4096).is_err());
    }

    #[test]
    fn property_frames() {
        let mut runner =
            TestRunner::new(Config { cases: 8192, failure_persistence: None, ..Config::default() });
        let method = (prop_oneof![Just(10_u16), Just(20), Just(60)], 0..121_u16);
        let payload = (method, proptest::collection::vec(any::<u8>(), 0..60)).prop_map(
            |((class, method), rest)| {
                [&class.to_be_bytes()[..], &method.to_be_bytes()[..], &rest[..]].concat()
            },
        );
        let input = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            (1..4_u8, payload).prop_map(|(kind, payload)| framed(kind, &payload).to_vec()),
        ];
        let counter = std::cell::Cell::new((0_u32, 0_u32));
        runner
            .run(&input, |bytes| {
                let (all, understood) = counter.get();
                let mut buffer = BytesMut::from(&bytes[..]);
                let taken = take(&mut buffer, 1024);
                let said = if let Ok(Some(frame)) = &taken { read(frame) } else { None };
                counter.set((all + 1, understood + u32::from(said.is_some())));
                match taken {
                    Ok(Some(frame)) => {
                        prop_assert_eq!(frame.payload.len() + OVERHEAD + buffer.len(), bytes.len());
                    }
                    _ => prop_assert_eq!(&buffer[..], &bytes[..]),
                }
                Ok(())
            })
            .unwrap();
        let (all, understood) = counter.get();
        eprintln!("property amqp frames: {all} inputs, {understood} understood");
        assert!(understood > 1_000);
    }
}
