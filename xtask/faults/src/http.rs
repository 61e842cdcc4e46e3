//! The part of HTTP/1.1 that etcd's gateway, the API server and xtask use.

use std::io::BufRead;

use anyhow::{Context, Result};

/// A request or an answer.
pub struct Message {
    /// Its first line.
    pub first: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What has been read of its body.
    pub body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether the client calls itself `name`.
    pub fn is_from(&self, name: &str) -> bool {
        self.header("user-agent") == Some(name)
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|has| has.eq_ignore_ascii_case("chunked"))
    }

    /// The length of a body that does not come in chunks.
    pub fn length(&self) -> usize {
        self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Puts another body in the place of its own.
    pub fn set_body(&mut self, body: Vec<u8>) {
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        self.headers.push(("content-length".to_owned(), body.len().to_string()));
        self.body = body;
    }

    /// As it is sent.
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

/// Reads first line and headers; `None` at the end of the connection.
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

/// Reads head and body; `None` at the end of the connection.
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

/// Reads a chunk: its first line, and its bytes with the line's end after them; `None` after the last one.
pub fn read_chunk(stream: &mut impl BufRead) -> Result<Option<(String, Vec<u8>)>> {
    let mut size = String::new();
    stream.read_line(&mut size)?;
    let length = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
    let mut chunk = vec![0; length + 2];
    stream.read_exact(&mut chunk)?;
    Ok((length > 0).then_some((size, chunk)))
}
