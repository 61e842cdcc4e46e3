use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::*;
use crate::deadlines::HANG;

#[test]
fn echo_is_shell_quoted_and_short() {
    let shown = Process::new("/a/b/helm").args(["upgrade", "it's", ""]).to_string();
    assert_eq!(shown, r"helm upgrade 'it'\''s' ''");
}

#[test]
fn failure_names_command_and_shows_the_end_of_its_output() {
    let error = Process::new("sh").args(["-c", "echo no good >&2; exit 3"]).run().unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.contains("| no good"), "{error}");
}

#[test]
fn a_failed_child_has_the_class_of_what_it_was_for() {
    let class = |process: Process| crate::failure::class_of(&process.run().unwrap_err());
    assert_eq!(class(Process::new("false")), Class::Machine);
    assert_eq!(class(Process::new("false").class(Class::Rollout)), Class::Rollout);
    assert_eq!(class(Process::new("no-such-program-here").class(Class::Cluster)), Class::Cluster);
}

#[test]
fn missing_program_is_named() {
    let error = Process::new("no-such-program-here").run().unwrap_err().to_string();
    assert!(error.contains("no-such-program-here"), "{error}");
}

#[test]
fn a_program_is_started_by_its_path_in_the_childs_environment() {
    let path = |name: &str, folders: &str| {
        Process::new(name).path(&BTreeMap::from([("PATH".into(), folders.into())])).into_string().unwrap()
    };
    assert_eq!(path("sh", "/no/such/folder:relative:/bin:/usr/bin"), "/bin/sh");
    assert_eq!(path("sh", "relative"), "sh");
    assert_eq!(path("fd", "/proc/self:/bin"), "fd", "a folder is no program");
    assert_eq!(path("/bin/sh", "/usr/bin"), "/bin/sh");
}

#[test]
fn deadline_ends_the_whole_group() {
    let start = std::time::Instant::now();
    let process = Process::new("sh").args(["-c", "sleep 600 & sleep 600"]).deadline(Duration::from_millis(300));
    assert!(process.run().unwrap_err().to_string().contains("took longer"));
    assert!(start.elapsed() < HANG);
}

#[test]
fn a_followed_stream_has_no_deadline() {
    let followed = Process::new("sh").args(["-c", "sleep 0.5; exit 7"]).deadline(Duration::from_millis(50));
    assert_eq!(followed.interactive().unwrap(), 7);
}

#[test]
fn stdin_reaches_the_child() {
    assert_eq!(Process::new("cat").stdin("not-a-secret").read().unwrap(), "not-a-secret");
}

#[test]
fn a_command_without_a_reader_ends_with_its_children() {
    let pids: Vec<u32> = (0..12)
        .flat_map(|_| {
            let piped = Process::new("sh").args(["-c", "sleep 600 & sleep 600"]).pipe_from(None).unwrap();
            piped.reader().pids()
        })
        .collect();
    let start = Instant::now();
    for pid in pids {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        // Children of the shell are fetched by somebody else: a zombie is dead enough.
        let alive = || {
            let entries = std::fs::read_dir("/proc").unwrap().flatten();
            let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
            stats.filter_map(|stat| Some(stat.rsplit_once(") ")?.1.to_owned())).any(|stat| {
                let fields: Vec<&str> = stat.split(' ').collect();
                fields[2] == pid.as_raw_nonzero().to_string() && !["Z", "X"].contains(&fields[0])
            })
        };
        while cfg!(target_os = "linux") && alive() {
            assert!(start.elapsed() < HANG, "group {pid} lives on");
        }
    }
}

#[test]
fn lines_are_streamed() {
    let mut seen = Vec::new();
    Process::new("sh").args(["-c", "echo a; echo b >&2"]).stream(|line| seen.push(line.to_owned())).unwrap();
    assert_eq!(seen, ["a", "b"]);
}

#[test]
fn runs_a_command_again_that_has_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let script = format!("echo x >> {0}; [ $(wc -l < {0}) -gt 2 ] || exit 126", count.display());
    let process = Process::new("sh").args(["-c", &script]);
    assert!(process.run().is_err());
    process.again_if(|output| output.status.code() == Some(126)).run().unwrap();
    assert_eq!(std::fs::read_to_string(count).unwrap().lines().count(), 3);
}

#[test]
fn a_command_ends_once_its_flag_is_set() {
    let flag = Arc::new(AtomicBool::new(false));
    let sleep = Process::new("sh").args(["-c", "echo begun; sleep 600"]).until(&flag);
    let start = Instant::now();
    let error = sleep.stream(|_| flag.store(true, Ordering::Relaxed)).unwrap_err().to_string();
    assert!(error.contains("SIGKILL") && !error.contains("took longer"), "{error}");
    assert!(start.elapsed() < HANG, "{:?}", start.elapsed());
}
