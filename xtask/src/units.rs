//! Times, sizes, digests and words of a shell as text.

use std::time::Duration;

/// Returns `12.3 s` or `4 min 05 s`.
pub fn seconds(time: Duration) -> String {
    let s = time.as_secs_f64();
    if s < 10.0 {
        format!("{s:.2} s")
    } else if s < 90.0 {
        format!("{s:.1} s")
    } else {
        format!("{} min {:02} s", s as u64 / 60, s as u64 % 60)
    }
}

/// Returns bytes in decimal units: `20.1 kB`, `3.4 GB`.
pub fn bytes(count: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let value = count as f64;
    units
        .iter()
        .find(|(unit, _)| value >= *unit)
        .map_or_else(|| format!("{count} B"), |(unit, name)| format!("{:.1} {name}", value / unit))
}

/// Returns lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Quotes `word` for a shell, so that users can paste the commands that xtask shows.
pub fn quote(word: impl AsRef<str>) -> String {
    let word = word.as_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell_are_quoted_where_they_must_be() {
        for (word, quoted) in [("/a/b-c.d", "/a/b-c.d"), ("/a b", "'/a b'"), ("it's", r"'it'\''s'"), ("", "''")] {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn a_shell_gives_back_what_was_quoted() {
        let words =
            ["/a b", "it's", "", "{a,b}", "{{json .}}", "a{1..3}", "$HOME \"x\" `id`", "~", "*", "#", "!", "a;b&c"];
        for shell in ["sh", "bash"] {
            let script = format!("printf '%s\\n' {}", words.map(quote).join(" "));
            // Not every machine has bash.
            let Ok(output) = std::process::Command::new(shell).args(["-c", &script]).output() else { continue };
            assert_eq!(String::from_utf8(output.stdout).unwrap(), words.join("\n") + "\n", "{shell}: {script}");
        }
    }

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(seconds(Duration::from_millis(420)), "0.42 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(20_100), "20.1 kB");
        assert_eq!(bytes(3_400_000_000), "3.4 GB");
    }
}
