//! Journeys: exact counts per stage and fate, and how long each stage took.

use super::{PIPELINE, metrics};

metrics! {
    /// Events whose fate is decided, by stage and fate.
    EVENTS = Counter "greenlight_journey_events_total" [journey, stage, fate] Count;
    /// Further copies of events.
    DUPLICATES = Counter "greenlight_journey_duplicates_total" [journey, stage] Count;
    /// From the intended send to the arrival at each stage.
    STAGE_LATENCY = Histogram(PIPELINE) "greenlight_journey_stage_latency_seconds" [journey, stage] Seconds as "journey.latency";
    /// When the last round began.
    LAST_ROUND = Gauge "greenlight_journey_last_round_timestamp_seconds" [journey] Seconds;
    /// Events that arrived after they had been given up; the tally and the report are mended, counters never taken back.
    RESURRECTED = Counter "greenlight_journey_resurrected_total" [journey, stage] Count;
    /// Events under way: sent or about to be, their fate not yet decided.
    UNDER_WAY = Gauge "greenlight_journey_events_under_way" [journey] Count;
    /// Looks that could not see, by stage.
    BLIND_LOOKS = Counter "greenlight_journey_blind_looks_total" [journey, stage] Count;
    /// Rounds that could not begin, by fault.
    ROUNDS_NOT_BEGUN = Counter "greenlight_journey_rounds_not_begun_total" [journey, fault] Count;
}
