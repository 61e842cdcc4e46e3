//! Asks an engine for its version through its socket, without a client.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use camino::Utf8Path;

/// The answer of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its version.
    Version(String),
    /// No engine listens, and why that is certain.
    Absent(String),
    /// An engine listens or may listen, but sent no valid answer: the system's or the client's message.
    Unknown(String),
}

/// Asks the engine at `socket` for its version. Each read and write may take `bound`.
pub fn ask(socket: &Utf8Path, bound: Duration) -> Answer {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        // No file, or the file of a process that has ended.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Answer::Absent(format!("nobody listens at {socket}: {error}"));
        }
        Err(error) => return Answer::Unknown(format!("{socket}: {error}")),
    };
    match exchange(stream, bound) {
        Ok(answer) => parse(&answer).map_or_else(
            || Answer::Unknown(format!("{socket} sent an unexpected answer: {}", answer.trim())),
            Answer::Version,
        ),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Answer::Unknown(format!("{socket} does not answer within {} s", bound.as_secs()))
        }
        Err(error) => Answer::Unknown(format!("{socket}: {error}")),
    }
}

fn exchange(mut stream: UnixStream, bound: Duration) -> std::io::Result<String> {
    stream.set_read_timeout(Some(bound))?;
    stream.set_write_timeout(Some(bound))?;
    // HTTP/1.0: the answer ends with the connection.
    stream.write_all(b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
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
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_an_engine_counts_as_an_answer() {
        let good =
            "HTTP/1.0 200 OK\r\nApi-Version: 1.45\r\n\r\n{\"Version\":\"26.1.5+dfsg1\",\"ApiVersion\":\"1.45\"}\n";
        assert_eq!(parse(good).as_deref(), Some("26.1.5+dfsg1"));
        assert_eq!(parse("HTTP/1.0 500 Internal Server Error\r\n\r\n{\"message\":\"no\"}"), None);
        assert_eq!(parse("hello"), None);
    }

    #[test]
    fn distinguishes_an_absent_engine_from_a_silent_one() {
        let temp = tempfile::tempdir().unwrap();
        let socket = Utf8Path::from_path(temp.path()).unwrap().join("docker.sock");
        let ask = || ask(&socket, Duration::from_millis(100));
        assert!(matches!(ask(), Answer::Absent(_)), "no file");
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(matches!(ask(), Answer::Unknown(words) if words.contains("does not answer within")));
        drop(listener);
        assert!(matches!(ask(), Answer::Absent(_)), "the file of a process that has ended");
    }
}
