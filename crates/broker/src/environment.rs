//! What a broker takes from the machine that it runs on, so that tests can bring a machine of their own.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use oxmq_store::Clock;
use oxmq_store::disk::{Disk, RealDisk};

#[derive(Clone)]
pub struct Environment {
    pub disk: Arc<dyn Disk>,
    /// The time of messages and of everything that is due. How long a client waits for an answer is not measured by it.
    /// One that jumps is noticed within a second, or at [`crate::Broker::look_at_clock`].
    pub clock: Clock,
}

impl Default for Environment {
    fn default() -> Environment {
        Environment {
            disk: Arc::new(RealDisk),
            clock: Arc::new(system_time_ms),
        }
    }
}

fn system_time_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |elapsed| elapsed.as_millis() as i64)
}
