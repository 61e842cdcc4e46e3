//! Secret values, and the redactor that takes them out of text.

mod redactor;
mod secret;

pub use redactor::{MASK, Redactor};
pub use secret::Secret;
