use super::bodies;

bodies! {
    /// Reply of 315.
    #[derive(Copy)]
    pub struct BrokerStatsData {
        stats_day: BrokerStatsItem,
        stats_hour: BrokerStatsItem,
        stats_minute: BrokerStatsItem,
    }

    #[derive(Copy)]
    pub struct BrokerStatsItem {
        avgpt: f64,
        sum: i64,
        tps: f64,
    }
}
