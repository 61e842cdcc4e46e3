//! Simulates the ingress controller at the port that the profile publishes: finds the Service in the live Ingress, and
//! answers as one of its ready pods.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::calls::{Fault, Ledger};
use crate::etcd::Etcd;
use crate::player::{is_ready, of_kind, selects, text};

/// The simulated ingress controller. It listens while it is open.
pub struct Ingress {
    /// The port on 127.0.0.1 that the controller listens on.
    pub port: u16,
    shared: Arc<Shared>,
    open: Mutex<Option<Arc<AtomicBool>>>,
}

struct Shared {
    store: Etcd,
    ledger: Ledger,
    /// The etcd revision from which the routes were read, and the routes, the longest path first.
    table: Mutex<(u64, Vec<Route>)>,
}

/// The path of a route, its Service, and a ready pod of the Service. The pod is `None` if no pod is ready.
type Route = (String, String, Option<String>);

impl Ingress {
    /// Creates a controller that does not listen yet.
    pub fn new(port: u16, store: Etcd, ledger: Ledger) -> Self {
        let shared = Arc::new(Shared { store, ledger, table: Mutex::default() });
        Self { port, shared, open: Mutex::new(None) }
    }

    /// Starts to listen if `open` is `true`, and stops otherwise.
    pub fn set(&self, open: bool) -> Result<()> {
        let mut now = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*now, open) {
            (None, true) => {
                let listener = TcpListener::bind(("127.0.0.1", self.port))?;
                let (ended, shared) = (Arc::new(AtomicBool::new(false)), self.shared.clone());
                *now = Some(ended.clone());
                std::thread::spawn(move || {
                    for tcp in listener.incoming().map_while(Result::ok) {
                        if ended.load(Ordering::SeqCst) {
                            return;
                        }
                        let shared = shared.clone();
                        std::thread::spawn(move || serve(tcp, &shared));
                    }
                });
            }
            (Some(ended), false) => {
                ended.store(true, Ordering::SeqCst);
                // Wakes the listening thread, which then ends.
                let _ = TcpStream::connect(("127.0.0.1", self.port));
                *now = None;
            }
            _ => {}
        }
        Ok(())
    }
}

fn serve(mut tcp: TcpStream, shared: &Shared) -> Result<()> {
    let mut reader = BufReader::new(tcp.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    if path.is_empty() {
        return Ok(());
    }
    let fault = shared.ledger.enter(&format!("HTTP GET {path}"));
    let answer = |status: &str, by: &str, body: &str| {
        let by = if by.is_empty() { String::new() } else { format!("X-Served-By: {by}\r\n") };
        format!("HTTP/1.1 {status}\r\n{by}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    };
    let served = || -> Result<String> {
        Ok(match shared.find(&path)? {
            None => answer("404 Not Found", "", "404 page not found\n"),
            Some((_, None)) => answer("503 Service Unavailable", "", "no available server\n"),
            Some((service, Some(pod))) => answer("200 OK", &format!("{service}/{pod}"), "ok\n"),
        })
    };
    match fault {
        Some(Fault::Fail) => tcp.write_all(answer("502 Bad Gateway", "", "Bad Gateway\n").as_bytes())?,
        Some(Fault::Garbage) => tcp.write_all(answer("200 OK", "", "<html>It works!</html>\n").as_bytes())?,
        Some(Fault::Twice) => {}
        Some(Fault::Hang) => {
            tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
            shared.ledger.hang(|| drop(tcp.read(&mut [0])));
        }
        Some(Fault::Cut) => {
            let whole = served()?;
            tcp.write_all(&whole.as_bytes()[..whole.len() / 3])?;
        }
        None => tcp.write_all(served()?.as_bytes())?,
    }
    Ok(())
}

impl Shared {
    /// Returns the Service of the Ingress's route for `path`, and a ready pod of the Service. `None` if no route fits.
    fn find(&self, path: &str) -> Result<Option<(String, Option<String>)>> {
        let (revision, live) = self.store.latest();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.0 != revision {
            let mut found = Vec::new();
            let rules =
                of_kind(&live, "Ingress").filter_map(|ingress| ingress.pointer("/spec/rules")?.as_array()).flatten();
            for rule in rules.filter_map(|rule| rule.pointer("/http/paths").and_then(Value::as_array)).flatten() {
                let name = text(rule, "/backend/service/name");
                let service = of_kind(&live, "Service").find(|service| text(service, "/metadata/name") == name);
                let pod = service
                    .and_then(|service| of_kind(&live, "Pod").find(|pod| selects(service, pod) && is_ready(pod)));
                let pod = pod.map(|pod| text(pod, "/metadata/name").to_owned());
                found.push((text(rule, "/path").to_owned(), name.to_owned(), pod));
            }
            found.sort_by_key(|(path, ..)| std::cmp::Reverse(path.len()));
            *table = (revision, found);
        }
        let fits = |prefix: &str| path == prefix || path.starts_with(&format!("{}/", prefix.trim_end_matches('/')));
        Ok(table.1.iter().find(|(prefix, ..)| fits(prefix)).map(|(_, service, pod)| (service.clone(), pod.clone())))
    }
}
