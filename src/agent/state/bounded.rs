//! Everything with a limit, and how full it is.

use std::sync::Arc;

use super::State;
use crate::agent::rechecks::Rechecks;
use crate::agent::seconds::Seconds;
use crate::catalogue::agent as metric;
use crate::client::Clients;
use crate::lanes::{Cells, Fill};
use crate::serve;
use crate::time::Mono;
use crate::{metrics, plan, series};

/// Bounded places that the state does not own.
pub(in crate::agent) struct Bounded {
    pub(in crate::agent) cells: Cells,
    pub(in crate::agent) clients: Clients,
    pub(in crate::agent) seconds: Arc<Seconds>,
    /// None where nothing is served.
    pub(in crate::agent) web: Option<serve::Web>,
    pub(in crate::agent) rechecks: Rechecks,
}

impl Bounded {
    fn fills(&self) -> Vec<Fill> {
        let mut fills = vec![self.cells.fill(), self.seconds.fill()];
        fills.extend(self.rechecks.fills());
        fills.extend(self.clients.fills());
        fills.extend(self.web.iter().flat_map(serve::Web::fills));
        fills
    }
}

impl State {
    pub(in crate::agent) fn show(&mut self, fill: Fill) {
        let known = self.fill_rows.iter().find(|(queue, _)| *queue == fill.queue);
        let rows = match known {
            Some((_, rows)) => *rows,
            None => {
                let metrics = [&metric::QUEUE_LENGTH, &metric::QUEUE_LIMIT, &metric::QUEUE_DROPPED];
                let rows = metrics.map(|metric| self.registry.row(metric, &[fill.queue]));
                self.fill_rows.push((fill.queue, rows));
                rows
            }
        };
        let values = [fill.length as f64, fill.limit as f64, fill.dropped as f64];
        for (row, value) in rows.into_iter().zip(values) {
            row.map(|row| self.registry.set_row(row, value));
        }
    }

    pub(super) fn export_bounded(&mut self) {
        let fills = self.bounded.fills().into_iter().chain(self.store.fills());
        fills.collect::<Vec<_>>().into_iter().for_each(|fill| self.show(fill));
        let (tracks, registry) = (&self.tracks, &mut self.registry);
        let throttled = self.bounded.clients.kafka().throttled().as_secs_f64();
        registry.set(&metric::KAFKA_THROTTLED, &[], throttled);
        registry.set(&metric::CELLS_HUNG, &[], self.bounded.cells.hung(Mono::now()) as f64);
        registry.set(&metric::SERIES_POINTS, &[], tracks.points() as f64);
        registry.set(&metric::SERIES_POINTS_LIMIT, &[], series::POINTS_LIMIT as f64);
        registry.set(&metric::SERIES_POINTS_CUT, &[], tracks.cut() as f64);
        registry.set(&metric::SERIES_TRACKS, &[], tracks.len() as f64);
        registry.set(&metric::SERIES_TRACKS_LIMIT, &[], series::TRACKS_LIMIT as f64);
        registry.set(&metric::PEERS, &[], self.plan.peers.len() as f64);
        registry.set(&metric::PEERS_LIMIT, &[], plan::PEERS_LIMIT as f64);
        let most = registry.most_rows() as f64;
        registry.set(&metric::METRIC_ROWS, &[], most);
        registry.set(&metric::METRIC_ROWS_LIMIT, &[], metrics::ROWS_LIMIT as f64);
    }
}
