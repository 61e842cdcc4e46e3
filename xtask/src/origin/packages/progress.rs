//! Progress of the compilers, based on the known compile time of each program.
//!
//! `go build -v` prints each package as it starts. Measurements show that the share of a program's packages is the share of
//! its time within a tenth. A file lists compiled packages, so that a resumed run knows them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use camino::Utf8PathBuf;

use crate::files;
use crate::report::seconds;

/// Share of a program's time after which only linking remains.
const COMPILED: f64 = 0.97;
/// The work after the last program: the removal of Go's caches, and its duration in seconds.
pub const REMOVAL: (&str, u64) = ("removal", 8);
/// Share of the whole from which the estimate uses this machine's speed instead of the known seconds.
const ENOUGH: f64 = 0.05;

/// The programs of one run.
pub struct Progress {
    /// File with a line for each compiled package: its program, path and version.
    file: Utf8PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: Option<Instant>,
    programs: BTreeMap<String, Program>,
    /// The compiled packages of all programs.
    compiled: HashSet<String>,
}

#[derive(Default)]
struct Program {
    seconds: f64,
    /// Packages to compile: path with version, by path.
    packages: HashMap<String, String>,
    /// Number of packages to compile; `before` counts those that an earlier run has compiled.
    count: usize,
    before: usize,
    done: f64,
}

impl Progress {
    /// Returns the progress of a run. `file` must exist as long as Go's caches.
    pub fn new(file: Utf8PathBuf) -> Self {
        Self { file, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a program that takes about `seconds`.
    pub fn expect(&self, name: &str, seconds: u64) {
        let program = Program { seconds: seconds as f64, ..Program::default() };
        self.state().programs.insert(name.to_owned(), program);
    }

    /// Records the start of a program that consists of `packages` (paths with versions).
    pub fn begins(&self, name: &str, packages: &[String]) -> Result<()> {
        let earlier = files::read(&self.file)?.unwrap_or_default();
        let mut state = self.state();
        state.begun.get_or_insert_with(Instant::now);
        let earlier: Vec<(&str, &str)> = earlier.lines().filter_map(|line| line.split_once(' ')).collect();
        state.compiled.extend(earlier.iter().map(|(_, package)| (*package).to_owned()));
        let left = packages.iter().filter(|package| !state.compiled.contains(*package));
        let left: HashMap<String, String> =
            left.map(|package| (package.split('@').next().unwrap_or_default().to_owned(), package.clone())).collect();
        if let Some(program) = state.programs.get_mut(name) {
            program.before = earlier.iter().filter(|(of, _)| *of == name).count();
            (program.count, program.packages) = (left.len(), left);
        }
        Ok(())
    }

    /// Records a `line` of `go build -v`. Returns the program's progress if the line names a package.
    pub fn compiles(&self, name: &str, line: &str) -> Option<String> {
        let mut state = self.state();
        let program = state.programs.get_mut(name)?;
        let package = program.packages.remove(line)?;
        let done = program.count - program.packages.len();
        program.done = done as f64 / program.count as f64 * COMPILED;
        let text = format!("package {done} of {}", program.count);
        // An error only makes a later estimate worse.
        let file = OpenOptions::new().create(true).append(true).open(&self.file);
        let _ = file.and_then(|mut file| writeln!(file, "{name} {package}"));
        state.compiled.insert(package);
        Some(text)
    }

    /// Records that a program is compiled.
    pub fn is_compiled(&self, name: &str) {
        if let Some(program) = self.state().programs.get_mut(name) {
            program.done = 1.0;
        }
    }

    /// Returns progress and remaining time, e.g. `34 % compiled, about 6 min left`, or an empty text before the first package.
    pub fn describe(&self) -> String {
        let state = self.state();
        state.begun.map_or_else(String::new, |begun| describe(state.programs.values(), begun.elapsed()))
    }
}

fn describe<'a>(programs: impl Iterator<Item = &'a Program>, elapsed: Duration) -> String {
    let (done, whole) = share(programs);
    if whole <= 0.0 {
        return String::new();
    }
    let tens = (left(done, whole, elapsed) / 10.0).round().max(1.0);
    let left = Duration::from_secs(tens as u64 * 10);
    format!("{:.0} % compiled, about {} left", done / whole * 100.0, seconds(left))
}

/// Returns the completed and the total known seconds of all programs.
fn share<'a>(programs: impl Iterator<Item = &'a Program>) -> (f64, f64) {
    let (mut whole, mut done) = (0.0, 0.0);
    for program in programs {
        let all = (program.before + program.count).max(1) as f64;
        let seconds = program.seconds * (1.0 - program.before as f64 / all);
        whole += seconds;
        done += seconds * program.done;
    }
    (done, whole)
}

/// Returns the remaining seconds at the current speed.
fn left(done: f64, whole: f64, elapsed: Duration) -> f64 {
    let pace = if done > whole * ENOUGH { elapsed.as_secs_f64() / done } else { 1.0 };
    (whole - done) * pace
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("example.org/p{index}@v1")).collect()
    }

    fn progress(dir: &tempfile::TempDir) -> Progress {
        let progress = Progress::new(Utf8PathBuf::from_path_buf(dir.path().join("compiled")).unwrap());
        progress.expect("kube", 300);
        progress.expect("helm", 100);
        progress
    }

    fn compile(progress: &Progress, program: &str, packages: std::ops::Range<usize>) -> Option<String> {
        packages.map(|index| progress.compiles(program, &format!("example.org/p{index}"))).last().flatten()
    }

    fn described(progress: &Progress, elapsed: u64) -> String {
        describe(progress.state().programs.values(), Duration::from_secs(elapsed))
    }

    #[test]
    fn remaining_time_follows_the_pace_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let progress = progress(&dir);
        assert_eq!(progress.describe(), "");
        progress.begins("kube", &packages(100)).unwrap();
        assert_eq!(progress.compiles("kube", "go: downloading example.org v1"), None);
        assert_eq!(compile(&progress, "kube", 0..1).as_deref(), Some("package 1 of 100"));
        // The speed of this machine is still unknown.
        assert_eq!(described(&progress, 1), "1 % compiled, about 6 min 40 s left");
        // A machine with half the speed.
        assert_eq!(compile(&progress, "kube", 1..50).as_deref(), Some("package 50 of 100"));
        assert_eq!(described(&progress, 291), "36 % compiled, about 8 min 30 s left");
        progress.is_compiled("kube");
        assert_eq!(described(&progress, 600), "75 % compiled, about 3 min 20 s left");
        // Shared packages are compiled once.
        progress.begins("helm", &packages(60)).unwrap();
        assert_eq!(compile(&progress, "helm", 50..51).as_deref(), Some("package 1 of 10"));
    }

    #[test]
    fn packages_of_an_interrupted_run_count_neither_as_done_nor_as_left() {
        let dir = tempfile::tempdir().unwrap();
        let killed = progress(&dir);
        killed.begins("kube", &packages(100)).unwrap();
        compile(&killed, "kube", 0..80);
        let progress = progress(&dir);
        progress.begins("kube", &packages(100)).unwrap();
        assert_eq!(compile(&progress, "kube", 80..90).as_deref(), Some("package 10 of 20"));
        // A tenth of the known time of a program that takes 300 s.
        assert_eq!(described(&progress, 30), "18 % compiled, about 2 min 10 s left");
    }

    /// Counts of a recorded first run, in order: seconds since its start, program, started packages and total packages. The
    /// run ended after [`RECORDED`] seconds.
    const COUNTS: [(u64, &str, usize, usize); 24] = [
        (26, "coredns", 230, 793),
        (56, "coredns", 487, 793),
        (86, "coredns", 587, 793),
        (116, "coredns", 706, 793),
        (137, "coredns", 793, 793),
        (167, "kube", 346, 2141),
        (197, "kube", 688, 2141),
        (227, "kube", 960, 2141),
        (257, "kube", 1310, 2141),
        (287, "kube", 1657, 2141),
        (317, "kube", 1923, 2141),
        (347, "kube", 2140, 2141),
        (353, "kube", 2141, 2141),
        (366, "etcd", 1, 1),
        (374, "crictl", 1, 1),
        (378, "storage", 1, 1),
        (409, "minikube", 301, 656),
        (439, "minikube", 655, 656),
        (440, "minikube", 656, 656),
        (471, "traefik", 198, 531),
        (501, "traefik", 390, 531),
        (531, "traefik", 530, 531),
        (534, "traefik", 531, 531),
        (553, "helm", 1, 1),
    ];
    const RECORDED: u64 = 566;
    /// The recipes' estimates in seconds at the time of that run.
    const SECONDS: [(&str, u64); 8] = [
        ("coredns", 137),
        ("kube", 215),
        ("etcd", 10),
        ("crictl", 8),
        ("storage", 3),
        ("minikube", 62),
        ("traefik", 93),
        ("helm", 15),
    ];

    #[test]
    fn remaining_time_of_a_recorded_first_run_is_right_within_a_quarter() {
        let dir = tempfile::tempdir().unwrap();
        let progress = Progress::new(Utf8PathBuf::from_path_buf(dir.path().join("compiled")).unwrap());
        SECONDS.iter().for_each(|(name, seconds)| progress.expect(name, *seconds));
        progress.expect(REMOVAL.0, REMOVAL.1);
        let mut begun = 0;
        for (at, name, count, of) in COUNTS {
            if progress.state().programs[name].count == 0 {
                begun = 0;
                let packages: Vec<String> = (0..of).map(|index| format!("{name}/p{index}@v1")).collect();
                progress.begins(name, &packages).unwrap();
            }
            for index in begun..count {
                progress.compiles(name, &format!("{name}/p{index}"));
            }
            begun = count;
            if count == of {
                progress.is_compiled(name);
            }
            let state = progress.state();
            let (done, whole) = share(state.programs.values());
            let left = left(done, whole, Duration::from_secs(at));
            let truth = (RECORDED - at) as f64;
            // Near both ends, a few seconds are a large share.
            let is_due = at > RECORDED / 4 && truth > 60.0;
            assert!(!is_due || (left / truth - 1.0).abs() < 0.25, "after {at} s: {left} instead of {truth} s left");
        }
    }
}
