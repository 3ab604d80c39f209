//! A small line of recent values with its threshold.

use maud::{Markup, html};

const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 30.0;
/// So that the line's stroke is not cut at the edge.
const EDGE: f64 = 2.0;

/// Nothing where there are fewer than two values. A value that was not measured is a gap.
pub(super) fn line(points: &[Option<f64>], threshold: Option<f64>) -> Markup {
    let values = || points.iter().flatten().copied().filter(|value| value.is_finite());
    if values().count() < 2 {
        return html! {};
    }
    let low = values().chain(threshold).fold(f64::INFINITY, f64::min);
    let high = values().chain(threshold).fold(f64::NEG_INFINITY, f64::max);
    // One value all along is a line in the middle.
    let (low, high) = if high > low { (low, high) } else { (low - 1.0, high + 1.0) };
    let y = |value: f64| HEIGHT - EDGE - (value - low) / (high - low) * (HEIGHT - 2.0 * EDGE);
    let step = (WIDTH - 2.0 * EDGE) / points.len().saturating_sub(1).max(1) as f64;
    let mut path = String::new();
    let mut last = None;
    let mut drawing = false;
    for (at, point) in points.iter().enumerate() {
        let Some(value) = point.filter(|value| value.is_finite()) else {
            drawing = false;
            continue;
        };
        let place = (EDGE + at as f64 * step, y(value));
        path.push_str(&format!("{}{:.1} {:.1}", if drawing { 'L' } else { 'M' }, place.0, place.1));
        drawing = true;
        last = Some(place);
    }
    html! {
        svg.spark viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label="recent values" {
            @if let Some(threshold) = threshold {
                @let y = format!("{:.1}", y(threshold));
                line.limit x1="0" x2=(WIDTH) y1=(y) y2=(y) {}
            }
            path d=(path) {}
            @if let Some((x, y)) = last {
                circle cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="2.4" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_no_line() {
        let svg = line(&[Some(1.0), Some(2.0), None, Some(3.0)], Some(2.5)).into_string();
        assert!(svg.contains("M2.0 28.0L80.7 15.0M238.0 2.0"), "{svg}");
        assert!(svg.contains("class=\"limit\""), "{svg}");
        assert_eq!(line(&[Some(1.0), None], None).into_string(), "");
        assert_eq!(line(&[], Some(1.0)).into_string(), "");
        let flat = line(&[Some(5.0), Some(5.0)], None).into_string();
        assert!(flat.contains("M2.0 15.0L238.0 15.0"), "{flat}");
    }
}
