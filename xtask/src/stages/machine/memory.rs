//! The machine's memory.

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All memory of the machine.
    pub total: u64,
    /// Memory that new programs can have without swapping (`MemAvailable`).
    pub available: u64,
}

/// Returns the machine's memory; `None` on systems without `/proc/meminfo`.
pub fn observe() -> Option<Memory> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse(meminfo: &str) -> Option<Memory> {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    Some(Memory { total: field("MemTotal")?, available: field("MemAvailable")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meminfo_in_kibibytes() {
        let text =
            "MemTotal:       24684032 kB\nMemFree:        14058496 kB\nMemAvailable:   22218752 kB\nBuffers: 0 kB\n";
        assert_eq!(parse(text), Some(Memory { total: 24_684_032 * 1024, available: 22_218_752 * 1024 }));
        assert_eq!(parse("MemTotal: 5 kB\n"), None);
    }
}
