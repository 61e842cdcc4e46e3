//! The host names of the simulated internet and their addresses, from a network that RFC 5737 reserves for documentation.

use std::net::Ipv4Addr;

/// Address of the resolver.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);

/// Address of all official hosts.
pub const OFFICIAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Address and port of the forward proxy.
pub const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 2), 3128);

/// Hosts of downloads. GitHub redirects to another host for the file.
pub const DOWNLOADS: [&str; 6] =
    ["dl.k8s.io", "get.helm.sh", "github.com", ASSETS, "api.github.com", "storage.googleapis.com"];

/// Host of the files of GitHub releases.
pub const ASSETS: &str = "release-assets.githubusercontent.com";

/// Hosts of registries, and the folder of the simulated registry with the images of each.
pub const REGISTRIES: [(&str, &str); 4] = [
    ("registry-1.docker.io", "docker.io"),
    ("index.docker.io", "docker.io"),
    ("gcr.io", "gcr.io"),
    ("registry.k8s.io", "registry.k8s.io"),
];

/// Package registries that image builds need. Connections to them are forwarded, so each has its own address.
pub const FORWARDED: [&str; 4] = ["deb.debian.org", "files.pythonhosted.org", "pypi.org", "registry.npmjs.org"];

/// Returns the names of the official hosts.
pub fn official() -> impl Iterator<Item = &'static str> {
    DOWNLOADS.into_iter().chain(REGISTRIES.map(|(host, _)| host))
}

/// Returns the address of the host of [`FORWARDED`] at `index`.
pub fn forwarded(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, 100 + u8::try_from(index).unwrap_or_default())
}

/// Returns the address of `name`, or `None` for an unknown host. Behind a proxy, only the proxy knows the official hosts.
pub fn address(name: &str, behind_proxy: bool) -> Option<Ipv4Addr> {
    if official().any(|host| host == name) {
        return Some(OFFICIAL).filter(|_| !behind_proxy);
    }
    FORWARDED.iter().position(|host| *host == name).map(forwarded)
}

/// Returns all addresses of the machine.
pub fn addresses() -> Vec<Ipv4Addr> {
    [RESOLVER, OFFICIAL, PROXY.0].into_iter().chain((0..FORWARDED.len()).map(forwarded)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_hosts_have_an_address() {
        assert_eq!(address("gcr.io", false), Some(OFFICIAL));
        assert_eq!(address("gcr.io", true), None);
        assert_eq!(address("pypi.org", true), Some(forwarded(2)));
        assert_eq!(address("example.org", false), None);
        assert_eq!(addresses().len(), 3 + FORWARDED.len());
    }
}
