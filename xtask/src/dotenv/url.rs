//! Parses a Postgres URL as libpq does, and finds common mistakes in it.
//!
//! libpq ends user and password at the first `@` or `/`; an unencoded one inside a password moves part of it into the
//! host's name. So no message shows a host before all other checks have passed.

use crate::failure::{Change, nearest};

/// The parts of a valid URL that messages may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresUrl {
    /// The host, or the hosts with commas between.
    pub host: String,
}

/// A mistake in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is a command line.
    Psql,
    /// `postgresql+driver://`; the scheme, where it is a known one.
    Driver(Option<&'static str>),
    /// Another scheme, or none.
    Scheme,
    /// A space or a character outside ASCII.
    Character,
    /// A character in user or password that has a meaning in URLs.
    Unencoded(char),
    /// A `%` without two hex digits, or `%00`.
    Percent,
    /// Copied from documentation, or with the password hidden.
    Placeholder,
    /// It has no host.
    NoHost,
    /// The host or the port is invalid.
    Host,
    /// The host is the machine itself, which a pod is not on; with what stands before it, where it is a usual one.
    Local(Option<String>),
    /// A parameter that libpq does not know, and the one that was meant.
    Parameter(Option<&'static str>),
}

/// libpq's parameters that may follow the `?`; it refuses a URL with any other.
const PARAMETERS: &[&str] = &[
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "options",
    "passfile",
    "password",
    "port",
    "replication",
    "require_auth",
    "requirepeer",
    "scram_client_key",
    "scram_server_key",
    "service",
    "ssl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Schemes of SQLAlchemy and its kind.
const DRIVERS: [&str; 4] =
    ["postgresql+asyncpg://", "postgresql+psycopg://", "postgresql+psycopg2://", "postgresql+psycopg_async://"];

/// The host by which a pod reaches a Postgres on this machine.
const HOST: &str = "host.minikube.internal";

/// Parses `url`.
pub fn parse(url: &str) -> Result<PostgresUrl, Fault> {
    if url.starts_with("psql ") {
        return Err(Fault::Psql);
    }
    let Some(rest) = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://")) else {
        let driver =
            url.split_once("://").is_some_and(|(s, _)| s.starts_with("postgresql+") || s.starts_with("postgres+"));
        let known = DRIVERS.into_iter().find(|scheme| url.starts_with(scheme));
        return Err(if driver { Fault::Driver(known) } else { Fault::Scheme });
    };
    if is_bracketed(rest) {
        return Err(Fault::Placeholder);
    }
    if !rest.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Fault::Character);
    }
    let (given, location) = split(rest);
    let userinfo = given.unwrap_or_default();
    if let Some(c) = userinfo.chars().find(|c| "@/".contains(*c)) {
        return Err(Fault::Unencoded(c));
    }
    if !percent_is_right(rest) {
        return Err(Fault::Percent);
    }
    let (location, query) = location.split_once('?').unwrap_or((location, ""));
    let authority = location.split('/').next().unwrap_or_default();
    let hosts = authority.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
    if hosts.iter().any(|host| is_sample(userinfo, host)) {
        return Err(Fault::Placeholder);
    }
    if hosts.iter().any(|host| is_local(host)) {
        // What stands before it makes the text one of a kind: the password has no @.
        let before = if given.is_some() { "@" } else { "//" };
        let usual = ["localhost", "127.0.0.1", "0.0.0.0"].into_iter().find(|usual| hosts == [*usual]);
        let written = usual.map(|usual| format!("{before}{usual}")).filter(|text| url.contains(text));
        return Err(Fault::Local(written));
    }
    for name in query.split('&').filter(|part| !part.is_empty()).map(|part| part.split('=').next().unwrap_or_default())
    {
        if !PARAMETERS.contains(&name) {
            return Err(Fault::Parameter(nearest(name, PARAMETERS.iter().copied())));
        }
    }
    Ok(PostgresUrl { host: hosts.join(",") })
}

/// Splits what follows `://` into user and password, if there are any, and the rest.
pub fn split(rest: &str) -> (Option<&str>, &str) {
    // The last @ ends the password, unless it belongs to a parameter: those have a = before it.
    let at = rest.rfind('@').filter(|at| !rest[..*at].split_once('?').is_some_and(|(before, _)| before.contains('@')));
    at.or_else(|| rest.find('@')).map_or((None, rest), |at| (Some(&rest[..at]), &rest[at + 1..]))
}

/// Parses one `host[:port]`.
fn host(text: &str) -> Result<String, Fault> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (address, port.strip_prefix(':')),
        Some(_) => return Err(Fault::Host),
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    if name.is_empty() {
        return Err(Fault::NoHost);
    }
    let named = name.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    let reachable = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if named && reachable { Ok(name.to_ascii_lowercase()) } else { Err(Fault::Host) }
}

fn percent_is_right(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00")
    })
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host == "::1" || host == "0.0.0.0" || host.starts_with("127.")
}

/// Returns whether the URL without its scheme is a sample: it has a part in brackets, or an ellipsis.
fn is_bracketed(rest: &str) -> bool {
    let lower = rest.to_lowercase();
    rest.contains('<') && rest.contains('>')
        || lower.contains("[your")
        || lower.contains("[password]")
        || lower.contains("...")
}

/// Returns whether the URL has a part of a documented sample (`.env.example`, Neon's documentation), or a password that Neon's
/// console hides. Other values may be real, for example a host `host.lan` or a password `example-1`.
fn is_sample(userinfo: &str, host: &str) -> bool {
    const USERS: [&str; 3] = ["USER:PASSWORD", "alex:AbC123dEf", "username:password"];
    const HOSTS: [&str; 3] = ["host", "hostname", "host-pooler"];
    const DOMAINS: [&str; 5] = [".region.aws.neon.tech", ".example", ".example.com", ".example.net", ".example.org"];
    let password = userinfo.split_once(':').map_or("", |(_, password)| password);
    let hidden = !password.is_empty() && password.chars().all(|c| "*x•".contains(c));
    let sample_host = HOSTS.contains(&host)
        || DOMAINS.iter().any(|domain| format!(".{host}").ends_with(domain))
        || ["ep-xxx", "ep-cool-darkness-"].iter().any(|endpoint| host.starts_with(endpoint));
    hidden || sample_host || USERS.contains(&userinfo)
}

impl Fault {
    /// Returns what is wrong with the value, and its change.
    pub fn describe(&self) -> (String, Change) {
        const NEON: &str = "the connection string from Neon's console, with its password, in single quotes";
        let (text, what) = match self {
            Self::Driver(Some(scheme)) => {
                let change = Change::Replace((*scheme).to_owned(), "postgresql://".to_owned());
                return ("names a driver in its scheme".to_owned(), change);
            }
            Self::Local(Some(old)) => {
                let new = old.trim_end_matches(|c| c != '@' && c != '/').to_owned() + HOST;
                return (LOCAL.to_owned(), Change::Replace(old.clone(), new));
            }
            Self::Psql => ("begins with the command psql".into(), "the URL alone, in single quotes".into()),
            Self::Driver(None) => (
                "names a driver in its scheme".into(),
                "a URL that begins with postgresql:// and names no driver".into(),
            ),
            Self::Scheme => {
                ("is no Postgres URL".into(), "a URL that begins with postgresql://, as Neon shows it".into())
            }
            Self::Character => (
                "has a space or a letter outside ASCII".into(),
                "the same URL with that percent-encoded: a space is %20".into(),
            ),
            Self::Unencoded(c) => (
                format!("has a {c} in user or password, which ends them in a URL"),
                format!("the same URL with %{:02X} for the {c} in the password", u32::from(*c)),
            ),
            Self::Percent => (
                "has a % that is not followed by two hex digits".into(),
                "the same URL with %25 for the % in the password".into(),
            ),
            Self::Placeholder => ("is a sample, not a real URL".into(), NEON.into()),
            Self::NoHost => ("names no host".into(), NEON.into()),
            Self::Host => ("has a host or port that cannot be one".into(), NEON.into()),
            Self::Local(None) => (LOCAL.into(), format!("the same URL with the host {HOST}")),
            Self::Parameter(Some(meant)) => (
                format!("has a parameter that Postgres does not know; {meant} is near"),
                format!("the same URL with the parameter {meant}"),
            ),
            Self::Parameter(None) => (
                "has a parameter after the ? that Postgres does not know".into(),
                "the same URL with Postgres's own parameters alone, such as sslmode".into(),
            ),
        };
        (text, Change::SetDescribed(what))
    }
}

/// The message about a host that is the machine itself.
const LOCAL: &str = "names this machine, which a pod cannot reach by that name";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_urls_pass_and_give_their_host() {
        let cases = [
            (
                "postgresql://u:not-a-secret@ep-cold-sun-1-pooler.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
                "ep-cold-sun-1-pooler.eu-central-1.aws.neon.tech",
            ),
            ("postgres://u:not-a-secret@db.lan:5433/x", "db.lan"),
            ("postgresql://u@[fd00::1]:5432/x", "fd00::1"),
            ("postgresql://u:not-a-secret@a.lan,B.lan:5433/x?target_session_attrs=read-write", "a.lan,b.lan"),
            ("postgresql://db.lan/x?options=endpoint%3Dep-1", "db.lan"),
            ("postgresql://u:p%2F@db.lan/x?application_name=a@b", "db.lan"),
            ("postgresql://u:a?#[b@db.lan/x", "db.lan"),
            // What our own advice names for a Postgres on this machine, and names that only look like samples.
            ("postgresql://u:not-a-secret@host.minikube.internal:5432/x", "host.minikube.internal"),
            ("postgresql://u:not-a-secret@host.docker.internal/x", "host.docker.internal"),
            ("postgresql://user:password@db.lan/example", "db.lan"),
            ("postgresql://todo:not-a-secret@my-host.lan/your-todos", "my-host.lan"),
            ("postgresql://u:not-a-secret@region.lan/x", "region.lan"),
        ];
        for (url, host) in cases {
            assert_eq!(parse(url), Ok(PostgresUrl { host: host.to_owned() }), "{url}");
        }
    }

    #[test]
    fn reports_each_mistake_in_its_own_words() {
        // Put together here, because the secret scan would rightly find them as literals.
        let with = |userinfo: &str| format!("postgresql://{userinfo}@db.lan/x");
        let cases = [
            ("psql 'postgresql://h/x'".to_owned(), Fault::Psql),
            ("postgresql+asyncpg://h/x".to_owned(), Fault::Driver(Some("postgresql+asyncpg://"))),
            ("postgresql+secret://h/x".to_owned(), Fault::Driver(None)),
            ("mysql://h/x".to_owned(), Fault::Scheme),
            ("host=db.lan user=u".to_owned(), Fault::Scheme),
            (with("u:a b"), Fault::Character),
            (with("u:ä"), Fault::Character),
            (with("u:a@b"), Fault::Unencoded('@')),
            (with("u:a/b"), Fault::Unencoded('/')),
            (with("u:a%b"), Fault::Percent),
            (with("u:a%zz"), Fault::Percent),
            (with("u:a%00"), Fault::Percent),
            (with("u:<password>"), Fault::Placeholder),
            (with("u:[YOUR-PASSWORD]"), Fault::Placeholder),
            (with("u:****************"), Fault::Placeholder),
            (with("USER:PASSWORD"), Fault::Placeholder),
            ("postgresql://user:password@host/db".to_owned(), Fault::Placeholder),
            ("postgresql://u:not-a-secret@db.example.com/db".to_owned(), Fault::Placeholder),
            ("postgresql://USER:PASSWORD@HOST-pooler.REGION.aws.neon.tech/DATABASE".to_owned(), Fault::Placeholder),
            ("postgresql://u:not-a-secret@ep-xxx.neon.tech/db".to_owned(), Fault::Placeholder),
            ("postgresql://...".to_owned(), Fault::Placeholder),
            ("postgresql://u:not-a-secret@/db".to_owned(), Fault::NoHost),
            ("postgresql:///db".to_owned(), Fault::NoHost),
            ("postgresql://u@db.lan:port/db".to_owned(), Fault::Host),
            ("postgresql://u@db!lan/db".to_owned(), Fault::Host),
            ("postgresql://u:not-a-secret@localhost:5432/db".to_owned(), Fault::Local(Some("@localhost".into()))),
            ("postgresql://u@127.0.0.1/db".to_owned(), Fault::Local(Some("@127.0.0.1".into()))),
            ("postgresql://localhost/db".to_owned(), Fault::Local(Some("//localhost".into()))),
            ("postgresql://u@127.9.9.9/db".to_owned(), Fault::Local(None)),
            ("postgresql://u@[::1]/db".to_owned(), Fault::Local(None)),
            ("postgresql://u@db.lan/db?sslmod=require".to_owned(), Fault::Parameter(Some("sslmode"))),
            ("postgresql://u@db.lan/db?pgbouncer=true".to_owned(), Fault::Parameter(None)),
        ];
        for (url, expected) in cases {
            assert_eq!(parse(&url), Err(expected), "{url}");
        }
    }
}
