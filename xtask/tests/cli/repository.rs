//! Checks of git and of the changelog.

use std::fs;
use std::process::Command;

use crate::common::checkout;

/// A version's tag marks the commit whose crates have that version.
#[test]
fn the_newest_version_in_the_changelog_matches_the_crates() {
    let changelog = fs::read_to_string(checkout().join("CHANGELOG.md")).unwrap();
    let heading = |line: &str| Some(line.strip_prefix("## [")?.split_once(']')?.0.to_owned());
    let versions: Vec<String> = changelog.lines().filter_map(heading).filter(|name| name != "Unreleased").collect();
    assert_eq!(versions[0], env!("CARGO_PKG_VERSION"));
    for version in versions {
        let link = format!("[{version}]: #{}---", version.replace('.', ""));
        assert!(changelog.contains(&link), "{link} is missing at the end");
    }
}

/// Disables shellcheck and pyflakes, which only some machines have.
#[test]
#[ignore = "needs actionlint: run by the suite `rust` of cargo xtask test"]
fn actionlint_accepts_the_workflows_and_finds_a_mistake() {
    let temp = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(checkout().join(".github/workflows/ci.yml")).unwrap();
    let check = |text: &str| {
        let file = temp.path().join("ci.yml");
        fs::write(&file, text).unwrap();
        let program = std::env::var("TODO_TEST_ACTIONLINT").expect("TODO_TEST_ACTIONLINT names the program");
        let output = Command::new(program).args(["-shellcheck=", "-pyflakes="]).arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(check(&text), (true, String::new()));
    let (is_valid, found) = check(&text.replace("matrix.runner", "matrix.runer"));
    assert!(!is_valid && found.contains("\"runer\" is not defined"), "{found}");
}

/// Content tags and scripts in images need LF, even if git is configured for Windows.
#[test]
fn a_clone_has_lf_with_any_core_autocrlf() {
    let temp = tempfile::tempdir().unwrap();
    fs::copy(checkout().join(".gitattributes"), temp.path().join(".gitattributes")).unwrap();
    fs::write(temp.path().join("run.sh"), "#!/bin/sh\ntrue\n").unwrap();
    fs::write(temp.path().join("picture.png"), b"\x89PNG\r\n\x1a\n\0").unwrap();
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "core.autocrlf=true", "-c", "user.name=t", "-c", "user.email=t@t.invalid"]).args(args);
        let output = git.current_dir(temp.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    for name in ["run.sh", "picture.png"] {
        fs::remove_file(temp.path().join(name)).unwrap();
    }
    git(&["checkout", "--", "."]);
    assert_eq!(fs::read(temp.path().join("run.sh")).unwrap(), b"#!/bin/sh\ntrue\n");
    assert_eq!(fs::read(temp.path().join("picture.png")).unwrap(), b"\x89PNG\r\n\x1a\n\0");
}
