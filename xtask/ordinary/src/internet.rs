//! The simulated internet: official hosts over HTTPS, and forwarding to the package registries. It runs in the machine.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use xtask_faults::http::{Message, read_head};

use crate::{hosts, registry, resolver};

/// Socket in the shared folder. At its other end, outside the machine's network, the suite opens forwarded connections.
const OUTSIDE: &str = "outside.sock";

/// Log of forwarded connections, in the shared folder: a line each, with host and received bytes.
const FORWARD_LOG: &str = "passed-on.log";

/// Log of requests to the official hosts, a line each: host, method, path, status.
const REQUESTS: &str = "requests.log";

/// Configuration of the forward proxy, in the shared folder. It exists while the machine reaches official hosts by proxy only.
pub const PROXY: &str = "tinyproxy.conf";

/// Delay of the first answer behind a proxy.
const LATE: Duration = Duration::from_secs(5);

/// Docker Hub's answer beyond its rate limit.
const TOO_MANY: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#;

/// Folder of the simulated internet's content, in the shared folder: certificates, downloads and images. All machines of a
/// run use the same content.
pub const OFFER: &str = "offer";

/// Folder of downloads, in the shared folder: a subfolder for each host.
pub const DOWNLOADS: &str = "offer/downloads";

type Client = BufReader<StreamOwned<ServerConnection, TcpStream>>;

struct Internet {
    shared: Utf8PathBuf,
    tls: Arc<ServerConfig>,
    requests: Mutex<File>,
    /// Whether to delay the next download.
    slow: AtomicBool,
    /// Whether Docker Hub refuses the next request for an image.
    busy: AtomicBool,
}

/// Serves resolver, official hosts and forwarded hosts, without end.
pub fn serve(shared: &Utf8Path) -> Result<()> {
    let read = |name: &str| std::fs::read(shared.join(OFFER).join(name)).with_context(|| format!("reading {name}"));
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(&read("server.pem")?)?],
            PrivateKeyDer::from_pem_slice(&read("server.key")?)?,
        )?;
    let is_behind_proxy = || shared.join(PROXY).is_file();
    let busy = AtomicBool::new(is_behind_proxy());
    let slow = AtomicBool::new(is_behind_proxy());
    let requests = OpenOptions::new().create(true).append(true).open(shared.join(REQUESTS))?;
    let internet = Arc::new(Internet {
        shared: shared.to_owned(),
        tls: Arc::new(tls),
        requests: Mutex::new(requests),
        slow,
        busy,
    });
    for (index, host) in hosts::FORWARDED.into_iter().enumerate() {
        for port in [80, 443] {
            let outside = shared.join(OUTSIDE);
            listen(hosts::forwarded(index), port, move |tcp| forward(&tcp, &outside, host, port))?;
        }
    }
    listen(hosts::OFFICIAL, 443, move |tcp| internet.connection(tcp))?;
    resolver::serve(is_behind_proxy)
}

/// Serves each connection on a separate thread, so that an error ends only its own connection.
fn listen(address: Ipv4Addr, port: u16, serve: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static) -> Result<()> {
    let listener = TcpListener::bind((address, port)).with_context(|| format!("listening at {address}:{port}"))?;
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(tcp).map_err(|error| eprintln!("{address}:{port}: {error:#}")));
        }
    });
    Ok(())
}

impl Internet {
    fn connection(&self, tcp: TcpStream) -> Result<()> {
        tcp.set_nodelay(true)?;
        let mut client = BufReader::new(StreamOwned::new(ServerConnection::new(self.tls.clone())?, tcp));
        while let Some(request) = read_head(&mut client)? {
            let mut words = request.first.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let host = header(&request, "host").unwrap_or_default().trim_end_matches(":443").to_owned();
            let registry = hosts::REGISTRIES.iter().find(|(name, _)| *name == host);
            let is_hub = registry.is_some_and(|(_, folder)| *folder == "docker.io") && target.contains("/manifests/");
            if registry.is_none() && self.slow.swap(false, Ordering::Relaxed) {
                std::thread::sleep(LATE);
            }
            let status = match registry {
                Some(_) if is_hub && self.busy.swap(false, Ordering::Relaxed) => refuse_request(&mut client, method)?,
                Some((_, folder)) => ask_registry(&mut client, folder, &request, target, method)?,
                None => self.download(&mut client, &host, target, method)?,
            };
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(requests, "{host} {method} {target} {status}")?;
        }
        Ok(())
    }

    /// Answers with the requested file, or 404. GitHub redirects to the host of its files.
    fn download(&self, client: &mut Client, host: &str, target: &str, method: &str) -> Result<u16> {
        let path = target.split('?').next().unwrap_or_default();
        let folder = self.shared.join(DOWNLOADS);
        let plain = !path.split('/').any(|part| part == "..");
        let found = |host: &str| {
            let file = folder.join(host).join(path.trim_start_matches('/'));
            Some(file).filter(|file| plain && file.is_file())
        };
        let client = client.get_mut();
        if let Some(file) = found(host) {
            let file = File::open(&file)?;
            let length = file.metadata()?.len();
            let kind = "content-type: application/octet-stream";
            write!(client, "HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {length}\r\n\r\n")?;
            if method != "HEAD" {
                std::io::copy(&mut { file }, client)?;
            }
            client.flush()?;
            return Ok(200);
        }
        let (status, more) = match found(hosts::ASSETS) {
            Some(_) if host == "github.com" => (302, format!("location: https://{}{path}\r\n", hosts::ASSETS)),
            _ => (404, String::new()),
        };
        write!(client, "HTTP/1.1 {status} Answer\r\n{more}content-length: 0\r\n\r\n")?;
        client.flush()?;
        Ok(status)
    }
}

fn refuse_request(client: &mut Client, method: &str) -> Result<u16> {
    let client = client.get_mut();
    let length = TOO_MANY.len();
    let head = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json";
    // To HEAD, a body would be the beginning of the next answer.
    let body = if method == "HEAD" { "" } else { TOO_MANY };
    write!(client, "{head}\r\ncontent-length: {length}\r\n\r\n{body}")?;
    client.flush()?;
    Ok(429)
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Forwards the request to the registry, where `folder` has the images of the requested host.
fn ask_registry(client: &mut Client, folder: &str, request: &Message, target: &str, method: &str) -> Result<u16> {
    let tcp = TcpStream::connect(registry::ADDRESS).context("asking the registry")?;
    let target = match target.strip_prefix("/v2/") {
        Some("") | None => target.to_owned(),
        Some(rest) => format!("/v2/{folder}/{rest}"),
    };
    let mut to = &tcp;
    write!(to, "{method} {target} HTTP/1.1\r\nhost: registry\r\nconnection: close\r\n")?;
    for (name, value) in request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("accept")) {
        write!(to, "{name}: {value}\r\n")?;
    }
    to.write_all(b"\r\n")?;
    let mut from = BufReader::new(&tcp);
    let mut answer = read_head(&mut from)?.context("the registry closed the connection")?;
    answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("connection"));
    let length = if method == "HEAD" { 0 } else { answer.length() };
    let client = client.get_mut();
    client.write_all(&answer.render())?;
    std::io::copy(&mut from.take(length as u64), client)?;
    client.flush()?;
    let status = answer.first.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.context("the registry's answer has no status")
}

/// Forwards a connection to the suite's process, outside the machine's network.
fn forward(tcp: &TcpStream, outside: &Utf8Path, host: &str, port: u16) -> Result<()> {
    let mut socket = UnixStream::connect(outside).context("connecting to the suite's process")?;
    writeln!(socket, "{host} {port}")?;
    let (mut from, mut to) = (socket.try_clone()?, tcp.try_clone()?);
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    std::io::copy(&mut &*tcp, &mut socket)?;
    socket.shutdown(Shutdown::Write)?;
    let _ = back.join();
    Ok(())
}

/// Opens the machine's forwarded connections in the network of this process, in the background.
pub fn accept_forwarded(shared: &Utf8Path) -> Result<()> {
    let listener = UnixListener::bind(shared.join(OUTSIDE)).context("listening for forwarded connections")?;
    let log = OpenOptions::new().create(true).append(true).open(shared.join(FORWARD_LOG))?;
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let log = log.try_clone();
            std::thread::spawn(move || connect(socket, log?));
        }
    });
    Ok(())
}

/// Returns the number of bytes that the package registries sent over closed connections.
pub fn forwarded_bytes(shared: &Utf8Path) -> Result<u64> {
    let text = std::fs::read_to_string(shared.join(FORWARD_LOG)).context("reading the log of forwarded connections")?;
    Ok(text.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

fn connect(mut socket: UnixStream, mut log: File) -> Result<()> {
    let mut line = Vec::new();
    let mut byte = [0];
    while socket.read(&mut byte)? == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    let line = String::from_utf8(line)?;
    let (host, port) = line.split_once(' ').context("host and port")?;
    let mut tcp = TcpStream::connect((host, port.parse::<u16>()?)).with_context(|| format!("connecting to {host}"))?;
    let (mut from, mut to) = (tcp.try_clone()?, socket.try_clone()?);
    let host = host.to_owned();
    let back = std::thread::spawn(move || {
        let count = std::io::copy(&mut from, &mut to).unwrap_or_default();
        let _ = to.shutdown(Shutdown::Write);
        let _ = log.write_all(format!("{host} {count}\n").as_bytes());
    });
    std::io::copy(&mut socket, &mut tcp)?;
    tcp.shutdown(Shutdown::Write)?;
    let _ = back.join();
    Ok(())
}

/// Returns the requests to the official hosts so far, a line each.
pub fn requests(shared: &Utf8Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(shared.join(REQUESTS)).context("reading the log of requests")?;
    Ok(text.lines().map(str::to_owned).collect())
}
