//! One GET over a new connection, with the time of each phase. A client library gives only the total, which cannot tell a
//! slow network from a slow application.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::tls;
use crate::deadlines;

/// Bytes of an answer that are read at most; no page of ours is larger.
const MAX_ANSWER: usize = 16 << 20;

/// The phases of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Time to open the connection.
    pub connect: Duration,
    /// From then until the first byte of the answer.
    pub first_byte: Duration,
    /// From then until the last byte.
    pub rest: Duration,
}

impl Phases {
    /// Returns the time of the whole request.
    pub fn total(&self) -> Duration {
        self.connect + self.first_byte + self.rest
    }
}

impl Response {
    /// Returns the value of a header; empty: there is none.
    pub fn header(&self, name: &str) -> &str {
        header(&self.head, name).unwrap_or_default()
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    head: String,
    /// The reason for which this machine does not trust the certificate; `None`: it trusts it, or there is none.
    pub untrusted: Option<String>,
    /// The phases of the request.
    pub phases: Phases,
}

/// The reason for which a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The connection was refused.
    Refused,
    /// The connection was opened, and closed without an answer.
    Closed,
    /// No answer in time.
    TimedOut,
    /// The certificate is not for this host.
    Certificate(String),
    /// Another error, in the system's words.
    Other(String),
}

impl RequestError {
    pub(super) fn of(error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Self::Closed,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Requests `path` at `address` (`http://host:port` or `https://host:port`). The `Host` header names `host`, or the address'
/// own host if that is empty, with the address' port, as a browser does.
pub fn get(address: &str, host: &str, path: &str) -> Result<Response, RequestError> {
    let (scheme, authority) = address.trim_end_matches('/').split_once("://").unwrap_or(("http", address));
    let is_encrypted = scheme == "https";
    let port = if is_encrypted { 443 } else { 80 };
    let socket = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:{port}") };
    let addresses: Vec<SocketAddr> = socket.to_socket_addrs().map_err(|error| RequestError::of(&error))?.collect();
    let start = Instant::now();
    let stream = connect(&addresses)?;
    set_limits(&stream).map_err(|error| RequestError::of(&error))?;
    let (name, port) = authority.split_once(':').map_or((authority, None), |(name, port)| (name, Some(port)));
    let name = if host.is_empty() { name } else { host };
    let host = port.map_or(name.to_owned(), |port| format!("{name}:{port}"));
    let (mut stream, untrusted): (Box<dyn Stream>, _) = if is_encrypted {
        let (stream, untrusted) = tls::connect(stream, name)?;
        (Box::new(stream), untrusted)
    } else {
        (Box::new(stream), None)
    };
    let connect = start.elapsed();
    let (head, first_byte, rest) = send_request(&mut *stream, &host, path).map_err(|error| RequestError::of(&error))?;
    Ok(Response { untrusted, ..parse(&head, Phases { connect, first_byte, rest })? })
}

/// Connects to the first address that accepts, as browsers do: `localhost` has two, and the port is published on one.
fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, RequestError> {
    let mut last = RequestError::Other("the host name has no address".to_owned());
    for address in addresses {
        match TcpStream::connect_timeout(address, deadlines::ROUTE.time()) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = RequestError::of(&error),
        }
    }
    Err(last)
}

fn set_limits(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(deadlines::ROUTE.time()))?;
    stream.set_write_timeout(Some(deadlines::ROUTE.time()))?;
    stream.set_nodelay(true)
}

/// A connection, encrypted or not.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

fn send_request(stream: &mut dyn Stream, host: &str, path: &str) -> std::io::Result<(Vec<u8>, Duration, Duration)> {
    let start = Instant::now();
    // In one write: a server may close the connection after the first piece.
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: xtask\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; 1];
    stream.read_exact(&mut answer)?;
    let first_byte = start.elapsed();
    // Read to the end of the answer, not of the connection: a port-forward keeps that open for a second.
    let mut piece = [0; 1 << 14];
    while !is_complete(&answer) && answer.len() < MAX_ANSWER {
        match stream.read(&mut piece)? {
            0 => break,
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    Ok((answer, first_byte, start.elapsed() - first_byte))
}

/// Returns whether the answer is complete by its own length or chunks.
fn is_complete(answer: &[u8]) -> bool {
    let Some(end) = end_of_head(answer) else { return false };
    let head = String::from_utf8_lossy(&answer[..end]);
    let length = header(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
    match (header(&head, "transfer-encoding"), length) {
        (Some("chunked"), _) => answer.ends_with(b"\r\n0\r\n\r\n"),
        (None, Some(length)) => answer.len() >= end + 4 + length,
        _ => false,
    }
}

fn end_of_head(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|window| window == b"\r\n\r\n")
}

/// Returns the value of a header; its name may have any case.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    headers.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn parse(answer: &[u8], phases: Phases) -> Result<Response, RequestError> {
    let head = String::from_utf8_lossy(&answer[..end_of_head(answer).unwrap_or(answer.len())]);
    let status = head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok());
    let Some(status) = status else { return Err(RequestError::Other("the answer is not HTTP".to_owned())) };
    Ok(Response { status, head: head.into_owned(), untrusted: None, phases })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_answer_is_complete_by_its_own_length() {
        let table = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", false),
            ("HTTP/1.1 200 OK\r\n\r\nok", false),
            ("HTTP/1.1 200 OK\r\nContent-Le", false),
        ];
        for (answer, expected) in table {
            assert_eq!(is_complete(answer.as_bytes()), expected, "{answer:?}");
        }
    }

    /// Starts a server that handles one connection with `serve`. Returns its address.
    fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || serve(listener.accept().unwrap().0));
        format!("http://localhost:{port}")
    }

    fn request(stream: &mut TcpStream) -> String {
        let mut request = Vec::new();
        // Closing a stream with unread bytes would reset the connection.
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        String::from_utf8_lossy(&request).into_owned()
    }

    #[test]
    fn an_answer_has_status_headers_and_phases() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let address = server(move |mut stream| {
            sender.send(request(&mut stream)).unwrap();
            std::thread::sleep(Duration::from_millis(60));
            write!(stream, "HTTP/1.1 307 Temporary Redirect\r\nx-served-by: todo-frontend/p\r\n").unwrap();
            write!(stream, "Location: /sign-in\r\nContent-Length: 0\r\n\r\n").unwrap();
        });
        let response = get(&address, "todo.test", "/a?b").unwrap();
        assert_eq!((response.status, response.header("X-Served-By")), (307, "todo-frontend/p"));
        assert_eq!(response.header("location"), "/sign-in");
        assert!(response.phases.first_byte >= Duration::from_millis(60), "{:?}", response.phases);
        assert!(response.phases.total() >= response.phases.first_byte);
        let asked = receiver.recv().unwrap();
        let port = address.rsplit_once(':').unwrap().1;
        assert!(asked.starts_with(&format!("GET /a?b HTTP/1.1\r\nHost: todo.test:{port}\r\n")), "{asked}");
    }

    #[test]
    fn each_request_error_is_told_apart() {
        let closed = server(|mut stream| drop(request(&mut stream)));
        assert_eq!(get(&closed, "", "/"), Err(RequestError::Closed));
        assert_eq!(get("http://127.0.0.1:1", "", "/"), Err(RequestError::Refused));
        let other = server(|mut stream| {
            request(&mut stream);
            stream.write_all(b"SSH-2.0-x\r\n").unwrap();
        });
        assert_eq!(get(&other, "", "/"), Err(RequestError::Other("the answer is not HTTP".to_owned())));
    }
}
