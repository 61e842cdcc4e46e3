//! The names of the stand-in internet and their addresses, from the network that RFC 5737 keeps for documentation.

use std::net::Ipv4Addr;

/// The resolver.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);

/// Where the official hosts are.
pub const OFFICIAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Where the forward proxy listens, and at which port.
pub const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 2), 3128);

/// Hosts of downloads. GitHub sends to another host for the file itself.
pub const DOWNLOADS: [&str; 6] =
    ["dl.k8s.io", "get.helm.sh", "github.com", ASSETS, "api.github.com", "storage.googleapis.com"];

/// Where GitHub keeps the files of a release.
pub const ASSETS: &str = "release-assets.githubusercontent.com";

/// Hosts of registries, and the folder of the stand-in registry that has what each serves.
pub const REGISTRIES: [(&str, &str); 4] = [
    ("registry-1.docker.io", "docker.io"),
    ("index.docker.io", "docker.io"),
    ("gcr.io", "gcr.io"),
    ("registry.k8s.io", "registry.k8s.io"),
];

/// Package registries that image builds need: passed on as they are, each at an address of its own.
pub const PASSED_ON: [&str; 4] = ["deb.debian.org", "files.pythonhosted.org", "pypi.org", "registry.npmjs.org"];

/// Returns the names of the official hosts.
pub fn official() -> impl Iterator<Item = &'static str> {
    DOWNLOADS.into_iter().chain(REGISTRIES.map(|(host, _)| host))
}

/// Returns the address of the host of [`PASSED_ON`] at `index`.
pub fn passed_on(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, 100 + u8::try_from(index).unwrap_or_default())
}

/// Returns the address of `name`; `None`: there is no such host. Behind a proxy, only that knows the official hosts.
pub fn address(name: &str, behind_proxy: bool) -> Option<Ipv4Addr> {
    if official().any(|host| host == name) {
        return Some(OFFICIAL).filter(|_| !behind_proxy);
    }
    PASSED_ON.iter().position(|host| *host == name).map(passed_on)
}

/// Returns all addresses of the machine.
pub fn addresses() -> Vec<Ipv4Addr> {
    [RESOLVER, OFFICIAL, PROXY.0].into_iter().chain((0..PASSED_ON.len()).map(passed_on)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_the_table_have_an_address() {
        assert_eq!(address("gcr.io", false), Some(OFFICIAL));
        assert_eq!(address("gcr.io", true), None);
        assert_eq!(address("pypi.org", true), Some(passed_on(2)));
        assert_eq!(address("example.org", false), None);
        assert_eq!(addresses().len(), 3 + PASSED_ON.len());
    }
}
