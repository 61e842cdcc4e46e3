//! A proxy in front of the API server, at the port that the node publishes. The proxy records each request and applies
//! the planned fault.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::calls::{Fault, Ledger};
use crate::http::{Message, read_chunk, read_head, read_whole};
use crate::names;
use crate::pki::Pki;

type Inside = BufReader<StreamOwned<ClientConnection, TcpStream>>;
type Outside = BufReader<StreamOwned<ServerConnection, TcpStream>>;

/// The log of a crashing container.
pub const LOG: &str = "Traceback (most recent call last):\nRuntimeError: boom\n";

/// A running proxy.
pub struct Proxy {
    /// The port of the proxy on 127.0.0.1.
    pub port: u16,
}

struct Shared {
    ledger: Ledger,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    api: u16,
    log: Option<&'static str>,
    /// Idle connections to the API server.
    idle: Mutex<Vec<Inside>>,
}

impl Proxy {
    /// Starts a proxy for the API server at the port `api`. `log` is the log of every container, for clusters without a
    /// kubelet; with `None`, the API server answers requests for logs.
    pub fn start(api: u16, pki: &Pki, ledger: Ledger, log: Option<&'static str>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = |pem: &str| Ok::<_, anyhow::Error>(vec![CertificateDer::from_pem_slice(pem.as_bytes())?]);
        let key = |pem: &str| PrivateKeyDer::from_pem_slice(pem.as_bytes());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain(&pki.server.certificate)?, key(&pki.server.key)?)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.authority.as_bytes())?)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain(&pki.client.certificate)?, key(&pki.client.key)?)?;
        let shared =
            Arc::new(Shared { ledger, server: server.into(), client: client.into(), api, log, idle: Mutex::default() });
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || {
                    let socket = tcp.try_clone();
                    let _ = serve(tcp, &shared);
                    let _ = socket.map(|socket| socket.shutdown(Shutdown::Both));
                });
            }
        });
        Ok(Self { port })
    }
}

fn serve(tcp: TcpStream, shared: &Shared) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut outside = BufReader::new(StreamOwned::new(ServerConnection::new(shared.server.clone())?, tcp));
    while let Some(request) = read_whole(&mut outside)? {
        let mut words = request.first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        // Helm's requests are not repeatable, because Helm does not retry them.
        let repeatable = method != "POST" && target.starts_with("/api") && request.is_from("todo-xtask");
        let fault = shared.ledger.enter_if(&names::request(method, target), repeatable);
        let is_log = target.split('?').next().unwrap_or_default().ends_with("/log");
        let played = shared.log.filter(|_| is_log);
        match fault {
            Some(Fault::Fail) => refuse(&mut outside, 500, "etcdserver: request timed out")?,
            Some(Fault::Twice) => {
                refuse(&mut outside, 503, "the server is currently unable to handle the request")?;
            }
            Some(Fault::Garbage) if method == "DELETE" => {
                // If a request has a body, the API server ignores the options in the query.
                let mut options: Value = serde_json::from_slice(&request.body)?;
                options["dryRun"] = json!(["All"]);
                let mut request = request;
                request.set_body(options.to_string().into_bytes());
                pass(&mut outside, &mut connect(shared)?, &request, false)?;
            }
            Some(Fault::Garbage) => {
                let body =
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}).to_string();
                answer(&mut outside, 200, "application/json", &body, body.len())?;
            }
            Some(Fault::Hang) => {
                // Waits until the client closes the connection, at most 20 s.
                outside.get_ref().sock.set_read_timeout(Some(Duration::from_secs(20)))?;
                shared.ledger.hang(|| drop(outside.read(&mut [0])));
                return Ok(());
            }
            Some(Fault::Cut) | None if played.is_some() => {
                let log = played.unwrap_or_default();
                let shown = if fault.is_some() { &log[..log.len() / 2] } else { log };
                answer(&mut outside, 200, "text/plain", shown, log.len())?;
                if fault.is_some() {
                    return Ok(());
                }
            }
            Some(Fault::Cut) | None => {
                let idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut inside = idle.map_or_else(|| connect(shared), Ok)?;
                pass(&mut outside, &mut inside, &request, fault.is_some())?;
                if fault.is_some() {
                    return Ok(());
                }
                shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(inside);
            }
        }
    }
    Ok(())
}

fn connect(shared: &Shared) -> Result<Inside> {
    let tcp = TcpStream::connect(("127.0.0.1", shared.api))?;
    tcp.set_nodelay(true)?;
    let connection = ClientConnection::new(shared.client.clone(), ServerName::try_from("127.0.0.1")?)?;
    Ok(BufReader::new(StreamOwned::new(connection, tcp)))
}

/// Forwards a request, and its answer back. With `cut`, forwards only a part of the answer; the caller must then close
/// the connection.
fn pass(outside: &mut Outside, inside: &mut Inside, request: &Message, cut: bool) -> Result<()> {
    let upstream = inside.get_mut();
    upstream.write_all(&request.render())?;
    upstream.flush()?;
    let mut head = read_head(inside)?.context("the API server closed the connection")?;
    if !head.is_chunked() {
        head.body = vec![0; head.length()];
        inside.read_exact(&mut head.body)?;
        let bytes = head.render();
        let end = if cut { bytes.len() - head.body.len().div_ceil(2).max(1) } else { bytes.len() };
        outside.get_mut().write_all(&bytes[..end])?;
        return Ok(outside.get_mut().flush()?);
    }
    outside.get_mut().write_all(&head.render())?;
    outside.get_mut().flush()?;
    while let Some((size, chunk)) = read_chunk(inside)? {
        let end = if cut { (chunk.len() - 2) / 2 } else { chunk.len() };
        let outside = outside.get_mut();
        outside.write_all(size.as_bytes())?;
        outside.write_all(&chunk[..end])?;
        outside.flush()?;
        if cut {
            return Ok(());
        }
    }
    outside.get_mut().write_all(b"0\r\n\r\n")?;
    Ok(outside.get_mut().flush()?)
}

fn refuse(outside: &mut Outside, code: u16, message: &str) -> Result<()> {
    let reason = if code == 503 { "ServiceUnavailable" } else { "InternalError" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code});
    let body = status.to_string();
    answer(outside, code, "application/json", &body, body.len())
}

fn answer(outside: &mut Outside, code: u16, kind: &str, body: &str, length: usize) -> Result<()> {
    let head = format!("HTTP/1.1 {code} Answer\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    let outside = outside.get_mut();
    outside.write_all(head.as_bytes())?;
    outside.write_all(body.as_bytes())?;
    Ok(outside.flush()?)
}
