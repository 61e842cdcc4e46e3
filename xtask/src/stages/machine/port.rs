//! Finds the process that listens on a TCP port.

use std::fmt;
use std::io::ErrorKind;
use std::net::TcpListener;

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// Process ID; `None` for another user's process, and on systems without `/proc`.
    pub pid: Option<u32>,
    /// Process name.
    pub name: String,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (process {pid})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Returns the process that listens on `port` of either loopback address: `localhost` may resolve to both.
pub fn holder(port: u16) -> Option<PortHolder> {
    let is_held = |address| TcpListener::bind((address, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    if !["127.0.0.1", "::1"].into_iter().any(is_held) {
        return None;
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let found = tables.iter().flat_map(|table| listeners(table, port)).find_map(find_process);
    Some(found.unwrap_or_else(|| PortHolder { pid: None, name: "a program that xtask cannot identify".to_owned() }))
}

/// Returns the inodes of sockets in `table` (`/proc/net/tcp` or `tcp6`) that listen on `port`.
fn listeners(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let listens = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == LISTEN;
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn find_process(inode: u64) -> Option<PortHolder> {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == wanted.as_str())
    })?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(PortHolder { pid: Some(pid), name: name.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 51234 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 51300 1 0000000000000000 20 4 30 10 -1
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 777 1 0000000000000000 100 0 0 10 0
";

    #[test]
    fn finds_only_listening_sockets() {
        assert_eq!(listeners(TCP, 8080), [51234]);
        assert_eq!(listeners(TCP6, 3000), [777]);
        assert!(listeners(TCP, 80).is_empty());
    }

    #[test]
    fn finds_a_holder_on_ipv6_alone() {
        // Binding fails on a machine without IPv6.
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        assert!(holder(listener.local_addr().unwrap().port()).is_some());
    }

    #[test]
    fn names_this_process_as_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = holder(port).unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(found.pid, Some(std::process::id()));
        }
        // Another program may take the port of a listener that has ended.
        assert_eq!(holder(1), None);
    }
}
