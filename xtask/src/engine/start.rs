//! Starts the private engine: detached, in a mount namespace with its tree as root, so that its mounts are invisible to
//! other processes.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::time::Instant;

use anyhow::{Context, Result};
use camino::Utf8Path;
use serde_json::json;

use super::paths::EnginePaths;
use super::ping::{self, Answer};
use super::{network, reap, stop, tree};
use crate::deadlines::{self, Limit};
use crate::failure::{Class, Failure};
use crate::files;
use crate::process::{PROXY, Process};
use crate::report::Running;
use crate::units::quote;

/// The size of BuildKit's cache besides layers of images; the least recently used entries go first. Both applications
/// take 0.9 GB, and 1 GB more with their tests, half of it stages whose results are kept anyway.
const BUILD_CACHE: &str = "1500MB";

/// dockerd's configuration, in the engine's run folder.
const CONFIGURATION: &str = "daemon.json";

/// Session leader: redirects its output to the log, writes its process ID, and enters a mount namespace.
const DETACH: &str = r#"exec >>"$1" 2>&1 && echo $$ >"$2" && shift 2 && exec unshare --mount sh -euc "$@""#;

/// In the namespace: the tree becomes the root, with the machine's /proc, /sys, /dev and kernel modules and the engine's
/// data and run folders in it. With control groups of version 1 the machine may lack hierarchies (hugetlb, net_cls,
/// perf_event), or have only a folder left of them: a node's systemd would mount their roots, which all nodes share, and each
/// kubelet would try for ever to remove the others' pods from them. Mounted here, each container has a group of its own in
/// them. Then the bridge, which Docker only makes itself under the name that every engine takes.
const ENTER: &str = r#"
tree=$1 run=$2 data=$3 bridge=$4 address=$5 hierarchies=$6
shift 6
mount --make-rprivate /
mount --bind "$tree" "$tree"
for d in proc sys dev; do mount --rbind "/$d" "$tree/$d"; done
if [ -d /lib/modules ]; then mount --bind /lib/modules "$tree/usr/lib/modules"; fi
mount -t tmpfs -o mode=755 tmpfs "$tree/run"
mkdir "$tree/run/xtask"
mount --bind "$run" "$tree/run/xtask"
mount --bind "$data" "$tree/var/lib/docker"
cd "$tree"
pivot_root . .old
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umount -l /.old
if [ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ]; then
    mkdir /run/cgroup
    mount --rbind /sys/fs/cgroup /run/cgroup
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for group in /run/cgroup/*; do
        name=${group##*/}
        if [ -L "$group" ]; then cp -P "$group" "/sys/fs/cgroup/$name"; continue; fi
        mountpoint -q "$group" || continue
        mkdir "/sys/fs/cgroup/$name"
        mount --rbind "$group" "/sys/fs/cgroup/$name"
    done
    umount -l /run/cgroup
    for all in $hierarchies; do
        if [ -e "/sys/fs/cgroup/${all%%,*}" ]; then continue; fi
        mkdir -p "/sys/fs/cgroup/$all"
        if ! mountpoint -q "/sys/fs/cgroup/$all" && ! mount -t cgroup -o "$all" cgroup "/sys/fs/cgroup/$all"; then
            rmdir "/sys/fs/cgroup/$all"
            continue
        fi
        for name in $(echo "$all" | tr , ' '); do
            [ "$name" = "$all" ] || ln -s "$all" "/sys/fs/cgroup/$name"
        done
    done
fi
mount --make-rshared /
if ! iptables -w -n -L >/dev/null 2>&1 && iptables-legacy -w -n -L >/dev/null 2>&1; then
    ln -sf /usr/sbin/iptables-legacy /etc/alternatives/iptables
    ln -sf /usr/sbin/ip6tables-legacy /etc/alternatives/ip6tables
fi
[ -d "/sys/class/net/$bridge" ] || ip link add name "$bridge" type bridge
ip -4 -o addr show dev "$bridge" | grep -q inet || ip addr add "$address" dev "$bridge"
ip link set "$bridge" up
limit=$(ulimit -Hn)
if [ "$limit" = unlimited ] || [ "$limit" -gt 1048576 ]; then limit=1048576; fi
ulimit -n "$limit"
exec dockerd "$@"
"#;

/// Folders that [`ENTER`] mounts on, where packages bring none.
const MOUNT_POINTS: [&str; 3] = [".old", "usr/lib/modules", "var/lib/docker"];

/// Variable that identifies a starting engine: its process ID may belong to another process later.
const MARK: &str = "TODO_XTASK_ENGINE";

/// Starts the engine from the tree for `key`, unless it runs already. The tree must be there. The engine also trusts
/// `ca_bundle`.
pub fn start(paths: &EnginePaths, key: &str, ca_bundle: Option<&Utf8Path>, running: &Running) -> Result<String> {
    prepare(paths)?;
    let lock = File::create(paths.lock()).with_context(|| format!("opening {}", paths.lock()))?;
    running.progress("waiting for another xtask that starts the engine");
    lock.lock().context("locking the engine")?;
    let mut answer = ping::ask(&paths.socket(), deadlines::ENGINE_PROBE.time());
    if !matches!(answer, Answer::Version(_)) && launching(paths)? {
        answer = wait(paths, deadlines::ENGINE_STARTING, running)?;
    }
    match answer {
        Answer::Version(version) if running_key(paths)?.as_deref() == Some(key) => {
            return Ok(format!("Docker Engine {version}"));
        }
        Answer::Version(_) => {
            running.progress("ending the engine of the former recipe");
            stop::end(paths, running)?;
        }
        Answer::Absent(_) if !launching(paths)? => {}
        // A slow engine is not ended: its containers run on.
        Answer::Absent(words) | Answer::Unknown(words) => return Err(hung(paths, &words).into()),
    }
    let left = reap::reap(paths)?;
    if left > 0 {
        running.progress(format!("ended {left} processes that a killed engine had left behind"));
    }
    let rules = network::rules(&paths.tree(key));
    launch(paths, key, ca_bundle)?;
    match wait(paths, deadlines::ENGINE_START, running)? {
        Answer::Version(version) => {
            match rules {
                Ok(rules) => network::give_back(paths, &paths.tree(key), &rules)?,
                Err(error) => {
                    let what = "the firewall's rules were not readable before the private engine started";
                    running.report().warn_because(what, &error);
                    running.report().note("start another engine of this machine again: its rules may be gone");
                }
            }
            tree::drop_others(paths, key)?;
            Ok(format!("Docker Engine {version}"))
        }
        Answer::Absent(words) | Answer::Unknown(words) => {
            // This run has started it, so nobody else's containers are in it.
            reap::reap(paths)?;
            Err(did_not_start(paths, &words).into())
        }
    }
}

/// Returns the error for an engine whose process runs but does not answer.
fn hung(paths: &EnginePaths, words: &str) -> Failure {
    Failure::new(Class::Machine, format!("the private Docker Engine runs but does not answer: {words}"))
        .help(format!("see what it says: less {}", quote(paths.log())))
        .help(format!(
            "then end it, and run the same command again: kill $(cat {})   # its data is kept",
            quote(paths.pid_file())
        ))
}

/// Returns the key of the tree that the running engine was started from.
pub fn running_key(paths: &EnginePaths) -> Result<Option<String>> {
    Ok(files::read(&paths.key_file())?.map(|key| key.trim().to_owned()))
}

fn prepare(paths: &EnginePaths) -> Result<()> {
    std::fs::create_dir_all(paths.dir()).with_context(|| format!("making {}", paths.dir()))?;
    // Access to the socket is root access to this machine.
    for (dir, mode) in [(paths.run(), 0o700), (paths.data(), 0o711)] {
        DirBuilder::new().recursive(true).mode(mode).create(&dir).with_context(|| format!("making {dir}"))?;
    }
    Ok(())
}

fn launch(paths: &EnginePaths, key: &str, ca_bundle: Option<&Utf8Path>) -> Result<()> {
    let tree = paths.tree(key);
    for point in MOUNT_POINTS {
        std::fs::create_dir_all(tree.join(point)).with_context(|| format!("making {tree}/{point}"))?;
    }
    tree::write_client(paths, key)?;
    if !files::exists(&paths.network_before())? {
        let before =
            network::before(&tree).unwrap_or(network::NetworkState { docker: true, drop: true, forwarding: true });
        std::fs::write(paths.network_before(), serde_json::to_string(&before)?)?;
    }
    resolver(&tree)?;
    certificates(paths, ca_bundle)?;
    std::fs::write(paths.run().join(CONFIGURATION), configuration().to_string())
        .with_context(|| format!("writing {}/{CONFIGURATION}", paths.run()))?;
    for stale in [paths.socket(), paths.pid_file()] {
        files::remove(&stale)?;
    }
    let _ = std::fs::rename(paths.log(), paths.log().with_extension("log.1"));
    std::fs::write(paths.key_file(), key).with_context(|| format!("writing {}", paths.key_file()))?;
    command(paths, key)?.run()
}

/// Returns the command that starts the engine; it returns at once.
pub fn command(paths: &EnginePaths, key: &str) -> Result<Process> {
    let address = network::address(paths).ok_or_else(|| {
        Failure::new(
            Class::Machine,
            "no free network for the engine's bridge: all of 172.30.0.0/16 is routed elsewhere",
        )
        .help("ip route   # shows who takes it; end that VPN, or use a Docker Engine of your own (DOCKER_HOST)")
    })?;
    let process = Process::new("setsid")
        .args(["--fork", "sh", "-euc", DETACH, "engine"])
        .args([paths.log(), paths.pid_file()])
        .args([ENTER, "engine"])
        .args([paths.tree(key), paths.run(), paths.data()])
        .args([paths.bridge(), address, hierarchies(&files::read("/proc/cgroups".into())?.unwrap_or_default())])
        .args(arguments(paths, network::mtu()))
        .inherit(PROXY);
    Ok(process.env("SSL_CERT_FILE", "/run/xtask/ca.pem").env(MARK, paths.cgroup()).deadline(deadlines::ENGINE_STARTING))
}

/// Returns the hierarchies of control groups (version 1) in /proc/cgroups, each by its controllers. A controller that nobody
/// has mounted since the machine booted has hierarchy 0: it is mounted with those with which systemd mounts it.
fn hierarchies(cgroups: &str) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in cgroups.lines() {
        let [name, hierarchy, _, "1"] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
        let group = match (hierarchy, name) {
            ("0", "net_cls" | "net_prio") => "net",
            ("0", "cpu" | "cpuacct") => "cpu",
            ("0", _) => name,
            _ => hierarchy,
        };
        match groups.iter_mut().find(|(other, _)| *other == group) {
            Some((_, names)) => names.push(name),
            None => groups.push((group, vec![name])),
        }
    }
    groups.iter().map(|(_, names)| names.join(",")).collect::<Vec<_>>().join(" ")
}

/// Returns dockerd's configuration file, which limits BuildKit's cache; no command-line option does. Without a limit the cache
/// grows with each build.
fn configuration() -> serde_json::Value {
    json!({"builder": {"gc": {"enabled": true, "defaultKeepStorage": BUILD_CACHE}}})
}

fn arguments(paths: &EnginePaths, mtu: Option<u32>) -> Vec<String> {
    let mut args: Vec<String> = [
        "--host=unix:///run/xtask/docker.sock",
        "--config-file=/run/xtask/daemon.json",
        "--log-level=warn",
        // Whether the machine has systemd or not: the engine's own /run shows none.
        "--exec-opt=native.cgroupdriver=cgroupfs",
        "--log-opt=max-size=10m",
        "--log-opt=max-file=2",
    ]
    .map(str::to_owned)
    .into();
    args.push(format!("--cgroup-parent=/{}", paths.cgroup()));
    args.push(format!("--bridge={}", paths.bridge()));
    args.extend(mtu.map(|mtu| format!("--mtu={mtu}")));
    args
}

/// Gives the engine the machine's resolver. One on a loopback address (systemd-resolved) cannot serve containers; then the
/// engine gets the file with the servers behind it.
fn resolver(tree: &Utf8Path) -> Result<()> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let own = read("/etc/resolv.conf").unwrap_or_default();
    let text = if only_loopback(&own) { read("/run/systemd/resolve/resolv.conf").unwrap_or(own) } else { own };
    std::fs::write(tree.join("etc/resolv.conf"), text).context("writing the engine's resolv.conf")?;
    if let Some(hosts) = read("/etc/hosts") {
        std::fs::write(tree.join("etc/hosts"), hosts).context("writing the engine's hosts")?;
    }
    Ok(())
}

fn only_loopback(resolv: &str) -> bool {
    let mut servers =
        resolv.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).map(str::trim).peekable();
    servers.peek().is_some() && servers.all(|server| server.starts_with("127.") || server == "::1")
}

/// Gives the engine the machine's trusted certificates and the extra bundle.
fn certificates(paths: &EnginePaths, ca_bundle: Option<&Utf8Path>) -> Result<()> {
    let system = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let bundles = ca_bundle.map(|path| path.to_string()).into_iter();
    let system = system.into_iter().find(|path| Utf8Path::new(path).is_file()).map(str::to_owned);
    let mut text = Vec::new();
    for bundle in bundles.chain(system) {
        text.extend(std::fs::read(&bundle).with_context(|| format!("reading {bundle}"))?);
        text.push(b'\n');
    }
    std::fs::write(paths.run().join("ca.pem"), text).context("writing the engine's CA bundle")
}

/// Asks until the engine answers, `bound` has passed, or its process has ended. Returns the last answer.
fn wait(paths: &EnginePaths, bound: Limit, running: &Running) -> Result<Answer> {
    let start = Instant::now();
    loop {
        let answer = ping::ask(&paths.socket(), deadlines::ENGINE_PROBE.time());
        // A little time for the process to appear; after that, none means that it has failed.
        let ended = start.elapsed() > deadlines::ENGINE_LAUNCH.time() && !launching(paths)?;
        if matches!(answer, Answer::Version(_)) || ended || start.elapsed() >= bound.time() {
            return Ok(answer);
        }
        running.progress(format!("waiting for the engine to answer (log: {})", paths.log()));
        std::thread::sleep(deadlines::POLL_LOCAL.time());
    }
}

/// Returns whether the engine that was started last still runs. At first its root is not the tree yet, and its process
/// ID may belong to another process by now; so the environment from [`command`] identifies it.
fn launching(paths: &EnginePaths) -> Result<bool> {
    let pid: Option<i32> = files::read(&paths.pid_file())?.and_then(|pid| pid.trim().parse().ok());
    let alive = reap::marked(MARK, &paths.cgroup())?;
    Ok(pid.is_some_and(|pid| alive.contains(&pid)))
}

fn did_not_start(paths: &EnginePaths, words: &str) -> Failure {
    let log = std::fs::read_to_string(paths.log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail: String = lines[lines.len().saturating_sub(8)..].iter().map(|line| format!("\n  | {line}")).collect();
    Failure::new(Class::Machine, format!("the private Docker Engine did not start: {words}{tail}"))
        .help(format!("less {}", quote(paths.log())))
        .help("cargo xtask teardown --engine   # removes it with its data; the next run makes a new one")
        .help("or install a Docker Engine of your own: xtask takes the one that `docker version` reaches")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_of_the_machine_alone_is_seen_as_such() {
        assert!(only_loopback("# by systemd\nnameserver 127.0.0.53\noptions edns0\n"));
        assert!(!only_loopback("nameserver 127.0.0.1\nnameserver 10.0.0.2\n"));
        assert!(!only_loopback("search example.org\n"));
    }

    #[test]
    fn hierarchies_that_nobody_has_mounted_are_mounted_as_well() {
        let head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
        let booted =
            "cpu\t1\t9\t1\ncpuacct\t1\t9\t1\nnet_cls\t0\t1\t1\nperf_event\t0\t1\t1\nnet_prio\t0\t1\t1\nrdma\t0\t1\t0\n";
        assert_eq!(hierarchies(&format!("{head}{booted}")), "cpu,cpuacct net_cls,net_prio perf_event");
        let mounted = "cpu\t1\t9\t1\nnet_cls\t12\t9\t1\nnet_prio\t12\t9\t1\nhugetlb\t13\t9\t1\n";
        assert_eq!(hierarchies(&format!("{head}{mounted}")), "cpu net_cls,net_prio hugetlb");
        assert_eq!(hierarchies(""), "");
    }

    #[test]
    fn the_engine_uses_its_own_bridge_and_control_group() {
        let paths = EnginePaths::new("/var/tmp/a".into());
        let args = arguments(&paths, Some(1400)).join(" ");
        assert!(args.contains(&format!("--cgroup-parent=/{}", paths.cgroup())));
        assert!(args.contains(&format!("--bridge={} --mtu=1400", paths.bridge())));
        assert_eq!(configuration()["builder"]["gc"]["defaultKeepStorage"], BUILD_CACHE);
    }

    #[test]
    fn an_engine_that_fails_shows_why() {
        let temp = tempfile::tempdir().unwrap();
        let paths = EnginePaths::new(Utf8Path::from_path(temp.path()).unwrap());
        prepare(&paths).unwrap();
        std::fs::write(paths.log(), "unshare: unshare failed: Operation not permitted\n").unwrap();
        let failure = did_not_start(&paths, "nobody listens");
        assert!(failure.to_string().contains("| unshare: unshare failed"));
        assert!(!failure.hints().is_empty());
    }
}
