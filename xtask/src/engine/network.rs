//! The private engine's network on the machine: its own bridge beside those of other engines. Removes bridges and
//! firewall rules, which Docker leaves when it ends.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::paths::EnginePaths;
use crate::files;
use crate::process::Process;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    address: u32,
    bits: u32,
}

impl Net {
    fn new(address: Ipv4Addr, bits: u32) -> Self {
        Self { address: u32::from(address), bits: bits.min(32) }
    }

    fn mask(bits: u32) -> u32 {
        u32::MAX.checked_shl(32 - bits).unwrap_or(0)
    }

    fn overlaps(self, other: Self) -> bool {
        let mask = Self::mask(self.bits.min(other.bits));
        self.address & mask == other.address & mask
    }

    /// Parses `172.30.7.1/24` or a bare address.
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
        Some(Self::new(address.parse().ok()?, bits.parse().ok()?))
    }
}

/// Returns the address of the engine's bridge, outside every network to which the machine has a route.
pub fn address(paths: &EnginePaths) -> Option<String> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    free(paths.seed(), &routes_but(&routes, &paths.bridge()))
}

/// Returns the first of 172.30.0.0/24 ... 172.30.255.0/24, counted from `seed`, that overlaps none of `taken`.
fn free(seed: u8, taken: &[Net]) -> Option<String> {
    (0..=255_u8).map(|step| seed.wrapping_add(step)).find_map(|third| {
        let net = Net::new(Ipv4Addr::new(172, 30, third, 0), 24);
        taken.iter().all(|t| !t.overlaps(net)).then(|| format!("172.30.{third}.1/24"))
    })
}

/// Returns the networks of `/proc/net/route` (little-endian hexadecimal) without the default route and those of `bridge`.
fn routes_but(text: &str, bridge: &str) -> Vec<Net> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::swap_bytes);
        let (address, mask) = (number(1)?, number(7)?);
        (mask != 0 && fields[0] != bridge).then_some(Net { address, bits: mask.leading_ones() })
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Returns the MTU of the default route's interface if it is smaller than Ethernet's. Containers must not send larger
/// packets.
pub fn mtu() -> Option<u32> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let device = default_device(&routes)?;
    let mtu: u32 = std::fs::read_to_string(format!("/sys/class/net/{device}/mtu")).ok()?.trim().parse().ok()?;
    (mtu < 1500).then_some(mtu)
}

fn default_device(routes: &str) -> Option<&str> {
    let mut lines = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|f| f.get(1) == Some(&"00000000") && f.get(7) == Some(&"00000000")).map(|f| f[0])
}

/// The machine-wide network settings that the first start of an engine changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkState {
    /// Whether a Docker Engine already had its chains there. Then no setting is restored.
    pub docker: bool,
    /// Whether the policy of the chain FORWARD was DROP.
    pub drop: bool,
    /// Whether the machine forwarded packets.
    pub forwarding: bool,
}

const DEVICES: &str = "/sys/class/net";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Reads the present settings, with the `iptables-save` of a tree.
pub fn before(tree: &Utf8Path) -> Result<NetworkState> {
    let rules = rules(tree)?;
    let forwarding =
        std::fs::read_to_string(FORWARDING).with_context(|| format!("reading {FORWARDING}"))?.trim() == "1";
    Ok(NetworkState { docker: rules.contains(":DOCKER "), drop: rules.contains(":FORWARD DROP"), forwarding })
}

/// Reads the firewall rules. A kernel without nftables has only the legacy tables.
pub fn rules(tree: &Utf8Path) -> Result<String> {
    let save = within(tree, "iptables-save", &[]).read();
    save.or_else(|error| within(tree, "iptables-legacy-save", &[]).read().map_err(|_| error))
}

/// Restores other engines' rules of `before` that are gone: a starting engine empties the chains that all share.
pub fn give_back(paths: &EnginePaths, tree: &Utf8Path, before: &str) -> Result<()> {
    let bridges = bridges(paths)?;
    let nets = nets_of(&within(tree, "ip", &["-4", "-o", "addr", "show"]).read()?, &bridges);
    for insertion in insertions(before, &rules(tree)?, &bridges, &nets) {
        let _ = within(tree, "iptables", &insertion.iter().map(String::as_str).collect::<Vec<_>>()).run();
    }
    Ok(())
}

/// Returns arguments for `iptables` that restore the foreign rules of Docker's chains that are in `before` and not in
/// `now`. Each goes to the chain's top, so the last rule comes first.
fn insertions(before: &str, now: &str, bridges: &[String], nets: &[Net]) -> Vec<Vec<String>> {
    let all = parse(now);
    let ours = about(bridges, nets);
    let lost = parse(before).into_iter().rev().filter(|rule| !all.contains(rule));
    lost.filter(|(_, words)| words[0].starts_with("DOCKER") && !ours(words)).map(|rule| command(rule, "-I")).collect()
}

/// Removes the bridges of `paths` and every firewall rule about them; keeps networks of other engines. Returns the
/// number of bridges, and the settings of the machine's network that stay, each with the reason.
pub fn clean(paths: &EnginePaths, tree: &Utf8Path) -> Result<(usize, Vec<String>)> {
    let bridges = bridges(paths)?;
    let addresses = within(tree, "ip", &["-4", "-o", "addr", "show"]).read()?;
    let nets = nets_of(&addresses, &bridges);
    for deletion in deletions(&rules(tree)?, &bridges, &nets) {
        // A rule that went with another one is what we want.
        let _ = within(tree, "iptables", &deletion.iter().map(String::as_str).collect::<Vec<_>>()).run();
    }
    if let Some(left) = deletions(&rules(tree)?, &bridges, &nets).first() {
        bail!("a firewall rule about the engine's networks is still there: iptables {}", left.join(" "));
    }
    for bridge in &bridges {
        within(tree, "ip", &["link", "delete", bridge]).run()?;
    }
    let left = match files::read(&paths.network_before())? {
        None => vec!["IP forwarding and Docker's firewall rules: their earlier state was not recorded".to_owned()],
        Some(text) => match serde_json::from_str(&text) {
            Ok(before) => put_back(tree, before)?,
            Err(error) => {
                vec![format!("IP forwarding and Docker's firewall rules: {}: {error}", paths.network_before())]
            }
        },
    };
    Ok((bridges.len(), left))
}

/// Describes what stays of the engine's network if no tree with iptables is left to remove it.
pub fn leftover(paths: &EnginePaths) -> Result<Vec<String>> {
    let bridges = bridges(paths)?;
    let what =
        || format!("network devices {} and firewall rules about them: the engine's tree is gone", bridges.join(", "));
    Ok(if bridges.is_empty() { Vec::new() } else { vec![what()] })
}

/// Removes Docker's chains and settings if there were none before and no other program uses them now, which is asked right
/// before. Gives what was left.
fn put_back(tree: &Utf8Path, before: NetworkState) -> Result<Vec<String>> {
    if before.docker {
        return Ok(Vec::new());
    }
    let now = rules(tree)?;
    let (keep, mut left) = users(&now, before, &devices()?);
    for command in removals(&now, before, &keep) {
        let _ = within(tree, "iptables", &command.iter().map(String::as_str).collect::<Vec<_>>()).run();
    }
    if !before.forwarding && !keep.forwarding {
        std::fs::write(FORWARDING, "0").with_context(|| format!("writing {FORWARDING}"))?;
    }
    let after = rules(tree)?;
    if !keep.chains && after.contains(":DOCKER") {
        left.push("Docker's firewall chains: iptables did not remove them all".to_owned());
    }
    Ok(left)
}

/// Settings that other programs use now, and that therefore stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Keep {
    chains: bool,
    forwarding: bool,
}

/// Returns the settings that other programs use, according to the rules and network devices that remain without the engine's
/// own, and a message about each setting that stays.
fn users(rules: &str, before: NetworkState, devices: &[Device]) -> (Keep, Vec<String>) {
    let all = parse(rules);
    let in_docker = |(_, words): &&Rule<'_>| words[0].starts_with("DOCKER");
    let leads_to_docker = |words: &[&str]| words.iter().any(|word| word.starts_with("DOCKER"));
    // Docker's own rules about no network name no device, and a device that is gone has no user. DOCKER-USER is for rules
    // of the user.
    let by_others = |(_, words): &&Rule<'_>| {
        let names_device = words.iter().any(|word| devices.iter().any(|device| device.name == *word));
        leads_to_docker(words) && names_device || words[0] == "DOCKER-USER" && words[1..] != ["-j", "RETURN"]
    };
    let chain = all.iter().find(by_others).map(|(_, words)| format!("rule `{}`", words.join(" ")));
    // Whoever forwards has a device for it, a rule of its own, or an address that it translates.
    let forwards = ["FORWARD", "POSTROUTING", "PREROUTING"];
    let rule = all.iter().find(|rule| !in_docker(rule) && forwards.contains(&rule.1[0]) && !leads_to_docker(&rule.1));
    let device = devices.iter().find(|device| device.forwards).map(|device| format!("network device {}", device.name));
    let forwarder = chain.clone().or(device).or(rule.map(|(_, words)| format!("rule `{}`", words.join(" "))));
    let keep = Keep { chains: chain.is_some(), forwarding: forwarder.is_some() };
    let mut left = Vec::new();
    if let Some(user) = chain {
        left.push(format!("Docker's firewall chains: {user} may be another engine's"));
    }
    if let Some(user) = forwarder.filter(|_| !before.forwarding) {
        left.push(format!("IP forwarding: {user} may need it (sysctl -w net.ipv4.ip_forward=0 turns it off)"));
    }
    (keep, left)
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    name: String,
    /// Whether machines forward packets for devices of this kind: bridges and tunnels.
    forwards: bool,
}

fn devices() -> Result<Vec<Device>> {
    let mut found = Vec::new();
    for device in files::entries(Utf8Path::new(DEVICES))? {
        let kind = files::read(&device.join("uevent"))?.unwrap_or_default();
        let is_tunnel = kind.lines().any(|line| ["DEVTYPE=wireguard", "DEVTYPE=vxlan"].contains(&line));
        let forwards = is_tunnel || files::exists(&device.join("bridge"))? || files::exists(&device.join("tun_flags"))?;
        found.push(Device { name: device.file_name().unwrap_or_default().to_owned(), forwards });
    }
    Ok(found)
}

/// Returns the commands that remove Docker's chains, unless others use them: references first, then the chains.
fn removals(rules: &str, before: NetworkState, keep: &Keep) -> Vec<Vec<String>> {
    if keep.chains {
        return Vec::new();
    }
    let (mut references, mut chains) = (Vec::new(), Vec::new());
    let words = |table: &str, rest: &[&str]| -> Vec<String> {
        ["-w", "-t", table].iter().chain(rest).map(|word| (*word).to_owned()).collect()
    };
    let mut table = "";
    for line in rules.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(":DOCKER").and_then(|rest| rest.split(' ').next()) {
            let chain = format!("DOCKER{chain}");
            references.push(words(table, &["-F", &chain]));
            chains.push(words(table, &["-X", &chain]));
        } else if line.starts_with("-A ") && !line.starts_with("-A DOCKER") && line.contains(" -j DOCKER") {
            let rest: Vec<&str> = line.split(' ').skip(1).collect();
            references.push(words(table, &[&["-D"], rest.as_slice()].concat()));
        }
    }
    if !before.drop && !keep.forwarding {
        references.push(words("filter", &["-P", "FORWARD", "ACCEPT"]));
    }
    references.extend(chains);
    references
}

/// Returns this engine's existing bridges: the default one, and those of the networks in its data.
fn bridges(paths: &EnginePaths) -> Result<Vec<String>> {
    let known = files::read_bytes(&paths.data().join("network/files/local-kv.db"))?.unwrap_or_default();
    let ids = network_ids(&known).into_iter().map(|id| format!("br-{}", &id[..12]));
    let mut names = Vec::new();
    for name in ids.chain([paths.bridge()]) {
        if files::exists(&Utf8Path::new(DEVICES).join(&name))? {
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Returns the network IDs in Docker's network database: keys end with `/network/<64 hexadecimal digits>/`. IDs are
/// random, so that of a removed network names nobody's bridge.
fn network_ids(database: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"network/";
    let starts = database.windows(KEY.len()).enumerate().filter(|(_, window)| *window == KEY);
    let ids = starts.filter_map(|(at, _)| std::str::from_utf8(database.get(at + KEY.len()..at + KEY.len() + 64)?).ok());
    let mut ids: Vec<String> = ids.filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit())).map(str::to_owned).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// Returns the networks of `bridges` in the output of `ip -4 -o addr show`.
fn nets_of(addresses: &str, bridges: &[String]) -> Vec<Net> {
    let fields = addresses.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = fields.filter(|f| f.get(1).is_some_and(|device| bridges.iter().any(|b| b == device)));
    ours.filter_map(|f| Net::parse(f.get(3)?)).collect()
}

/// Returns arguments for `iptables` that delete each rule of `iptables-save` about one of `bridges` or `nets`.
fn deletions(rules: &str, bridges: &[String], nets: &[Net]) -> Vec<Vec<String>> {
    let ours = about(bridges, nets);
    parse(rules).into_iter().filter(|(_, words)| ours(words)).map(|rule| command(rule, "-D")).collect()
}

/// A rule: its table, then the words of its `iptables-save` line after `-A`, the chain first.
type Rule<'a> = (&'a str, Vec<&'a str>);

/// Parses the rules of `iptables-save`. Skips those with a quoted comment, which Docker does not write.
fn parse(rules: &str) -> Vec<Rule<'_>> {
    let mut table = "";
    let mut found = Vec::new();
    for line in rules.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rule) = line.strip_prefix("-A ").filter(|rule| !rule.contains('"')) {
            found.push((table, rule.split(' ').collect()));
        }
    }
    found
}

/// Returns a predicate: whether a rule's words name one of `bridges` or an address within `nets`.
fn about<'a>(bridges: &'a [String], nets: &'a [Net]) -> impl Fn(&[&str]) -> bool + 'a {
    let inside = |word: &str| Net::parse(word).is_some_and(|w| nets.iter().any(|n| n.overlaps(w) && w.bits >= n.bits));
    move |words| words.iter().any(|word| bridges.iter().any(|b| b == word) || inside(word))
}

fn command((table, words): Rule<'_>, verb: &str) -> Vec<String> {
    ["-w", "-t", table, verb].into_iter().chain(words).map(str::to_owned).collect()
}

/// Returns a program of the tree with the tree as its root, so that the machine need not have it.
fn within(tree: &Utf8Path, program: &str, args: &[&str]) -> Process {
    Process::new("chroot")
        .args([tree.as_str(), program])
        .args(args.iter().copied())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

#[cfg(test)]
mod tests;
