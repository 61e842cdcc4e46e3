//! Tests with a real gitleaks: `TODO_TEST_GITLEAKS=/path cargo test -p xtask -- --ignored scan::`, as `cargo xtask test`
//! does. This file contains no secret as a literal, because the scan reads it too.

use camino::Utf8PathBuf;

use super::scanner::specimens;
use super::*;
use crate::settings::Settings;

fn random_key() -> String {
    Settings::read(&crate::checkout::find(None)).unwrap().keys.random
}

fn gitleaks() -> Process {
    Process::new(std::env::var("TODO_TEST_GITLEAKS").expect("TODO_TEST_GITLEAKS names the gitleaks binary"))
}

struct Checkout(tempfile::TempDir);

impl Checkout {
    fn new() -> Self {
        let checkout = Self(tempfile::tempdir().unwrap());
        checkout.write(RULES, include_str!("../../../../.gitleaks.toml"));
        checkout.write(".gitignore", ".env\ntarget/\n");
        checkout
    }

    fn repository() -> Self {
        let checkout = Self::new();
        checkout.git(&["init", "--quiet", "--initial-branch=main"]);
        checkout.commit("begin");
        checkout
    }

    fn root(&self) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.0.path().join("checkout")).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn git(&self, args: &[&str]) {
        let identity = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"];
        git::git(&self.root()).args(identity).args(args.iter().copied()).run().unwrap();
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
    }

    fn scan(&self) -> Vec<String> {
        self.result().leaks.iter().map(Leak::to_string).collect()
    }

    fn result(&self) -> ScanResult {
        let result = scan(&self.root(), &random_key(), &self.root().join("target"), &gitleaks()).unwrap();
        assert!(std::fs::read_dir(self.root().join("target")).unwrap().next().is_none(), "nothing is left behind");
        result
    }
}

/// Returns a text with one specimen per line, and the expected leaks.
fn planted(location: &str) -> (String, Vec<String>) {
    let specimens = specimens(&random_key());
    let text = specimens.iter().map(|(_, line)| format!("{line}\n")).collect();
    (text, specimens.iter().enumerate().map(|(n, (rule, _))| format!("{location}:{}: {rule}", n + 1)).collect())
}

/// Asserts that each of `expected` matches the location and a rule of a leak with `suffix`.
fn assert_found(found: &[String], expected: &[String], suffix: &str) {
    for wanted in expected {
        let (location, rule) = wanted.rsplit_once(": ").unwrap();
        let hit = |f: &&String| f.starts_with(&format!("{location}: ")) && f.contains(rule) && f.contains(suffix);
        assert!(found.iter().any(|f| hit(&f)), "{wanted} {suffix} is not in {found:#?}");
    }
}

#[test]
#[ignore = "needs gitleaks: run by the suite `scan` of cargo xtask test"]
fn every_kind_is_found_in_the_working_tree() {
    let checkout = Checkout::repository();
    let (text, expected) = planted("apps/new.py");
    checkout.write("apps/new.py", &text);
    checkout.write(".env", &text);
    let found = checkout.scan();
    assert_found(&found, &expected, "");
    assert!(found.iter().all(|f| f.starts_with("apps/new.py:")), "the ignored .env is not scanned: {found:#?}");
}

#[test]
#[ignore = "needs gitleaks: run by the suite `scan` of cargo xtask test"]
fn every_kind_is_found_in_the_index_alone() {
    let checkout = Checkout::repository();
    let (text, expected) = planted("new.py");
    checkout.write("new.py", &text);
    checkout.git(&["add", "new.py"]);
    checkout.write("new.py", "");
    assert_found(&checkout.scan(), &expected, "(staged)");
}

#[test]
#[ignore = "needs gitleaks: run by the suite `scan` of cargo xtask test"]
fn every_kind_is_found_in_the_history() {
    let checkout = Checkout::repository();
    let (text, expected) = planted("old.py");
    checkout.write("old.py", &text);
    checkout.commit("add");
    std::fs::remove_file(checkout.root().join("old.py")).unwrap();
    checkout.commit("remove");
    let leaks = checkout.result().leaks;
    let found: Vec<String> = leaks.iter().map(Leak::to_string).collect();
    assert_found(&found, &expected, "(commit ");
    assert!(found.iter().all(|f| f.contains("(commit ")), "{found:#?}");
    let failure = failure(&leaks);
    assert_eq!(failure.class, Class::Check);
    assert!(failure.to_string().ends_with("in the history") && failure.hints().len() == 3, "{failure:?}");
}

#[test]
#[ignore = "needs gitleaks: run by the suite `scan` of cargo xtask test"]
fn branches_merges_and_messages_are_history_too() {
    let checkout = Checkout::repository();
    let secret = specimens(&random_key()).remove(6).1;
    checkout.git(&["switch", "--quiet", "--create", "side"]);
    checkout.write("side.py", &secret);
    checkout.commit("side");
    checkout.git(&["switch", "--quiet", "main"]);
    checkout.git(&["switch", "--quiet", "--create", "other"]);
    checkout.commit("other");
    checkout.git(&["switch", "--quiet", "main"]);
    checkout.write("main.py", "x = 1\n");
    checkout.commit("main");
    checkout.git(&["merge", "--quiet", "--no-ff", "--no-commit", "other"]);
    checkout.write("merge.py", &secret);
    checkout.commit("merge");
    std::fs::remove_file(checkout.root().join("merge.py")).unwrap();
    checkout.commit(&format!("remove\n\nit was {secret}"));
    let found = checkout.scan();
    assert_found(&found, &["side.py:1: todo-openai-key".into(), "merge.py:1: todo-openai-key".into()], "(commit ");
    assert!(found.iter().any(|f| f.starts_with("message of commit ") && f.contains(", line 3: ")), "{found:#?}");
}

#[test]
#[ignore = "needs gitleaks: run by the suite `scan` of cargo xtask test"]
fn scans_and_reports_a_shallow_clone_and_a_folder_without_repository() {
    let full = Checkout::repository();
    full.write("old.py", &specimens(&random_key())[0].1);
    full.commit("add");
    let shallow = Checkout(tempfile::tempdir().unwrap());
    let source = format!("file://{}", full.root());
    let target = shallow.root();
    let clone = git::git(target.parent().unwrap()).args(["clone", "--quiet", "--depth=1", &source, target.as_str()]);
    clone.run().unwrap();
    let result = shallow.result();
    assert_eq!(result.history, Some(1));
    assert!(result.remarks[0].contains("shallow"), "{:?}", result.remarks);
    assert_eq!(result.leaks.len(), 2, "tree and commit");

    let plain = Checkout::new();
    plain.write("a.py", &specimens(&random_key())[0].1);
    let result = plain.result();
    assert_eq!((result.history, result.files), (None, 3));
    assert!(result.remarks[0].contains("not a git checkout"), "{:?}", result.remarks);
    assert_eq!(result.leaks.len(), 1);
}

#[test]
#[ignore = "needs gitleaks: run by the suite `scan` of cargo xtask test"]
fn a_repository_without_commits_or_secrets_is_clean() {
    let checkout = Checkout::new();
    checkout.git(&["init", "--quiet"]);
    checkout.write(
        "a.py",
        "url = 'postgresql://todo:not-a-secret@db.lan/x'\nAUTH_SECRET = 'not-a-secret-but-long-enough'\n",
    );
    checkout.write("b.rs", "format!(\"postgresql://todo:{password}@db\")\n");
    assert_eq!(checkout.scan(), Vec::<String>::new());
    checkout.commit("begin");
    assert_eq!(checkout.scan(), Vec::<String>::new());
}

#[test]
#[ignore = "needs gitleaks: run by the suite `scan` of cargo xtask test"]
fn a_broken_rule_or_git_is_not_taken_for_clean() {
    let checkout = Checkout::repository();
    checkout.write(RULES, "title = \"nothing\"\n");
    let error =
        scan(&checkout.root(), &random_key(), &checkout.root().join("target"), &gitleaks()).unwrap_err().to_string();
    assert!(error.starts_with("gitleaks does not find the specimens of these rules: todo-postgres-url"), "{error}");

    let checkout = Checkout::repository();
    let scanner = Scanner {
        gitleaks: gitleaks(),
        rules: checkout.root().join(RULES),
        root: checkout.root(),
        random_key: random_key(),
    };
    std::fs::rename(checkout.root().join(".git/objects"), checkout.root().join(".git/gone")).unwrap();
    assert!(scanner.scan_history().unwrap_err().to_string().starts_with("gitleaks could not scan"));
}

#[test]
#[ignore = "needs gitleaks: run by the suite `scan` of cargo xtask test"]
fn this_checkout_is_clean() {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found = scan(root, &random_key(), &root.join("target/xtask"), &gitleaks()).unwrap().leaks;
    assert_eq!(found, [], "{found:#?}");
}
