//! Conditions for a user's own engine before a cluster is created: on this machine, as root, with buildx, same processor.

use anyhow::Result;

use crate::deadlines;
use crate::engine::{Engine, EngineMachine};
use crate::failure::{self, Class, Failure};

/// A condition and whether it holds.
#[derive(Debug)]
pub struct Condition {
    /// Its name in the table of `doctor`.
    pub name: &'static str,
    /// The observed value.
    pub found: String,
    /// The error, if the condition does not hold.
    pub fault: Option<Failure>,
}

/// Returns the conditions of `engine`, which runs on `machine`. Empty for the private engine, whose recipe meets them.
pub fn conditions(engine: &Engine, machine: &EngineMachine) -> Result<Vec<Condition>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if engine.private {
        return Ok(Vec::new());
    }
    let platform = variable("DOCKER_DEFAULT_PLATFORM").unwrap_or_default();
    let location = match variable("DOCKER_HOST") {
        Some(host) => location(&host, None),
        None => {
            let (context, host) = context(engine)?;
            location(&host, Some(&context))
        }
    };
    let processor = processor(&platform, std::env::consts::ARCH);
    let all = [Some(location), privileges(machine), buildx(machine), Some(processor)];
    Ok(all.into_iter().flatten().collect())
}

/// Returns the context that the user's `docker` uses (DOCKER_CONTEXT, else `docker context use`) and its host.
fn context(engine: &Engine) -> Result<(String, String)> {
    let ask = engine.docker().args(["context", "inspect", "--format", "{{.Name}} {{.Endpoints.docker.Host}}"]);
    let text =
        ask.deadline(deadlines::ENGINE_QUESTION).read().map_err(|error| unreadable(&failure::message(&error)))?;
    let (name, host) =
        text.trim().split_once(' ').ok_or_else(|| unreadable(&format!("it printed `{}`", text.trim())))?;
    Ok((name.to_owned(), host.to_owned()))
}

fn unreadable(words: &str) -> Failure {
    Failure::new(Class::Machine, format!("cannot read the endpoint of docker's context: {words}"))
        .help("see which one it is: docker context ls")
}

fn condition(name: &'static str, found: impl Into<String>, fault: Option<Failure>) -> Condition {
    Condition { name, found: found.into(), fault }
}

/// Requires an engine on this machine: minikube publishes the cluster's ports on the loopback address of the engine's
/// machine. Without a `context`, the `host` comes from DOCKER_HOST.
fn location(host: &str, context: Option<&str>) -> Condition {
    let is_local = |address: &str| {
        let address = address.split('/').next().unwrap_or_default();
        ["localhost", "127.", "[::1]"].iter().any(|local| address.starts_with(local))
    };
    let is_remote = match host.split_once("://") {
        Some(("ssh", _)) => true,
        Some(("tcp" | "http" | "https", address)) => !is_local(address),
        _ => false,
    };
    let named = context.map_or(format!("DOCKER_HOST={host}"), |name| format!("docker's context {name}: {host}"));
    let fault = is_remote.then(|| {
        let what = format!("the Docker Engine is on another machine ({named}), which would have the cluster's ports");
        let here =
            if context.is_none() { "unset DOCKER_HOST" } else { "docker context use default; unset DOCKER_CONTEXT" };
        Failure::new(Class::Machine, what)
            .help(format!("use an engine of this machine: {here}"))
            .help("or run xtask on that machine")
    });
    condition("engine location", named, fault)
}

/// Requires an engine that runs as root. `None` if the engine does not report its security options.
fn privileges(machine: &EngineMachine) -> Option<Condition> {
    let options = machine.security.as_ref()?;
    let is_rootless = options.contains("name=rootless");
    let fault = is_rootless.then(|| {
        Failure::new(
            Class::Machine,
            "the Docker Engine is rootless: resource limits and mounts of a node do not work as with root",
        )
        .help("use the machine's own engine: docker context use default; unset DOCKER_HOST")
    });
    Some(condition("engine privileges", if is_rootless { "rootless" } else { "root" }, fault))
}

/// Requires the buildx plugin. `None` if the client does not report its plugins.
fn buildx(machine: &EngineMachine) -> Option<Condition> {
    let plugins = machine.plugins.as_ref()?;
    let is_there = plugins.split_whitespace().any(|name| name == "buildx");
    let fault = (!is_there).then(|| {
        Failure::new(Class::Machine, "docker has no plugin buildx, which builds the images")
            .help("Debian, Ubuntu: sudo apt install docker-buildx   # from docker.com: docker-buildx-plugin")
            .help(
                "Homebrew: brew install docker-buildx, and name its folder in ~/.docker/config.json: \
                   \"cliPluginsExtraDirs\": [\"/opt/homebrew/lib/docker/cli-plugins\"]",
            )
    });
    Some(condition("buildx", if is_there { "a plugin of docker" } else { "not found" }, fault))
}

/// Requires images for this machine's processor: pods would run others slowly or not at all.
fn processor(platform: &str, arch: &str) -> Condition {
    let own = if arch == "aarch64" { "linux/arm64" } else { "linux/amd64" };
    let is_own = platform.is_empty() || platform == own || platform == format!("{own}/v8");
    let fault = (!is_own).then(|| {
        let what = format!("DOCKER_DEFAULT_PLATFORM is {platform}, but the cluster's node is {own}");
        Failure::new(Class::Machine, what).help("unset DOCKER_DEFAULT_PLATFORM")
    });
    condition("platform", if platform.is_empty() { own } else { platform }, fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(security: &str, plugins: &str) -> EngineMachine {
        let (security, plugins) = (Some(security.to_owned()), Some(plugins.to_owned()));
        EngineMachine { memory: 1, cpus: 1, kind: String::new(), security, plugins }
    }

    #[test]
    fn recognizes_an_engine_on_another_machine_by_its_host() {
        for (host, is_remote) in [
            ("npipe:////./pipe/docker_engine", false),
            ("unix:///run/user/1000/docker.sock", false),
            ("tcp://127.0.0.1:2375", false),
            ("tcp://localhost:2375", false),
            ("tcp://10.0.0.7:2376", true),
            ("ssh://me@build.lan", true),
        ] {
            assert_eq!(location(host, None).fault.is_some(), is_remote, "{host}");
            let fault = location(host, Some("remote")).fault;
            assert_eq!(fault.is_some(), is_remote, "{host}");
            let names_context = |fault: Failure| fault.hints()[0].contains("docker context use default");
            assert!(fault.is_none_or(names_context), "{host}");
        }
    }

    /// Recorded from Docker 26.1.5 (Debian 13) with and without the package docker-buildx. The rootless one is written by
    /// hand after docs.docker.com/engine/security/rootless.
    #[test]
    fn reads_privileges_and_buildx_from_docker_info() {
        let debian = machine(r#"["name=seccomp,profile=builtin"]"#, "buildx ");
        assert!(privileges(&debian).unwrap().fault.is_none() && buildx(&debian).unwrap().fault.is_none());
        let bare = buildx(&machine(r#"["name=seccomp,profile=builtin"]"#, "")).unwrap();
        assert!(bare.fault.unwrap().hints()[0].contains("apt install docker-buildx"));
        let rootless =
            machine(r#"["name=seccomp,profile=builtin","name=rootless","name=cgroupns"]"#, "buildx compose ");
        assert!(privileges(&rootless).unwrap().fault.unwrap().to_string().contains("rootless"));
        let unreported = EngineMachine { security: None, plugins: None, ..rootless };
        assert!(privileges(&unreported).is_none() && buildx(&unreported).is_none());
    }

    #[test]
    fn refuses_only_another_platform() {
        for (platform, arch, is_own) in [
            ("", "x86_64", true),
            ("linux/amd64", "x86_64", true),
            ("linux/amd64", "aarch64", false),
            ("linux/arm64/v8", "aarch64", true),
        ] {
            assert_eq!(processor(platform, arch).fault.is_none(), is_own, "{platform} on {arch}");
        }
    }
}
