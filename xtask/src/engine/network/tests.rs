use super::*;

const ROUTES: &str = "\
Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t010010AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000010AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
todo-0a0b0c0d\t00071EAC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
br-823a62a5bac7\t0031A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

const RULES: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 192.168.49.0/24 ! -o br-823a62a5bac7 -j MASQUERADE
-A POSTROUTING -s 172.30.7.0/24 ! -o todo-0a0b0c0d -j MASQUERADE
-A POSTROUTING -s 172.30.7.2/32 -d 172.30.7.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i todo-0a0b0c0d -j RETURN
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o br-823a62a5bac7 -j DOCKER
-A FORWARD -o todo-0a0b0c0d -j DOCKER
-A FORWARD -m comment --comment \"about todo-0a0b0c0d \" -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
";

#[test]
fn the_bridge_gets_a_network_nobody_has_a_route_to() {
    let taken = routes_but(ROUTES, "docker0");
    assert_eq!(taken.len(), 3);
    assert_eq!(free(7, &taken).as_deref(), Some("172.30.8.1/24"));
    // Its own route is no reason to move.
    assert_eq!(free(7, &routes_but(ROUTES, "todo-0a0b0c0d")).as_deref(), Some("172.30.7.1/24"));
    // A company that routes all of 172.16.0.0/12 leaves none.
    assert_eq!(free(7, &[Net::parse("172.16.0.0/12").unwrap()]), None);
}

#[test]
fn the_way_out_is_the_default_route() {
    assert_eq!(default_device(ROUTES), Some("eth0"));
    assert_eq!(default_device(""), None);
}

#[test]
fn only_rules_about_our_networks_are_deleted() {
    let bridges = ["todo-0a0b0c0d".to_owned()];
    let nets = nets_of("7: todo-0a0b0c0d    inet 172.30.7.1/24 scope global todo-0a0b0c0d\\ valid", &bridges);
    let found: Vec<String> = deletions(RULES, &bridges, &nets).iter().map(|words| words.join(" ")).collect();
    assert_eq!(
        found,
        [
            "-w -t nat -D POSTROUTING -s 172.30.7.0/24 ! -o todo-0a0b0c0d -j MASQUERADE",
            "-w -t nat -D POSTROUTING -s 172.30.7.2/32 -d 172.30.7.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
            "-w -t nat -D DOCKER -i todo-0a0b0c0d -j RETURN",
            "-w -t filter -D FORWARD -o todo-0a0b0c0d -j DOCKER",
        ]
    );
}

#[test]
fn chains_and_forwarding_go_only_where_nobody_else_needs_them() {
    let before = NetworkState { docker: false, drop: false, forwarding: false };
    let lonely: String = RULES
        .lines()
        .filter(|l| !l.contains(" -o br-") && !l.contains(" -o todo-"))
        .fold(String::new(), |text, line| text + line + "\n");
    let lonely = lonely.replace("-A DOCKER -i todo-0a0b0c0d -j RETURN\n", "");
    let lonely: String = lonely
        .lines()
        .filter(|l| !l.contains("MASQUERADE") && !l.contains("comment"))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!(users(&lonely, before, &[]), (Keep::default(), vec![]));
    let user = |rules: &str, names: &[&str]| {
        let device = |name: &&str| Device { name: (*name).to_owned(), forwards: *name != "eth0" };
        let (keep, left) = users(rules, before, &names.iter().map(device).collect::<Vec<_>>());
        (keep.chains, keep.forwarding, left.join("\n"))
    };
    // Another engine's network is behind the chains.
    let (chains, forwarding, left) = user(RULES, &["br-823a62a5bac7"]);
    assert!(chains && forwarding && left.contains("-j DOCKER` may be another engine's"), "{left}");
    // Somebody has put a rule where Docker says to.
    let own =
        lonely.replace("-A DOCKER-USER -j RETURN", "-A DOCKER-USER -s 10.0.0.1/32 -j DROP\n-A DOCKER-USER -j RETURN");
    assert!(user(&own, &["eth0"]).0);
    // podman, libvirt or a VPN: none of them uses Docker's chains.
    let (chains, forwarding, left) = user(&lonely, &["eth0", "podman0"]);
    assert!(!chains && forwarding && left.contains("network device podman0 may need it"), "{left}");
    let libvirt = lonely.replace("-A FORWARD -j DOCKER-USER", "-A FORWARD -j LIBVIRT_FWX\n-A FORWARD -j DOCKER-USER");
    let (chains, forwarding, left) = user(&libvirt, &["eth0"]);
    assert!(!chains && forwarding && left.contains("LIBVIRT_FWX"), "{left}");
    let kept = Keep { chains: false, forwarding: true };
    let commands = removals(&libvirt, before, &kept);
    assert!(!commands.iter().any(|words| words.contains(&"ACCEPT".to_owned()) || words.join(" ").contains("LIBVIRT")));
    assert!(removals(RULES, before, &Keep { chains: true, forwarding: true }).is_empty());
    let commands: Vec<String> =
        removals(&lonely, before, &Keep::default()).iter().map(|words| words.join(" ")).collect();
    assert!(commands.contains(&"-w -t nat -D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER".to_owned()));
    assert!(commands.contains(&"-w -t filter -P FORWARD ACCEPT".to_owned()));
    let at = |text: &str| commands.iter().position(|c| c == text).unwrap();
    assert!(at("-w -t filter -D FORWARD -j DOCKER-USER") < at("-w -t filter -X DOCKER-USER"));
}

#[test]
fn networks_are_found_in_the_database() {
    let id = "823a62a5bac7".to_owned() + &"0".repeat(52);
    let database = format!("\0\u{1}docker/network/v1.0/network/{id}/\0{{}}docker/network/v1.0/endpoint/xx");
    assert_eq!(network_ids(database.as_bytes()), [id]);
}

#[test]
fn another_engine_gets_its_rules_back_in_their_order() {
    let before = "*nat\n-A PREROUTING -j DOCKER\n-A DOCKER -i docker0 -j RETURN\n-A DOCKER -i todo-0a0b0c0d -j RETURN\n\
        -A DOCKER ! -i br-1 -p tcp --dport 80 -j DNAT --to-destination 192.168.49.2:80\n\
        -A DOCKER ! -i br-2 -p tcp --dport 81 -j DNAT --to-destination 172.30.7.9:81\n-A DOCKER -i br-3 -j RETURN\nCOMMIT\n";
    let now = "*nat\n-A DOCKER -i br-3 -j RETURN\nCOMMIT\n";
    let ours = ["todo-0a0b0c0d".to_owned(), "br-2".to_owned()];
    let found: Vec<String> = insertions(before, now, &ours, &[]).iter().map(|words| words.join(" ")).collect();
    assert_eq!(
        found,
        [
            "-w -t nat -I DOCKER ! -i br-1 -p tcp --dport 80 -j DNAT --to-destination 192.168.49.2:80",
            "-w -t nat -I DOCKER -i docker0 -j RETURN",
        ]
    );
}
