//! What was measured, as Markdown: medians over the rounds, with the extremes where noise matters.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::load::Measure;
use super::process::Memory;
use super::target::{JAVA_VERSION, Target};
use super::workload::{Goal, QUIET, Setup, WORKLOADS, Workload};

const BEGIN: &str = "<!-- begin: written by `cargo xtask bench --write` -->\n";
const END: &str = "<!-- end -->\n";
const MIB: f64 = 1048576.0;

/// Goals for the process as a whole.
const IDLE_ANONYMOUS_MIB_MAX: f64 = 20.0;
const LOADED_ANONYMOUS_MIB_MAX: f64 = 64.0;
const SERVING_MS_MAX: f64 = 100.0;

pub(crate) struct Report {
    command: String,
    measures: BTreeMap<(usize, Target), Vec<Measure>>,
    starts: BTreeMap<Target, Vec<Start>>,
}

struct Start {
    serving_after: Option<Duration>,
    idle: Memory,
}

/// The figures of one server in one workload, each with a value per round.
struct Figures {
    rate: Spread,
    cpu_us: Spread,
    p50_ms: Spread,
    p99_ms: Spread,
    p999_ms: Spread,
    max_ms: Spread,
    anonymous_mib: Spread,
    mapped_mib: Spread,
    generator_us: Spread,
    limit: Spread,
    pause_p999_ms: Spread,
    pause_max_ms: Spread,
    errors: u64,
    first_error: Option<String>,
}

impl Report {
    pub(crate) fn new(args: &[String]) -> Self {
        let mut command = "cargo xtask bench".to_owned();
        for arg in args.iter().filter(|arg| *arg != "--write") {
            command.push(' ');
            command.push_str(arg);
        }
        Self {
            command,
            measures: BTreeMap::new(),
            starts: BTreeMap::new(),
        }
    }

    pub(crate) fn add_start(&mut self, target: Target, serving_after: Option<Duration>, idle: Memory) {
        self.starts
            .entry(target)
            .or_default()
            .push(Start { serving_after, idle });
    }

    /// Adds one round's result; returns a line about it.
    pub(crate) fn add(&mut self, target: Target, workload: &Workload, measure: Measure) -> String {
        let line = Figures::of(std::slice::from_ref(&measure));
        let text = format!(
            "{:20} {:10} {:>9}/s  {:>6} µs CPU/message  p50 {} p99 {} p99.9 {} max {} ms  anonymous {} MiB, generator {} µs{}",
            workload.name,
            target.title(),
            line.rate.count(),
            line.cpu_us.decimal(),
            line.p50_ms.decimal(),
            line.p99_ms.decimal(),
            line.p999_ms.decimal(),
            line.max_ms.decimal(),
            line.anonymous_mib.count(),
            line.generator_us.decimal(),
            line.machine_pauses()
                + &line
                    .complaint()
                    .map_or(String::new(), |complaint| format!(", {complaint}")),
        );
        let index = WORKLOADS.iter().position(|candidate| candidate.name == workload.name);
        let index = index.expect("every workload is in the list");
        self.measures.entry((index, target)).or_default().push(measure);
        text
    }

    /// Replaces the measured part of docs/benchmarks.md; what people wrote around it stays.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .with_file_name("docs")
            .join("benchmarks.md");
        let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (before, rest) = old
            .split_once(BEGIN)
            .context("docs/benchmarks.md has lost its begin mark")?;
        let (_, after) = rest
            .split_once(END)
            .context("docs/benchmarks.md has lost its end mark")?;
        fs::write(&path, format!("{before}{BEGIN}\n{self}\n{END}{after}"))?;
        Ok(())
    }

    fn figures(&self, workload: usize, target: Target) -> Option<Figures> {
        self.measures
            .get(&(workload, target))
            .map(|measures| Figures::of(measures))
    }

    fn ratio_rows(&self) -> String {
        let mut rows = String::new();
        for (index, workload) in WORKLOADS.iter().enumerate() {
            let (Some(oxmq), Some(java)) = (self.figures(index, Target::Oxmq), self.figures(index, Target::Java))
            else {
                continue;
            };
            let cpu = java.cpu_us.median() / oxmq.cpu_us.median();
            let p99 = oxmq.p99_ms.median() / java.p99_ms.median();
            let goal = match workload.goal {
                Some(Goal::MessagesPerCpuSecond(times)) => format!("CPU ≥ {times:.0}×: {}", verdict(cpu >= times)),
                Some(Goal::P99(part)) => format!("p99 ≤ {part:.2}×: {}", verdict(p99 <= part)),
                Some(Goal::P999OfQuiet(_) | Goal::FlushLimit { .. } | Goal::Within(_)) => "below".to_owned(),
                None => "–".to_owned(),
            };
            let rate = oxmq.rate.median() / java.rate.median();
            let p50 = oxmq.p50_ms.median() / java.p50_ms.median();
            let floor = self.figures(index, Target::Floor).map_or("–".to_owned(), |floor| {
                let cpu = oxmq.cpu_us.median() / floor.cpu_us.median();
                format!("{} / {:.2}×", times(cpu), oxmq.rate.median() / floor.rate.median())
            });
            let _ = writeln!(
                rows,
                "| {} | **{}** | {} | {p50:.2}× | {p99:.2}× | {goal} | {floor} |",
                workload.title,
                times(cpu),
                times(rate),
            );
        }
        rows
    }

    /// Workloads whose goal is not Java alone: the disk, the quiet run, or a time.
    fn store_rows(&self) -> String {
        let mut rows = String::new();
        let quiet = WORKLOADS.iter().position(|workload| workload.name == QUIET);
        for &(index, target) in self.measures.keys() {
            let (Some(goal), Some(figures)) = (WORKLOADS[index].goal, self.figures(index, target)) else {
                continue;
            };
            let of_quiet = quiet
                .and_then(|quiet| self.figures(quiet, target))
                .map(|quiet| figures.p999_ms.median() / quiet.p999_ms.median());
            let (share, goal) = match goal {
                Goal::MessagesPerCpuSecond(_) | Goal::P99(_) => continue,
                Goal::P999OfQuiet(times) => (
                    of_quiet.map(|share| format!("{share:.2}× p99.9 of the quiet run")),
                    of_quiet.map(|share| (format!("≤ {times:.1}×"), share <= times)),
                ),
                Goal::FlushLimit { of_disk, of_java } => {
                    let share = figures.rate.median() / figures.limit.median();
                    let java = self.figures(index, Target::Java);
                    let times = java.map_or(f64::INFINITY, |java| figures.rate.median() / java.rate.median());
                    (
                        Some(format!("{:.0} % of {}/s", share * 100.0, figures.limit.count())),
                        Some((
                            format!("≥ {:.0} %, {of_java:.0}× Java", of_disk * 100.0),
                            share >= of_disk && times >= of_java,
                        )),
                    )
                }
                Goal::Within(ms) => (None, Some((format!("≤ {ms:.0} ms"), figures.p50_ms.median() <= ms))),
            };
            let goal = goal.filter(|_| target == Target::Oxmq);
            let _ = writeln!(
                rows,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                WORKLOADS[index].title,
                target.title(),
                figures.rate.count(),
                figures.p50_ms.decimal(),
                figures.p99_ms.decimal(),
                figures.p999_ms.decimal(),
                figures.max_ms.decimal(),
                figures.pause_p999_ms.decimal(),
                figures.errors,
                share.unwrap_or("–".to_owned()),
                goal.map_or("–".to_owned(), |(goal, is_reached)| format!(
                    "{goal}: {}",
                    verdict(is_reached)
                )),
            );
        }
        rows
    }

    fn figure_rows(&self) -> String {
        let mut rows = String::new();
        for &(index, target) in self.measures.keys() {
            let Some(figures) = self.figures(index, target) else {
                continue;
            };
            let _ = writeln!(
                rows,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                WORKLOADS[index].title,
                target.title(),
                figures.rate.count(),
                figures.cpu_us.decimal(),
                figures.p50_ms.decimal(),
                figures.p99_ms.decimal(),
                figures.p999_ms.decimal(),
                figures.anonymous_mib.count(),
                figures.mapped_mib.count(),
                figures.generator_us.decimal(),
            );
        }
        rows
    }

    /// Nothing when all answers were successes.
    fn error_lines(&self) -> String {
        let mut lines = String::new();
        for &(index, target) in self.measures.keys() {
            if let Some(complaint) = self.figures(index, target).and_then(|figures| figures.complaint()) {
                let _ = writeln!(lines, "- {}, {}: {complaint}", WORKLOADS[index].title, target.title());
            }
        }
        lines
    }

    fn process_rows(&self) -> String {
        let mut rows = String::new();
        for target in [Target::Java, Target::Oxmq] {
            let Some(starts) = self.starts.get(&target) else {
                continue;
            };
            let idle = Spread::over(starts, |start| start.idle.anonymous as f64 / MIB);
            let mapped = Spread::over(starts, |start| start.idle.mapped as f64 / MIB);
            let serving = Spread::over(starts, |start| start.serving_after.map_or(f64::NAN, millis));
            let loaded = self
                .measures
                .iter()
                .filter(|((index, of), _)| *of == target && WORKLOADS[*index].setup == Setup::Async)
                .flat_map(|(_, measures)| measures)
                .map(|measure| measure.usage.memory.anonymous as f64 / MIB)
                .fold(0.0, f64::max);
            let goals = match target {
                Target::Oxmq => [
                    verdict(serving.median() <= SERVING_MS_MAX),
                    verdict(idle.median() <= IDLE_ANONYMOUS_MIB_MAX),
                    verdict(loaded <= LOADED_ANONYMOUS_MIB_MAX),
                ]
                .map(|verdict| format!(" ({verdict})")),
                Target::Java | Target::Floor => Default::default(),
            };
            let _ = writeln!(
                rows,
                "| {} | {}{} | {}{} | {} | {loaded:.0}{} |",
                target.title(),
                serving.count(),
                goals[0],
                idle.decimal(),
                goals[1],
                mapped.decimal(),
                goals[2],
            );
        }
        rows
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "Machine: {}\n", machine())?;
        writeln!(
            out,
            "Versions: OxMQ {}, Java broker {JAVA_VERSION}\n",
            env!("CARGO_PKG_VERSION")
        )?;
        writeln!(out, "Command: `{}`\n", self.command)?;
        let ratios = self.ratio_rows();
        if !ratios.is_empty() {
            writeln!(
                out,
                "### OxMQ against Java\n\n| workload | messages per CPU-second | messages/s | p50 | p99 | goal | CPU per message / messages/s, of the floor's |\n|---|--:|--:|--:|--:|---|--:|\n{ratios}"
            )?;
        }
        let store = self.store_rows();
        if !store.is_empty() {
            writeln!(
                out,
                "### The store at work\n\n| workload | server | messages/s | p50 ms | p99 ms | p99.9 ms | max ms | machine stood still, p99.9 ms | refused | share | goal |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n{store}"
            )?;
        }
        let processes = self.process_rows();
        if !processes.is_empty() {
            writeln!(
                out,
                "### The process\n\n| server | serving after, ms (goal ≤ {SERVING_MS_MAX:.0}) | idle anonymous MiB (goal ≤ {IDLE_ANONYMOUS_MIB_MAX:.0}) | idle mapped MiB | highest anonymous MiB under load (goal ≤ {LOADED_ANONYMOUS_MIB_MAX:.0}) |\n|---|--:|--:|--:|--:|\n{processes}"
            )?;
        }
        write!(
            out,
            "### All figures\n\n| workload | server | messages/s | broker CPU µs per message | p50 ms | p99 ms | p99.9 ms | anonymous MiB | mapped MiB | generator CPU µs per message |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n{}",
            self.figure_rows()
        )?;
        let errors = self.error_lines();
        if errors.is_empty() {
            Ok(())
        } else {
            write!(out, "\nErrors:\n\n{errors}")
        }
    }
}

impl Figures {
    fn of(measures: &[Measure]) -> Self {
        let per_message = |span: Duration, measure: &Measure| span.as_secs_f64() * 1e6 / measure.messages.max(1) as f64;
        let percentile = |quantile: f64| Spread::over(measures, |m| m.latency.value_at_quantile(quantile) as f64 / 1e6);
        let pause = |quantile: f64| {
            let pauses = measures
                .iter()
                .filter_map(|measure| measure.pauses.as_ref())
                .collect::<Vec<_>>();
            Spread::over(&pauses, |pauses| pauses.value_at_quantile(quantile) as f64 / 1e6)
        };
        Self {
            rate: Spread::over(measures, |m| m.messages as f64 / m.usage.elapsed.as_secs_f64()),
            cpu_us: Spread::over(measures, |m| per_message(m.usage.server_cpu, m)),
            p50_ms: percentile(0.5),
            p99_ms: percentile(0.99),
            p999_ms: percentile(0.999),
            max_ms: percentile(1.0),
            anonymous_mib: Spread::over(measures, |m| m.usage.memory.anonymous as f64 / MIB),
            mapped_mib: Spread::over(measures, |m| m.usage.memory.mapped as f64 / MIB),
            generator_us: Spread::over(measures, |m| per_message(m.usage.generator_cpu, m)),
            limit: Spread::over(measures, |m| m.limit.unwrap_or(f64::NAN)),
            pause_p999_ms: pause(0.999),
            pause_max_ms: pause(1.0),
            errors: measures.iter().map(|measure| measure.errors).sum(),
            first_error: measures.iter().find_map(|measure| measure.first_error.clone()),
        }
    }

    fn machine_pauses(&self) -> String {
        match self.pause_max_ms.0.is_empty() {
            true => String::new(),
            false => format!(
                ", machine stood still p99.9 {} max {} ms",
                self.pause_p999_ms.decimal(),
                self.pause_max_ms.decimal()
            ),
        }
    }

    fn complaint(&self) -> Option<String> {
        let first = self.first_error.as_ref()?;
        Some(format!("{} errors, first: {first}", self.errors))
    }
}

/// One figure over the rounds, in ascending order.
struct Spread(Vec<f64>);

impl Spread {
    fn over<T>(items: &[T], figure: impl Fn(&T) -> f64) -> Self {
        let mut values: Vec<f64> = items.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn count(&self) -> String {
        self.format(|value| thousands(value.round() as u64))
    }

    fn decimal(&self) -> String {
        self.format(|value| match value {
            value if value >= 100.0 => format!("{value:.0}"),
            value if value >= 10.0 => format!("{value:.1}"),
            value if value >= 0.1 => format!("{value:.2}"),
            value if value >= 0.01 => format!("{value:.4}"),
            value if value >= 0.001 => format!("{value:.5}"),
            value => format!("{value:.2}"),
        })
    }

    /// The median, and the extremes when there are several values.
    fn format(&self, one: impl Fn(f64) -> String) -> String {
        match self.0.as_slice() {
            [] => "–".to_owned(),
            [value] => one(*value),
            [min, .., max] => format!("{} ({}–{})", one(self.median()), one(*min), one(*max)),
        }
    }
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "**missed**" }
}

fn times(ratio: f64) -> String {
    format!("{ratio:.1}×")
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.trim_start_matches([' ', '\t', ':']).trim_end().to_owned()
    };
    let memory_kib: f64 = field("/proc/meminfo", "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}, {cores} cores, {:.0} GiB, Linux {}; {}; {}. The load generator runs on the same cores.",
        field("/proc/cpuinfo", "model name"),
        memory_kib / 1048576.0,
        kernel.trim(),
        first_line(Command::new("java").arg("-version")),
        first_line(Command::new("rustc").arg("--version")),
    )
}

/// The first line that a program prints: Java says its version on standard error.
fn first_line(command: &mut Command) -> String {
    let Ok(output) = command.output() else {
        return format!("no {:?}", command.get_program());
    };
    let text = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_shows_the_median_between_its_extremes() {
        let spread = Spread::over(&[12_345.4, 7.0, 1_000_000.0], |value| *value);
        assert_eq!(spread.count(), "12,345 (7–1,000,000)");
        assert_eq!(Spread(vec![1.234]).decimal(), "1.23");
        assert_eq!(Spread(vec![45.67]).decimal(), "45.7");
        assert_eq!(Spread(vec![0.08191]).decimal(), "0.0819");
        assert_eq!(Spread(vec![0.004567]).decimal(), "0.00457");
        assert_eq!(Spread(vec![0.0]).decimal(), "0.00");
    }

    #[test]
    fn ratios_name_the_goal_and_whether_it_is_reached() {
        let mut report = Report::new(&["--write".to_owned(), "--quick".to_owned()]);
        for (target, cpu) in [(Target::Java, 20), (Target::Oxmq, 1)] {
            let mut measure = Measure::new();
            measure.messages = 1_000_000;
            measure.delay(Duration::from_millis(1));
            measure.usage.elapsed = Duration::from_secs(2);
            measure.usage.server_cpu = Duration::from_secs(cpu);
            report.add(target, &WORKLOADS[0], measure);
        }
        assert_eq!(report.command, "cargo xtask bench --quick");
        let rows = report.ratio_rows();
        assert!(
            rows.contains("| **20.0×** | 1.0× | 1.00× | 1.00× | CPU ≥ 10×: reached | – |"),
            "{rows}"
        );
    }
}
