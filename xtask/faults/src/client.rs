//! A tool as xtask finds it on PATH or in its cache: a link to this program, which asks the suite for the tool's
//! result.
//!
//! The states of engine, node and minikube are in the suite's memory, so that the suite can reset them at once.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

/// The name of the socket in the parent folder of `HOME`, a variable that every child of xtask has.
pub const SOCKET: &str = "control";

/// The call of a tool.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// The name of the tool, followed by its arguments.
    pub words: Vec<String>,
}

/// The instructions of the suite to a tool.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// Whether the tool must send its standard input first. The next reply has the other instructions.
    #[serde(default)]
    pub wants_input: bool,
    /// The path of the program to run with the tool's arguments. `None` if the tool prints the outputs below.
    #[serde(default)]
    pub become_program: Option<String>,
    /// The text for standard output, in Base64.
    #[serde(default)]
    pub output: String,
    /// The text for standard error.
    #[serde(default)]
    pub error: String,
    /// The exit code.
    #[serde(default)]
    pub code: i32,
    /// Whether the tool prints only the first half of standard output and then kills itself.
    #[serde(default)]
    pub cut: bool,
}

/// Asks the suite for the result of the tool `name` and reproduces it. Returns the exit code.
pub fn play(name: &str) -> Result<i32> {
    let home = std::env::var("HOME").context("HOME")?;
    let sandbox = camino::Utf8Path::new(&home).parent().context("a folder above HOME")?.to_owned();
    let mut stream = UnixStream::connect(sandbox.join(SOCKET)).context("connecting to the suite")?;
    let words = std::iter::once(name.to_owned()).chain(std::env::args().skip(1)).collect();
    writeln!(stream, "{}", serde_json::to_string(&Question { words })?)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut reply = read(&mut reader)?;
    if reply.wants_input {
        // The suite may answer before it has read everything.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        reply = read(&mut reader)?;
    }
    if let Some(program) = reply.become_program {
        let mut command = Command::new(program);
        command.args(std::env::args().skip(1));
        if name == "helm" {
            // Helm ends before garbage collection pays off. At each start it loads kubectl's translations; with the
            // Korean ones, `helm version` took 29 instead of 45 ms. Helm's own messages are English in any language.
            command.env("GOGC", "off").env("LC_ALL", "ko_KR.UTF-8");
            if std::env::args().any(|arg| arg == "upgrade") {
                // Halves the time of an upgrade. The API server refuses unknown fields all the same.
                command.arg("--disable-openapi-validation");
            }
        }
        if !reply.cut {
            return Err(command.exec().into());
        }
        let output = command.stdin(Stdio::inherit()).output()?;
        halve_and_die(&output.stdout)?;
    }
    let output = BASE64.decode(&reply.output)?;
    if reply.cut {
        halve_and_die(&output)?;
    }
    std::io::stdout().write_all(&output)?;
    std::io::stderr().write_all(reply.error.as_bytes())?;
    Ok(reply.code)
}

fn read(reader: &mut impl BufRead) -> Result<Reply> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    serde_json::from_str(&line).context("the suite's answer")
}

fn halve_and_die(output: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(&output[..output.len() / 2])?;
    stdout.flush()?;
    kill_process(getpid(), Signal::KILL)?;
    Ok(())
}
