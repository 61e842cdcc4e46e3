//! Ends the children after xtask gets SIGKILL, which no in-process handler can catch.
//!
//! A shell beside xtask reads the running process groups from a pipe. The operating system closes the pipe when xtask
//! ends. Then the shell ends the groups on its list: SIGTERM first, SIGKILL after two seconds. Until then it holds
//! xtask's lock, so the next xtask does not start while a helm of this one still writes.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, Once};

/// `+ 12` adds group 12 to the list, `- 12` removes it. A group that has already ended is no error.
const SCRIPT: &str = r#"
list=' '
while read -r sign group; do
  case $sign in
    +) list="$list$group " ;;
    -) list="${list%% $group *} ${list#* $group }" ;;
  esac
done
all() { for group in $list; do kill -s "$1" -- "-$group" 2>/dev/null && alive=yes; done; }
alive=
all TERM
round=0
while [ -n "$alive" ] && [ $round -lt 20 ]; do
  sleep 0.1
  alive=
  all 0
  round=$((round + 1))
done
all KILL
"#;

static PIPE: Mutex<Option<ChildStdin>> = Mutex::new(None);
static HELD: Mutex<Option<File>> = Mutex::new(None);

/// Holds the lock `file` until every child has ended. Call it before the first child starts.
pub fn hold(file: File) {
    *HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(file);
}

/// Starts the guardian, if it does not run yet. Call it before a child that changes something: a kill between the two
/// would leave that child running.
pub fn ready() {
    static START: Once = Once::new();
    START.call_once(start);
}

/// Adds the groups led by `pids` to the list.
pub fn began(pids: &[u32]) {
    ready();
    send('+', pids);
}

/// Removes the groups from the list.
pub fn ended(pids: &[u32]) {
    send('-', pids);
}

fn send(sign: char, pids: &[u32]) {
    let mut pipe = PIPE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(pipe) = pipe.as_mut() {
        let text: String = pids.iter().map(|pid| format!("{sign} {pid}\n")).collect();
        // xtask also works without a guardian.
        let _ = pipe.write_all(text.as_bytes());
    }
}

fn start() {
    let held = HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let mut command = Command::new("/bin/sh");
    // A group of its own: Ctrl-C in the terminal is for xtask. Nothing of xtask's environment or folder is kept.
    command.args(["-c", SCRIPT]).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stderr(Stdio::null()).stdout(held.map_or_else(Stdio::null, Stdio::from));
    if let Ok(mut child) = command.spawn() {
        *PIPE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = child.stdin.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    use crate::deadlines::HANG;

    /// The script alone, with a group that must be ended and one that was taken off the list.
    #[test]
    fn listed_groups_end_with_the_pipe() {
        let sleeper = || Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let (mut listed, mut taken_off, mut other) = (sleeper(), sleeper(), sleeper());
        let mut shell = Command::new("/bin/sh").args(["-c", SCRIPT]).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = shell.stdin.take().unwrap();
        let (one, two) = (listed.id(), taken_off.id());
        writeln!(pipe, "+ {two}\n+ {one}\n- {two}").unwrap();
        drop(pipe);
        let start = Instant::now();
        listed.wait().unwrap();
        shell.wait().unwrap();
        assert!(start.elapsed() < HANG);
        for survivor in [&mut taken_off, &mut other] {
            assert!(survivor.try_wait().unwrap().is_none());
            survivor.kill().unwrap();
            survivor.wait().unwrap();
        }
    }
}
