//! The points of one instant in one row: of each its track's id, what it is, and a number's eight
//! bytes. Most numbers of a quiet node are 0, and take none.

use crate::series::Value;

const NUMBER: u8 = 0;
const NOTHING: u8 = 1;
const FAILED: u8 = 2;
const INCONCLUSIVE: u8 = 3;
const ZERO: u8 = 4;

/// Adds a point.
pub(super) fn put(bytes: &mut Vec<u8>, track: i64, value: Value) {
    let mut rest = track.cast_unsigned();
    // Seven bits a byte, the lowest first; the highest bit says that more come (LEB128).
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    match value {
        Value::Number(number) if number.to_bits() == 0 => bytes.push(ZERO),
        Value::Number(number) => {
            bytes.push(NUMBER);
            bytes.extend(number.to_le_bytes());
        }
        Value::Nothing => bytes.push(NOTHING),
        Value::Failed => bytes.push(FAILED),
        Value::Inconclusive => bytes.push(INCONCLUSIVE),
    }
}

/// All points, as far as they make sense.
pub(super) fn points(mut bytes: &[u8]) -> impl Iterator<Item = (i64, Value)> {
    std::iter::from_fn(move || {
        let mut track = 0_u64;
        for place in 0..10 {
            let byte = take(&mut bytes)?;
            track |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                break;
            }
        }
        let value = match take(&mut bytes)? {
            NUMBER => {
                let (number, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Value::Number(f64::from_le_bytes(*number))
            }
            NOTHING => Value::Nothing,
            FAILED => Value::Failed,
            INCONCLUSIVE => Value::Inconclusive,
            ZERO => Value::Number(0.0),
            _ => return None,
        };
        Some((track.cast_signed(), value))
    })
}

fn take(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            4 => any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::Number),
            1 => Just(Value::Number(0.0)),
            1 => Just(Value::Nothing),
            1 => Just(Value::Failed),
            1 => Just(Value::Inconclusive),
        ]
    }

    proptest! {
        #[test]
        fn what_was_put_is_read(all in prop::collection::vec((any::<i64>(), value()), 0..50)) {
            let mut bytes = Vec::new();
            all.iter().for_each(|(track, value)| put(&mut bytes, *track, *value));
            let read: Vec<_> = points(&bytes).collect();
            prop_assert_eq!(read, all);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(points(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn a_quiet_second_is_small() {
        let mut bytes = Vec::new();
        (1..=100).for_each(|track| put(&mut bytes, track, Value::Number(0.0)));
        assert_eq!(bytes.len(), 200);
    }
}
