//! Failures of a request: whether a retry may help, and the message for the user.

use std::fmt;

use crate::failure::{Class, Failure};
use crate::report;

/// The reason for which a request failed.
#[derive(Debug)]
pub enum Trouble {
    /// No connection: name resolution, refused, unreachable, proxy.
    Connection(String),
    /// The certificate is not trusted, or TLS failed otherwise.
    Tls(String),
    /// The server sent nothing for too long.
    Stalled,
    /// The answer ended before it was whole.
    CutOff(String),
    /// A status other than success.
    Status(u16),
    /// A file here cannot be written.
    Disk(String),
    /// The partial file here does not match the server's file; it was removed.
    Misfit,
}

impl Trouble {
    /// Returns whether a retry may succeed soon.
    pub fn passes(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Stalled | Self::CutOff(_) | Self::Misfit => true,
            Self::Status(status) => *status == 429 || *status >= 500,
            Self::Tls(_) | Self::Disk(_) => false,
        }
    }

    /// Returns the failure to show: `have` bytes had arrived, after `retries` further attempts.
    pub fn into_failure(self, url: &str, have: u64, retries: u32) -> Failure {
        let tries = if retries > 0 { format!(", {} attempts", retries + 1) } else { String::new() };
        let failure = Failure::new(Class::Machine, format!("cannot download {url}: {self}{tries}"));
        match self {
            Self::Stalled | Self::CutOff(_) if have > 0 => {
                failure.help(format!("run the command again: it resumes after {}", report::bytes(have)))
            }
            Self::Disk(_) => failure.help("free space on that disk (`df -h`), then run the command again: it resumes"),
            Self::Tls(_) => failure.help("add --ca-bundle <file.pem> if your network has a certificate of its own"),
            Self::Status(404 | 410) => failure.help("correct the url in infra/release.toml: that release has moved"),
            Self::Status(401 | 403 | 407) => {
                failure.help("your proxy or network may forbid that site: set HTTPS_PROXY, or ask for access")
            }
            Self::Connection(_) => failure
                .help("check the network; behind a proxy: export HTTPS_PROXY=http://host:port (NO_PROXY is honoured)"),
            _ => failure.help("run the command again in a while"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(why) => write!(f, "no connection ({why})"),
            Self::Tls(why) => write!(f, "no secure connection ({why})"),
            Self::Stalled => f.write_str("the server stalled: it sent nothing for too long"),
            Self::CutOff(why) => write!(f, "it was cut off ({why})"),
            Self::Status(404) => f.write_str("the server has no such file (HTTP 404)"),
            Self::Status(status) => write!(f, "the server answered HTTP {status}"),
            Self::Disk(why) => f.write_str(why),
            Self::Misfit => f.write_str("the earlier part of the download does not match the file on the server"),
        }
    }
}
