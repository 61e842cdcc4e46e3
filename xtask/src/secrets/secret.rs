//! A value that is only readable through [`Secret::expose`].

use std::fmt;

use crate::units;

/// A secret. `Debug` and `Display` are masked and it cannot be serialised: [`Secret::expose`] is the only way out, so
/// that `grep expose` lists every place where a value leaves.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns `bytes` random bytes from the system as hexadecimal digits: safe in dotenv, URL and shell without
    /// quoting.
    pub fn random(bytes: usize) -> anyhow::Result<Self> {
        let mut raw = vec![0; bytes];
        getrandom::fill(&mut raw).map_err(|error| anyhow::anyhow!("the system returned no random bytes: {error}"))?;
        Ok(Self(units::hex(&raw)))
    }

    /// Returns the value. It must never get into arguments, a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns its length in characters, which may be shown.
    pub fn length(&self) -> usize {
        self.0.chars().count()
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_debug_hide_the_value() {
        let secret = Secret::new("not-a-secret");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** Secret(***) Some(Secret(***))");
        assert_eq!(secret.expose(), "not-a-secret");
    }

    #[test]
    fn random_secrets_differ_and_have_the_given_length() {
        let (one, two) = (Secret::random(32).unwrap(), Secret::random(32).unwrap());
        assert_eq!(one.length(), 64);
        assert!(one != two && one.expose().chars().all(|c| c.is_ascii_hexdigit()));
    }
}
