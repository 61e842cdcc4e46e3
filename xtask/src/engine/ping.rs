//! Asks an engine for its version through its socket, without a client.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use camino::Utf8Path;

/// The engine's version, if one answers at `socket` within `bound`.
pub fn version(socket: &Utf8Path, bound: Duration) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(bound)).ok()?;
    stream.set_write_timeout(Some(bound)).ok()?;
    // HTTP/1.0: the answer ends with the connection.
    stream.write_all(b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).ok()?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if head.split_whitespace().nth(1)? != "200" {
        return None;
    }
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(json.get("Version")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_engine_counts_as_an_answer() {
        let good =
            "HTTP/1.0 200 OK\r\nApi-Version: 1.45\r\n\r\n{\"Version\":\"26.1.5+dfsg1\",\"ApiVersion\":\"1.45\"}\n";
        assert_eq!(parse(good).as_deref(), Some("26.1.5+dfsg1"));
        assert_eq!(parse("HTTP/1.0 500 Internal Server Error\r\n\r\n{\"message\":\"no\"}"), None);
        assert_eq!(parse("hello"), None);
    }

    #[test]
    fn nobody_at_the_socket_is_no_engine() {
        assert_eq!(version(Utf8Path::new("/nonexistent/docker.sock"), Duration::from_secs(1)), None);
    }
}
