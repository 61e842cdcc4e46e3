//! The number of child processes that a deploy needs for its plan.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use crate::common::{DOTENV, Sandbox};
use crate::secrets;

/// Serves an engine's socket that reports its version. Returns its URL.
fn socket(sandbox: &Sandbox) -> String {
    let path = sandbox.dir.join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"Version\": \"29.1.0\"}");
        }
    });
    format!("unix://{path}")
}

#[cfg(target_os = "linux")]
#[test]
fn a_deploy_needs_three_children_for_its_plan() {
    let sandbox = secrets::cluster();
    sandbox.dotenv(DOTENV);
    std::fs::remove_file(sandbox.dir.join("bin/git")).unwrap();
    sandbox.fake_tool("git");
    sandbox.on("git *", "echo 'fatal: not a git repository' >&2; exit 128");
    let before = ["calls", "children"].map(|name| sandbox.fake(name).len());
    let host = socket(&sandbox);
    let run = sandbox.run_with(&["deploy", "dev", "--dry-run", "--origin=release"], &[("DOCKER_HOST", &host)]);
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(run.stderr.matches(" unchanged\n").count(), 2, "{run}");
    let calls = sandbox.fake("calls")[before[0]..].to_owned();
    let first: Vec<&str> = calls.lines().map(|call| call.split(" -").next().unwrap()).collect();
    assert_eq!(first, ["git check-ignore", "docker inspect", "docker exec"], "{calls}");
    // Other children, such as the guardian, are not tools.
    let children = sandbox.fake("children")[before[1]..].to_owned();
    let children: BTreeSet<&str> = children.split_whitespace().collect();
    assert!((1..=3).contains(&children.len()), "{children:?}");
}
