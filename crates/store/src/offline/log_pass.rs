//! The commit log from its first record to its last.

use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{sys_flag, topic};

use super::index_pass::IndexPass;
use super::queue_pass::QueuePass;
use super::repair::Plan;
use super::report::{CheckpointSurvey, Problem, ProblemKind, Survey};
use super::side_files::Halves;
use super::survey::Progress;
use super::{OfflineError, OfflineStore, at};
use crate::checkpoint::Checkpoint;
use crate::checksums::GROUP_SPAN_BYTES;
use crate::commit_log::{read_record, scan_segment};
use crate::damage;
use crate::segments::Segment;

/// Bytes read between two reports of progress.
const STEP_BYTES: i64 = 8 << 20;

pub(super) struct LogPass<'a> {
    pub(super) store: &'a OfflineStore,
    pub(super) checkpoint: Option<&'a Checkpoint>,
    pub(super) queues: &'a mut QueuePass,
    pub(super) index: &'a mut IndexPass,
    pub(super) half: &'a mut Halves,
    pub(super) plan: &'a mut Plan,
    pub(super) progress: &'a mut dyn FnMut(Progress),
}

impl LogPass<'_> {
    pub(super) fn run(&mut self, survey: &mut Survey) -> Result<(), OfflineError> {
        let store = self.store;
        survey.log.files = store.segments.len();
        survey.log.file_bytes = store.config.commit_log_file_bytes;
        survey.log.min = store.log_min();
        survey.log.end = survey.log.min;
        for segment in &store.segments {
            if segment.base > survey.log.end && survey.log.end % survey.log.file_bytes as i64 == 0 {
                let what = format!("files from {} on are missing", survey.log.end);
                survey.add(Problem::new(ProblemKind::LogGap, name(segment), what).at(survey.log.end));
                survey.log.end = segment.base;
            }
            if segment.base > survey.log.end && self.first_is_older(segment, survey)? {
                break;
            }
            if segment.base > survey.log.end {
                self.damaged(segment_before(store, segment), survey.log.end, segment.base, survey)?;
                survey.log.end = segment.base;
            }
            self.segment(segment, survey)?;
        }
        self.report(survey, survey.log.end);
        Ok(())
    }

    /// A file behind the end of the log without records, or with those of an older log.
    fn first_is_older(&self, segment: &Segment, survey: &Survey) -> Result<bool, OfflineError> {
        let first = read_record(segment, segment.base, segment.end).map_err(at(&segment.path))?;
        let first = first.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok());
        Ok(first.is_none_or(|first| first.store_timestamp() < survey.log.last_store_timestamp))
    }

    /// Compares a file with its checksums.
    fn sums(&mut self, segment: &Segment, survey: &mut Survey) -> Result<(), OfflineError> {
        let checksums = &self.store.checksums;
        let mut start = segment.base;
        while start < segment.end {
            for part in checksums.check(segment, start).map_err(at(&segment.path))? {
                let what = match part.end - part.start {
                    1 => "one bit of this byte is not what was written".into(),
                    bytes => format!("some of {bytes} bytes are not what was written"),
                };
                survey.add(Problem::new(ProblemKind::ChangedBytes, name(segment), what).at(part.start));
            }
            let flipped = checksums.flipped_bits(segment, start).map_err(at(&segment.path))?;
            self.plan.flipped.extend(flipped);
            start += GROUP_SPAN_BYTES;
        }
        Ok(())
    }

    fn segment(&mut self, segment: &Segment, survey: &mut Survey) -> Result<(), OfflineError> {
        self.sums(segment, survey)?;
        let mut buffer = Vec::new();
        let mut position = segment.base;
        while position < segment.end {
            let stop = (position + STEP_BYTES).min(segment.end);
            let mut failure = None;
            let reached = scan_segment(segment, position, stop, &mut buffer, &mut |record| {
                if let Err(error) = self.record(record, survey) {
                    failure.get_or_insert(error);
                }
            });
            let reached = reached.map_err(at(&segment.path))?;
            if let Some(error) = failure {
                return Err(error);
            }
            position = reached;
            survey.log.end = reached;
            self.report(survey, position);
            if reached < stop {
                let next = damage::next_in_segment(segment, reached, segment.end).map_err(at(&segment.path))?;
                let Some(next) = next else {
                    // The end of the log, or damage up to the end of this file: the next one tells.
                    return Ok(());
                };
                if self.is_older(segment, next, survey)? {
                    return Ok(());
                }
                self.damaged(segment, reached, next, survey)?;
                position = next;
                survey.log.end = next;
            }
        }
        Ok(())
    }

    /// A whole record behind the end that is left of a log that was cut there.
    fn is_older(&self, segment: &Segment, position: i64, survey: &Survey) -> Result<bool, OfflineError> {
        if position >= segment.end {
            return Ok(false);
        }
        let bytes = read_record(segment, position, segment.end).map_err(at(&segment.path))?;
        let record = bytes.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok());
        Ok(record.is_none_or(|record| record.store_timestamp() < survey.log.last_store_timestamp))
    }

    fn record(&mut self, record: &RecordRef<'_>, survey: &mut Survey) -> Result<(), OfflineError> {
        let log = &mut survey.log;
        log.records += 1;
        log.record_bytes += record.total_size() as u64;
        if log.records == 1 {
            log.first_store_timestamp = record.store_timestamp();
        }
        log.last_store_timestamp = log.last_store_timestamp.max(record.store_timestamp());
        log.by_transaction[((record.sys_flag() & sys_flag::TRANSACTION_MASK) >> 2) as usize] += 1;
        let is_behind = !survey.clean_stop && self.is_behind_recovery(record);
        if record.topic() == topic::TRANS_HALF_TOPIC.as_bytes() {
            self.half.stored(record);
        } else if record.topic() == topic::TRANS_OP_HALF_TOPIC.as_bytes() {
            self.half.ended(record);
        }
        let entered = self.queues.record(self.store, record, is_behind, survey, self.plan)?;
        survey.log.to_be_replayed += u64::from(!entered);
        self.index.record(record, is_behind, survey, self.plan);
        Ok(())
    }

    /// The next start replays this record in any case.
    fn is_behind_recovery(&self, record: &RecordRef<'_>) -> bool {
        match self.checkpoint {
            None => true,
            Some(checkpoint) => match checkpoint.position {
                Some(position) => record.physical_offset() >= position.offset,
                None => record.store_timestamp() > checkpoint.min_timestamp(),
            },
        }
    }

    fn damaged(&mut self, segment: &Segment, from: i64, to: i64, survey: &mut Survey) -> Result<(), OfflineError> {
        survey.log.damaged += 1;
        survey.log.damaged_bytes += (to - from) as u64;
        let shape = damage::record_shaped(segment, from, to).map_err(at(&segment.path))?;
        let record = shape.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok());
        let problem = match record {
            Some(record) => {
                let topic = String::from_utf8_lossy(record.topic()).into_owned();
                let what = format!(
                    "{} bytes: the body does not match its checksum, or the topic is no name",
                    to - from
                );
                Problem::new(ProblemKind::DamagedRecord, name(segment), what).of_queue(
                    &topic,
                    record.queue_id(),
                    record.queue_offset(),
                )
            }
            None => {
                let what = format!("{} bytes hold no record", to - from);
                Problem::new(ProblemKind::DamagedRecord, name(segment), what)
            }
        };
        survey.add(problem.at(from));
        self.index.skip_to(to);
        let flipped = &self.plan.flipped;
        if !flipped.iter().any(|(position, _)| (from..to).contains(position)) {
            self.plan.damaged.push((from, to));
        }
        Ok(())
    }

    fn report(&mut self, survey: &Survey, position: i64) {
        let total = self.store.segments.len() as u64 * survey.log.file_bytes;
        (self.progress)(Progress {
            read: (position - survey.log.min).max(0) as u64,
            total,
            problems: survey.problem_count,
        });
    }
}

fn segment_before<'a>(store: &'a OfflineStore, segment: &'a Segment) -> &'a Segment {
    let before = store.segments.iter().take_while(|other| other.base < segment.base);
    before.last().unwrap_or(segment)
}

pub(super) fn name(segment: &Segment) -> String {
    segment.path.display().to_string()
}

/// Notes what the checkpoint says, and whether it can be.
pub(super) fn check_checkpoint(checkpoint: Option<&Checkpoint>, survey: &mut Survey, plan: &mut Plan) {
    let Some(checkpoint) = checkpoint else {
        return;
    };
    survey.checkpoint = Some(CheckpointSurvey {
        physic_msg_timestamp: checkpoint.physic_msg_timestamp,
        logics_msg_timestamp: checkpoint.logics_msg_timestamp,
        index_msg_timestamp: checkpoint.index_msg_timestamp,
        recovery_position: checkpoint.position.map(|position| position.offset),
    });
    let position = checkpoint.position.map_or(0, |position| position.offset);
    let file = format!("{}/checkpoint", survey.root);
    let what = if position > survey.log.end {
        format!(
            "records before {position} were on disk, the log ends at {}",
            survey.log.end
        )
    } else if checkpoint.physic_msg_timestamp > survey.log.last_store_timestamp && survey.log.records > 0 {
        format!(
            "records up to {} were on disk, the newest is of {}",
            checkpoint.physic_msg_timestamp, survey.log.last_store_timestamp
        )
    } else {
        return;
    };
    plan.set_checkpoint_aside = true;
    survey.add(Problem::new(ProblemKind::Checkpoint, file, what));
}
