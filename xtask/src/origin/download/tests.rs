//! Downloads from a server on the loopback interface, with and without faults.

use std::time::{Duration, Instant};

use super::loopback::{Loopback, Reply};
use super::*;
use crate::deadlines::HANG;

const PATIENT: Limits = Limits { connect: HANG, stall: HANG, pause: Duration::from_millis(1), retries: 3 };
/// For servers that stall. All answers come within this time, also on a busy machine.
const QUICK: Limits = Limits { stall: Duration::from_secs(1), ..PATIENT };

/// Returns 300 kB of varying content.
fn file() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as u8).collect()
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Try {
    server: Loopback,
    limits: Limits,
    dir: tempfile::TempDir,
}

impl Try {
    fn with(script: &[Reply]) -> Self {
        let stalls = script.iter().any(|reply| matches!(reply, Reply::StallAfter(_) | Reply::Silent));
        let limits = if stalls { QUICK } else { PATIENT };
        Self { server: Loopback::serve(&file(), script), limits, dir: tempfile::tempdir().unwrap() }
    }

    fn dest(&self) -> Utf8PathBuf {
        Utf8Path::from_path(self.dir.path()).unwrap().join("deep/kubectl")
    }

    fn leave_part(&self, bytes: &[u8]) {
        std::fs::create_dir_all(self.dest().parent().unwrap()).unwrap();
        std::fs::write(beside(&self.dest(), "part"), bytes).unwrap();
    }

    fn fetch(&self) -> Result<()> {
        fetch_within(self.limits, &self.server.url("/kubectl"), &sum(&file()), &self.dest(), None, &|_| {})
    }

    fn succeeds(&self, requests: &[&str]) {
        self.fetch().unwrap();
        assert_eq!(std::fs::read(self.dest()).unwrap(), file());
        assert!(!beside(&self.dest(), "part").exists());
        assert_eq!(self.server.seen(), requests);
    }

    /// Fails as a failure of the machine that says all of `says`, in its text or its hints.
    fn fails(&self, says: &[&str]) {
        let error = self.fetch().unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(failure.class, Class::Machine);
        let text = format!("{failure} {}", failure.hints().join(" "));
        says.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
        assert!(!self.dest().exists());
    }
}

#[test]
fn good() {
    let one = Try::with(&[Reply::Good]);
    one.succeeds(&["GET"]);
    // What is there and right is not asked for again.
    one.succeeds(&["GET"]);
}

#[test]
fn a_wrong_checksum_is_refused_and_removed() {
    let one = Try::with(&[Reply::Other(b"<html>Please log in</html>".to_vec())]);
    let got = sum(b"<html>Please log in</html>");
    one.fails(&[&sum(&file()), &got, &one.server.url("/kubectl"), "removed", "run the command again"]);
    assert!(!beside(&one.dest(), "part").exists());
}

#[test]
fn cut_off_then_resumed_in_the_same_run() {
    Try::with(&[Reply::CutAfter(100_000), Reply::Good]).succeeds(&["GET", "GET 100000-"]);
}

#[test]
fn cut_off_for_good_keeps_what_came_and_the_next_run_resumes() {
    let cut = Reply::CutAfter(10_000);
    let one = Try::with(&[cut.clone(), cut.clone(), cut.clone(), cut, Reply::Good]);
    one.fails(&["cut off", "after 40.0 kB of 300.0 kB", "4 attempts", "resumes after 40.0 kB"]);
    one.succeeds(&["GET", "GET 10000-", "GET 20000-", "GET 30000-", "GET 40000-"]);
}

#[test]
fn a_server_without_ranges_starts_over() {
    Try::with(&[Reply::CutAfter(100_000), Reply::NoRange]).succeeds(&["GET", "GET 100000-"]);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_appended() {
    Try::with(&[Reply::CutAfter(100_000), Reply::WrongRange, Reply::Good]).succeeds(&["GET", "GET 100000-", "GET"]);
}

#[test]
fn a_part_that_was_already_whole_is_taken() {
    let one = Try::with(&[Reply::Good]);
    one.leave_part(&file());
    one.succeeds(&["GET 300000-"]);
}

#[test]
fn a_part_that_is_too_long_is_dropped() {
    let one = Try::with(&[Reply::Good]);
    one.leave_part(&[file(), vec![0]].concat());
    one.succeeds(&["GET 300001-", "GET"]);
}

#[test]
fn a_spoilt_part_is_downloaded_anew() {
    let one = Try::with(&[Reply::Good]);
    one.leave_part(&[0; 50_000]);
    one.succeeds(&["GET 50000-", "GET"]);
}

#[test]
fn reports_not_found_without_a_retry() {
    let one = Try::with(&[Reply::Status(404)]);
    one.fails(&["HTTP 404", "infra/release.toml"]);
    assert_eq!(one.server.seen(), ["GET"]);
}

#[test]
fn server_errors_are_retried() {
    Try::with(&[Reply::Status(500), Reply::Status(503), Reply::Good]).succeeds(&["GET", "GET", "GET"]);
    Try::with(&[Reply::Status(502)]).fails(&["HTTP 502", "4 attempts", "in a while"]);
}

#[test]
fn a_stalled_server_is_given_up() {
    let start = Instant::now();
    Try::with(&[Reply::StallAfter(1000)]).fails(&["stalled", "resumes after"]);
    Try::with(&[Reply::Silent]).fails(&["stalled"]);
    assert!(start.elapsed() < HANG, "{:?}", start.elapsed());
    Try::with(&[Reply::StallAfter(1000), Reply::Good]).succeeds(&["GET", "GET 1000-"]);
}

#[test]
fn reports_a_missing_network_with_hints() {
    let dir = tempfile::tempdir().unwrap();
    let dest = Utf8Path::from_path(dir.path()).unwrap().join("kubectl");
    let error = fetch_within(PATIENT, "http://127.0.0.1:1/kubectl", &sum(b""), &dest, None, &|_| {}).unwrap_err();
    let failure = error.downcast_ref::<Failure>().unwrap();
    let text = format!("{failure} {}", failure.hints().join(" "));
    for part in ["no connection", "HTTPS_PROXY"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("packages"), "the other origin serves no engine of the user's own: {text}");
}

#[test]
fn a_ca_bundle_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    let bundle = dir.join("ca.pem");
    std::fs::write(&bundle, "not a certificate").unwrap();
    let error = fetch("http://127.0.0.1:9/x", "", &dir.join("x"), Some(&bundle), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("ca.pem") && error.to_string().contains("no certificate"), "{error}");
}

#[test]
fn two_requests_for_the_same_file_download_it_once() {
    // The first one is slow: it stalls, and goes on afterwards.
    let one = Try::with(&[Reply::StallAfter(1000), Reply::Good]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| one.fetch().unwrap());
        }
    });
    assert_eq!(one.server.seen(), ["GET", "GET 1000-"]);
}

#[test]
fn a_probe_never_hangs() {
    let asks = |script: &[Reply], limit| {
        let server = Loopback::serve(&file(), script);
        let start = Instant::now();
        let answer = answers(&server.url("/"), None, limit);
        assert!(start.elapsed() < HANG, "{:?}", start.elapsed());
        answer
    };
    assert!(asks(&[Reply::Good], HANG));
    assert!(!asks(&[Reply::Status(403)], HANG));
    assert!(!asks(&[Reply::Silent], Duration::from_millis(500)));
    assert!(!answers("http://no-such-host.invalid/", None, Duration::from_millis(500)));
}
