//! How many processes it takes to know what there is to do.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use crate::common::{DOTENV, Sandbox};
use crate::secrets;

/// An engine's socket, which tells its version.
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
fn a_deploy_knows_what_there_is_to_do_after_three_children() {
    let sandbox = secrets::cluster();
    sandbox.dotenv(DOTENV);
    std::fs::remove_file(sandbox.dir.join("bin/git")).unwrap();
    sandbox.play("git");
    sandbox.on("git *", "echo 'fatal: not a git repository' >&2; exit 128");
    let before = ["calls", "children"].map(|name| sandbox.fake(name).len());
    let host = socket(&sandbox);
    let run = sandbox.run_with(&["deploy", "dev", "--dry-run", "--origin=release"], &[("DOCKER_HOST", &host)]);
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(run.stderr.matches(" unchanged\n").count(), 2, "{run}");
    let calls = sandbox.fake("calls")[before[0]..].to_owned();
    let first: Vec<&str> = calls.lines().map(|call| call.split(" -").next().unwrap()).collect();
    assert_eq!(first, ["git check-ignore", "docker inspect", "docker exec"], "{calls}");
    // The guardian and whoever else is no tool.
    let children = sandbox.fake("children")[before[1]..].to_owned();
    let children: BTreeSet<&str> = children.split_whitespace().collect();
    assert!((1..=3).contains(&children.len()), "{children:?}");
}
