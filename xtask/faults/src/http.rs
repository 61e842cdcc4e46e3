//! The part of HTTP/1.1 that etcd's gateway, the API server and xtask use.

use std::io::BufRead;

use anyhow::{Context, Result};

/// An HTTP request or response.
pub struct Message {
    /// The request line or the status line, without the line end.
    pub first: String,
    /// The names and values of the headers.
    pub headers: Vec<(String, String)>,
    /// The part of the body that has been read, without the framing of chunks.
    pub body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns whether the header `User-Agent` is `name`.
    pub fn is_from(&self, name: &str) -> bool {
        self.header("user-agent") == Some(name)
    }

    /// Returns whether the body is sent in chunks.
    pub fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|has| has.eq_ignore_ascii_case("chunked"))
    }

    /// Returns the length in bytes of a body that is not sent in chunks; 0 without a valid `Content-Length`.
    pub fn length(&self) -> usize {
        self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Replaces the body and the header `Content-Length`.
    pub fn set_body(&mut self, body: Vec<u8>) {
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        self.headers.push(("content-length".to_owned(), body.len().to_string()));
        self.body = body;
    }

    /// Returns the bytes of the message on the connection, without the framing of chunks.
    pub fn render(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut bytes = (text + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Reads the first line and the headers. Returns `None` at the end of the connection.
pub fn read_head(stream: &mut impl BufRead) -> Result<Option<Message>> {
    let mut first = String::new();
    if stream.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut message = Message { first: first.trim_end().to_owned(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        message.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(Some(message))
}

/// Reads a message with its body. Returns `None` at the end of the connection.
pub fn read_whole(stream: &mut impl BufRead) -> Result<Option<Message>> {
    let Some(mut message) = read_head(stream)? else { return Ok(None) };
    if message.is_chunked() {
        while let Some((_, chunk)) = read_chunk(stream)? {
            message.body.extend_from_slice(&chunk[..chunk.len() - 2]);
        }
    } else {
        message.body = vec![0; message.length()];
        stream.read_exact(&mut message.body)?;
    }
    Ok(Some(message))
}

/// Reads a chunk. Returns its size line, and its bytes with the line end after them; `None` after the last chunk.
pub fn read_chunk(stream: &mut impl BufRead) -> Result<Option<(String, Vec<u8>)>> {
    let mut size = String::new();
    stream.read_line(&mut size)?;
    let length = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
    let mut chunk = vec![0; length + 2];
    stream.read_exact(&mut chunk)?;
    Ok((length > 0).then_some((size, chunk)))
}
