//! A database that `DATABASE_URL` names, reached with the client programs of the Postgres image: a container of the engine on
//! the machine's own network, for as long as it is needed. Nothing has to be installed for it, and no cluster is asked.

use std::io::{BufRead, BufReader, PipeWriter, Write};

use anyhow::{Context, Result, ensure};

use crate::deadlines;
use crate::dotenv;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::process::{Piped, Process};
use crate::secrets::Secret;

/// Where the container has the password.
const PASSWORDS: &str = "/tmp/passwords";

/// The container, which ends when this is dropped, or when the process ends that holds its standard input.
pub struct Remote {
    engine: Engine,
    container: String,
    /// The URL without its password.
    url: String,
    child: Piped,
    _input: PipeWriter,
}

impl Remote {
    /// Starts the container from `image`, for the database at `url`.
    pub fn start(engine: &Engine, profile: &str, image: &str, url: &Secret) -> Result<Self> {
        let (url, password) = split(url)?;
        let container = format!("todo-xtask-db-{profile}-{}", std::process::id());
        let run = engine
            .docker()
            .args(["run", "--rm", "--interactive", "--network=host", "--pull=never", "--user=0", "--cap-drop=ALL"])
            .args(["--security-opt=no-new-privileges", "--label=app.kubernetes.io/part-of=todo"])
            .args([format!("--name={container}"), format!("--env=PGPASSFILE={PASSWORDS}")])
            .args(["--entrypoint=cat", image])
            // A person may sit at a shell in it; its clients have limits of their own.
            .deadline(deadlines::DEV);
        let (reader, mut input) = std::io::pipe()?;
        let child = run.pipe_from(Some(reader))?;
        // What it gets it gives back: then it runs.
        input.write_all(b"ready\n")?;
        let mut line = String::new();
        BufReader::new(child.reader()).read_line(&mut line)?;
        if line != "ready\n" {
            return Err(child.finish().err().unwrap_or_else(|| anyhow::anyhow!("{container} ended at once")));
        }
        let remote = Self { engine: engine.clone(), container, url, child, _input: input };
        if let Some(password) = password {
            let line = format!("*:*:*:*:{}\n", password.expose().replace('\\', "\\\\").replace(':', "\\:"));
            let write = remote.exec(&["sh", "-c", &format!("umask 077; cat > {PASSWORDS}")]);
            write.stdin(line).run().context("handing the password to the container")?;
        }
        Ok(remote)
    }

    /// A command in the container.
    pub fn exec(&self, args: &[&str]) -> Process {
        self.engine.docker().args(["exec", "-i", &self.container]).args(args.iter().copied())
    }

    /// The same at a terminal.
    pub fn exec_at_terminal(&self, args: &[&str]) -> Process {
        self.engine.docker().args(["exec", "-it", &self.container]).args(args.iter().copied())
    }

    /// The URL without its password.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Ended by the engine: its client alone would leave it running.
        let _ = self.engine.docker().args(["container", "rm", "--force", &self.container]).run();
        self.child.kill();
    }
}

/// Parameters that name a file of this machine, or are a secret.
const UNSUPPORTED: [&str; 10] = [
    "oauth_client_secret",
    "passfile",
    "scram_client_key",
    "scram_server_key",
    "service",
    "sslcert",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslpassword",
];

/// Takes the password out of a URL: an argument is not private.
fn split(url: &Secret) -> Result<(String, Option<Secret>)> {
    let (scheme, rest) = url.expose().split_once("://").context("DATABASE_URL is no URL")?;
    let (userinfo, location) = dotenv::split_url(rest);
    let (place, query) = location.split_once('?').unwrap_or((location, ""));
    let (mut kept, mut password) = (Vec::new(), None);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name {
            "password" => password = Some(value),
            _ if UNSUPPORTED.contains(&name) || name == "sslrootcert" && value != "system" => {
                let what = format!("DATABASE_URL has the parameter {name}, which `db` does not support");
                return Err(Failure::new(Class::Config, what)
                    .help("use psql, pg_dump and pg_restore of your own with that URL")
                    .into());
            }
            _ => kept.push(part),
        }
    }
    let mut user = String::new();
    if let Some(userinfo) = userinfo {
        let (name, given) = userinfo.split_once(':').map_or((userinfo, None), |(name, given)| (name, Some(given)));
        ensure!(
            !name.contains(['?', '/', '@']),
            "DATABASE_URL has a character in its user that ends the user in a URL"
        );
        // libpq reads the parameters last.
        password = password.or(given);
        user = format!("{name}@");
    }
    let decoded = password.map(|password| percent_encoding::percent_decode_str(password).decode_utf8_lossy());
    let password = decoded.filter(|password| !password.is_empty()).map(Secret::new);
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    Ok((format!("{scheme}://{user}{place}{query}"), password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_taken_out_of_the_url() {
        for (url, rest, password) in [
            ("postgresql://u:not%3Aa%5Csecret@db.test/todo", "postgresql://u@db.test/todo", Some("not:a\\secret")),
            (
                "postgres://u:not-a-secret@db.test:5433/todo?sslmode=require&channel_binding=require",
                "postgres://u@db.test:5433/todo?sslmode=require&channel_binding=require",
                Some("not-a-secret"),
            ),
            ("postgresql://u@db.test/todo?password=not-a-secret", "postgresql://u@db.test/todo", Some("not-a-secret")),
            // A `?` before the @ belongs to the password, for libpq too.
            (
                "postgresql://u:not?a=secret@db.test/todo?sslmode=require",
                "postgresql://u@db.test/todo?sslmode=require",
                Some("not?a=secret"),
            ),
            (
                "postgresql://u:not-a-secret@db.test/todo?application_name=a@b",
                "postgresql://u@db.test/todo?application_name=a@b",
                Some("not-a-secret"),
            ),
            ("postgresql://u:@db.test/todo", "postgresql://u@db.test/todo", None),
            ("postgresql://db.test/todo?sslrootcert=system", "postgresql://db.test/todo?sslrootcert=system", None),
        ] {
            let (found, secret) = split(&Secret::new(url)).unwrap();
            assert_eq!((found.as_str(), secret.as_ref().map(Secret::expose)), (rest, password));
        }
    }

    #[test]
    fn what_an_argument_would_show_or_a_container_does_not_have_is_refused() {
        for (url, told) in [
            ("postgresql://u:not-a-secret@db.test/todo?sslkey=/k", "sslkey"),
            ("postgresql://u@db.test/todo?scram_client_key=not-a-secret", "scram_client_key"),
            ("postgresql://db.test?password=not-a-secret@x", "in its user"),
        ] {
            let error = split(&Secret::new(url)).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("not-a-secret"), "{error}");
        }
    }
}
