//! `oxmq config check FILE`: what each line of a properties file does here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use oxmq_admin::doctor::facts::{ConfigProblem, ConfigProblemKind};
use oxmq_broker::BrokerConfig;
use oxmq_namesrv::NamesrvConfig;
use oxmq_protocol::properties_file::{self, Property};
use oxmq_protocol::settings::{HIDDEN, Settings, names_secret};

/// Names that are less alike than this are not suggested, 1 being equal.
const LIKENESS_MIN: f64 = 0.85;

pub(crate) fn command(name: &'static str) -> Command {
    Command::new(name)
        .about("Explain a properties file of RocketMQ")
        .subcommand_required(true)
        .subcommand(
            Command::new("check")
                .about("Say of every line what it does, what has no effect and what is wrong")
                .after_help(
                    "Examples:\n  oxmq config check broker.conf\n  oxmq config check --role namesrv ns.properties\n\n\
                     Ends with 0 when a server would start with the file, 1 when it would refuse it.",
                )
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .required(true)
                        .value_parser(value_parser!(PathBuf)),
                )
                .arg(
                    Arg::new("role")
                        .long("role")
                        .value_name("ROLE")
                        .value_parser(["broker", "namesrv"])
                        .help("Whose file it is (default: namesrv if its name begins so, else broker)"),
                ),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let (_, matches) = matches.subcommand().context("no subcommand")?;
    let path: &PathBuf = matches.get_one("file").context("no file")?;
    let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let role = matches.get_one::<String>("role").map(String::as_str);
    let explanation = match role {
        Some("namesrv") => explain::<NamesrvConfig>(&file),
        None if name.starts_with("namesrv") => explain::<NamesrvConfig>(&file),
        _ => explain::<BrokerConfig>(&file),
    };
    oxmq_admin::print(&explanation.to_string());
    Ok(match explanation.count(&Effect::is_wrong) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// What is wrong with a broker's file, for `oxmq doctor`.
pub(crate) fn broker_problems(path: &Path) -> Result<Vec<ConfigProblem>, String> {
    let file = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let lines = explain::<BrokerConfig>(&file).0.into_iter();
    let problem = |line: Line| {
        let kind = match &line.effect {
            Effect::Wrong(_) => ConfigProblemKind::Wrong,
            Effect::Unknown(_) | Effect::Overridden(_) => ConfigProblemKind::Unknown,
            Effect::Idle(_) => ConfigProblemKind::WithoutEffect,
            Effect::Sets { .. } => return None,
        };
        Some(ConfigProblem {
            line: line.number,
            key: line.key,
            kind,
            text: line.effect.to_string(),
        })
    };
    Ok(lines.filter_map(problem).collect())
}

/// A file line by line.
#[derive(Debug)]
struct Explanation(Vec<Line>);

#[derive(Debug)]
struct Line {
    number: usize,
    key: String,
    value: String,
    effect: Effect,
}

#[derive(Debug, PartialEq, Eq)]
enum Effect {
    /// Sets this.
    Sets {
        /// Shown where it is another value.
        instead_of: Option<String>,
        unit: &'static str,
        meaning: String,
    },
    /// A later line has the same key.
    Overridden(usize),
    Idle(&'static str),
    /// With the key that was perhaps meant.
    Unknown(Option<&'static str>),
    Wrong(String),
}

impl Effect {
    fn is_wrong(&self) -> bool {
        matches!(self, Effect::Wrong(_))
    }

    fn is_idle(&self) -> bool {
        matches!(self, Effect::Idle(_))
    }

    fn is_unknown(&self) -> bool {
        matches!(self, Effect::Unknown(_))
    }
}

impl Explanation {
    fn count(&self, wanted: &dyn Fn(&Effect) -> bool) -> usize {
        self.0.iter().filter(|line| wanted(&line.effect)).count()
    }
}

fn explain<S: Settings>(file: &[u8]) -> Explanation {
    let properties = properties_file::parse(file);
    let lines = properties.iter().enumerate().map(|(index, property)| {
        let again = properties[index + 1..].iter().find(|later| later.key == property.key);
        let effect = match (S::index_of(&property.key), again) {
            // A start refuses a wrong value also where a later line has a right one.
            (Some(row), again) => match (effect::<S>(row, property), again) {
                (Effect::Sets { .. }, Some(later)) => Effect::Overridden(later.line),
                (effect, _) => effect,
            },
            (None, _) => match S::why_without_effect(&property.key) {
                Some(why) => Effect::Idle(why),
                None => Effect::Unknown(alike::<S>(&property.key)),
            },
        };
        Line {
            number: property.line,
            key: property.key.clone(),
            value: shown(property),
            effect,
        }
    });
    Explanation(lines.collect())
}

fn effect<S: Settings>(row: usize, property: &Property) -> Effect {
    let mut settings = S::default();
    let default = settings.row_text(row);
    if let Err(error) = settings.set(&property.key, &property.value) {
        return Effect::Wrong(error.reason);
    }
    let setting = &S::TABLE[row];
    let default = setting.shown.map(str::to_owned).or(default);
    let is_default = default == settings.row_text(row);
    Effect::Sets {
        instead_of: (!is_default).then(|| {
            default
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| "nothing".into())
        }),
        unit: setting.unit,
        meaning: setting.doc.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// What may be on a screen.
fn shown(property: &Property) -> String {
    match names_secret(&property.key) {
        true => HIDDEN.into(),
        false => property.value.clone(),
    }
}

/// The known key that is most like this one.
fn alike<S: Settings>(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    let idle = S::WITHOUT_EFFECT.iter().flat_map(|(_, keys)| *keys);
    let known = S::TABLE.iter().map(|setting| setting.key).chain(idle.copied());
    let rated = known.map(|known| (known, strsim::jaro_winkler(&known.to_ascii_lowercase(), &key)));
    let (best, likeness) = rated.max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    (likeness >= LIKENESS_MIN).then_some(best)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.0 {
            writeln!(f, "{:5}  {}={}", line.number, line.key, line.value)?;
            writeln!(f, "       {}", line.effect)?;
        }
        let wrong = self.count(&Effect::is_wrong);
        let verdict = match wrong {
            0 => "a server starts with this file",
            _ => "a server refuses this file",
        };
        writeln!(
            f,
            "\n{} settings: {wrong} wrong, {} unknown, {} without effect; {verdict}",
            self.0.len(),
            self.count(&Effect::is_unknown),
            self.count(&Effect::is_idle),
        )
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Sets {
                instead_of: None,
                meaning,
                ..
            } => write!(f, "the default. {meaning}"),
            Effect::Sets {
                instead_of: Some(default),
                unit,
                meaning,
            } => write!(
                f,
                "instead of {default}{}{unit}. {meaning}",
                if unit.is_empty() { "" } else { " " }
            ),
            Effect::Overridden(line) => write!(f, "OVERRIDDEN by line {line}"),
            Effect::Idle(why) => write!(f, "no effect: {why}"),
            Effect::Unknown(Some(key)) => write!(f, "UNKNOWN; is {key} meant?"),
            Effect::Unknown(None) => write!(f, "UNKNOWN"),
            Effect::Wrong(reason) => write!(f, "WRONG: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_explained() {
        let file = b"# a broker of RocketMQ\n\
            brokerClusterName=DefaultCluster\n\
            flushDiskType=SYNC_FLUSH\n\
            fileReservedTime=48h\n\
            deleteWhen=03\n\
            deleteWhen=04\n\
            sendMessageThreadPoolNums=64\n\
            flushDisktype=ASYNC_FLUSH\n\
            myOwnKey=1\n\
            mySecretKey=abc\n\
            flushIntervalCommitLog=1000\n";
        let explanation = explain::<BrokerConfig>(file);
        let text = explanation.to_string();
        let expected = [
            "    2  brokerClusterName=DefaultCluster\n       the default. Name of the cluster, also the name of a system topic.\n",
            "    3  flushDiskType=SYNC_FLUSH\n       instead of ASYNC_FLUSH. When a send is acknowledged: once it is in memory, or once it is on disk.\n",
            "    4  fileReservedTime=48h\n       WRONG: \"48h\" is not a whole number\n",
            "    5  deleteWhen=03\n       OVERRIDDEN by line 6\n",
            "    6  deleteWhen=04\n       the default. ",
            "    7  sendMessageThreadPoolNums=64\n       no effect: requests are served by a thread for each core",
            "    8  flushDisktype=ASYNC_FLUSH\n       UNKNOWN; is flushDiskType meant?\n",
            "    9  myOwnKey=1\n       UNKNOWN\n",
            "   10  mySecretKey=******\n",
            "   11  flushIntervalCommitLog=1000\n       instead of 500 ms. How often",
            "\n10 settings: 1 wrong, 3 unknown, 1 without effect; a server refuses this file\n",
        ];
        for part in expected {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }

    #[test]
    fn lines_that_set_something_are_no_problem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.conf");
        std::fs::write(
            &path,
            "listenPort=1\ndeleteWhen=03\ndeleteWhen=04\nmyOwnKey=1\nflushDiskType=x\n",
        )
        .unwrap();
        let problems = broker_problems(&path).unwrap();
        let seen: Vec<_> = problems.iter().map(|problem| (problem.line, problem.kind)).collect();
        assert_eq!(
            seen,
            [
                (2, ConfigProblemKind::Unknown),
                (4, ConfigProblemKind::Unknown),
                (5, ConfigProblemKind::Wrong)
            ]
        );
        assert!(broker_problems(&dir.path().join("none")).is_err());
    }
}
