//! Kubernetes quantities: `50m` of a CPU, `128Mi` of memory.

/// Parses a CPU quantity into thousandths of a CPU; 0 if `text` is none.
pub fn millicores(text: &str) -> u64 {
    match text.strip_suffix('m') {
        Some(milli) => milli.parse().unwrap_or_default(),
        None => (text.parse::<f64>().unwrap_or_default() * 1000.0) as u64,
    }
}

/// Parses a memory quantity into bytes; 0 if `text` is none.
pub fn bytes(text: &str) -> u64 {
    let units: [(&str, f64); 12] = [
        ("Ki", 1024.0),
        ("Mi", 1024.0 * 1024.0),
        ("Gi", 1024.0 * 1024.0 * 1024.0),
        ("Ti", 1024.0 * 1024.0 * 1024.0 * 1024.0),
        ("k", 1e3),
        ("K", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        // Thousandths of a byte, which Kubernetes prints for some computed quantities.
        ("m", 1e-3),
        ("e3", 1e3),
        ("e6", 1e6),
    ];
    let number = |text: &str| text.parse::<f64>().ok();
    let found = units.iter().find_map(|(unit, factor)| Some(number(text.strip_suffix(unit)?)? * factor));
    found.or_else(|| number(text)).unwrap_or_default() as u64
}

/// Formats thousandths of a CPU: `1.50 CPUs`, `50m CPU`.
pub fn cpu(millicores: u64) -> String {
    match millicores {
        1000 => "1 CPU".to_owned(),
        m if m % 1000 == 0 => format!("{} CPUs", m / 1000),
        m if m > 1000 => format!("{:.2} CPUs", m as f64 / 1000.0),
        m => format!("{m}m CPU"),
    }
}

/// Formats bytes in the units of the chart's values: `192Mi`, `59.5Gi`.
pub fn memory(bytes: u64) -> String {
    let (mi, gi) = (1u64 << 20, 1u64 << 30);
    match bytes {
        b if b >= gi && b % gi == 0 => format!("{}Gi", b / gi),
        b if b >= 10 * gi => format!("{:.1}Gi", b as f64 / gi as f64),
        b => format!("{}Mi", b / mi),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_parsed_and_formatted() {
        assert_eq!([millicores("50m"), millicores("1"), millicores("0.5"), millicores("")], [50, 1000, 500, 0]);
        assert_eq!([bytes("128Mi"), bytes("1Gi"), bytes("24684084Ki")], [134_217_728, 1 << 30, 25_276_502_016]);
        assert_eq!([bytes("1000"), bytes("1k"), bytes("1e3"), bytes("x")], [1000, 1000, 1000, 0]);
        assert_eq!([cpu(50), cpu(1000), cpu(1500), cpu(64_000)], ["50m CPU", "1 CPU", "1.50 CPUs", "64 CPUs"]);
        assert_eq!([memory(134_217_728), memory(60 << 30), memory(25_276_502_016)], ["128Mi", "60Gi", "23.5Gi"]);
    }
}
