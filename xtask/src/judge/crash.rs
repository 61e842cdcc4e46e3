//! Containers that end although they should run, and such as cannot even begin.

use super::Symptom;
use super::pods::{Container, containers, current, subject};
use crate::snapshot::{Snapshot, number, text};

/// What runc reports of a program that is not there or may not be run.
const START_REASONS: [&str; 4] = ["StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError"];

/// The program could not be started: a wrong command, a missing file, a folder in its place.
pub fn cannot_start(snapshot: &Snapshot) -> Vec<Symptom> {
    let failing = containers(snapshot).filter_map(|c| {
        let ended = c.ended().filter(|ended| START_REASONS.contains(&text(ended, "/reason")));
        let message = match ended {
            Some(ended) => text(ended, "/message"),
            None if START_REASONS.contains(&c.waits()) => text(c.status, "/state/waiting/message"),
            None => return None,
        };
        // One whose limit is too small for the runtime itself is the matter of the next row.
        (c.status["ready"] != true && !starved(message)).then(|| (message.to_owned(), c))
    });
    failing
        .map(|(message, c)| {
            let reason = message.rsplit_once("container process: ").map_or(message.as_str(), |(_, reason)| reason);
            let reason = reason.trim_end_matches(": unknown");
            let key = if c.spec["command"].is_array() { "command" } else { "image" };
            Symptom::fatal(c.subject(), format!("{} cannot be started: {reason}", c.called()))
                .help(format!("see {} in infra/helm/values*.yaml and the CMD of its Dockerfile", c.values(key)))
        })
        .collect()
}

fn starved(message: &str) -> bool {
    message.contains("OOM-killed") || message.contains("memory limit too low")
}

fn out_of(c: &Container<'_>) -> bool {
    let ended = c.ended();
    ended.is_some_and(|e| e["reason"] == "OOMKilled" || starved(text(e, "/message")))
        || starved(text(c.status, "/state/waiting/message"))
}

/// The kernel ended it for its memory limit.
pub fn out_of_memory(snapshot: &Snapshot) -> Vec<Symptom> {
    let killed = containers(snapshot).filter(|c| c.status["ready"] != true && out_of(c));
    killed
        .map(|c| {
            let limit = text(c.spec, "/resources/limits/memory");
            let cause = format!("{} was killed for using more memory than its limit of {limit}", c.called());
            Symptom::fatal(c.subject(), cause)
                .help(format!("raise {} in infra/helm/values*.yaml", c.values("resources.limits.memory")))
                .log(c.pod_name(), c.name())
        })
        .collect()
}

fn failed(c: &Container<'_>) -> Option<u64> {
    let ended = c.ended()?;
    let started = !START_REASONS.contains(&text(ended, "/reason"));
    (started && !out_of(c) && c.status["ready"] != true).then(|| number(ended, "/exitCode"))
}

/// An init container that has ended with an error: the pod's own containers wait for it for ever.
pub fn init(snapshot: &Snapshot) -> Vec<Symptom> {
    let failing =
        containers(snapshot).filter(|c| c.init).filter_map(|c| Some((failed(&c).filter(|code| *code != 0)?, c)));
    failing
        .map(|(code, c)| {
            let cause = format!("{} failed with exit code {code}{}", c.called(), attempts(&c));
            let seen = Symptom::fatal(c.subject(), cause).log(c.pod_name(), c.name());
            // Releases before the backend migrated by itself had an init container for it.
            seen.help(if c.name() == "migrate" { help(code) } else { LOG_SAYS })
        })
        .collect()
}

/// A container that ended because the database could not be migrated, which its termination message says.
pub fn migration(snapshot: &Snapshot) -> Vec<Symptom> {
    let failing = containers(snapshot).filter_map(|c| Some((failed(&c)?, failed_migration(&c)?, c)));
    failing
        .map(|(code, message, c)| {
            let cause = format!("{} ended with exit code {code}{}: {message}", c.called(), attempts(&c));
            Symptom::fatal(c.subject(), cause).help(help(code)).log(c.pod_name(), c.name())
        })
        .collect()
}

/// The termination message of a container whose migration failed.
fn failed_migration<'a>(c: &Container<'a>) -> Option<&'a str> {
    Some(text(c.ended()?, "/message")).filter(|message| message.starts_with("migration "))
}

const LOG_SAYS: &str = "its last log lines say why";

/// What to do about an exit code of the backend: those of its migration, and that of wrong settings.
fn help(code: u64) -> &'static str {
    match code {
        2 => "the settings are wrong; its log names them: see .env",
        3 => "the database cannot be reached or does not wake up: see DATABASE_URL in .env",
        4 => "the database refuses user or password: see DATABASE_URL in .env",
        5 => "the server has no such database: see DATABASE_URL in .env",
        6 => "the server refuses TLS as asked for: see sslmode of DATABASE_URL in .env",
        7 | 8 => "the database is at a limit of its plan; its log says which",
        10 => {
            "other code has migrated this database: deploy that code, or use a branch of your own (DATABASE_URL in .env; \
             embedded: cargo xtask teardown --data deletes all todos and begins anew)"
        }
        _ => LOG_SAYS,
    }
}

fn attempts(c: &Container<'_>) -> String {
    match number(c.status, "/restartCount") {
        0 => String::new(),
        count => format!(", {} times", count + 1),
    }
}

/// A container that ends again and again.
pub fn looping(snapshot: &Snapshot) -> Vec<Symptom> {
    let others = containers(snapshot).filter(|c| !c.init && failed_migration(c).is_none());
    others
        .filter_map(|c| {
            let code = failed(&c)?;
            let restarts = number(c.status, "/restartCount");
            let waits = c.waits() == "CrashLoopBackOff";
            if !waits && restarts == 0 && c.status.pointer("/state/terminated").is_none() {
                return None;
            }
            let message = text(c.ended()?, "/message");
            let said = if message.is_empty() { String::new() } else { format!(": {message}") };
            let cause = format!("{} ended with exit code {code}{}{}{said}", c.called(), meaning(code), attempts(&c));
            // One that runs again after its first end gets the chance to become ready.
            let again = !waits && restarts < 2 && c.status.pointer("/state/running").is_some();
            let seen = if again { Symptom::waiting(c.subject(), cause) } else { Symptom::fatal(c.subject(), cause) };
            let settings = code == 2 && !message.is_empty();
            let help = if settings { help(code) } else { "its last log lines say why; run it alone with docker run" };
            Some(seen.help(help).log(c.pod_name(), c.name()))
        })
        .collect()
}

/// What shells and the kernel mean by some codes.
fn meaning(code: u64) -> &'static str {
    match code {
        0 => " (it should not end at all)",
        126 => " (not executable)",
        127 => " (program not found)",
        137 => " (SIGKILL)",
        139 => " (SIGSEGV)",
        143 => " (SIGTERM)",
        _ => "",
    }
}

/// Pods that the node has ended: under pressure of disk or memory, or because a volume is fuller than it may be.
pub fn evicted(snapshot: &Snapshot) -> Vec<Symptom> {
    let evicted = current(snapshot).filter(|pod| text(pod, "/status/reason") == "Evicted");
    evicted
        .map(|pod| {
            let message = text(pod, "/status/message").trim();
            let seen = Symptom::fatal(subject(pod), format!("evicted: {message}"));
            if message.starts_with("Usage of EmptyDir volume") {
                let component = text(pod, "/metadata/labels/app.kubernetes.io~1component");
                return seen.help(format!(
                    "have it write less there, or raise the volume's sizeLimit in infra/helm/templates/{component}"
                ));
            }
            seen.help("free disk or memory on the machine: cargo xtask doctor")
        })
        .collect()
}
