//! An HTTP server on the loopback interface for tests, which injects the faults that a test asks for.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The server's behaviour for one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A correct answer, ranges included.
    Good,
    /// The whole file, whatever range was asked for.
    NoRange,
    /// With a range, but not the one that was asked for.
    WrongRange,
    /// With this status and no file.
    Status(u16),
    /// Correctly, but the connection ends after so many bytes of the body.
    CutAfter(usize),
    /// Correctly, but nothing more comes after so many bytes of the body.
    StallAfter(usize),
    /// Not at all: the connection is accepted and stays silent.
    Silent,
    /// With another file.
    Other(Vec<u8>),
}

/// A server with a script: a reply for each request, the last one for all further requests.
pub struct Loopback {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Loopback {
    /// Serves `file` at every path.
    pub fn serve(file: &[u8], script: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (file, script, log) = (file.to_vec(), script.to_vec(), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (file, script, log) = (file.clone(), script.clone(), Arc::clone(&log));
                std::thread::spawn(move || answer(stream.unwrap(), &file, &script, &log));
            }
        });
        Self { port, seen }
    }

    /// Returns the URL of `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Returns the requests so far: method and, if any, the range.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, file: &[u8], script: &[Reply], log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let method = lines.next().unwrap_or_default().split(' ').next().unwrap_or_default().to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let range = headers.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let reply = {
        let mut log = log.lock().unwrap();
        log.push(range.map_or(method.clone(), |from: usize| format!("{method} {from}-")));
        script[(log.len() - 1).min(script.len() - 1)].clone()
    };
    let file = if let Reply::Other(other) = &reply { other } else { file };
    let from = range.filter(|_| !matches!(reply, Reply::NoRange));
    let (head, body) = match (&reply, from) {
        (Reply::Silent, _) => return std::thread::sleep(Duration::from_secs(20)),
        (Reply::Status(status), _) => (format!("{status} No"), &[][..]),
        (Reply::WrongRange, Some(_)) => {
            (format!("206 Partial\r\ncontent-range: bytes 1-{}/{}", file.len() - 1, file.len()), &file[1..])
        }
        (_, Some(from)) if from >= file.len() => (format!("416 No\r\ncontent-range: bytes */{}", file.len()), &[][..]),
        (_, Some(from)) => {
            let range = format!("bytes {from}-{}/{}", file.len() - 1, file.len());
            (format!("206 Partial\r\ncontent-range: {range}"), &file[from..])
        }
        (_, None) => ("200 OK".to_owned(), file),
    };
    let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    // The client may have gone: that is its right.
    let _ = stream.write_all(head.as_bytes());
    let sent = match reply {
        _ if method == "HEAD" => 0,
        Reply::CutAfter(count) | Reply::StallAfter(count) => count.min(body.len()),
        _ => body.len(),
    };
    let _ = stream.write_all(&body[..sent]);
    if matches!(reply, Reply::StallAfter(_)) {
        std::thread::sleep(Duration::from_secs(20));
    }
}
