//! A DNS server that resolves only the hosts of the simulated internet.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result};

use crate::hosts;

/// Length of a header in bytes.
const HEADER: usize = 12;

/// Answers queries without end. While `is_behind_proxy` returns true, the official hosts have no address.
pub fn serve(is_behind_proxy: impl Fn() -> bool) -> Result<()> {
    let socket = UdpSocket::bind((hosts::RESOLVER, 53)).context("listening as resolver")?;
    let mut buffer = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        if let Some(answer) = answer(&buffer[..length], is_behind_proxy()) {
            // Clients repeat a query without an answer.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// Returns the answer to `query`, which has one question, or `None` for a malformed query.
fn answer(query: &[u8], behind_proxy: bool) -> Option<Vec<u8>> {
    let header = query.get(..HEADER)?;
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(std::str::from_utf8(query.get(at..at + length)?).ok()?.to_ascii_lowercase());
        at += length;
    }
    let question = query.get(HEADER..at + 4)?;
    let is_address = query.get(at..at + 2)? == [0, 1];
    let address = hosts::address(&labels.join("."), behind_proxy);
    let known: Option<Ipv4Addr> = address.filter(|_| is_address);
    // Flags: an answer, with recursion. Code 3: no such name.
    let code = if address.is_some() { 0 } else { 3 };
    let mut answer = vec![header[0], header[1], 0x81, 0x80 | code, 0, 1, 0, u8::from(known.is_some()), 0, 0, 0, 0];
    answer.extend_from_slice(question);
    if let Some(address) = known {
        // The name of the question, type A, class IN, 60 s, four bytes.
        answer.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&[0, 0, kind, 0, 1]);
        query
    }

    #[test]
    fn a_known_name_has_an_address_and_no_other_records() {
        let known = answer(&query("GCR.io", 1), false).unwrap();
        assert_eq!(known[..8], [7, 9, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(known[known.len() - 4..], hosts::OFFICIAL.octets());
        assert_eq!(answer(&query("gcr.io", 28), false).unwrap()[3..8], [0x80, 0, 1, 0, 0], "no IPv6 address");
        assert_eq!(answer(&query("example.org", 1), false).unwrap()[3], 0x83, "no such name");
        assert_eq!(answer(&[0; 5], false), None);
    }
}
