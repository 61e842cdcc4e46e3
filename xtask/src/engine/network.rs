//! The engine's part of the machine's network: a bridge of its own, so that it stands beside other engines, and taking
//! back what an engine leaves there (Docker removes neither bridges nor firewall rules when it ends).

use std::net::Ipv4Addr;

use anyhow::Result;
use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::place::Place;
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

    /// `172.30.7.1/24` or a bare address.
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
        Some(Self::new(address.parse().ok()?, bits.parse().ok()?))
    }
}

/// Address of the engine's bridge, clear of every network that the machine has a route to.
pub fn address(place: &Place) -> Option<String> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    free(place.seed(), &routes_but(&routes, &place.bridge()))
}

/// The first of 172.30.0.0/24 ... 172.30.255.0/24, counted from `seed`, that overlaps none of `taken`.
fn free(seed: u8, taken: &[Net]) -> Option<String> {
    (0..=255_u8).map(|step| seed.wrapping_add(step)).find_map(|third| {
        let net = Net::new(Ipv4Addr::new(172, 30, third, 0), 24);
        taken.iter().all(|t| !t.overlaps(net)).then(|| format!("172.30.{third}.1/24"))
    })
}

/// Networks of `/proc/net/route` (little-endian hexadecimal) but the default route and those of `bridge`.
fn routes_but(text: &str, bridge: &str) -> Vec<Net> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::swap_bytes);
        let (address, mask) = (number(1)?, number(7)?);
        (mask != 0 && fields[0] != bridge).then_some(Net { address, bits: mask.leading_ones() })
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// MTU of the interface that leads out, if it is smaller than Ethernet's: containers must not send larger packets.
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

/// What the first start of an engine changes for the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Whether some Docker had its chains there already: then all of it is left alone.
    pub docker: bool,
    /// Whether packets were dropped that no rule lets through.
    pub drop: bool,
    /// Whether the machine forwarded packets.
    pub forwarding: bool,
}

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The network as it is now, told by a tree's `iptables-save`.
pub fn before(tree: &Utf8Path) -> Result<Before> {
    let rules = within(tree, "iptables-save", &[]).read()?;
    let forwarding = std::fs::read_to_string(FORWARDING).is_ok_and(|text| text.trim() == "1");
    Ok(Before { docker: rules.contains(":DOCKER "), drop: rules.contains(":FORWARD DROP"), forwarding })
}

/// The firewall rules as they are; empty where they cannot be told.
pub fn rules(tree: &Utf8Path) -> String {
    within(tree, "iptables-save", &[]).read().unwrap_or_default()
}

/// Gives other engines back the rules of `before` that are gone: a starting engine empties the chains that all share.
pub fn give_back(place: &Place, tree: &Utf8Path, before: &str) -> Result<()> {
    let bridges = bridges(place);
    let nets = nets_of(&within(tree, "ip", &["-4", "-o", "addr", "show"]).read()?, &bridges);
    for insertion in insertions(before, &rules(tree), &bridges, &nets) {
        let _ = within(tree, "iptables", &insertion.iter().map(String::as_str).collect::<Vec<_>>()).run();
    }
    Ok(())
}

/// Arguments for `iptables` that put each rule back into Docker's chains that is in `before`, not in `now`, and not ours.
/// Each goes to the chain's top, so the last comes first.
fn insertions(before: &str, now: &str, bridges: &[String], nets: &[Net]) -> Vec<Vec<String>> {
    let all = parse(now);
    let ours = about(bridges, nets);
    let lost = parse(before).into_iter().rev().filter(|rule| !all.contains(rule));
    lost.filter(|(_, words)| words[0].starts_with("DOCKER") && !ours(words)).map(|rule| command(rule, "-I")).collect()
}

/// Removes the bridges of `place` and every firewall rule about them; no network of another engine is touched.
pub fn clean(place: &Place, tree: &Utf8Path) -> Result<usize> {
    let bridges = bridges(place);
    let addresses = within(tree, "ip", &["-4", "-o", "addr", "show"]).read()?;
    let nets = nets_of(&addresses, &bridges);
    let rules = within(tree, "iptables-save", &[]).read()?;
    for deletion in deletions(&rules, &bridges, &nets) {
        // A rule that went with another one is what we want.
        let _ = within(tree, "iptables", &deletion.iter().map(String::as_str).collect::<Vec<_>>()).run();
    }
    for bridge in &bridges {
        within(tree, "ip", &["link", "delete", bridge]).run()?;
    }
    let before = std::fs::read_to_string(place.network_before()).ok();
    if let Some(before) = before.and_then(|text| serde_json::from_str::<Before>(&text).ok()) {
        put_back(tree, before)?;
    }
    Ok(bridges.len())
}

/// Removes Docker's chains and settings if there were none before and nobody else uses them now.
fn put_back(tree: &Utf8Path, before: Before) -> Result<()> {
    let rules = within(tree, "iptables-save", &[]).read()?;
    if before.docker || has_networks(&rules) {
        return Ok(());
    }
    for command in chain_removals(&rules, before) {
        let _ = within(tree, "iptables", &command.iter().map(String::as_str).collect::<Vec<_>>()).run();
    }
    if !before.forwarding {
        let _ = std::fs::write(FORWARDING, "0");
    }
    Ok(())
}

/// Whether a network of any engine is still behind Docker's chains.
fn has_networks(rules: &str) -> bool {
    rules.lines().any(|line| line.starts_with("-A FORWARD -o ") && line.ends_with(" -j DOCKER"))
}

/// Commands that take Docker's chains away: references first, then the chains.
fn chain_removals(rules: &str, before: Before) -> Vec<Vec<String>> {
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
    if !before.drop {
        references.push(words("filter", &["-P", "FORWARD", "ACCEPT"]));
    }
    references.extend(chains);
    references
}

/// The bridges that exist of this engine: the default one, and those of the networks that its data knows.
fn bridges(place: &Place) -> Vec<String> {
    let known = std::fs::read(place.data().join("network/files/local-kv.db")).unwrap_or_default();
    let ids = network_ids(&known).into_iter().map(|id| format!("br-{}", &id[..12]));
    let mut names: Vec<String> = ids.chain([place.bridge()]).collect();
    names.retain(|name| Utf8Path::new("/sys/class/net").join(name).exists());
    names.sort();
    names.dedup();
    names
}

/// Network IDs in Docker's network database: keys end with `/network/<64 hexadecimal digits>/`. IDs are random, so one
/// that was removed long ago names nobody's bridge.
fn network_ids(database: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"network/";
    let starts = database.windows(KEY.len()).enumerate().filter(|(_, window)| *window == KEY);
    let ids = starts.filter_map(|(at, _)| std::str::from_utf8(database.get(at + KEY.len()..at + KEY.len() + 64)?).ok());
    let mut ids: Vec<String> = ids.filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit())).map(str::to_owned).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// Networks of `bridges` in the output of `ip -4 -o addr show`.
fn nets_of(addresses: &str, bridges: &[String]) -> Vec<Net> {
    let fields = addresses.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = fields.filter(|f| f.get(1).is_some_and(|device| bridges.iter().any(|b| b == device)));
    ours.filter_map(|f| Net::parse(f.get(3)?)).collect()
}

/// Arguments for `iptables` that delete each rule of `iptables-save` that is about one of `bridges` or `nets`.
fn deletions(rules: &str, bridges: &[String], nets: &[Net]) -> Vec<Vec<String>> {
    let ours = about(bridges, nets);
    parse(rules).into_iter().filter(|(_, words)| ours(words)).map(|rule| command(rule, "-D")).collect()
}

/// A rule: its table, then the words of its `iptables-save` line after `-A`, the chain first.
type Rule<'a> = (&'a str, Vec<&'a str>);

/// The rules of `iptables-save`, but those with a comment in quotes: Docker writes none.
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

/// Whether a rule's words name one of `bridges` or an address within `nets`.
fn about<'a>(bridges: &'a [String], nets: &'a [Net]) -> impl Fn(&[&str]) -> bool + 'a {
    let inside = |word: &str| Net::parse(word).is_some_and(|w| nets.iter().any(|n| n.overlaps(w) && w.bits >= n.bits));
    move |words| words.iter().any(|word| bridges.iter().any(|b| b == word) || inside(word))
}

fn command((table, words): Rule<'_>, verb: &str) -> Vec<String> {
    ["-w", "-t", table, verb].into_iter().chain(words).map(str::to_owned).collect()
}

/// A program of the tree, run with the tree as its root: the machine need not have it.
fn within(tree: &Utf8Path, program: &str, args: &[&str]) -> Process {
    Process::new("chroot")
        .args([tree.as_str(), program])
        .args(args.iter().copied())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

#[cfg(test)]
mod tests;
