//! Access to the database of `DATABASE_URL` with the client programs of the Postgres image, in a temporary container on the
//! machine's network. It needs no installed client and no cluster.

use std::io::{BufRead, BufReader, PipeWriter, Write};

use anyhow::{Context, Result, ensure};

use crate::deadlines;
use crate::dotenv;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::process::{Piped, Process};
use crate::secrets::Secret;
use crate::toolbox::Toolbox;

/// The file with the password in the container.
const PASSWORDS: &str = "/tmp/passwords";

/// The container. It ends when this is dropped, and when xtask ends, which closes its standard input.
pub struct Remote {
    engine: Engine,
    container: String,
    /// The URL without its password.
    url: String,
    child: Piped,
    _input: PipeWriter,
}

impl Remote {
    /// Starts the container from `image`, for the database at `url`, the value of `key`.
    pub fn start(tools: &Toolbox, image: &str, key: &str, url: &Secret) -> Result<Self> {
        let (engine, profile) = (&tools.engine, &tools.profile);
        let (url, password) = split_password(key, url)?;
        let container = format!("todo-xtask-db-{profile}-{}", std::process::id());
        let run = engine
            .docker()
            .args(["run", "--rm", "--interactive", "--network=host", "--pull=never", "--user=0", "--cap-drop=ALL"])
            .args(["--security-opt=no-new-privileges", &format!("--label={}", tools.release().part_of())])
            .args([format!("--name={container}"), format!("--env=PGPASSFILE={PASSWORDS}")])
            .args(["--entrypoint=cat", image])
            // A person may use a shell in it; other clients have their own deadlines.
            .deadline(deadlines::DEV);
        let (reader, mut input) = std::io::pipe()?;
        let child = run.pipe_from(Some(reader))?;
        // `cat` runs once it has echoed a line.
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

    /// Returns a command in the container.
    pub fn exec(&self, args: &[&str]) -> Process {
        self.engine.docker().args(["exec", "-i", &self.container]).args(args.iter().copied())
    }

    /// Returns a command in the container, at a terminal.
    pub fn exec_at_terminal(&self, args: &[&str]) -> Process {
        self.engine.docker().args(["exec", "-it", &self.container]).args(args.iter().copied())
    }

    /// Returns the URL without its password.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // A killed `docker run` would leave the container running.
        let _ = self.engine.docker().args(["container", "rm", "--force", &self.container]).run();
        self.child.kill();
    }
}

/// Parameters that name a file of this machine, or contain a secret.
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

/// Splits a URL into the URL without its password, and the password: arguments are not private.
fn split_password(key: &str, url: &Secret) -> Result<(String, Option<Secret>)> {
    let (scheme, rest) = url.expose().split_once("://").with_context(|| format!("{key} is not a URL"))?;
    let (userinfo, location) = dotenv::split_url(rest);
    let (server, query) = location.split_once('?').unwrap_or((location, ""));
    let (mut kept, mut password) = (Vec::new(), None);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name {
            "password" => password = Some(value),
            _ if UNSUPPORTED.contains(&name) || name == "sslrootcert" && value != "system" => {
                let what = format!("{key} has the parameter {name}, which `db` does not support");
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
            "{key} has `?`, `/` or `@` in its user; write %3F, %2F or %40 instead"
        );
        // In libpq, the parameter overrides the password before the host.
        password = password.or(given);
        user = format!("{name}@");
    }
    let decoded = password.map(|password| percent_encoding::percent_decode_str(password).decode_utf8_lossy());
    let password = decoded.filter(|password| !password.is_empty()).map(Secret::new);
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    Ok((format!("{scheme}://{user}{server}{query}"), password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_removed_from_the_url() {
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
            let (found, secret) = split_password("DATABASE_URL", &Secret::new(url)).unwrap();
            assert_eq!((found.as_str(), secret.as_ref().map(Secret::expose)), (rest, password));
        }
    }

    #[test]
    fn secret_parameters_and_files_of_this_machine_are_refused() {
        for (url, message) in [
            ("postgresql://u:not-a-secret@db.test/todo?sslkey=/k", "sslkey"),
            ("postgresql://u@db.test/todo?scram_client_key=not-a-secret", "scram_client_key"),
            ("postgresql://db.test?password=not-a-secret@x", "in its user"),
        ] {
            let error = split_password("DATABASE_URL", &Secret::new(url)).unwrap_err().to_string();
            assert!(error.contains(message) && !error.contains("not-a-secret"), "{error}");
        }
    }
}
