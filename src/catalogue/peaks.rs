//! The rolling peak of each of the node's series that is sampled every second: one metric more
//! each, made from the row that declares the series, so that the two can't disagree.
//!
//! One family a series and not one `peak{series}` for all: values of one metric are to be of one
//! unit. They are as many as the histograms beside them, each of which has a dozen rows, so they
//! add less than a tenth to a scrape.

use std::sync::LazyLock;

use super::{FREE, Kind, Metric, Unit, YES_NO, node};

/// The worst second of a series.
#[derive(Debug)]
pub struct Peak {
    pub metric: Metric,
    /// The series that it is the worst of.
    pub of: &'static Metric,
    /// Of what is left the smallest value is the worst.
    pub lowest: bool,
}

/// The window of a peak is never shorter than this: two scrapes 15 s apart, Prometheus' usual
/// interval at the node, both see a burst, and so does a third scraper with a phase of its own.
pub const WINDOW_LEAST_SECONDS: u32 = 35;

static PEAKS: LazyLock<Vec<Peak>> = LazyLock::new(|| node::ALL.iter().filter_map(peak).collect());

/// All of them, in the order of their series.
pub fn all() -> impl Iterator<Item = &'static Peak> {
    PEAKS.iter()
}

/// The peak of a series; None where there is none.
pub fn of(metric: &Metric) -> Option<&'static Peak> {
    all().find(|peak| peak.of == metric)
}

fn peak(of: &&'static Metric) -> Option<Peak> {
    let of: &'static Metric = of;
    let Kind::Histogram(boundaries) = of.kind else { return None };
    // What is either so or not has no peak that says more than its sum.
    let series = of.series.filter(|_| boundaries != YES_NO)?;
    let lowest = boundaries == FREE;
    let (word, what) = if lowest { ("lowest", "smallest") } else { ("peak", "largest") };
    let unit = match of.unit {
        Unit::Seconds => "_seconds",
        Unit::Bytes => "_bytes",
        Unit::Ratio => "_ratio",
        Unit::Count => "",
    };
    // The unit stays at the end, where Prometheus' naming wants it.
    let stem = of.name.strip_suffix(unit).unwrap_or(of.name);
    let name = format!("{stem}_{word}{unit}");
    let help = format!(
        " The {what} value of `{series}` in any second of the last {WINDOW_LEAST_SECONDS} s or a \
         little more, so that a burst between two scrapes is seen by each scraper."
    );
    // Made once and as long as the catalogue itself.
    let metric = Metric {
        name: name.leak(),
        kind: Kind::Gauge,
        unit: of.unit,
        labels: of.labels,
        series: None,
        help: help.leak(),
    };
    Some(Peak { metric, of, lowest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampled_series_has_a_peak_with_a_name_of_its_own() {
        let mut names: Vec<&str> = super::super::all().map(|metric| metric.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before, "a name twice");

        let busy = of(&node::CPU_BUSY).expect("a peak");
        assert_eq!(busy.metric.name, "greenlight_node_cpu_busy_peak_ratio");
        assert!(!busy.lowest);
        let left = of(&node::MEMORY_AVAILABLE).expect("a peak");
        assert_eq!(left.metric.name, "greenlight_node_memory_available_lowest_ratio");
        assert!(left.lowest);
        assert_eq!(of(&node::FS_READONLY).map(|peak| peak.metric.name), None);
        assert_eq!(of(&node::OOM_KILLS).map(|peak| peak.metric.name), None);
    }
}
