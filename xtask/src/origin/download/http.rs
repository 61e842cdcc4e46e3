//! One request at a time: the HTTP client with its certificates and timeouts, and downloads that resume.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use camino::Utf8Path;
use ureq::http::{Response, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use super::trouble::Trouble;
use super::{Limits, size};
use crate::failure::{Class, Failure};
use crate::report::{bytes, seconds};

/// Bundles of trusted certificates of Debian and Alpine, Fedora, openSUSE and macOS.
pub const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Time after which a download's pace gives an estimate.
const ENOUGH: Duration = Duration::from_secs(3);

/// An agent for one host.
pub struct Client(Agent);

/// The content of a successful response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// The whole file.
    Whole,
    /// The missing part, or nothing because the file was complete.
    Rest,
}

impl Client {
    /// Makes an agent for `url` that trusts the system's certificates and those of `ca_bundle`.
    pub fn new(url: &str, ca_bundle: Option<&Utf8Path>, limits: Limits) -> Result<Self> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A part is continued byte for byte, so the transfer must not be compressed on the way.
            .accept_encoding("identity")
            .user_agent("todo-xtask")
            .proxy(proxy(url))
            .tls_config(TlsConfig::builder().root_certs(roots(ca_bundle)?).build())
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_recv_response(Some(limits.stall))
            .timeout_per_read(Some(limits.stall))
            .build();
        Ok(Self(Agent::new_with_config(config)))
    }

    /// Downloads the rest of `url` that `part` lacks.
    pub fn get(&self, url: &str, part: &Utf8Path, progress: &dyn Fn(&str)) -> Result<Got, Trouble> {
        let have = size(part);
        let mut request = self.0.get(url);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let mut response = request.call().map_err(trouble)?;
        let (from, total) = match response.status().as_u16() {
            200 => (0, length(&response)),
            206 => match content_range(&response) {
                Some((Some(from), total)) if from == have => (from, total),
                _ => return Err(discard(part)),
            },
            416 => match content_range(&response) {
                Some((None, Some(total))) if have == total => return Ok(Got::Rest),
                _ => return Err(discard(part)),
            },
            status => return Err(Trouble::Status(status)),
        };
        let file = File::options().create(true).append(true).open(part).map_err(|error| disk(part, &error))?;
        file.set_len(from).map_err(|error| disk(part, &error))?;
        copy(response.body_mut(), file, part, from, total, progress)?;
        Ok(if from == 0 { Got::Whole } else { Got::Rest })
    }
}

/// Returns whether `url` answers a HEAD request with success within `limit`, redirects included.
pub fn answers(url: &str, ca_bundle: Option<&Utf8Path>, limit: Duration) -> bool {
    let limits = Limits { connect: limit, stall: limit, ..Limits::default() };
    Client::new(url, ca_bundle, limits).is_ok_and(|client| {
        let request = client.0.head(url).config().timeout_global(Some(limit)).build();
        request.call().is_ok_and(|response| response.status().is_success())
    })
}

fn copy(
    body: &mut Body,
    mut file: File,
    part: &Utf8Path,
    from: u64,
    total: Option<u64>,
    progress: &dyn Fn(&str),
) -> Result<(), Trouble> {
    let mut reader = body.as_reader();
    let mut buffer = vec![0; 128 * 1024];
    let mut have = from;
    let begun = Instant::now();
    let so_far = |have| total.map_or_else(|| bytes(have), |total| format!("{} of {}", bytes(have), bytes(total)));
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(body_trouble(error, &so_far(have))),
        };
        file.write_all(&buffer[..count]).map_err(|error| disk(part, &error))?;
        have += count as u64;
        progress(&(so_far(have) + &left(have - from, total.map(|total| total.saturating_sub(have)), begun.elapsed())));
    }
    match total {
        Some(total) if have < total => Err(Trouble::CutOff(format!("after {}", so_far(have)))),
        _ => file.sync_all().map_err(|error| disk(part, &error)),
    }
}

/// Estimates the time that the bytes `left` take at the pace of those that `came` within `elapsed`, e.g.
/// `, about 20.0 s left`. Returns the empty text as long as there is too little data.
fn left(came: u64, left: Option<u64>, elapsed: Duration) -> String {
    let Some(left) = left.filter(|_| elapsed >= ENOUGH && came > 0) else { return String::new() };
    let time = elapsed.as_secs_f64() * left as f64 / came as f64;
    format!(", about {} left", seconds(Duration::from_secs(time.ceil() as u64)))
}

/// Parses `Content-Range: bytes 5-9/10` to first byte and total; `bytes */10` has no first byte.
fn content_range(response: &Response<Body>) -> Option<(Option<u64>, Option<u64>)> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-').and_then(|(from, _)| from.parse().ok());
    Some((from, total.parse().ok()))
}

fn length(response: &Response<Body>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn discard(part: &Utf8Path) -> Trouble {
    match std::fs::remove_file(part) {
        Ok(()) => Trouble::Misfit,
        Err(error) => disk(part, &error),
    }
}

fn disk(part: &Utf8Path, error: &std::io::Error) -> Trouble {
    Trouble::Disk(format!("cannot write {part}: {error}"))
}

fn trouble(error: ureq::Error) -> Trouble {
    use ureq::Error as E;
    match error {
        E::Timeout(ureq::Timeout::RecvResponse | ureq::Timeout::PerRead) => Trouble::Stalled,
        E::Tls(_) | E::Rustls(_) | E::Pem(_) => Trouble::Tls(error.to_string()),
        // rustls reports its errors as io errors while it shakes hands.
        E::Io(ref io) if io.kind() == ErrorKind::InvalidData => Trouble::Tls(io.to_string()),
        E::Io(ref io) if io.kind() == ErrorKind::UnexpectedEof => Trouble::CutOff("before an answer".to_owned()),
        E::Io(io) => Trouble::Connection(io.to_string()),
        E::HostNotFound => Trouble::Connection("the host's name cannot be resolved".to_owned()),
        other => Trouble::Connection(other.to_string()),
    }
}

fn body_trouble(error: std::io::Error, so_far: &str) -> Trouble {
    match trouble(ureq::Error::from(error)) {
        Trouble::Stalled => Trouble::Stalled,
        Trouble::Connection(why) => Trouble::CutOff(format!("after {so_far}: {why}")),
        _ => Trouble::CutOff(format!("after {so_far}")),
    }
}

/// Returns the proxy of the environment; `None` for this machine itself, which a proxy elsewhere cannot reach.
fn proxy(url: &str) -> Option<Proxy> {
    let uri: Uri = url.parse().ok()?;
    let here = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if here { None } else { Proxy::try_from_env() }
}

/// Returns the system's certificates and those of `ca_bundle`. Without either, returns the compiled-in Mozilla ones.
fn roots(ca_bundle: Option<&Utf8Path>) -> Result<RootCerts> {
    let system = SYSTEM.iter().find_map(|path| certificates(Utf8Path::new(path)).ok());
    let mut all = system.unwrap_or_default();
    if let Some(path) = ca_bundle {
        let extra = certificates(path).map_err(|why| {
            Failure::new(Class::Config, format!("the CA bundle {path} cannot be used: {why}"))
                .help("name a PEM file with --ca-bundle or SSL_CERT_FILE, or unset SSL_CERT_FILE")
        })?;
        all.extend(extra);
    }
    Ok(if all.is_empty() { RootCerts::WebPki } else { RootCerts::from(all) })
}

fn certificates(path: &Utf8Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let items: Result<Vec<_>, _> = parse_pem(&pem).collect();
    let items = items.map_err(|error| error.to_string())?;
    let certificates: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_download_takes_as_long_as_its_pace_says() {
        let after = |elapsed, came, rest| left(came, rest, Duration::from_secs(elapsed));
        // Of 60 MB, 20 MB were there before, and 30 MB came in 30 s.
        assert_eq!(after(30, 30_000_000, Some(10_000_000)), ", about 10.0 s left");
        assert_eq!(after(2, 1_000_000, Some(10_000_000)), "", "too early to say");
        assert_eq!(after(30, 1_000_000, None), "", "the server does not say how much there is");
    }
}
