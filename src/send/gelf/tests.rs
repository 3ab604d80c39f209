use super::super::post::cases::events;
use super::*;

#[test]
fn messages_are_gelf_1_1() {
    let event = events(1).remove(0);
    let made: Value = serde_json::from_str(&message(&event)).unwrap();
    assert_eq!((&made["version"], &made["host"]), (&"1.1".into(), &"greenlight".into()));
    assert_eq!(made["short_message"], event.message);
    assert_eq!(made["timestamp"], 1_790_000_000.123);
    assert_eq!(made["_greenlight_id"], event.token);
    assert_eq!(made["_greenlight.seq"], 0);
    assert!(made.get("_id").is_none() && made.get("_host.name").is_none());
    let mut own = event;
    own.payload = r#"{"version":"1.1","short_message":"x","host":"y"}"#.into();
    assert_eq!(message(&own).as_bytes(), &own.payload[..]);
}

/// As the specification has it: put together by what the chunks say of themselves.
fn assembled(chunks: &[Bytes]) -> Vec<u8> {
    let mut chunks: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk[..]).collect();
    chunks.sort_by_key(|chunk| chunk[10]);
    let count = chunks.len();
    let mut whole = Vec::new();
    for (number, chunk) in chunks.into_iter().enumerate() {
        assert_eq!(chunk[..2], [0x1e, 0x0f]);
        assert_eq!((&chunk[2..10], chunk[10] as usize), (&[9; 8][..], number));
        assert_eq!(chunk[11] as usize, count);
        whole.extend_from_slice(&chunk[12..]);
    }
    whole
}

#[test]
fn large_messages_go_in_chunks_and_too_large_ones_do_not() {
    let message = |size: usize| Bytes::from((0..size).map(|n| n as u8).collect::<Vec<_>>());
    assert_eq!(chunks(message(100), 100, [9; 8]), Ok(vec![message(100)]));
    for size in [101, 176, 177, 5_000, 88 * 128] {
        let chunks = chunks(message(size), 100, [9; 8]).unwrap();
        assert!(chunks.len() >= 2 && chunks.iter().all(|chunk| chunk.len() <= 100));
        assert_eq!(assembled(&chunks), message(size), "{size}");
    }
    let refused = chunks(message(88 * 128 + 1), 100, [9; 8]).unwrap_err();
    assert!(refused.contains("129 chunks") && refused.contains("chunk_size"), "{refused}");
}
