//! What the versions of the original have.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V4_7_1,
    V4_9_7,
    V5_5_0,
}

impl Version {
    pub(super) const ALL: [Version; 3] = [Version::V4_7_1, Version::V4_9_7, Version::V5_5_0];

    pub(super) fn name(self) -> &'static str {
        match self {
            Version::V4_7_1 => "4.7.1",
            Version::V4_9_7 => "4.9.7",
            Version::V5_5_0 => "5.5.0",
        }
    }

    pub(super) fn has_light_queues(self) -> bool {
        self >= Version::V4_9_7
    }

    /// Timer messages, POP, attributes of topics and groups, queues of batches, compaction.
    pub(super) fn is_5(self) -> bool {
        self >= Version::V5_5_0
    }
}
