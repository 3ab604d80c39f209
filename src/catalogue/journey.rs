//! Journeys: exact counts per stage and fate, and how long each stage took.

use super::{PIPELINE, metrics};

/// Boundaries for the age of a feed: those that are updated by the minute, the hour, the day, the
/// week, the month.
const AGE: &[f64] =
    &[60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 172_800.0, 604_800.0, 2_592_000.0];

/// Boundaries for how far a clock may be off: what a look can tell, a bad clock, lost time zones.
const OFFSET: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0, 43200.0];

metrics! {
    /// Events whose fate is decided, by stage and fate.
    EVENTS = Counter "greenlight_journey_events_total" [journey, stage, fate] Count;
    /// Further copies of events.
    DUPLICATES = Counter "greenlight_journey_duplicates_total" [journey, stage] Count;
    /// From the intended send to the arrival at each stage.
    STAGE_LATENCY = Histogram(PIPELINE) "greenlight_journey_stage_latency_seconds" [journey, stage] Seconds as "journey.latency";
    /// Time since the feed was updated that enriched an event, by the field that `fresh` names.
    FEED_AGE = Histogram(AGE) "greenlight_journey_feed_age_seconds" [journey, stage] Seconds as "journey.feed_age";
    /// At most so far a stage's clock was off from this node's in each round, in either direction: of the field that `clock` names, or of what a Kafka broker stamps (`message.timestamp.type=LogAppendTime`).
    CLOCK_OFFSET = Histogram(OFFSET) "greenlight_journey_clock_offset_seconds" [journey, stage] Seconds as "journey.clock_offset";
    /// A stage's clock less this node's, as the newest round bounds it: no less than this. Absent where no one offset fits its events.
    CLOCK_OFFSET_LOWER = Gauge "greenlight_journey_clock_offset_lower_bound_seconds" [journey, stage] Seconds;
    /// A stage's clock less this node's, as the newest round bounds it: no more than this. Absent where no one offset fits its events.
    CLOCK_OFFSET_UPPER = Gauge "greenlight_journey_clock_offset_upper_bound_seconds" [journey, stage] Seconds;
    /// When the last round began.
    LAST_ROUND = Gauge "greenlight_journey_last_round_timestamp_seconds" [journey] Seconds;
    /// Events that arrived after they had been given up; the tally and the report are mended, counters never taken back.
    RESURRECTED = Counter "greenlight_journey_resurrected_total" [journey, stage] Count;
    /// Events that a stage had shown and was asked for again, by how long after the round's end and by what came of it: kept, vanished, changed, inconclusive; and, as found, those that it had not shown and shows now.
    RECHECKED = Counter "greenlight_journey_rechecked_events_total" [journey, stage, after, result] Count;
    /// Events that a stage had shown and that the newest look back did not find, or not as they were.
    VANISHED = Gauge "greenlight_journey_vanished_events" [journey, stage, after] Count as "journey.vanished";
    /// Events that a wrong tenant saw in the newest round, where `must_not_see` asks one.
    EXPOSED = Gauge "greenlight_journey_exposed_events" [journey, stage] Count as "journey.exposed";
    /// Alerts and notifications of the newest round's benign twin, where `must_not_alert` sends one, and of the copy outside of the rule's look-back, where `edges` does.
    FALSE_ALARMS = Gauge "greenlight_journey_false_alarms" [journey, stage] Count as "journey.false_alarms";
    /// Alerts and notifications that came of benign twins, and of copies outside of a rule's look-back.
    FALSE_ALARMS_TOTAL = Counter "greenlight_journey_false_alarms_total" [journey, stage] Count;
    /// Benign twins, and copies outside of a rule's look-back, of which nobody could tell whether they alerted: they did not get through, or nobody could look.
    TWINS_UNTOLD = Counter "greenlight_journey_twins_inconclusive_total" [journey, stage] Count;
    /// From an alert to its notification, as each was first seen: how long until somebody hears of it.
    ALERT_TO_PERSON = Histogram(PIPELINE) "greenlight_journey_alert_to_person_seconds" [journey, stage] Seconds as "journey.alert_to_person";
    /// Events under way: sent or about to be, their fate not yet decided.
    UNDER_WAY = Gauge "greenlight_journey_events_under_way" [journey] Count;
    /// Looks that could not see, by stage.
    BLIND_LOOKS = Counter "greenlight_journey_blind_looks_total" [journey, stage] Count;
    /// Rounds that were left out because the platform asked to slow down (429, a quota).
    ROUNDS_SPARED = Counter "greenlight_journey_rounds_spared_total" [journey] Count;
    /// Rounds that could not begin, by fault.
    ROUNDS_NOT_BEGUN = Counter "greenlight_journey_rounds_not_begun_total" [journey, fault] Count;
}
