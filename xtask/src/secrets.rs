//! Secret values, and the redactor that removes them from text.

mod redactor;
mod secret;

pub use redactor::{MASK, Redactor};
pub use secret::Secret;
