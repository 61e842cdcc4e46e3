//! `cargo xtask bench idle`: processor time and memory of an idle cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::step;
use xtask::clock;
use xtask::commands::bench::{self, BenchIdle};
use xtask::commands::output;
use xtask::node::Node;
use xtask::project::Project;
use xtask::report::{BOLD, DIM};

/// Least age of a cluster in seconds: Kubernetes uses more in its first minutes.
const SETTLED: u64 = 240;
/// Time limit of the samples, besides the pause between them.
const LOOK: Duration = Duration::from_secs(30);
/// Smallest share of a program in the table, in percent of a core.
const SMALLEST: f64 = 0.005;

/// Script that takes two samples, `$1` seconds apart, in one process: a second process would be part of the measurement. The
/// control group includes processes that ended in between. Its files differ between cgroup v1 and v2.
const SAMPLE: &str = r#"
look() {
    cat /sys/fs/cgroup/cpu.stat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null | head -n 1
    cat /proc/[0-9]*/stat 2>/dev/null
    echo --
}
getconf CLK_TCK
look
sleep "$1"
look
cat /sys/fs/cgroup/memory.current /sys/fs/cgroup/memory/memory.usage_in_bytes 2>/dev/null
cat /sys/fs/cgroup/memory.stat /sys/fs/cgroup/memory/memory.stat 2>/dev/null
echo --
grep -H RssAnon /proc/[0-9]*/status 2>/dev/null
echo --
grep -H . /proc/[0-9]*/cgroup 2>/dev/null
echo --
"#;

/// Measures and prints a table, or adds the figures to the document of `--json`.
pub fn run(project: &Project, args: &BenchIdle) -> Result<()> {
    let report = &project.report;
    let (toolchain, profile) = bench::running_cluster(project)?;
    let age = profile.started_at.map_or(u64::MAX, |started| clock::now().saturating_sub(started));
    if age < SETTLED {
        report.warn(format!("the cluster started {age} s ago and takes more in its first {SETTLED} s"));
    }
    let mut nodes = Vec::new();
    for node in toolchain.tools.nodes()? {
        let what = format!("watch {} for {} s", node.name, args.seconds);
        nodes.push((node.name.clone(), step(project, &what, |_| measure(&node, args.seconds))?));
    }
    report.fact("seconds", args.seconds);
    report.fact("idle", nodes.iter().map(|(name, idle)| idle.json(name)).collect::<Vec<_>>());
    if !args.json {
        let tables: Vec<String> = nodes.iter().map(|(name, idle)| idle.table(name)).collect();
        output::print(&tables.join("\n\n"))?;
    }
    Ok(())
}

fn measure(node: &Node, seconds: u32) -> Result<Idle> {
    let deadline = LOOK + Duration::from_secs(seconds.into());
    let containers = node.crictl(["ps", "-o", "json"]).deadline(LOOK).read()?;
    let sample = node.exec(["sh", "-c", SAMPLE, "sample", &seconds.to_string()]).deadline(deadline);
    Idle::read(&sample.read()?, &containers, seconds).with_context(|| format!("reading the samples of {}", node.name))
}

/// The usage of an idle node.
#[derive(Debug)]
struct Idle {
    /// Percent of a core, including processes that started and ended in between.
    cpu: f64,
    /// Bytes, without inactive file caches.
    memory: u64,
    /// Shares by program, or by container for processes in one.
    programs: BTreeMap<String, Share>,
}

/// The usage of a program.
#[derive(Debug, Default)]
struct Share {
    cpu: f64,
    memory: u64,
}

/// A process in one sample.
struct Process {
    name: String,
    ticks: u64,
    started: u64,
}

impl Idle {
    /// Parses the output of [`SAMPLE`] and crictl's list of `containers`.
    fn read(text: &str, containers: &str, seconds: u32) -> Result<Self> {
        let (frequency, rest) = text.split_once('\n').context("the output is empty")?;
        let frequency: f64 = frequency.trim().parse().context("the output has no clock tick")?;
        let sections: Vec<&str> = rest.split("\n--\n").collect();
        let [first, second, memory, private, groups, ..] = sections.as_slice() else {
            anyhow::bail!("its end is missing")
        };
        let (used_before, before) = parse_sample(first)?;
        let (used, after) = parse_sample(second)?;
        let percent = |took: f64| took * 100.0 / f64::from(seconds);
        let cpu = percent((used - used_before).max(0.0));
        let names = container_names(groups, containers)?;
        let private = private_memory(private);
        let mut programs: BTreeMap<String, Share> = BTreeMap::new();
        for (pid, process) in &after {
            let earlier = before.get(pid).filter(|earlier| earlier.started == process.started);
            let ticks = process.ticks.saturating_sub(earlier.map_or(0, |earlier| earlier.ticks));
            let share = programs.entry(names.get(pid).unwrap_or(&process.name).clone()).or_default();
            share.cpu += percent(ticks as f64 / frequency);
            share.memory += private.get(pid).copied().unwrap_or_default();
        }
        let known: f64 = programs.values().map(|share| share.cpu).sum();
        let ended = Share { cpu: (cpu - known).max(0.0), memory: 0 };
        programs.insert("processes that ended".to_owned(), ended);
        Ok(Self { cpu, memory: working_set(memory)?, programs })
    }

    /// Returns the programs by processor time, the largest first.
    fn largest(&self) -> Vec<(&String, &Share)> {
        let mut all: Vec<_> = self.programs.iter().filter(|(_, share)| share.cpu >= SMALLEST).collect();
        all.sort_by(|(_, a), (_, b)| b.cpu.total_cmp(&a.cpu));
        all
    }

    /// Returns its JSON form.
    fn json(&self, node: &str) -> Value {
        let programs = self.largest().into_iter();
        let programs = programs
            .map(|(name, share)| json!({"name": name, "cpu_percent": round(share.cpu), "memory": share.memory}));
        json!({"node": node, "cpu_percent": round(self.cpu), "memory": self.memory,
               "programs": programs.collect::<Vec<_>>()})
    }

    fn table(&self, node: &str) -> String {
        let mib = |bytes: u64| bytes / (1 << 20);
        let head = format!("{BOLD}{:<28}{:>14}{:>8}{BOLD:#}", format!("idle: {node}"), "% of a core", "MiB");
        let mut text = format!("{head}\n{:<28}{:>14.2}{:>8}\n", "all", self.cpu, mib(self.memory));
        for (name, share) in self.largest() {
            let _ = writeln!(text, "{DIM}{name:<28}{:>14.2}{:>8}{DIM:#}", share.cpu, mib(share.memory));
        }
        text.trim_end().to_owned()
    }
}

fn round(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

/// Returns the node's processor time in seconds, and its processes.
fn parse_sample(text: &str) -> Result<(f64, BTreeMap<u32, Process>)> {
    let (used, stats) = text.split_once('\n').context("a sample has no processes")?;
    let number = |text: &str| text.trim().parse::<f64>();
    let used = match used.strip_prefix("usage_usec ") {
        Some(microseconds) => number(microseconds).map(|count| count / 1e6),
        None => number(used).map(|nanoseconds| nanoseconds / 1e9),
    };
    let processes = stats.lines().filter_map(|line| {
        // A program's name may contain spaces and parentheses.
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let process = Process { name: name.to_owned(), ticks: field(11)? + field(12)?, started: field(19)? };
        Some((pid.parse().ok()?, process))
    });
    Ok((used.context("the control group has no processor time")?, processes.collect()))
}

/// Returns the container of each process that is in one.
fn container_names(groups: &str, containers: &str) -> Result<BTreeMap<u32, String>> {
    let containers: Value = serde_json::from_str(containers).context("crictl did not print JSON")?;
    let containers: BTreeMap<&str, &str> = containers["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| Some((container["id"].as_str()?, container["metadata"]["name"].as_str()?)))
        .collect();
    let named = groups.lines().filter_map(|line| {
        let (pid, group) = parse_proc_line(line)?;
        let id = group.rsplit('/').next()?.trim_start_matches("cri-containerd-").trim_end_matches(".scope");
        match containers.get(id) {
            Some(name) => Some((pid, (*name).to_owned())),
            None => group.contains("kubepods").then(|| (pid, "pause".to_owned())),
        }
    });
    Ok(named.collect())
}

/// Returns the private memory of each process in bytes.
fn private_memory(text: &str) -> BTreeMap<u32, u64> {
    let lines = text.lines().filter_map(|line| {
        let (pid, field) = parse_proc_line(line)?;
        let kib: u64 = field.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, kib << 10))
    });
    lines.collect()
}

/// Parses a line of `grep -H` about a file in `/proc/<pid>`. Returns PID and text.
fn parse_proc_line(line: &str) -> Option<(u32, &str)> {
    let (path, text) = line.split_once(':')?;
    Some((path.strip_prefix("/proc/")?.split('/').next()?.parse().ok()?, text))
}

/// Returns the memory of a control group without inactive files, in bytes, as `docker stats` counts it.
fn working_set(text: &str) -> Result<u64> {
    let (current, stats) = text.split_once('\n').context("the output has no memory usage")?;
    let current: u64 = current.trim().parse().context("the control group has no memory usage")?;
    let field = |name: &str| stats.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let inactive = field("total_inactive_file ").or_else(|| field("inactive_file ")).unwrap_or_default();
    Ok(current.saturating_sub(inactive))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a line of `/proc/<pid>/stat` with this name, processor time and start.
    fn stat(pid: u32, name: &str, ticks: u64, started: u64) -> String {
        format!("{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 9 9 20 0 1 0 {started} 0 0")
    }

    fn sample(before: &str, after: &str, memory: &str) -> String {
        let first = [stat(1, "systemd", 10, 5), stat(20, "node (v1) x", 100, 7), stat(30, "sh", 50, 8)].join("\n");
        let second = [stat(1, "systemd", 10, 5), stat(20, "node (v1) x", 180, 7), stat(30, "kubelet", 20, 9)];
        let private = "/proc/20/status:RssAnon:\t    2048 kB\n/proc/30/status:RssAnon:\t    1024 kB";
        let id = "0123456789abcdef".repeat(4);
        let groups = format!(
            "/proc/20/cgroup:4:cpuacct:/todo/kubepods/burstable/pod1/{id}\n\
             /proc/30/cgroup:4:cpuacct:/todo/system.slice/kubelet.service"
        );
        let second = second.join("\n");
        format!("100\n{before}\n{first}\n--\n{after}\n{second}\n--\n{memory}\n--\n{private}\n--\n{groups}\n--\n")
    }

    fn read(text: &str) -> Result<Idle> {
        let id = "0123456789abcdef".repeat(4);
        let containers = json!({"containers": [{"id": id, "metadata": {"name": "frontend"}}]}).to_string();
        Idle::read(text, &containers, 20)
    }

    #[test]
    fn shares_are_by_container_or_program_and_include_ended_processes() {
        let first = "9000000\ncache 5\ninactive_file 1\ntotal_inactive_file 1000000";
        let idle = read(&sample("1000000000", "3000000000", first)).unwrap();
        assert_eq!((idle.cpu, idle.memory), (10.0, 8_000_000));
        insta::assert_snapshot!(anstream::adapter::strip_str(&idle.table("todo")).to_string(), @"
        idle: todo                     % of a core     MiB
        all                                  10.00       7
        processes that ended                  5.00       0
        frontend                              4.00       2
        kubelet                               1.00       1
        ");
        let second = "9000000\nanon 5\ninactive_file 2000000";
        let idle = read(&sample("usage_usec 1000000", "usage_usec 3000000", second)).unwrap();
        assert_eq!((idle.cpu, idle.memory), (10.0, 7_000_000));
    }

    #[test]
    fn a_truncated_sample_is_an_error() {
        let text = sample("1000000000", "3000000000", "9000000\ncache 5");
        let cut = text.rfind("\n--\n/proc/20/status").unwrap();
        assert!(read(&text[..cut]).unwrap_err().to_string().contains("its end is missing"));
        assert!(read("").is_err());
    }
}
