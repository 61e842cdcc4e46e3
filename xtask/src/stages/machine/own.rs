//! What an engine of the user's own must be, looked at before a cluster is made in it and by `doctor`: here, with root's
//! rights, with buildx, and for this machine's processor.

use anyhow::Result;

use crate::deadlines;
use crate::engine::{Engine, EngineMachine};
use crate::failure::{Class, Failure};

/// One condition.
#[derive(Debug)]
pub struct Condition {
    /// Its name for `doctor`.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// Why it does not hold.
    pub fault: Option<Failure>,
}

/// The conditions of `engine`, which runs on `machine`. The private engine meets them by its recipe.
pub fn conditions(engine: &Engine, machine: &EngineMachine) -> Result<Vec<Condition>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if engine.private {
        return Ok(Vec::new());
    }
    let platform = variable("DOCKER_DEFAULT_PLATFORM").unwrap_or_default();
    let place = match variable("DOCKER_HOST") {
        Some(host) => place(&host, None),
        None => {
            let (context, host) = context(engine)?;
            place(&host, Some(&context))
        }
    };
    let all = [Some(place), rights(machine), buildx(machine), Some(processor(&platform, std::env::consts::ARCH))];
    Ok(all.into_iter().flatten().collect())
}

/// The context that the user's `docker` uses (DOCKER_CONTEXT, else `docker context use`), and where it leads.
fn context(engine: &Engine) -> Result<(String, String)> {
    let ask = engine.docker().args(["context", "inspect", "--format", "{{.Name}} {{.Endpoints.docker.Host}}"]);
    let text = ask.deadline(deadlines::ENGINE_QUESTION).read().map_err(|error| unknown(&error.to_string()))?;
    let (name, host) = text.trim().split_once(' ').ok_or_else(|| unknown(&format!("it printed `{}`", text.trim())))?;
    Ok((name.to_owned(), host.to_owned()))
}

fn unknown(words: &str) -> Failure {
    Failure::new(Class::Machine, format!("docker does not say where its context leads: {words}"))
        .help("see which one it is: docker context ls")
}

fn condition(name: &'static str, found: impl Into<String>, fault: Option<Failure>) -> Condition {
    Condition { name, found: found.into(), fault }
}

/// minikube publishes the cluster's ports on the loopback address of the engine's machine. Without a `context`, DOCKER_HOST
/// names the `host`.
fn place(host: &str, context: Option<&str>) -> Condition {
    let is_here = |address: &str| {
        let address = address.split('/').next().unwrap_or_default();
        ["localhost", "127.", "[::1]"].iter().any(|local| address.starts_with(local))
    };
    let away = match host.split_once("://") {
        Some(("ssh", _)) => true,
        Some(("tcp" | "http" | "https", address)) => !is_here(address),
        _ => false,
    };
    let named = context.map_or(format!("DOCKER_HOST={host}"), |name| format!("docker's context {name}: {host}"));
    let fault = away.then(|| {
        let what = format!("the Docker Engine is on another machine ({named}): the cluster's ports would be there");
        let here =
            if context.is_none() { "unset DOCKER_HOST" } else { "docker context use default; unset DOCKER_CONTEXT" };
        Failure::new(Class::Machine, what)
            .help(format!("use an engine of this machine: {here}"))
            .help("or run xtask on that machine")
    });
    condition("engine's place", named, fault)
}

/// `None`: the engine does not say.
fn rights(machine: &EngineMachine) -> Option<Condition> {
    let options = machine.security.as_ref()?;
    let is_rootless = options.contains("name=rootless");
    let fault = is_rootless.then(|| {
        Failure::new(
            Class::Machine,
            "the Docker Engine is rootless, where a node's limits and mounts do not work as here",
        )
        .help("use the machine's own engine: docker context use default; unset DOCKER_HOST")
    });
    Some(condition("engine's rights", if is_rootless { "rootless" } else { "root" }, fault))
}

/// `None`: the client does not say.
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

/// Images for another processor would be built and pulled, and no pod could run them as fast, or at all.
fn processor(platform: &str, arch: &str) -> Condition {
    let own = if arch == "aarch64" { "linux/arm64" } else { "linux/amd64" };
    let is_own = platform.is_empty() || platform == own || platform == format!("{own}/v8");
    let fault = (!is_own).then(|| {
        let what = format!("DOCKER_DEFAULT_PLATFORM is {platform}, the cluster's node is {own}");
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
    fn an_engine_elsewhere_is_told_by_its_address() {
        for (host, is_away) in [
            ("npipe:////./pipe/docker_engine", false),
            ("unix:///run/user/1000/docker.sock", false),
            ("tcp://127.0.0.1:2375", false),
            ("tcp://localhost:2375", false),
            ("tcp://10.0.0.7:2376", true),
            ("ssh://me@build.lan", true),
        ] {
            assert_eq!(place(host, None).fault.is_some(), is_away, "{host}");
            let fault = place(host, Some("remote")).fault;
            assert_eq!(fault.is_some(), is_away, "{host}");
            let is_told = |fault: Failure| fault.hints()[0].contains("docker context use default");
            assert!(fault.is_none_or(is_told), "{host}");
        }
    }

    /// The words of Docker 26.1.5 (Debian 13), with and without its package docker-buildx; rootless: by hand after
    /// docs.docker.com/engine/security/rootless.
    #[test]
    fn rights_and_buildx_are_read_from_docker_info() {
        let debian = machine(r#"["name=seccomp,profile=builtin"]"#, "buildx ");
        assert!(rights(&debian).unwrap().fault.is_none() && buildx(&debian).unwrap().fault.is_none());
        let bare = buildx(&machine(r#"["name=seccomp,profile=builtin"]"#, "")).unwrap();
        assert!(bare.fault.unwrap().hints()[0].contains("apt install docker-buildx"));
        let rootless =
            machine(r#"["name=seccomp,profile=builtin","name=rootless","name=cgroupns"]"#, "buildx compose ");
        assert!(rights(&rootless).unwrap().fault.unwrap().to_string().contains("rootless"));
        let silent = EngineMachine { security: None, plugins: None, ..rootless };
        assert!(rights(&silent).is_none() && buildx(&silent).is_none());
    }

    #[test]
    fn only_another_platform_is_refused() {
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
