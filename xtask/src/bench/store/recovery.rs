//! How long a broker that was killed under load takes until it stores a message, by the size of its log. The one latency
//! of the workload is that time, and the one message is the first that it stores.

use std::thread;
use std::time::Duration;

use super::{Stage, StoreWorkload, steady};
use crate::bench::load::{Measure, Plan};
use crate::bench::workload::{SEND_TOPIC, Scale};

/// Large, so that the log is there soon.
const BODY_BYTES: usize = 64 << 10;
const RECORD_BYTES: u64 = BODY_BYTES as u64 + 250;
/// The load under which the broker is killed.
const LOAD: Duration = Duration::from_secs(3);

/// With a log of so many GiB; a sixteenth of that in a quick run.
pub(crate) struct Recovery(pub(crate) u64);

impl StoreWorkload for Recovery {
    fn run(&self, stage: &mut Stage<'_>) -> anyhow::Result<Measure> {
        let wanted = match stage.scale {
            Scale::Quick => self.0 << 26,
            Scale::Full => self.0 << 30,
        };
        let missing = wanted.saturating_sub(stage.log_end()?);
        if missing > RECORD_BYTES {
            stage.fill(SEND_TOPIC, BODY_BYTES, missing / RECORD_BYTES)?;
        }
        let plan = Plan {
            ramp: Duration::ZERO,
            window: LOAD * 2,
            messages_max: u64::MAX,
        };
        let (addr, meter) = (stage.addr().to_owned(), stage.meter());
        let served = thread::scope(|scope| {
            // Ends with an error when the broker is killed, which is what is wanted.
            let sending = scope.spawn(|| drop(steady::send(&addr, &plan, &meter, &|| false)));
            thread::sleep(LOAD);
            let served = stage.server.kill_and_start();
            sending.join().expect("it does not panic");
            served
        })?;
        let mut measure = Measure::new();
        measure.usage = stage.meter().start()?.finish()?;
        measure.usage.elapsed = served;
        measure.messages = 1;
        measure.delay(served);
        Ok(measure)
    }
}
