//! A small API server with real TLS on the loopback address, for the client under test. It stores objects in memory. Tests
//! inject faults by rules.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// The reply of a rule.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status, extra headers and a JSON body.
    Json(u16, &'static str, Value),
    /// Text with a status.
    Text(u16, &'static str),
    /// A body that is shorter than announced; then the connection closes.
    CutOff(&'static str),
    /// Events of a watch or lines of a log, in chunks, with a proper end of the stream.
    Chunks(Vec<String>),
    /// Chunks, but the connection closes before the last one.
    BrokenChunks(Vec<String>),
    /// Closes the connection without an answer.
    Close,
    /// Sends nothing until the client gives up.
    Hang,
    /// The server's normal answer.
    Pass,
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method and path, e.g. `GET /api/v1/namespaces/todo`.
    pub line: String,
    /// The query string.
    pub query: String,
    /// The Accept header.
    pub accept: String,
    /// The body.
    pub body: String,
}

struct Rule {
    pattern: String,
    replies: Vec<Reply>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    received: Vec<Received>,
    objects: BTreeMap<String, Value>,
    version: u64,
}

/// A running server. Dropping it stops it.
pub struct ApiServer {
    /// The address on which it listens.
    pub address: SocketAddr,
    /// PEM of the certificate authority.
    pub authority: String,
    /// PEM of the client's certificate.
    pub certificate: String,
    /// PEM of the client's key.
    pub key: String,
    state: Arc<Mutex<State>>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    ended: Arc<AtomicBool>,
}

impl ApiServer {
    /// Starts a server without objects, on a free port.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    /// Starts a server at `address`.
    pub fn start_at(address: SocketAddr) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |name: &str, purpose| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &authority).unwrap(), key)
        };
        let (server, server_key) = signed("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
        let (client, client_key) = signed("minikube-user", ExtendedKeyUsagePurpose::ClientAuth);
        let mut roots = RootCertStore::empty();
        roots.add(authority.as_ref().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![server.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            authority: authority.as_ref().pem(),
            certificate: client.pem(),
            key: client_key.serialize_pem(),
            state: Arc::default(),
            connections: Arc::default(),
            ended: Arc::default(),
        };
        let (state, connections, ended) = (this.state.clone(), this.connections.clone(), this.ended.clone());
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                connections.lock().unwrap().push(tcp.try_clone().unwrap());
                let (state, config) = (state.clone(), config.clone());
                std::thread::spawn(move || {
                    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
                    let _ = serve(&mut tls, &state);
                    let _ = tls.sock.shutdown(Shutdown::Both);
                });
            }
        });
        this
    }

    /// Answers requests that match `pattern` (`*` matches anything) with the replies in turn. The last one repeats.
    pub fn on(&self, pattern: &str, replies: &[Reply]) {
        let rule = Rule { pattern: pattern.to_owned(), replies: replies.to_vec() };
        self.state.lock().unwrap().rules.insert(0, rule);
    }

    /// Puts an object at its path, e.g. `/api/v1/namespaces/todo`.
    pub fn put(&self, path: &str, object: Value) {
        self.state.lock().unwrap().put(path, object);
    }

    /// Removes the object at a path.
    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path);
    }

    /// Returns the object at a path.
    pub fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// Returns all requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// Returns the lines of all requests that change something.
    pub fn writes(&self) -> Vec<String> {
        let received = self.received();
        received.into_iter().map(|request| request.line).filter(|line| !line.starts_with("GET ")).collect()
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// Returns a `Status` in the form of the API server.
pub fn status(code: u16, reason: &str, message: &str, details: Value) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
           "reason": reason, "details": details, "code": code})
}

/// Returns the `Status` for a missing object.
pub fn not_found(plural: &str, name: &str) -> Reply {
    let details = json!({"name": name, "kind": plural});
    Reply::Json(404, "", status(404, "NotFound", &format!("{plural} \"{name}\" not found"), details))
}

fn serve(tls: &mut Stream, state: &Mutex<State>) -> std::io::Result<()> {
    while let Some(request) = read(tls)? {
        let reply = state.lock().unwrap().take(&request);
        let (status, header, body) = match reply {
            Reply::Close => return Ok(()),
            Reply::Hang => {
                let _ = tls.read(&mut [0; 1]);
                return Ok(());
            }
            Reply::CutOff(text) => {
                write!(tls, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len() + 100)?;
                return tls.flush();
            }
            Reply::Chunks(ref chunks) | Reply::BrokenChunks(ref chunks) => {
                write!(tls, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                for chunk in chunks {
                    write!(tls, "{:x}\r\n{chunk}\r\n", chunk.len())?;
                    tls.flush()?;
                    std::thread::sleep(Duration::from_millis(5));
                }
                if matches!(reply, Reply::BrokenChunks(_)) {
                    return Ok(());
                }
                write!(tls, "0\r\n\r\n")?;
                tls.flush()?;
                continue;
            }
            Reply::Text(status, text) => (status, "", text.to_owned()),
            Reply::Json(status, header, body) => (status, header, body.to_string()),
            Reply::Pass => {
                if request.query.contains("watch=true") {
                    // No object changes, so the watch stays open until its client closes it.
                    write!(tls, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                    tls.flush()?;
                    let _ = tls.read(&mut [0; 1]);
                    return Ok(());
                }
                let (status, body) = state.lock().unwrap().answer(&request);
                (status, "", body.to_string())
            }
        };
        write!(tls, "HTTP/1.1 {status} X\r\n{header}content-length: {}\r\n\r\n{body}", body.len())?;
        tls.flush()?;
    }
    Ok(())
}

fn read(tls: &mut Stream) -> std::io::Result<Option<Received>> {
    let mut reader = BufReader::with_capacity(1, tls);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let (mut length, mut accept) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if let Some(value) = header.to_lowercase().strip_prefix("accept:") {
            accept = value.trim().to_owned();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (method, target) = line.trim().trim_end_matches(" HTTP/1.1").split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Received { line: format!("{method} {path}"), query: query.to_owned(), accept, body }))
}

/// Returns whether `line` matches a pattern with `*`.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}

impl State {
    fn take(&mut self, request: &Received) -> Reply {
        self.received.push(request.clone());
        let Some(rule) = self.rules.iter_mut().find(|rule| fits(&rule.pattern, &request.line)) else {
            return Reply::Pass;
        };
        if rule.replies.len() > 1 { rule.replies.remove(0) } else { rule.replies[0].clone() }
    }

    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let uid =
            self.objects.get(path).map_or(json!(format!("uid-{}", self.version)), |o| o["metadata"]["uid"].clone());
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        if object["kind"] == "Job" {
            self.own_pods(&object["metadata"]);
        }
        object
    }

    /// Acts as the Job controller: assigns waiting pods of this name to the new Job.
    fn own_pods(&mut self, job: &Value) {
        for pod in self.objects.values_mut() {
            let labels = &mut pod["metadata"]["labels"];
            if labels["batch.kubernetes.io/job-name"] == job["name"] {
                labels["batch.kubernetes.io/controller-uid"] = job["uid"].clone();
            }
        }
    }

    fn answer(&mut self, request: &Received) -> (u16, Value) {
        let (method, path) = request.line.split_once(' ').unwrap();
        if path == "/readyz" {
            return (200, json!("ok"));
        }
        let (parent, name) = path.rsplit_once('/').unwrap();
        let plural = parent.rsplit('/').next().unwrap();
        let missing = || {
            let details = json!({"name": name, "kind": plural});
            (404, status(404, "NotFound", &format!("{plural} \"{name}\" not found"), details))
        };
        match method {
            "GET" if is_collection(path) => (200, self.list(path, request)),
            "GET" => self.objects.get(path).map_or_else(missing, |object| (200, object.clone())),
            "PATCH" => (200, self.put(path, serde_json::from_str(&request.body).unwrap())),
            "POST" => {
                let object: Value = serde_json::from_str(&request.body).unwrap();
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return (409, status(409, "AlreadyExists", &format!("{path} already exists"), json!({})));
                }
                (201, self.put(&path, object))
            }
            "DELETE" => self.objects.remove(path).map_or_else(missing, |object| (200, object)),
            _ => (405, json!({})),
        }
    }

    fn list(&self, path: &str, request: &Received) -> Value {
        let plural = path.rsplit('/').next().unwrap();
        let base = path.split("/namespaces/").next().unwrap().trim_end_matches(&format!("/{plural}")).to_owned();
        let namespaced = path.contains("/namespaces/");
        let inside = |key: &str| match namespaced {
            true => key.rsplit_once('/').unwrap().0 == path,
            false => key.starts_with(&base) && key.rsplit('/').nth(1) == Some(plural),
        };
        let selector =
            request.query.split('&').find_map(|part| part.strip_prefix("labelSelector=")).unwrap_or_default();
        let selector = selector.replace("%3D", "=").replace("%21", "!").replace("%2C", ",").replace("%2F", "/");
        let fits = |object: &Value| {
            selector.split(',').filter(|part| !part.is_empty()).all(|part| match part.split_once("!=") {
                Some((key, value)) => object["metadata"]["labels"][key] != value,
                None => part.split_once('=').is_some_and(|(key, value)| object["metadata"]["labels"][key] == value),
            })
        };
        let items = self.objects.iter().filter(|(key, object)| inside(key) && fits(object));
        let items: Vec<Value> = items.map(|(_, object)| object.clone()).collect();
        let metadata = request.accept.contains("partialobjectmetadatalist");
        let kind = if metadata { "PartialObjectMetadataList".to_owned() } else { kind_of_list(plural) };
        json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": self.version.to_string()}, "items": items})
    }
}

fn is_collection(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let rest = if parts[0] == "api" { &parts[2..] } else { &parts[3..] };
    matches!(rest.len(), 1 | 3)
}

fn kind_of_list(plural: &str) -> String {
    let kinds = [
        ("configmaps", "ConfigMap"),
        ("events", "Event"),
        ("namespaces", "Namespace"),
        ("nodes", "Node"),
        ("persistentvolumes", "PersistentVolume"),
        ("persistentvolumeclaims", "PersistentVolumeClaim"),
        ("pods", "Pod"),
        ("resourcequotas", "ResourceQuota"),
        ("secrets", "Secret"),
        ("services", "Service"),
        ("serviceaccounts", "ServiceAccount"),
        ("daemonsets", "DaemonSet"),
        ("deployments", "Deployment"),
        ("replicasets", "ReplicaSet"),
        ("statefulsets", "StatefulSet"),
        ("jobs", "Job"),
        ("roles", "Role"),
        ("rolebindings", "RoleBinding"),
        ("endpointslices", "EndpointSlice"),
        ("horizontalpodautoscalers", "HorizontalPodAutoscaler"),
        ("ingresses", "Ingress"),
        ("ingressclasses", "IngressClass"),
        ("networkpolicies", "NetworkPolicy"),
        ("poddisruptionbudgets", "PodDisruptionBudget"),
        ("storageclasses", "StorageClass"),
    ];
    let kind = kinds.iter().find(|(known, _)| *known == plural).map_or("Unknown", |(_, kind)| kind);
    format!("{kind}List")
}
