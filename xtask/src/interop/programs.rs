//! The client programs: how each is built and started. Everything built lies under `target/interop/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::{acl, tls};
use crate::servers::{java, run, run_download, target_dir};

#[derive(Clone, Copy)]
pub(super) enum Client {
    Java {
        version: &'static str,
        /// Requests in RocketMQ's own header format instead of JSON.
        binary_header: bool,
    },
    Go,
    Python,
    /// OxMQ's own client.
    Rust,
}

impl Client {
    pub(super) const ALL: [Self; 6] = [
        Self::Java {
            version: "4.9.8",
            binary_header: false,
        },
        Self::Java {
            version: "5.5.0",
            binary_header: false,
        },
        Self::Java {
            version: "5.5.0",
            binary_header: true,
        },
        Self::Go,
        Self::Python,
        Self::Rust,
    ];

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Java { version: "4.9.8", .. } => "java-4.9.8",
            Self::Java {
                binary_header: false, ..
            } => "java-5.5.0",
            Self::Java {
                binary_header: true, ..
            } => "java-5.5.0-binary",
            Self::Go => "go",
            Self::Python => "python",
            Self::Rust => "rust",
        }
    }

    /// The programs of the documentation use topics of fixed names, and are run once, as what brokers of its own are started
    /// for.
    pub(super) fn takes(&self, case: &str) -> bool {
        if tls::CASES.contains(&case) {
            return !matches!(self, Self::Go | Self::Python);
        }
        if acl::CASES.contains(&case) {
            return !matches!(self, Self::Python | Self::Rust);
        }
        let own_brokers = [
            &super::pair::CASES[..],
            &super::diagnosis::CASES,
            super::OWN_CLUSTER_CASES,
        ];
        let has_own_brokers = own_brokers.concat().contains(&case);
        let once = case.starts_with("docs-") || has_own_brokers;
        !once || self.name() == "java-5.5.0"
    }

    pub(super) fn build(&self) -> anyhow::Result<()> {
        match self {
            Self::Java { version, .. } => build_java(version),
            Self::Go => build_go(),
            Self::Python => build_python(),
            Self::Rust => build_rust(),
        }
    }

    /// The program without its arguments, with `home` for what the client keeps there.
    pub(super) fn command(&self, home: &Path) -> Command {
        let mut command = match self {
            Self::Java { version, binary_header } => {
                let mut command = java_program(version, home);
                if *binary_header {
                    command.arg("-Drocketmq.serialize.type=ROCKETMQ");
                }
                command.arg("oxmq.interop.Main");
                command
            }
            Self::Go => Command::new(built("go").join("interop")),
            Self::Python => {
                let mut command = Command::new(built("python").join("bin/python"));
                command.arg(source("python").join("main.py"));
                command
            }
            Self::Rust => Command::new(target_dir().join("debug").join("oxmq-interop")),
        };
        command.env("HOME", home);
        command
    }
}

/// Java sources that clients before 5.0 cannot be built with.
const NEEDS_VERSION_5: &str = r"%regex[oxmq/.*(Pop|AdminExt|ColdData)\w*\.java]";
const DOCS_NEED_VERSION_5: &str = "oxmq/docs/v5/*.java";

pub(super) fn build_java(version: &str) -> anyhow::Result<()> {
    let (source, built) = (source("java"), built(&format!("java-{version}")));
    let stamp = built.join("built");
    if is_current(&stamp, &source)? {
        return Ok(());
    }
    let mut mvn = Command::new("mvn");
    if version.starts_with("4.") {
        mvn.arg(format!("-Dleft.out={NEEDS_VERSION_5}"));
        mvn.arg(format!("-Dleft.out.docs={DOCS_NEED_VERSION_5}"));
    }
    mvn.args(["-q", "-B", "compile", "dependency:copy-dependencies"])
        .arg(format!("-Drocketmq.version={version}"))
        .arg(format!("-Doutput={}", built.display()))
        .arg(format!("-DoutputDirectory={}", built.join("lib").display()))
        .current_dir(source);
    run_download(&mut mvn)?;
    File::create(stamp)?;
    Ok(())
}

/// `java` with one version of the client and our classes, tuned for a short life.
pub(super) fn java_program(version: &str, home: &Path) -> Command {
    let built = built(&format!("java-{version}"));
    let mut command = java(&format!("{0}/classes:{0}/lib/*", built.display()), home);
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command
}

fn build_go() -> anyhow::Result<()> {
    let mut go = Command::new("go");
    go.args(["build", "-o"])
        .arg(built("go").join("interop"))
        .arg(".")
        .current_dir(source("go"));
    run_download(&mut go)
}

fn build_rust() -> anyhow::Result<()> {
    run(Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "oxmq-interop"]))
}

fn build_python() -> anyhow::Result<()> {
    let venv = built("python");
    let stamp = venv.join("built");
    let requirements = source("python").join("requirements.txt");
    if is_current(&stamp, &requirements)? {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    run_download(
        Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--requirement"])
            .arg(requirements),
    )?;
    File::create(stamp)?;
    Ok(())
}

fn source(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("tests")
        .join("interop")
        .join(language)
}

fn built(name: &str) -> PathBuf {
    target_dir().join("interop").join(name)
}

/// Whether nothing below `source` has changed since the stamp was written.
fn is_current(stamp: &Path, source: &Path) -> anyhow::Result<bool> {
    let Ok(stamp) = fs::metadata(stamp) else {
        return Ok(false);
    };
    Ok(newest(source)? < stamp.modified()?)
}

fn newest(path: &Path) -> anyhow::Result<SystemTime> {
    let metadata = fs::metadata(path)?;
    let mut result = metadata.modified()?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            result = result.max(newest(&entry?.path())?);
        }
    }
    Ok(result)
}
