//! Reads strings and numbers of JSON documents; a missing one is empty or 0.

use serde_json::Value;

/// Returns the string at `pointer`, or the empty one.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the number at `pointer`, or 0.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}
