//! The environment of children: only the variables of a list. A variable such as `HELM_DRIVER`, `KUBECONFIG` or
//! `GIT_DIR` that a user has set for other work would misdirect a tool, and a compiler must not see secrets that the
//! shell exports.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Names of variables, or beginnings of names where the last character is `*`.
pub type Names = &'static [&'static str];

/// Variables that every child gets, if they are set.
const BASE: Names = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "TERM",
    "NO_COLOR",
    "XDG_*",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// For programs that use the internet or pass the proxy on (the engine, builds).
pub const PROXY: Names = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
];
/// The user's choice of an engine; `DOCKER_HOST=ssh://` needs the SSH agent.
pub const DOCKER: Names = &["DOCKER_*", "BUILDX_*", "BUILDKIT_*", "SSH_AUTH_SOCK"];
/// Sources of Go modules.
pub const GO: Names = &["GO*"];
/// Sources of npm packages.
pub const NPM: Names = &["npm_config_*", "NPM_CONFIG_*", "NODE_EXTRA_CA_CERTS"];
/// Settings of cargo and rustc, without the variables that describe the package `xtask` (`CARGO_PKG_*`,
/// `CARGO_MANIFEST_*`): build scripts that read them would run again.
pub const CARGO: Names = &[
    "CARGO_HOME",
    "CARGO_TARGET_*",
    "CARGO_BUILD_*",
    "CARGO_HTTP_*",
    "CARGO_NET_*",
    "CARGO_PROFILE_*",
    "CARGO_REGISTR*",
    "CARGO_SOURCE_*",
    "CARGO_INCREMENTAL",
    "RUST*",
    "CC",
    "CXX",
    "AR",
    "CFLAGS",
    "LIBRARY_PATH",
    "PKG_CONFIG_*",
];
/// Sources of Debian packages.
pub const APT: Names = &["APT_CONFIG"];
/// For programs that a person uses through xtask, and for xtask itself under test.
pub const ALL: Names = &["*"];

/// Returns the variables of xtask's environment that the base list or `more` names.
pub fn chosen(more: &[&str]) -> BTreeMap<OsString, OsString> {
    let named = |name: &str| BASE.iter().chain(more).any(|wanted| matches(wanted, name));
    std::env::vars_os().filter(|(name, _)| named(&name.to_string_lossy())).collect()
}

/// Returns the proxy variables that are set and not empty.
pub fn proxies() -> impl Iterator<Item = &'static str> {
    PROXY.iter().copied().filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn matches(wanted: &str, name: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    #[test]
    fn names_and_beginnings_of_names_match() {
        assert!(matches("LC_*", "LC_ALL") && matches("*", "KUBECONFIG") && matches("PATH", "PATH"));
        assert!(!matches("LC_*", "LANG") && !matches("PATH", "PATHS") && !matches("GO*", "HELM_DRIVER"));
    }

    #[test]
    fn children_get_the_list_and_nothing_else() {
        // cargo sets this one for tests: a variable of xtask's own that nobody put on the list.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let print =
            |process: Process| process.args(["-c", "echo $PATH ${CARGO_MANIFEST_DIR-unset} ${OWN-unset}"]).read();
        let path = std::env::var("PATH").unwrap();
        assert_eq!(print(Process::new("sh")).unwrap(), format!("{path} unset unset\n"));
        let own = Process::new("sh").inherit(&["CARGO_*"]).env("OWN", "1").env("PATH", format!("{path}:/x"));
        assert_eq!(print(own).unwrap(), format!("{path}:/x {} 1\n", env!("CARGO_MANIFEST_DIR")));
    }
}
