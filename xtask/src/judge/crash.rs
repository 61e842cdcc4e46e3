//! Containers that crash or fail to start, and pods that the node evicts.

use super::Symptom;
use super::pods::{Container, containers, current, subject};
use crate::snapshot::{Snapshot, number, text};

/// Reasons with which runc reports a program that is missing or not executable.
const START_REASONS: [&str; 4] = ["StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError"];

/// Finds containers whose program could not be started: a wrong command, a missing file, or a folder in its place.
pub fn cannot_start(snapshot: &Snapshot) -> Vec<Symptom> {
    let failing = containers(snapshot).filter_map(|c| {
        let ended = c.last_termination().filter(|ended| START_REASONS.contains(&text(ended, "/reason")));
        let message = match ended {
            Some(ended) => text(ended, "/message"),
            None if START_REASONS.contains(&c.waiting_reason()) => text(c.status, "/state/waiting/message"),
            None => return None,
        };
        // A limit too small for the runtime itself is a case of `out_of_memory`.
        (c.status["ready"] != true && !is_out_of_memory(message)).then(|| (message.to_owned(), c))
    });
    let chart = snapshot.chart();
    failing
        .map(|(message, c)| {
            let reason = message.rsplit_once("container process: ").map_or(message.as_str(), |(_, reason)| reason);
            let reason = reason.trim_end_matches(": unknown");
            let key = if c.spec["command"].is_array() { "command" } else { "image" };
            Symptom::fatal(c.subject(), format!("{} cannot be started: {reason}", c.title()))
                .help(format!("see {} in {chart}/values*.yaml and the CMD of its Dockerfile", c.value_path(key)))
        })
        .collect()
}

fn is_out_of_memory(message: &str) -> bool {
    message.contains("OOM-killed") || message.contains("memory limit too low")
}

fn was_oom_killed(c: &Container<'_>) -> bool {
    let ended = c.last_termination();
    ended.is_some_and(|e| e["reason"] == "OOMKilled" || is_out_of_memory(text(e, "/message")))
        || is_out_of_memory(text(c.status, "/state/waiting/message"))
}

/// Finds containers that the kernel killed for exceeding their memory limit.
pub fn out_of_memory(snapshot: &Snapshot) -> Vec<Symptom> {
    let killed = containers(snapshot).filter(|c| c.status["ready"] != true && was_oom_killed(c));
    let chart = snapshot.chart();
    killed
        .map(|c| {
            let limit = text(c.spec, "/resources/limits/memory");
            let cause = format!("{} was killed for using more memory than its limit of {limit}", c.title());
            Symptom::fatal(c.subject(), cause)
                .help(format!("raise {} in {chart}/values*.yaml", c.value_path("resources.limits.memory")))
                .log(c.pod_name(), c.name())
        })
        .collect()
}

/// Returns the exit code of a container that started, ended and is not ready.
fn exit_code(c: &Container<'_>) -> Option<u64> {
    let ended = c.last_termination()?;
    let started = !START_REASONS.contains(&text(ended, "/reason"));
    (started && !was_oom_killed(c) && c.status["ready"] != true).then(|| number(ended, "/exitCode"))
}

/// Finds init containers that ended with an error; the pod's other containers wait for them.
pub fn init(snapshot: &Snapshot) -> Vec<Symptom> {
    let failing =
        containers(snapshot).filter(|c| c.init).filter_map(|c| Some((exit_code(&c).filter(|code| *code != 0)?, c)));
    failing
        .map(|(code, c)| {
            let cause = format!("{} failed with exit code {code}{}", c.title(), attempts(&c));
            let symptom = Symptom::fatal(c.subject(), cause).log(c.pod_name(), c.name());
            // Older releases migrate in an init container.
            symptom.help(if c.name() == "migrate" { help(code) } else { SEE_LOG })
        })
        .collect()
}

/// Finds containers whose termination message says that the migration of the database failed.
pub fn migration(snapshot: &Snapshot) -> Vec<Symptom> {
    let failing = containers(snapshot).filter_map(|c| Some((exit_code(&c)?, failed_migration(&c)?, c)));
    failing
        .map(|(code, message, c)| {
            let cause = format!("{} ended with exit code {code}{}: {message}", c.title(), attempts(&c));
            Symptom::fatal(c.subject(), cause).help(help(code)).log(c.pod_name(), c.name())
        })
        .collect()
}

/// Returns the termination message of a container whose migration failed.
fn failed_migration<'a>(c: &Container<'a>) -> Option<&'a str> {
    Some(text(c.last_termination()?, "/message")).filter(|message| message.starts_with("migration "))
}

const SEE_LOG: &str = "its last log lines say why";

/// Returns what to do about an exit code of the backend's migration, or of wrong settings.
fn help(code: u64) -> &'static str {
    match code {
        2 => "the settings are wrong; its log names them: see .env",
        3 => "the database cannot be reached or does not wake up: see the database's URL in .env",
        4 => "the database refuses user or password: see the database's URL in .env",
        5 => "the server has no such database: see the database's URL in .env",
        6 => "the server refuses the requested TLS mode: see sslmode of the database's URL in .env",
        7 | 8 => "the database is at a limit of its plan; its log says which",
        10 => {
            "other code has migrated this database: deploy that code, or use a branch of your own (its URL in .env; \
             embedded: cargo xtask teardown --data deletes all todos)"
        }
        _ => SEE_LOG,
    }
}

fn attempts(c: &Container<'_>) -> String {
    match number(c.status, "/restartCount") {
        0 => String::new(),
        count => format!(", {} times", count + 1),
    }
}

/// Finds containers that end again and again.
pub fn looping(snapshot: &Snapshot) -> Vec<Symptom> {
    let others = containers(snapshot).filter(|c| !c.init && failed_migration(c).is_none());
    others
        .filter_map(|c| {
            let code = exit_code(&c)?;
            let restarts = number(c.status, "/restartCount");
            let is_backing_off = c.waiting_reason() == "CrashLoopBackOff";
            if !is_backing_off && restarts == 0 && c.status.pointer("/state/terminated").is_none() {
                return None;
            }
            let message = text(c.last_termination()?, "/message");
            let details = if message.is_empty() { String::new() } else { format!(": {message}") };
            let cause = format!("{} ended with exit code {code}{}{}{details}", c.title(), meaning(code), attempts(&c));
            // A container that runs again after its first end may still become ready.
            let gets_another_try = !is_backing_off && restarts < 2 && c.status.pointer("/state/running").is_some();
            let symptom = if gets_another_try {
                Symptom::waiting(c.subject(), cause)
            } else {
                Symptom::fatal(c.subject(), cause)
            };
            let has_wrong_settings = code == 2 && !message.is_empty();
            let help = if has_wrong_settings {
                help(code)
            } else {
                "its last log lines say why; run it alone with docker run"
            };
            Some(symptom.help(help).log(c.pod_name(), c.name()))
        })
        .collect()
}

/// Returns what an exit code means by convention of shells and the kernel.
fn meaning(code: u64) -> &'static str {
    match code {
        0 => " (it should keep running)",
        126 => " (not executable)",
        127 => " (program not found)",
        137 => " (SIGKILL)",
        139 => " (SIGSEGV)",
        143 => " (SIGTERM)",
        _ => "",
    }
}

/// Finds pods that the node evicted for disk or memory pressure, or for a volume above its size limit.
pub fn evicted(snapshot: &Snapshot) -> Vec<Symptom> {
    let evicted = current(snapshot).filter(|pod| text(pod, "/status/reason") == "Evicted");
    evicted
        .map(|pod| {
            let message = text(pod, "/status/message").trim();
            let symptom = Symptom::fatal(subject(pod), format!("evicted: {message}"));
            if message.starts_with("Usage of EmptyDir volume") {
                let component = text(pod, "/metadata/labels/app.kubernetes.io~1component");
                return symptom.help(format!(
                    "write less to the volume, or raise its sizeLimit in {}/templates/{component}",
                    snapshot.chart()
                ));
            }
            symptom.help("free disk or memory on the machine: cargo xtask doctor")
        })
        .collect()
}
