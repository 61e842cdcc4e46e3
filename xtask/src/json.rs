//! Parses JSON documents, and reads their strings and numbers; a missing one is empty or 0.

use anyhow::Result;
use serde_json::Value;

/// Parses a JSON document. A development build runs this code of serde_json optimised, whereas it would compile
/// `serde_json::from_slice`, which is generic, into xtask without optimisation.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    Ok(std::str::from_utf8(bytes)?.parse()?)
}

/// Returns the string at `pointer`, or the empty one.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the number at `pointer`, or 0.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}
