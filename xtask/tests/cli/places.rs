//! Which checkout and which cache a run works on.

use std::fs;
use std::process::Command;

use crate::common::{Sandbox, checkout};

#[test]
fn without_a_root_the_checkout_around_the_current_folder_is_used() {
    let sandbox = Sandbox::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["config"]).env_clear().env("HOME", &sandbox.dir).env("PATH", sandbox.dir.join("bin"));
    let output = command.current_dir(sandbox.root.join("apps/backend")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("{}/.env", sandbox.root)), "{text}");
    assert!(!text.contains(&format!("{}/.env", checkout())), "{text}");
}

/// cargo takes a checkout for unchanged whose files are older than the program that another checkout left in the shared
/// target folder. The variable in `.cargo/config.toml` is what it notices.
#[test]
fn two_checkouts_with_one_target_folder_each_run_their_own_program() {
    let temp = tempfile::tempdir().unwrap();
    let program = |name: &str| {
        let folder = temp.path().join(name);
        fs::create_dir_all(folder.join(".cargo")).unwrap();
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::copy(checkout().join(".cargo/config.toml"), folder.join(".cargo/config.toml")).unwrap();
        let manifest = "[package]\nname = \"p\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
        fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        let main = format!(r#"fn main() {{ print!("{{}} {name}", env!("XTASK_CHECKOUT")) }}"#);
        fs::write(folder.join("src/main.rs"), main).unwrap();
        let old = fs::File::options().write(true).open(folder.join("src/main.rs")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        folder
    };
    let folders = ["a", "b"].map(|name| (program(name), name));
    for (folder, name) in folders.iter().chain(&folders) {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap());
        cargo.args(["run", "--quiet", "--offline"]).current_dir(folder).env_remove("XTASK_CHECKOUT");
        let output = cargo.env("CARGO_TARGET_DIR", temp.path().join("target")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(text, format!("{}/ {name}", folder.display()));
    }
}

#[test]
fn the_cache_is_a_folder_of_its_own_in_the_one_that_the_variable_names() {
    let sandbox = Sandbox::with_tools();
    let disk = sandbox.dir.join("disk");
    for name in ["photos", "packages", "engine"] {
        fs::create_dir_all(disk.join(name)).unwrap();
        fs::write(disk.join(name).join("mine"), "").unwrap();
    }
    let before = sandbox.listing(&disk);
    let on_disk = [("TODO_XTASK_CACHE", disk.as_str())];
    let none = "echo 'Cannot connect to the Docker daemon at unix:///nonexistent.sock. Is it running?' >&2; exit 1";
    sandbox.on("docker version *", none);
    for _ in 0..2 {
        let run = sandbox.run_with(&["teardown", "--yes", "--cache", "--origin=release"], &on_disk);
        assert_eq!(run.code, Some(0), "{run}");
        assert!(run.stderr.contains(&format!("cache removed: {disk}/todo-xtask")), "{run}");
        assert_eq!(before, sandbox.listing(&disk));
    }
    // A checkout that has the cache's name is no cache.
    fs::create_dir(disk.join("todo-xtask")).unwrap();
    fs::write(disk.join("todo-xtask/README.md"), "").unwrap();
    let before = sandbox.listing(&disk);
    for args in [["teardown", "--yes", "--cache"].as_slice(), &["teardown"], &["images"]] {
        let run = sandbox.run_with(&[&["--origin=release"], args].concat(), &on_disk);
        assert!(run.code.is_some_and(|code| code > 1) && run.stderr.contains("README.md"), "{run}");
        assert_eq!(before, sandbox.listing(&disk));
    }
}

#[test]
fn a_cache_from_before_the_mark_goes_on_working_and_takes_nothing_else_with_it() {
    let sandbox = Sandbox::with_tools();
    let disk = sandbox.dir.join("disk");
    fs::rename(&sandbox.cache, &disk).unwrap();
    fs::write(disk.join("origin"), "release").unwrap();
    fs::write(disk.join("photos"), "").unwrap();
    let on_disk = [("TODO_XTASK_CACHE", disk.as_str())];
    let run = sandbox.run_with(&["images", "--dry-run"], &on_disk);
    assert_eq!(run.code, Some(0), "{run}");
    let run = sandbox.run_with(&["teardown", "--yes", "--cache"], &on_disk);
    assert_eq!(run.code, Some(4), "{run}");
    assert!(run.stderr.contains("besides the cache it holds photos") && disk.join("release").exists(), "{run}");
    fs::remove_file(disk.join("photos")).unwrap();
    let none = "echo 'Cannot connect to the Docker daemon at unix:///nonexistent.sock. Is it running?' >&2; exit 1";
    sandbox.on("docker version *", none);
    let run = sandbox.run_with(&["teardown", "--yes", "--cache"], &on_disk);
    assert!(run.code == Some(0) && !disk.exists(), "{run}");
}
