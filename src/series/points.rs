//! The points of one track, oldest first. They are most of what an agent with long windows holds: a value
//! takes eight bytes, and one that has not changed (most counters of what should never happen) is kept once.

use std::collections::VecDeque;

use super::Value;
use super::times::Times;
use crate::time::Mono;

/// One sample, or the lack of it. All points of one attempt carry the instant at which it began;
/// that is how they are told to be one attempt's.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub at: Mono,
    packed: Packed,
}

impl Point {
    pub fn value(self) -> Value {
        self.packed.value()
    }
}

/// A value in eight bytes: the numbers that are not finite, which no measurement is, stand for the lack
/// of one.
#[derive(Clone, Copy, Debug)]
struct Packed(f64);

impl Packed {
    const NOTHING: f64 = f64::INFINITY;
    const FAILED: f64 = f64::NEG_INFINITY;
    const INCONCLUSIVE: f64 = f64::NAN;

    /// What is no finite number was not measured.
    fn new(value: Value) -> Self {
        Self(match value {
            Value::Number(number) if number.is_finite() => number,
            Value::Nothing => Self::NOTHING,
            Value::Failed => Self::FAILED,
            Value::Number(_) | Value::Inconclusive => Self::INCONCLUSIVE,
        })
    }

    fn value(self) -> Value {
        match self.0 {
            number if number.is_finite() => Value::Number(number),
            Self::NOTHING => Value::Nothing,
            Self::FAILED => Value::Failed,
            _ => Value::Inconclusive,
        }
    }

    /// To the bit: -0 is another number than 0.
    fn is(self, other: Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

#[derive(Clone, Debug)]
pub struct Points {
    times: Times,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    /// Of every point there is.
    Same(Packed),
    Each(VecDeque<Packed>),
}

impl Default for Points {
    fn default() -> Self {
        Self { times: Times::default(), values: Values::Same(Packed::new(Value::Nothing)) }
    }
}

impl Points {
    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, place: usize) -> Option<Point> {
        let at = self.times.get(place)?;
        let packed = match &self.values {
            Values::Same(value) => *value,
            Values::Each(values) => *values.get(place)?,
        };
        Some(Point { at, packed })
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Point> {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    pub fn times(&self) -> impl DoubleEndedIterator<Item = Mono> {
        (0..self.len()).filter_map(|place| self.times.get(place))
    }

    /// How many come first of which this is true, where it is true of no later one.
    pub fn before(&self, is_before: impl Fn(Mono) -> bool) -> usize {
        self.times.before(is_before)
    }

    /// Adds one in its place by time, of which there is `room` before more has to be made.
    pub(super) fn insert(&mut self, place: usize, at: Mono, value: Value) {
        let value = Packed::new(value);
        if self.is_empty() {
            self.values = Values::Same(value);
        }
        if let Values::Same(same) = self.values
            && !same.is(value)
        {
            let mut each = VecDeque::new();
            each.reserve_exact(self.times.room());
            each.extend(std::iter::repeat_n(same, self.len()));
            self.values = Values::Each(each);
        }
        self.times.insert(place, at);
        if let Values::Each(values) = &mut self.values {
            values.insert(place, value);
        }
    }

    pub(super) fn drop_oldest(&mut self, count: usize) {
        self.times.drop_oldest(count);
        if let Values::Each(values) = &mut self.values {
            values.drain(..count.min(values.len()));
        }
    }

    /// Points that find room as it is.
    pub(super) fn room(&self) -> usize {
        self.times.room()
    }

    /// Makes room for so many in all.
    pub(super) fn make_room(&mut self, room: usize) {
        self.times.make_room(room);
        if let Values::Each(values) = &mut self.values {
            values.reserve_exact(room.saturating_sub(values.len()));
        }
    }

    pub(super) fn shrink_to(&mut self, room: usize) {
        self.times.shrink_to(room);
        if let Values::Each(values) = &mut self.values {
            values.shrink_to(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(value: Value) -> Value {
        Packed::new(value).value()
    }

    #[test]
    fn a_value_is_kept_as_it_was_given_in_eight_bytes() {
        assert_eq!(size_of::<Packed>(), 8);
        let numbers = [0.0, -0.0, 1.5, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324];
        for number in numbers {
            let kept = kept(Value::Number(number));
            assert!(matches!(kept, Value::Number(same) if same.to_bits() == number.to_bits()));
        }
        for value in [Value::Nothing, Value::Failed, Value::Inconclusive] {
            assert_eq!(kept(value), value);
        }
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(kept(Value::Number(number)), Value::Inconclusive);
        }
    }

    proptest! {
        /// Beside a plain list, whatever is done: few values, so that they are often the same.
        #[test]
        fn it_is_a_list_however_values_repeat(
            steps in prop::collection::vec((0_usize..8, 0_usize..4, 0_usize..6), 0..60),
        ) {
            let values = [Value::Number(0.0), Value::Number(-0.0), Value::Failed, Value::Nothing];
            let (mut points, mut list) = (Points::default(), Vec::new());
            for (number, (place, value, gone)) in steps.into_iter().enumerate() {
                let (at, value) = (Mono::from_secs(number as i64), values[value]);
                // Every other one last, as nearly all are.
                let place = if number % 2 == 0 { list.len() } else { place.min(list.len()) };
                points.insert(place, at, value);
                list.insert(place, (at, value));
                if gone == 5 {
                    let gone = place.min(list.len());
                    points.drop_oldest(gone);
                    list.drain(..gone);
                }
                let seen: Vec<_> = points.iter().map(|point| (point.at, point.value())).collect();
                // Debug tells -0 from 0.
                prop_assert_eq!(format!("{seen:?}"), format!("{list:?}"));
                prop_assert_eq!(points.len(), list.len());
            }
        }
    }
}
