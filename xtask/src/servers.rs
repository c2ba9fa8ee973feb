//! Starting and stopping the servers under test: a name server and a broker as child processes.
//!
//! A [`Cluster`] owns its two processes and their folder; dropping it kills them. Both kinds of server get the
//! same properties files. Waiting is always for a condition with a deadline: the port accepts, and for a broker
//! the name server knows it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long servers may take to start or to stop, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(120);
const DOWNLOAD_TRIES: u32 = 3;
const DOWNLOAD_PAUSE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What RocketMQ's servers and tools need from Java 17.
pub(crate) const JAVA_MODULE_FLAGS: [&str; 5] = [
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.misc=ALL-UNNAMED",
];

#[derive(Clone, Debug)]
pub(crate) enum Server {
    /// The original, in this version (5.5.0, 4.9.7).
    Java(&'static str),
    Oxmq {
        binary: PathBuf,
    },
}

/// How to start a [`Cluster`]. `Options::new` is a small cluster of one kind; change fields as needed.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) namesrv: Server,
    pub(crate) broker: Server,
    /// The name server listens here, the broker on `port + 10` (and the two ports that go with it, +8 and +11).
    pub(crate) port: u16,
    /// Folder of data, configuration and logs; emptied at start.
    pub(crate) dir: PathBuf,
    /// The name server of another cluster, instead of one of its own.
    pub(crate) joins: Option<String>,
    /// Added to `broker.conf`; a later key replaces an earlier one.
    pub(crate) broker_properties: Vec<(String, String)>,
    /// Heap and collector of both JVMs.
    pub(crate) jvm_flags: Vec<String>,
    /// How long a start or a stop may take.
    pub(crate) patience: Duration,
    pub(crate) tls: Option<Tls>,
    /// OxMQ's executable, for programs that use its tools.
    pub(crate) tools: Option<PathBuf>,
}

/// A broker that takes TLS only, a name server that takes both, and clients that speak TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    /// RocketMQ's keys for both servers: system properties of the original, settings of OxMQ.
    pub(crate) of_servers: Vec<(&'static str, String)>,
    /// System properties of Java clients.
    pub(crate) of_clients: Vec<(&'static str, String)>,
    /// Where the Rust client finds its files.
    pub(crate) folder: PathBuf,
}

/// What makes the broker refuse plain connections.
const ENFORCING: (&str, &str) = ("tls.server.mode", "enforcing");

impl Options {
    pub(crate) fn new(server: Server, port: u16, dir: impl Into<PathBuf>) -> Self {
        Self {
            namesrv: server.clone(),
            broker: server,
            port,
            dir: dir.into(),
            joins: None,
            broker_properties: Vec::new(),
            jvm_flags: ["-Xms512m", "-Xmx1g", "-XX:+UseSerialGC"].map(String::from).to_vec(),
            patience: PATIENCE,
            tls: None,
            tools: None,
        }
    }

    pub(crate) fn broker_property(mut self, key: &str, value: impl ToString) -> Self {
        self.broker_properties.push((key.to_owned(), value.to_string()));
        self
    }
}

/// One name server and one broker on 127.0.0.1.
pub(crate) struct Cluster {
    options: Options,
    namesrv: Option<Child>,
    broker: Option<Child>,
}

impl Cluster {
    /// Starts both servers and returns when the name server routes to the broker.
    pub(crate) fn start(options: Options) -> anyhow::Result<Self> {
        if options.dir.exists() {
            fs::remove_dir_all(&options.dir)?;
        }
        fs::create_dir_all(&options.dir)?;
        let mut cluster = Self {
            options,
            namesrv: None,
            broker: None,
        };
        if cluster.options.joins.is_none() {
            cluster.start_namesrv()?;
        }
        cluster.start_broker()?;
        Ok(cluster)
    }

    pub(crate) fn namesrv_addr(&self) -> String {
        let own = || format!("127.0.0.1:{}", self.options.port);
        self.options.joins.clone().unwrap_or_else(own)
    }

    pub(crate) fn broker_addr(&self) -> String {
        format!("127.0.0.1:{}", self.options.port + 10)
    }

    pub(crate) fn broker_pid(&self) -> anyhow::Result<u32> {
        Ok(self.broker.as_ref().context("the broker is not running")?.id())
    }

    pub(crate) fn namesrv_pid(&self) -> anyhow::Result<u32> {
        Ok(self.namesrv.as_ref().context("the name server is another's")?.id())
    }

    /// Kills the name server and starts another, which knows nothing.
    pub(crate) fn restart_namesrv(&mut self) -> anyhow::Result<()> {
        let mut namesrv = self.namesrv.take().context("the name server is another's")?;
        namesrv.kill()?;
        namesrv.wait()?;
        self.spawn_namesrv()
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.options.tls.as_ref()
    }

    pub(crate) fn tools(&self) -> Option<&Path> {
        self.options.tools.as_deref()
    }

    /// The keys of a role.
    fn tls_keys(&self, role: &str) -> Vec<(&'static str, String)> {
        let Some(tls) = &self.options.tls else {
            return Vec::new();
        };
        let enforcing = (role == "broker").then(|| (ENFORCING.0, ENFORCING.1.to_owned()));
        tls.of_servers.iter().cloned().chain(enforcing).collect()
    }

    fn tls_lines(&self, role: &str) -> String {
        let keys = self.tls_keys(role).into_iter();
        keys.map(|(key, value)| format!("{key}={value}\n")).collect()
    }

    /// The broker's data folder.
    pub(crate) fn store_dir(&self) -> PathBuf {
        self.options.dir.join("store")
    }

    /// A folder for what a client of this name writes, beside the servers' own.
    pub(crate) fn home(&self, client: &str) -> PathBuf {
        self.options.dir.join(client)
    }

    /// SIGKILL, and wait until the process is gone.
    pub(crate) fn kill_broker(&mut self) -> anyhow::Result<()> {
        let mut broker = self.broker.take().context("the broker is not running")?;
        broker.kill()?;
        broker.wait()?;
        Ok(())
    }

    /// SIGTERM, and wait until the process is gone.
    pub(crate) fn stop_broker(&mut self) -> anyhow::Result<()> {
        let broker = self.broker.take().context("the broker is not running")?;
        stop(broker, self.options.patience).with_context(|| format!("broker:\n{}", self.log_tail("broker")))
    }

    /// Ends the servers and removes the data, a gigabyte and more; what they have logged stays.
    pub(crate) fn discard(self) -> anyhow::Result<()> {
        let store = self.store_dir();
        drop(self);
        fs::remove_dir_all(&store).with_context(|| store.display().to_string())
    }

    /// Lets another broker take over at the next start.
    pub(crate) fn replace_broker(&mut self, broker: Server) {
        self.options.broker = broker;
    }

    /// Sets a property of the broker from the next start on.
    pub(crate) fn set_property(&mut self, key: &str, value: impl ToString) {
        let properties = &mut self.options.broker_properties;
        properties.retain(|(known, _)| known != key);
        properties.push((key.to_owned(), value.to_string()));
    }

    /// Starts the broker on the same data and waits until the name server routes to it.
    pub(crate) fn start_broker(&mut self) -> anyhow::Result<()> {
        self.spawn_broker()?;
        let (namesrv, broker) = (self.namesrv_addr(), self.broker_addr());
        self.wait_for("broker", || {
            accepts(&broker) && routes_to(&namesrv, &broker).unwrap_or(false)
        })
    }

    /// Starts the broker on the same data and does not wait for it.
    pub(crate) fn spawn_broker(&mut self) -> anyhow::Result<()> {
        ensure!(self.broker.is_none(), "the broker is running already");
        fs::write(self.options.dir.join("broker.conf"), self.broker_conf())?;
        let child = self.spawn("broker", &self.options.broker, &["-n", &self.namesrv_addr()])?;
        self.broker = Some(child);
        Ok(())
    }

    fn start_namesrv(&mut self) -> anyhow::Result<()> {
        for addr in [self.namesrv_addr(), self.broker_addr()] {
            ensure!(
                !accepts(&addr),
                "{addr} is taken, perhaps by servers of an earlier run that was killed"
            );
        }
        let dir = &self.options.dir;
        let conf = format!(
            "listenPort={}\nbindAddress=127.0.0.1\nkvConfigPath={1}/kvConfig.json\nconfigStorePath={1}/namesrv.properties\n\
             orderMessageEnable=true\n{2}",
            self.options.port,
            dir.display(),
            self.tls_lines("namesrv")
        );
        fs::write(dir.join("namesrv.conf"), conf)?;
        self.spawn_namesrv()
    }

    fn spawn_namesrv(&mut self) -> anyhow::Result<()> {
        self.namesrv = Some(self.spawn("namesrv", &self.options.namesrv, &[])?);
        let namesrv = self.namesrv_addr();
        self.wait_for("namesrv", || accepts(&namesrv))
    }

    fn broker_conf(&self) -> String {
        let store = self.store_dir();
        // That the machine's disk is full of other things is no reason to delete what a test has stored.
        let mut conf = format!(
            "cleanFileForciblyEnable=false\ndiskMaxUsedSpaceRatio=95\nbrokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=0\nbrokerIP1=127.0.0.1\n\
             bindAddress=127.0.0.1\nlistenPort={}\nhaListenPort={}\nnamesrvAddr={}\nstorePathRootDir={}\n\
             storePathCommitLog={}\n",
            self.options.port + 10,
            self.options.port + 11,
            self.namesrv_addr(),
            store.display(),
            store.join("commitlog").display(),
        );
        for (key, value) in &self.options.broker_properties {
            conf.push_str(&format!("{key}={value}\n"));
        }
        conf + &self.tls_lines("broker")
    }

    fn spawn(&self, role: &str, server: &Server, args: &[&str]) -> anyhow::Result<Child> {
        let dir = &self.options.dir;
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join(format!("{role}.log")))?;
        let mut command = match server {
            Server::Java(version) => {
                let main_class = match role {
                    "namesrv" => "org.apache.rocketmq.namesrv.NamesrvStartup",
                    _ => "org.apache.rocketmq.broker.BrokerStartup",
                };
                let mut command = java(&java_classpath(version)?, dir);
                let tls = self.tls_keys(role).into_iter();
                command
                    .args(&self.options.jvm_flags)
                    .args(tls.map(|(key, value)| format!("-D{key}={value}")))
                    .arg(main_class);
                command
            }
            Server::Oxmq { binary } => {
                let mut command = Command::new(binary);
                command.arg(role);
                command
            }
        };
        write_logback_configuration(dir)?;
        command
            .arg("-c")
            .arg(dir.join(format!("{role}.conf")))
            .args(args)
            .env("ROCKETMQ_HOME", dir)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))
    }

    fn wait_for(&mut self, role: &str, ready: impl Fn() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.options.patience;
        while !ready() {
            let child = if role == "namesrv" {
                &mut self.namesrv
            } else {
                &mut self.broker
            };
            if let Some(status) = child
                .as_mut()
                .and_then(|child| child.try_wait().transpose())
                .transpose()?
            {
                bail!("{role} ended with {status}:\n{}", self.log_tail(role));
            }
            ensure!(
                Instant::now() < deadline,
                "{role} is not ready in time:\n{}",
                self.log_tail(role)
            );
            sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// The end of what the server printed, and of the log file that the original writes elsewhere.
    pub(crate) fn log_tail(&self, role: &str) -> String {
        let dir = &self.options.dir;
        let own = format!("{role}.log");
        [dir.join("logs/rocketmqlogs").join(&own), dir.join(&own)]
            .iter()
            .map(|path| tail(path))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in [&mut self.broker, &mut self.namesrv].into_iter().flatten() {
            // The process may have ended by itself, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A `java` command with RocketMQ's module flags, these jars and a home folder of its own.
pub(crate) fn java(classpath: &str, home: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .args(JAVA_MODULE_FLAGS)
        .arg(format!("-Duser.home={}", home.display()))
        .args(["-cp", classpath]);
    command
}

/// The class path of the original's servers and tools in `version`, fetched by Maven on first use.
pub(crate) fn java_classpath(version: &str) -> anyhow::Result<String> {
    /// Clusters start side by side.
    static FETCHING: Mutex<()> = Mutex::new(());
    let _fetching = FETCHING.lock();
    let dir = target_dir().join("java").join(version);
    let lib = dir.join("lib");
    if !lib.exists() {
        let dependencies: String = ["namesrv", "broker", "client", "tools"]
            .iter()
            .map(|part| {
                format!(
                    "<dependency><groupId>org.apache.rocketmq</groupId><artifactId>rocketmq-{part}</artifactId>\
                     <version>{version}</version></dependency>"
                )
            })
            .collect();
        fs::create_dir_all(&dir)?;
        fs::write(
            dir.join("pom.xml"),
            format!(
                "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
                 <groupId>oxmq</groupId><artifactId>java-servers</artifactId><version>1</version>\
                 <packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>\n"
            ),
        )?;
        // Renamed when complete, so that an interrupted download is not taken for the whole.
        let mut mvn = Command::new("mvn");
        mvn.args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=partial"])
            .current_dir(&dir);
        run_download(&mut mvn)?;
        fs::rename(dir.join("partial"), &lib)?;
    }
    Ok(format!("{}/*", lib.display()))
}

/// Cargo's target folder: everything generated goes below it.
pub(crate) fn target_dir() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target");
    std::env::var_os("CARGO_TARGET_DIR").map_or(default, PathBuf::from)
}

/// Runs a command to its end; an error unless it succeeds.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// The same for what downloads: a registry may be out of reach for a moment.
pub(crate) fn run_download(command: &mut Command) -> anyhow::Result<()> {
    for _ in 1..DOWNLOAD_TRIES {
        match run(command) {
            Ok(()) => return Ok(()),
            Err(error) => println!("once more, as {error}"),
        }
        sleep(DOWNLOAD_PAUSE);
    }
    run(command)
}

/// Waits for the end of a process; kills it and returns nothing when it takes longer than this.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        sleep(POLL_INTERVAL);
    }
}

fn stop(mut child: Child, patience: Duration) -> anyhow::Result<()> {
    kill_process(Pid::from_child(&child), Signal::TERM)?;
    wait(&mut child, patience)?.context("does not end on SIGTERM")?;
    Ok(())
}

fn accepts(addr: &str) -> bool {
    connect(addr).is_ok()
}

fn connect(addr: &str) -> anyhow::Result<TcpStream> {
    let addr: SocketAddr = addr.parse()?;
    let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(stream)
}

/// Asks the name server for all brokers (request code 106) and looks for this address.
fn routes_to(namesrv: &str, broker: &str) -> anyhow::Result<bool> {
    let header = br#"{"code":106,"flag":0,"language":"OTHER","opaque":1,"version":399}"#;
    let header_length = u32::try_from(header.len())?;
    let mut frame = (header_length + 4).to_be_bytes().to_vec();
    frame.extend(header_length.to_be_bytes());
    frame.extend(header);
    let mut stream = connect(namesrv)?;
    stream.write_all(&frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = Vec::new();
    stream
        .take(u64::from(u32::from_be_bytes(length)))
        .read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).contains(&format!("\"{broker}\"")))
}

/// 4.x servers do not start without these files.
fn write_logback_configuration(home: &Path) -> anyhow::Result<()> {
    let conf = home.join("conf");
    fs::create_dir_all(&conf)?;
    for part in ["namesrv", "broker", "tools"] {
        fs::write(conf.join(format!("logback_{part}.xml")), "<configuration/>\n")?;
    }
    Ok(())
}

/// Its last lines, indented.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..]
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect()
}
