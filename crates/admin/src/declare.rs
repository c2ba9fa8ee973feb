//! How commands are declared.

use std::future::Future;
use std::pin::Pin;

use crate::call::{Call, Failure};
use crate::output::Answer;

/// What a command does: asks servers and says what they answered.
pub(crate) type Run = for<'a> fn(&'a Call, &'a mut Answer) -> Running<'a>;
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// The table of a file's commands, `COMMANDS`. A row is the function that runs, an
/// `async fn(&Call, &mut Answer) -> Result<(), Failure>`; the name, what it is about, the options of the example; the
/// options; and what else is to be said of a [`Command`], by field.
macro_rules! commands {
    ($( $run:ident: $name:literal, $about:literal, $example:literal,
        $options:expr $(, $field:ident: $value:expr)*; )*) => {
        pub(crate) const COMMANDS: &[$crate::declare::Command] = &[$( $crate::declare::Command {
            name: $name,
            about: $about,
            example: $example,
            options: $options,
            run: |call, answer| Box::pin($run(call, answer)),
            $( $field: $value, )*
            ..$crate::declare::Command::NOTHING
        } ),*];
    };
}
pub(crate) use commands;

pub(crate) struct Command {
    /// RocketMQ's name; found in any case.
    pub(crate) name: &'static str,
    pub(crate) alias: Option<&'static str>,
    /// One sentence without full stop.
    pub(crate) about: &'static str,
    /// Options that may be tried as they are.
    pub(crate) example: &'static str,
    pub(crate) options: &'static [Opt],
    /// Long names of which one has to be there, if it is not one of [`BROKER`] and [`CLUSTER`].
    pub(crate) one_of: &'static [&'static str],
    /// Seconds after which it runs again, of a command that does so always.
    pub(crate) every: Option<u64>,
    /// What has to be asked for an answer other than a refusal, where OxMQ has none.
    pub(crate) answered_by: Option<&'static str>,
    pub(crate) run: Run,
}

impl Command {
    /// What a row of the table leaves out.
    pub(crate) const NOTHING: Command = Command {
        name: "",
        alias: None,
        about: "",
        example: "",
        options: &[],
        one_of: &[],
        every: None,
        answered_by: None,
        run: |_, _| Box::pin(std::future::ready(Ok(()))),
    };

    /// Long names of which one has to be there.
    pub(crate) fn one_of(&self) -> &'static [&'static str] {
        const TARGET: &[&str] = &["brokerAddr", "clusterName"];
        match self.one_of {
            [] if TARGET.iter().all(|long| self.has_option(long)) => TARGET,
            long_names => long_names,
        }
    }

    /// A command line without the program's name.
    pub(crate) fn example(&self) -> String {
        format!("{} {}", self.name, self.example).trim_end().to_owned()
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

/// Options that several commands have.
macro_rules! options {
    ($( $vis:vis $name:ident = $option:expr; )*) => {
        $( $vis const $name: $crate::declare::Opt = $option; )*
    };
}
pub(crate) use options;

options! {
    pub(crate) TOPIC = opt("t", "topic", "TOPIC", "Topic").required();
    pub(crate) TOPIC_OF_NAME = opt("t", "topicName", "TOPIC", "Topic");
    pub(crate) GROUP = opt("g", "groupName", "GROUP", "Consumer group").required();
    pub(crate) BROKER = opt("b", "brokerAddr", "HOST:PORT", "One broker");
    pub(crate) CLUSTER = opt("c", "clusterName", "CLUSTER", "Every master of this cluster");
    pub(crate) INTERVAL = opt("i", "interval", "SECONDS", "Again and again, with so many seconds between");
}
