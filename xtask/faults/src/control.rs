//! Answers the calls of tools: for docker, minikube and the node from memory; for helm and git with the real programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::calls::{Fault, Ledger};
use crate::client::{Question, Reply};
use crate::etcd::Etcd;
use crate::ingress::Ingress;
use crate::machine::{Machine, Surroundings, ToolResult};
use crate::names;
use crate::player::{dns, of_kind, text};

/// The programs and the simulated parts behind the tools of a sandbox.
pub struct Control {
    /// The ledger that counts the calls.
    pub ledger: Ledger,
    /// The simulated engine and node.
    pub machine: Arc<Mutex<Machine>>,
    /// The client of the sandbox's etcd.
    pub store: Etcd,
    /// The simulated ingress controller. It listens while the node runs.
    pub ingress: Arc<Ingress>,
    /// The sandbox's folder, which the names of calls leave out.
    pub folder: String,
    /// The path of the real Helm.
    pub helm: String,
    /// The path of the real git.
    pub git: String,
    /// The paths, ports and certificates that the tools use.
    pub around: Mutex<Surroundings>,
}

/// The behaviour of a suite's tools without a fault.
pub trait Tools: Send + Sync + 'static {
    /// Returns the ledger of calls, and the folder that the names of calls leave out.
    fn ledger(&self) -> (&Ledger, &str);
    /// Returns whether standard input is part of the call `words`.
    fn reads_input(&self, words: &[String]) -> bool;
    /// Runs the call `words` with the standard input `input`. If `cut` is set, its effects happen but the answer breaks
    /// off.
    fn really(&self, words: &[String], input: &[u8], cut: bool) -> Result<Reply>;
}

/// Answers the tools that connect to `listener`, in threads that live as long as this process.
pub fn listen(tools: Arc<impl Tools>, listener: UnixListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let tools = tools.clone();
            std::thread::spawn(move || serve(&*tools, stream));
        }
    });
}

fn serve(tools: &impl Tools, mut stream: UnixStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let question: Question = serde_json::from_str(&line)?;
    let words = &question.words;
    let (ledger, folder) = tools.ledger();
    let fault = ledger.enter(&names::tool(words, folder));
    let mut input = Vec::new();
    if matches!(fault, Some(Fault::Cut | Fault::Garbage) | None) && tools.reads_input(words) {
        send(&mut stream, &Reply { wants_input: true, ..Reply::default() })?;
        reader.read_to_end(&mut input)?;
    }
    let reply = match fault {
        Some(Fault::Hang) => {
            // Waits until the caller's time limit ends the tool.
            ledger.hang(|| drop(reader.read(&mut [0])));
            return Ok(());
        }
        Some(Fault::Fail | Fault::Twice) => failing(&words[0]),
        Some(Fault::Garbage) => Reply {
            output: BASE64.encode("Congratulations! This answer is about something else.\n"),
            ..Reply::default()
        },
        Some(Fault::Cut) | None => tools.really(words, &input, fault.is_some())?,
    };
    send(&mut stream, &reply)
}

impl Tools for Control {
    fn ledger(&self) -> (&Ledger, &str) {
        (&self.ledger, &self.folder)
    }

    fn reads_input(&self, words: &[String]) -> bool {
        Machine::reads_input(words)
    }

    fn really(&self, words: &[String], input: &[u8], cut: bool) -> Result<Reply> {
        let program = match words[0].as_str() {
            "helm" => Some(&self.helm),
            "git" => Some(&self.git),
            _ => None,
        };
        if let Some(program) = program {
            return Ok(Reply { become_program: Some(program.clone()), cut, ..Reply::default() });
        }
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let mut around = self.around.lock().unwrap_or_else(PoisonError::into_inner);
        if words.iter().any(|word| word == "ps") {
            around.used = self.used().unwrap_or_default();
        }
        let done = machine.run(words, input, &around).unwrap_or_else(|| {
            self.ledger.note_unknown(words.join(" "));
            ToolResult { output: Vec::new(), error: "the suite does not know this command\n".to_owned(), code: 1 }
        });
        if words[0] == "minikube" && words.iter().any(|word| word == "start") && done.code == 0 {
            // Has no effect if the Deployment exists.
            self.store.apply(vec![dns()])?;
        }
        let running = machine.node.as_deref() == Some("running");
        if let Err(error) = self.ingress.set(running) {
            self.ledger.note_unknown(format!("the ingress controller cannot listen: {error}"));
        }
        Ok(Reply { output: BASE64.encode(done.output), error: done.error, code: done.code, cut, ..Reply::default() })
    }
}

impl Control {
    /// Returns the references of the images in the specs of pods.
    fn used(&self) -> Result<Vec<String>> {
        let (_, live) = self.store.latest();
        let specs = of_kind(&live, "Pod").filter_map(|pod| pod.pointer("/spec/containers")?.as_array());
        Ok(specs.flatten().map(|container| text(container, "/image").to_owned()).collect())
    }
}

/// Returns the usual error of `tool` when its engine, cluster or folder is unavailable.
fn failing(tool: &str) -> Reply {
    let error = match tool {
        "docker" => {
            "Error response from daemon: dial unix /run/containerd/containerd.sock: connect: connection refused"
        }
        "helm" => "Error: Kubernetes cluster unreachable: Get \"https://127.0.0.1:8443/version\": EOF",
        "minikube" => "X Exiting due to RSRC_DOCKER_CORES: the engine went away",
        _ => "fatal: unable to read the current working directory: Input/output error",
    };
    Reply { error: format!("{error}\n"), code: if tool == "git" { 128 } else { 1 }, ..Reply::default() }
}

/// Sends a reply as one line of JSON.
fn send(stream: &mut UnixStream, reply: &Reply) -> Result<()> {
    Ok(writeln!(stream, "{}", serde_json::to_string(reply)?)?)
}
