//! How commands are declared.

use std::future::Future;
use std::pin::Pin;

use crate::call::{Call, Failure};
use crate::output::Answer;

/// What a command does: asks servers and says what they answered.
pub(crate) type Run = for<'a> fn(&'a Call, &'a mut Answer) -> Running<'a>;
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// A function `async fn(&Call, &mut Answer) -> Result<(), Failure>` as a [`Run`].
macro_rules! run {
    ($function:expr) => {
        |call, answer| Box::pin($function(call, answer))
    };
}
pub(crate) use run;

pub(crate) struct Command {
    /// RocketMQ's name; found in any case.
    pub(crate) name: &'static str,
    pub(crate) alias: Option<&'static str>,
    /// One sentence without full stop.
    pub(crate) about: &'static str,
    /// A command line that may be tried as it is, without the program's name.
    pub(crate) example: &'static str,
    pub(crate) options: &'static [Opt],
    /// Long names of which one has to be there.
    pub(crate) one_of: &'static [&'static str],
    /// Seconds after which it runs again, of a command that does so always.
    pub(crate) every: Option<u64>,
    /// What has to be asked for an answer other than a refusal, where OxMQ has none.
    pub(crate) answered_by: Option<&'static str>,
    pub(crate) run: Run,
}

impl Command {
    pub(crate) const fn new(
        name: &'static str,
        about: &'static str,
        example: &'static str,
        options: &'static [Opt],
        run: Run,
    ) -> Command {
        Command {
            name,
            alias: None,
            about,
            example,
            options,
            one_of: &[],
            every: None,
            answered_by: None,
            run,
        }
    }

    pub(crate) const fn alias(mut self, alias: &'static str) -> Command {
        self.alias = Some(alias);
        self
    }

    pub(crate) const fn answered_by(mut self, servers: &'static str) -> Command {
        self.answered_by = Some(servers);
        self
    }

    pub(crate) const fn every(mut self, seconds: u64) -> Command {
        self.every = Some(seconds);
        self
    }

    /// Needs one of these options.
    pub(crate) const fn one_of(mut self, long_names: &'static [&'static str]) -> Command {
        self.one_of = long_names;
        self
    }

    /// Needs [`BROKER`] or [`CLUSTER`].
    pub(crate) const fn at_target(self) -> Command {
        self.one_of(&["brokerAddr", "clusterName"])
    }

    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.alias.is_some_and(|alias| alias.eq_ignore_ascii_case(name))
    }

    pub(crate) fn has_option(&self, long: &str) -> bool {
        self.options.iter().any(|option| option.long == long)
    }
}

pub(crate) struct Opt {
    /// RocketMQ's short name, which may have two letters.
    pub(crate) short: &'static str,
    pub(crate) long: &'static str,
    /// What stands for the value in help; `None` takes no value.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
    pub(crate) is_required: bool,
    pub(crate) default: Option<&'static str>,
}

/// An option with a value.
pub(crate) const fn opt(short: &'static str, long: &'static str, value: &'static str, help: &'static str) -> Opt {
    Opt {
        short,
        long,
        value: Some(value),
        help,
        is_required: false,
        default: None,
    }
}

/// An option without a value.
pub(crate) const fn flag(short: &'static str, long: &'static str, help: &'static str) -> Opt {
    Opt {
        value: None,
        ..opt(short, long, "", help)
    }
}

impl Opt {
    pub(crate) const fn required(mut self) -> Opt {
        self.is_required = true;
        self
    }

    pub(crate) const fn or(mut self, default: &'static str) -> Opt {
        self.default = Some(default);
        self
    }
}

pub(crate) const TOPIC: Opt = opt("t", "topic", "TOPIC", "Topic").required();
pub(crate) const TOPIC_OF_NAME: Opt = opt("t", "topicName", "TOPIC", "Topic");
pub(crate) const GROUP: Opt = opt("g", "groupName", "GROUP", "Consumer group").required();
pub(crate) const BROKER: Opt = opt("b", "brokerAddr", "HOST:PORT", "One broker");
pub(crate) const CLUSTER: Opt = opt("c", "clusterName", "CLUSTER", "Every master of this cluster");
pub(crate) const INTERVAL: Opt = opt(
    "i",
    "interval",
    "SECONDS",
    "Again and again, with so many seconds between",
);
