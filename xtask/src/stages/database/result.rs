//! The result of `app.preflight`, and the failure for it. Neither contains a password.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::failure::{Class, Failure};
use crate::secrets::Redactor;

/// From where the database was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// A container on this machine's own network.
    Here,
    /// A pod.
    Pod,
}

/// The line of JSON that the preflight prints. Times are in milliseconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PreflightResult {
    /// Whether the application can use the database.
    pub ok: bool,
    /// `user@host:port/database`.
    pub target: String,
    /// The addresses of the host.
    pub addresses: Vec<String>,
    /// Time of the name resolution.
    pub resolve_ms: u64,
    /// Time of connection, TLS and authentication of the successful attempt.
    pub connect_ms: u64,
    /// Time of the first query.
    pub query_ms: u64,
    /// Time until it answered, if it was suspended.
    pub woke_ms: Option<u64>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The server's version.
    pub server: String,
    /// Whether the connection goes through a pooler.
    pub pooled: bool,
    /// The step that failed: `name resolution`, `connection`, `TLS`, `authentication`, `database`, …
    pub step: String,
    /// The kind of failure: `unreachable`, `waking up`, `wrong password`, `no such database`, `TLS refused`, `quota exceeded`, `diverged`, …
    pub kind: String,
    /// The server's or the system's own words.
    pub text: String,
    /// The next step for the user.
    pub advice: String,
}

impl PreflightResult {
    /// Parses the last line of JSON in `output`, and removes secrets from it.
    pub fn parse(output: &str, redactor: &Redactor) -> Result<Self> {
        let line = output.lines().rev().find(|line| line.starts_with('{')).context("its output has no result")?;
        let result = serde_json::from_str(line).context("its output is no result")?;
        serde_json::from_value(redactor.redact_json(result)).context("its output is no result")
    }

    /// Returns whether a check from elsewhere or at another time may succeed.
    pub fn is_transient(&self) -> bool {
        ["unreachable", "waking up", "too many connections"].contains(&self.kind.as_str())
    }

    /// Returns the failure of a database, whose URL is the value of `key`, that cannot be used from `vantage`; `here` is the
    /// earlier result from this machine.
    pub fn failure(&self, key: &str, vantage: Vantage, here: Option<&Self>) -> Failure {
        let from = match (vantage, here) {
            (Vantage::Here, _) => "from this machine",
            (Vantage::Pod, Some(here)) if here.ok => "from a pod, although it answers on this machine",
            (Vantage::Pod, Some(here)) if here.kind == self.kind => "from this machine, nor from a pod",
            (Vantage::Pod, _) => "from a pod",
        };
        let mut failure = Failure::new(Class::Database, format!("the database cannot be used {from}: {self}"));
        if !self.advice.is_empty() {
            failure = failure.help(self.advice.as_str());
        }
        // Only these failures depend on the network.
        let is_network = ["unreachable", "waking up", "endpoint refused", "TLS refused"].contains(&self.kind.as_str());
        if is_network && vantage == Vantage::Pod && here.is_some_and(|here| here.ok) {
            let dns = "cargo xtask tool kubectl -- get pods -n kube-system -l k8s-app=kube-dns";
            failure = match self.step.as_str() {
                "name resolution" => failure.help(format!("see whether the cluster resolves names at all: {dns}")),
                _ => failure.help("see whether a firewall keeps the node's network from the database"),
            };
        }
        failure.help(match self.kind.as_str() {
            "waking up" | "too many connections" | "missing privilege" | "diverged" => {
                "then again: cargo xtask deploy dev".to_owned()
            }
            "quota exceeded" => format!("see the provider's console (Neon: Billing), or set another {key} in .env"),
            _ => format!("edit {key} in .env, then: cargo xtask deploy dev"),
        })
    }
}

impl fmt::Display for PreflightResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.ok {
            write!(f, "{}", self.kind)?;
            if !self.step.is_empty() && self.step != self.kind {
                write!(f, " (at {})", self.step)?;
            }
            let target = if self.target.is_empty() { String::new() } else { format!("{}: ", self.target) };
            return write!(f, "\n  {target}{}", self.text);
        }
        let tls = if self.tls { "TLS" } else { "no TLS" };
        let route = if self.pooled { "through a pooler" } else { "direct" };
        write!(f, "{}: Postgres {}, {tls}, {route}; ", self.target, self.server)?;
        write!(
            f,
            "resolved in {} ms, connected in {} ms, queried in {} ms",
            self.resolve_ms, self.connect_ms, self.query_ms
        )?;
        match self.woke_ms.or((self.connect_ms >= 1000).then_some(self.connect_ms)) {
            Some(time) => write!(f, "; it was suspended, and woke up within {:.1} s", time as f64 / 1000.0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"ok": true, "target": "todo@db.lan:5432/todo", "host": "db.lan", "addresses": ["10.0.0.1"],
        "resolve_ms": 2, "connect_ms": 31, "query_ms": 1, "woke_ms": null, "tls": true, "sslmode": "require",
        "server": "17.6", "pooled": true, "attempts": 1, "step": "", "kind": "", "text": "", "advice": ""}"#;

    fn good() -> PreflightResult {
        PreflightResult::parse(&GOOD.replace('\n', " "), &Redactor::default()).unwrap()
    }

    fn bad(kind: &str, step: &str) -> PreflightResult {
        let (kind, step, text) = (kind.to_owned(), step.to_owned(), "its words".to_owned());
        PreflightResult {
            kind,
            step,
            text,
            advice: "Do this.".into(),
            target: "todo@db.lan:5432/todo".into(),
            ..PreflightResult::default()
        }
    }

    #[test]
    fn shows_a_result_in_one_line() {
        let shown = good().to_string();
        assert_eq!(
            shown,
            "todo@db.lan:5432/todo: Postgres 17.6, TLS, through a pooler; resolved in 2 ms, connected in 31 ms, queried in 1 ms"
        );
        let woken = PreflightResult { woke_ms: Some(2300), ..good() };
        assert!(woken.to_string().ends_with("; it was suspended, and woke up within 2.3 s"));
        let parse = |text| PreflightResult::parse(text, &Redactor::default());
        assert!(parse("noise\n").is_err() && parse("{\"ok\": 3}").is_err());
    }

    #[test]
    fn each_kind_of_failure_has_its_own_fix() {
        let table = [
            (bad("wrong password", "authentication"), "wrong password (at authentication)", "edit DATABASE_URL"),
            (bad("no such database", "database"), "no such database (at database)", "edit DATABASE_URL"),
            (bad("TLS refused", "TLS"), "TLS refused (at TLS)", "edit DATABASE_URL"),
            (bad("quota exceeded", "session"), "quota exceeded (at session)", "console"),
            (bad("waking up", "waking up"), "waking up\n", "then again"),
            (bad("missing privilege", "migrations"), "missing privilege (at migrations)", "then again"),
            (bad("diverged", "migrations"), "diverged (at migrations)", "then again"),
            (bad("unreachable", "name resolution"), "unreachable (at name resolution)", "edit DATABASE_URL"),
        ];
        for (result, what, help) in table {
            let failure = result.failure("DATABASE_URL", Vantage::Here, None);
            assert!(failure.to_string().contains(what), "{failure}");
            assert!(failure.to_string().contains("todo@db.lan:5432/todo: its words"));
            assert_eq!(failure.hints()[0], "Do this.");
            assert!(failure.hints()[1].contains(help), "{:?}", failure.hints());
            assert_eq!(result.is_transient(), ["waking up", "unreachable"].contains(&result.kind.as_str()));
        }
    }

    #[test]
    fn a_pods_result_is_compared_with_the_machines() {
        let pod = bad("unreachable", "name resolution");
        let failure = pod.failure("DATABASE_URL", Vantage::Pod, Some(&good()));
        assert!(failure.to_string().contains("from a pod, although it answers on this machine"), "{failure}");
        assert!(failure.hints()[1].contains("k8s-app=kube-dns"));
        let hints =
            |kind| bad(kind, "migrations").failure("DATABASE_URL", Vantage::Pod, Some(&good())).hints().join("\n");
        assert!(hints("unreachable").contains("firewall"));
        assert!(!hints("diverged").contains("firewall") && !hints("missing privilege").contains("firewall"));
        assert!(
            pod.failure("DATABASE_URL", Vantage::Pod, Some(&pod.clone()))
                .to_string()
                .contains("cannot be used from this machine, nor from a pod")
        );
    }
}
