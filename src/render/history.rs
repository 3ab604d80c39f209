//! The recent values of each gate, as the page draws them.

use std::collections::VecDeque;

/// Values of one gate that the page shows, the newest last.
const POINTS_LIMIT: usize = 120;

/// The recent values of each gate; None where nobody measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    gates: Vec<(String, VecDeque<f32>)>,
}

impl History {
    /// Adds what each gate was judged by: all gates of a plan, always in the same order.
    pub fn push<'a>(&mut self, gates: impl IntoIterator<Item = (&'a str, Option<f64>)>) {
        let mut count = 0;
        for (place, (id, value)) in gates.into_iter().enumerate() {
            count = place + 1;
            if self.gates.get(place).is_none_or(|(known, _)| known != id) {
                self.gates.truncate(place);
                self.gates.push((id.to_owned(), VecDeque::with_capacity(POINTS_LIMIT)));
            }
            let Some((_, points)) = self.gates.get_mut(place) else { return };
            if points.len() >= POINTS_LIMIT {
                points.pop_front();
            }
            // What is drawn is a few hundred pixels wide.
            points.push_back(value.map_or(f32::NAN, |value| value as f32));
        }
        self.gates.truncate(count);
    }

    pub(super) fn of(&self, gate: &str) -> Vec<Option<f64>> {
        let points = self.gates.iter().find(|(id, _)| id == gate);
        let points = points.into_iter().flat_map(|(_, points)| points);
        points.map(|value| value.is_finite().then_some(f64::from(*value))).collect()
    }
}
