//! What brokers say in the log.

use std::sync::{Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// Keeps the lines that are wanted, their fields as `name=value `.
pub(crate) struct LogLines {
    wanted: fn(&Metadata<'_>) -> bool,
    lines: Mutex<Vec<String>>,
}

impl LogLines {
    pub(crate) fn of(wanted: fn(&Metadata<'_>) -> bool) -> &'static LogLines {
        Box::leak(Box::new(LogLines {
            wanted,
            lines: Mutex::default(),
        }))
    }

    /// Of all brokers of this process: what has a target that no other test turns to.
    pub(crate) fn of_all() -> &'static LogLines {
        static ALL: OnceLock<&LogLines> = OnceLock::new();
        ALL.get_or_init(|| {
            let lines = LogLines::of(|metadata| {
                ["oxmq_broker::slow_requests", "metrics", "audit"].contains(&metadata.target())
            });
            tracing::subscriber::set_global_default(lines).unwrap();
            lines
        })
    }

    /// Those that say this.
    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl Subscriber for &'static LogLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (self.wanted)(metadata)
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }
}
