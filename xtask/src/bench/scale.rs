//! `cargo xtask scale`: one broker with many queues, beside the same broker with eight.
//!
//! Each step prints its figures as soon as it has them: topics are created and registered, every queue gets a message,
//! sends go to all queues in random order, the broker idles, stops, starts, is killed under load and starts again.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::frames::{OPAQUE_BASE, frame};
use super::load::{self, Measure, Outcome, Plan, Shape, Traffic};
use super::meter::Meter;
use super::process::{Memory, cpu_time};
use super::response::Response;
use super::run_optimized;
use super::target::{JAVA_VERSION, JVM_FLAGS, request_ok};
use crate::interop::oxmq_binary;
use crate::servers::{Cluster, Options, Server, target_dir};

const USAGE: &str = "\
usage: cargo xtask scale [options]
  --queues N        (20000)
  --per-topic N     queues of each topic (10)
  --server NAME     oxmq or java (oxmq)
  --seconds N       measured time of each load (5)
  --binary FILE     the oxmq to measure (default: built with the release profile)
  --dir FOLDER      where the servers keep their data (target/scale)
  --port N          of the name server; the broker's is 10 higher (22200)
  --keep            leave the data behind";

const BODY: [u8; 128] = [b'x'; 128];
/// Topics of one request in the list form.
const LIST_TOPICS: usize = 500;
/// One topic in so many is created by a request of its own.
const SINGLY: usize = 10;
const PATIENCE: Duration = Duration::from_secs(900);
const IDLE: Duration = Duration::from_secs(10);
const MIB: f64 = 1048576.0;
/// What OxMQ may use, whatever the number of queues, and of memory for each.
const OPEN_FILES_MAX: usize = 1024;
const MAPPED_FILES_MAX: usize = 64;
const ANONYMOUS_BYTES_MAX: u64 = 64 << 20;
const ANONYMOUS_BYTES_PER_QUEUE_MAX: u64 = 1024;
/// The topic that stands for a small broker.
const SMALL: Topics = Topics {
    prefix: "small",
    count: 1,
    per_topic: 8,
};

struct Arguments {
    queues: usize,
    per_topic: usize,
    server: Server,
    window: Duration,
    dir: PathBuf,
    port: u16,
    keep: bool,
}

/// Topics of one kind and their queues.
#[derive(Clone, Copy)]
struct Topics {
    prefix: &'static str,
    count: usize,
    per_topic: usize,
}

impl Topics {
    fn topic(&self, number: usize) -> String {
        format!("{}_{number:06}", self.prefix)
    }

    fn queues(&self) -> usize {
        self.count * self.per_topic
    }

    /// The topics as UPDATE_AND_CREATE_TOPIC_LIST takes them.
    fn list(&self, numbers: std::ops::Range<usize>) -> Vec<u8> {
        let configs = numbers.map(|number| {
            format!(
                "{{\"attributes\":{{}},\"order\":false,\"perm\":6,\"readQueueNums\":{0},\"topicFilterType\":\"SINGLE_TAG\",\
                 \"topicName\":\"{1}\",\"topicSysFlag\":0,\"writeQueueNums\":{0}}}",
                self.per_topic,
                self.topic(number)
            )
        });
        let configs: Vec<String> = configs.collect();
        let body = format!("{{\"topicConfigList\":[{}]}}", configs.join(","));
        frame(&header(18, OPAQUE_BASE, ""), body.as_bytes())
    }

    fn create(&self, number: usize, opaque: u32) -> Vec<u8> {
        let fields = format!(
            "\"topic\":\"{}\",\"readQueueNums\":\"{1}\",\"writeQueueNums\":\"{1}\",\"perm\":\"6\",\"order\":\"false\",\
             \"topicFilterType\":\"SINGLE_TAG\",\"topicSysFlag\":\"0\",\"attributes\":\"\",\"force\":\"false\",\
             \"defaultTopic\":\"TBW102\"",
            self.topic(number),
            self.per_topic
        );
        frame(&header(17, opaque, &fields), &[])
    }

    fn send(&self, queue: usize, opaque: u32) -> Vec<u8> {
        let fields = format!(
            "\"a\":\"scale_producer\",\"b\":\"{}\",\"c\":\"TBW102\",\"d\":\"4\",\"e\":\"{}\",\"f\":\"0\",\
             \"g\":\"1700000000000\",\"h\":\"0\",\"i\":\"UNIQ_KEY\\u00017F0000010A2B07A4A9B5C6D7{:08X}\\u0002WAIT\\u0001true\\u0002\",\
             \"j\":\"0\",\"k\":\"false\",\"m\":\"false\",\"n\":\"broker-a\"",
            self.topic(queue % self.count),
            queue / self.count,
            opaque,
        );
        frame(&header(310, opaque, &fields), &BODY)
    }
}

fn header(code: u32, opaque: u32, fields: &str) -> String {
    format!(
        "{{\"code\":{code},\"extFields\":{{{fields}}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":{opaque},\
         \"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}"
    )
}

/// What the requests of a load do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Topics `numbers`, one request each.
    Create,
    /// One message to every queue, then no more.
    Touch,
    /// Messages to queues in random order.
    Send,
}

struct Requests {
    topics: Topics,
    work: Work,
    shape: Shape,
    next: usize,
    end: usize,
}

impl Requests {
    fn new(topics: Topics, work: Work, connections: usize, in_flight: usize) -> Self {
        let end = match work {
            Work::Create => topics.count.div_ceil(SINGLY),
            Work::Touch => topics.queues(),
            Work::Send => usize::MAX,
        };
        Self {
            topics,
            work,
            shape: Shape { connections, in_flight },
            next: 0,
            end,
        }
    }

    fn run(mut self, addr: &str, meter: &Meter, window: Duration) -> anyhow::Result<Measure> {
        let plan = Plan {
            ramp: match self.work {
                Work::Send => Duration::from_secs(1),
                _ => Duration::ZERO,
            },
            window,
            messages_max: match self.work {
                Work::Send => u64::MAX,
                // What is under way then is answered as well.
                _ => self.end.saturating_sub(self.shape.slots()) as u64,
            },
        };
        load::run(addr, &mut self, &plan, meter)
    }
}

impl Traffic for Requests {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn request(&mut self, _slot: usize, opaque: u32, output: &mut Vec<u8>) {
        // Behind the end the last one is repeated.
        let number = self.next.min(self.end - 1);
        self.next += 1;
        output.extend(match self.work {
            Work::Create => self.topics.create(number, opaque),
            Work::Touch => self.topics.send(number, opaque),
            // A step that has no factor in common with the number of queues visits each of them.
            Work::Send => {
                let queues = self.topics.queues() as u64;
                self.topics
                    .send((number as u64 * 2_654_435_761 % queues) as usize, opaque)
            }
        });
    }

    fn answer(&mut self, _slot: usize, response: &Response<'_>) -> anyhow::Result<Outcome> {
        Ok(response.success().map(|()| 1))
    }
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    // The generator must stay cheap next to what it measures.
    if cfg!(debug_assertions) {
        return run_optimized("scale", args);
    }
    let arguments = Arguments::parse(args)?;
    let dir = arguments.dir.join(std::process::id().to_string());
    let outcome = measure(&arguments, &dir);
    if !arguments.keep {
        // A million files take minutes to delete: nobody has to wait for that.
        Command::new("rm").arg("-rf").arg(&dir).spawn()?;
    }
    outcome
}

fn measure(arguments: &Arguments, dir: &Path) -> anyhow::Result<()> {
    let topics = Topics {
        prefix: "scale",
        count: arguments.queues.div_ceil(arguments.per_topic),
        per_topic: arguments.per_topic,
    };
    let mut options = Options::new(arguments.server.clone(), arguments.port, dir);
    options.patience = PATIENCE;
    options.jvm_flags = JVM_FLAGS.map(String::from).to_vec();
    let mut run = Run {
        cluster: Cluster::start(options)?,
        is_bounded: matches!(arguments.server, Server::Oxmq { .. }),
        queues: topics.queues() as u64,
        window: arguments.window,
        small: None,
    };
    say("topics × queues", format!("{} × {}", topics.count, topics.per_topic));
    run.say_process("at rest, without topics")?;
    request_ok(&run.cluster.broker_addr(), &SMALL.create(0, OPAQUE_BASE))?;
    run.sends("8 queues", SMALL)?;
    run.say_process("after it")?;

    run.create(topics)?;
    run.say_process("all topics are there")?;
    let began = Instant::now();
    let touched = Requests::new(topics, Work::Touch, 4, 16).run(&run.cluster.broker_addr(), &run.meter()?, PATIENCE)?;
    say("first message to each queue", rates(&touched));
    run.settle()?;
    say("until all is written", seconds(began.elapsed()));
    run.say_process("every queue has a message")?;
    run.sends("all queues", topics)?;
    run.settle()?;
    run.say_process("after it")?;
    run.idle()?;

    let began = Instant::now();
    run.cluster.stop_broker()?;
    say("clean stop", seconds(began.elapsed()));
    run.restart("restart", topics)?;
    run.say_process("after the restart")?;
    run.sends("all queues, after the restart", topics)?;
    run.settle()?;
    run.idle()?;
    run.sends("8 queues, beside them", SMALL)?;

    run.sends("all queues, before a kill", topics)?;
    run.cluster.kill_broker()?;
    run.restart("restart after kill -9", topics)?;
    run.say_process("after it")?;
    run.cluster.restart_namesrv()?;
    let began = Instant::now();
    run.wait_for_routes(topics)?;
    say("name server that was empty knows all after", seconds(began.elapsed()));
    run.say_namesrv()
}

struct Run {
    cluster: Cluster,
    /// More than the bounds is an error.
    is_bounded: bool,
    queues: u64,
    window: Duration,
    /// The p99 of eight queues.
    small: Option<f64>,
}

impl Run {
    fn meter(&self) -> anyhow::Result<Meter> {
        Ok(Meter {
            server_pid: self.cluster.broker_pid()?,
            profile: None,
        })
    }

    fn create(&self, topics: Topics) -> anyhow::Result<()> {
        let (addr, meter) = (self.cluster.broker_addr(), self.meter()?);
        let singly = topics.count.div_ceil(SINGLY);
        let created = Requests::new(topics, Work::Create, 4, 16).run(&addr, &meter, PATIENCE)?;
        say("topics created singly, 64 at once", rates(&created));
        let window = meter.start()?;
        let mut from = singly;
        while from < topics.count {
            let end = (from + LIST_TOPICS).min(topics.count);
            request_ok(&addr, &topics.list(from..end)).with_context(|| format!("topics {from} to {end}"))?;
            from = end;
        }
        let usage = window.finish()?;
        let count = topics.count.saturating_sub(singly);
        say(
            &format!("topics created in lists of {LIST_TOPICS}"),
            format!(
                "{:.0}/s, {:.0} µs CPU each",
                count as f64 / usage.elapsed.as_secs_f64(),
                usage.server_cpu.as_secs_f64() * 1e6 / count.max(1) as f64
            ),
        );
        let began = Instant::now();
        self.wait_for_routes(topics)?;
        say("name server knows all after another", seconds(began.elapsed()));
        let stored = fs::metadata(self.cluster.store_dir().join("config/topics.json"))?;
        say("topics.json", format!("{:.1} MiB", stored.len() as f64 / MIB));
        self.say_namesrv()
    }

    /// Until the name server routes to some topics of all, the first and the last among them.
    fn wait_for_routes(&self, topics: Topics) -> anyhow::Result<()> {
        let addr = self.cluster.namesrv_addr();
        let deadline = Instant::now() + PATIENCE;
        for part in 0..=100 {
            let topic = topics.topic((topics.count - 1) * part / 100);
            let request = frame(&header(105, OPAQUE_BASE, &format!("\"topic\":\"{topic}\"")), &[]);
            while let Err(error) = request_ok(&addr, &request) {
                ensure!(Instant::now() < deadline, "no route to {topic}: {error}");
                sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    fn sends(&mut self, what: &str, topics: Topics) -> anyhow::Result<()> {
        let addr = self.cluster.broker_addr();
        for (connections, in_flight) in [(4, 16), (16, 1)] {
            let requests = Requests::new(topics, Work::Send, connections, in_flight);
            let measure = requests.run(&addr, &self.meter()?, self.window)?;
            let mut text = rates(&measure);
            if in_flight == 1 {
                let p99 = millis(&measure, 0.99);
                let small = *self.small.get_or_insert(p99);
                text += &format!(", p99 {:.2}× of eight queues", p99 / small);
            }
            say(&format!("sends to {what}, {connections} × {in_flight}"), text);
        }
        Ok(())
    }

    /// Waits until the broker has written what it has to write.
    fn settle(&self) -> anyhow::Result<()> {
        let pid = self.cluster.broker_pid()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = cpu_time(pid)?;
            sleep(Duration::from_secs(1));
            if cpu_time(pid)? - before < Duration::from_millis(60) || Instant::now() > deadline {
                return Ok(());
            }
        }
    }

    fn idle(&self) -> anyhow::Result<()> {
        let pid = self.cluster.broker_pid()?;
        let before = cpu_time(pid)?;
        sleep(IDLE);
        let used = cpu_time(pid)? - before;
        say("CPU of 10 s without requests", format!("{} ms", used.as_millis()));
        Ok(())
    }

    /// Starts the broker and tells when it serves and when the name server knows all topics.
    fn restart(&mut self, what: &str, topics: Topics) -> anyhow::Result<()> {
        let began = Instant::now();
        self.cluster.spawn_broker()?;
        let addr = self.cluster.broker_addr();
        let send = SMALL.send(0, OPAQUE_BASE);
        while let Err(error) = request_ok(&addr, &send) {
            if began.elapsed() > PATIENCE {
                bail!("{what}: {error:#}\n{}", self.cluster.log_tail("broker"));
            }
            sleep(Duration::from_millis(1));
        }
        let serving = began.elapsed();
        self.wait_for_routes(topics)?;
        let text = format!(
            "serving after {}, all routes after {}",
            seconds(serving),
            seconds(began.elapsed())
        );
        say(what, text);
        Ok(())
    }

    fn say_process(&self, when: &str) -> anyhow::Result<()> {
        let pid = self.cluster.broker_pid()?;
        let memory = Memory::of(pid)?;
        let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        // Paths stand in the sixth column.
        let maps = maps.lines().filter(|line| line.contains("/store/")).count();
        let [anonymous, mapped] = [memory.anonymous, memory.mapped].map(|bytes| bytes as f64 / MIB);
        say(
            &format!("broker, {when}"),
            format!(
                "{anonymous:.0} MiB anonymous, {mapped:.0} MiB of files, {files} open files, {maps} of the store mapped"
            ),
        );
        let bytes_max = ANONYMOUS_BYTES_MAX + self.queues * ANONYMOUS_BYTES_PER_QUEUE_MAX;
        ensure!(
            !self.is_bounded || (memory.anonymous <= bytes_max && files <= OPEN_FILES_MAX && maps <= MAPPED_FILES_MAX),
            "this is more than {:.0} MiB, {OPEN_FILES_MAX} open files or {MAPPED_FILES_MAX} mapped ones",
            bytes_max as f64 / MIB
        );
        Ok(())
    }

    fn say_namesrv(&self) -> anyhow::Result<()> {
        let memory = Memory::of(self.cluster.namesrv_pid()?)?;
        say(
            "name server",
            format!("{:.0} MiB anonymous", memory.anonymous as f64 / MIB),
        );
        Ok(())
    }
}

fn say(what: &str, figures: String) {
    println!("{what:46} {figures}");
    // Whoever reads along is not kept waiting; if nobody does, so be it.
    let _ = io::stdout().flush();
}

fn seconds(span: Duration) -> String {
    format!("{:.2} s", span.as_secs_f64())
}

fn millis(measure: &Measure, quantile: f64) -> f64 {
    measure.latency.value_at_quantile(quantile) as f64 / 1e6
}

fn rates(measure: &Measure) -> String {
    let count = measure.messages.max(1) as f64;
    let refused = measure.first_error.as_ref();
    let refused = refused.map_or(String::new(), |error| format!(", {} refused: {error}", measure.errors));
    format!(
        "{:.0}/s, {:.1} µs CPU each, p50 {:.2} p99 {:.2} p99.9 {:.2} max {:.1} ms{refused}",
        count / measure.usage.elapsed.as_secs_f64(),
        measure.usage.server_cpu.as_secs_f64() * 1e6 / count,
        millis(measure, 0.5),
        millis(measure, 0.99),
        millis(measure, 0.999),
        millis(measure, 1.0),
    )
}

impl Arguments {
    fn parse(args: &[String]) -> anyhow::Result<Self> {
        let mut arguments = Self {
            queues: 20_000,
            per_topic: 10,
            server: Server::Java(JAVA_VERSION),
            window: Duration::from_secs(5),
            dir: target_dir().join("scale"),
            port: 22_200,
            keep: false,
        };
        let (mut java, mut binary) = (false, None);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--queues" => arguments.queues = value()?.parse()?,
                "--per-topic" => arguments.per_topic = value()?.parse()?,
                "--server" => java = value()? == "java",
                "--seconds" => arguments.window = Duration::from_secs(value()?.parse()?),
                "--binary" => binary = Some(fs::canonicalize(value()?)?),
                "--dir" => arguments.dir = PathBuf::from(value()?),
                "--port" => arguments.port = value()?.parse()?,
                "--keep" => arguments.keep = true,
                _ => bail!("unknown option {arg}\n{USAGE}"),
            }
        }
        ensure!(arguments.queues > 0 && arguments.per_topic > 0, USAGE);
        if !java {
            let binary = binary.map_or_else(|| oxmq_binary(false), Ok)?;
            arguments.server = Server::Oxmq { binary };
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_a_message_when_all_numbers_were_sent() {
        let topics = Topics {
            prefix: "t",
            count: 3,
            per_topic: 4,
        };
        let frames: std::collections::BTreeSet<_> = (0..topics.queues())
            .map(|queue| topics.send(queue, OPAQUE_BASE))
            .collect();
        assert_eq!(frames.len(), 12);
        let last = String::from_utf8_lossy(&topics.send(11, OPAQUE_BASE)).into_owned();
        assert!(
            last.contains("\"b\":\"t_000002\"") && last.contains("\"e\":\"3\""),
            "{last}"
        );
    }
}
