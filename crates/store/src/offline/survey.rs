//! One pass over everything.

use super::index_pass::IndexPass;
use super::log_pass::{self, LogPass};
use super::queue_pass::QueuePass;
use super::repair::Plan;
use super::report::{Problem, ProblemKind, Survey, Writer};
use super::{OfflineError, OfflineStore, side_files};
use crate::checkpoint::Checkpoint;

/// How far a survey is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes of the commit log that were read, and all of them.
    pub read: u64,
    pub total: u64,
    pub problems: u64,
}

impl OfflineStore {
    /// Reads everything and says what it is.
    pub fn survey(&self, progress: &mut dyn FnMut(Progress)) -> Result<Survey, OfflineError> {
        Ok(self.survey_and_plan(progress)?.0)
    }

    pub(super) fn survey_and_plan(&self, progress: &mut dyn FnMut(Progress)) -> Result<(Survey, Plan), OfflineError> {
        let mut survey = Survey {
            root: self.config.root.display().to_string(),
            clean_stop: !self.disk.exists(&self.config.root.join("abort")),
            ..Survey::default()
        };
        let mut plan = Plan::default();
        let checkpoint = match self.read(&self.config.root.join("checkpoint"))? {
            Some(bytes) => Checkpoint::from_file(&bytes),
            None => None,
        };
        for (path, what) in &self.odd_files {
            let problem = Problem::new(ProblemKind::LogFile, path.display().to_string(), what.clone());
            survey.add(problem);
        }
        let mut queues = QueuePass::new(self, &mut survey)?;
        let mut index = IndexPass::new(self, &mut survey)?;
        let mut half = side_files::Halves::default();
        let mut pass = LogPass {
            store: self,
            checkpoint: checkpoint.as_ref(),
            queues: &mut queues,
            index: &mut index,
            half: &mut half,
            plan: &mut plan,
            progress,
        };
        pass.run(&mut survey)?;
        queues.bounds(self, !survey.clean_stop, &mut plan)?;
        queues.finish(&mut survey, &mut plan)?;
        index.finish(&mut survey, &mut plan)?;
        let ends = queues.into_ends();
        survey.half = half.survey(&ends);
        side_files::survey(self, checkpoint.as_ref(), &ends, &mut survey, &mut plan)?;
        survey.writer = self.writer(checkpoint.as_ref(), &survey)?;
        log_pass::check_checkpoint(checkpoint.as_ref(), &mut survey, &mut plan);
        Ok((survey, plan))
    }

    fn writer(&self, checkpoint: Option<&Checkpoint>, survey: &Survey) -> Result<Writer, OfflineError> {
        if checkpoint.is_some_and(|checkpoint| checkpoint.position.is_some()) {
            return Ok(Writer::OxMq);
        }
        let topics = self.read(&self.config.root.join("config/topics.json"))?;
        let topics = topics.unwrap_or_default();
        let has_state_version = topics.windows(14).any(|part| part == b"\"stateVersion\"");
        Ok(match () {
            () if has_state_version || self.disk.exists(&self.config.root.join("timerwheel")) => Writer::Java5,
            () if survey.log.records > 0 || !topics.is_empty() => Writer::Java4,
            () => Writer::Nobody,
        })
    }
}
