//! Selection of checkout and cache.

use std::fs;
use std::process::Command;

use camino::Utf8Path;
use serde_json::Value;

use crate::common::{Run, Sandbox, checkout};

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

/// In a shared target folder, cargo would run the program of another checkout if the sources are older than that program.
/// The variable in `.cargo/config.toml` makes it rebuild.
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
fn the_cache_is_a_subfolder_of_the_folder_in_the_variable() {
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
    // A checkout with the cache's name is not a cache.
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
fn an_unmarked_old_cache_still_works_and_its_removal_removes_nothing_else() {
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

/// Compiles the crate with the condition for Windows, by the compiler of xtask.
#[test]
fn windows_gets_one_compile_error() {
    let crate_of = checkout().join("xtask/windows/src/lib.rs");
    let rustc = Utf8Path::new(&std::env::var("CARGO").unwrap()).with_file_name("rustc");
    let temp = tempfile::tempdir().unwrap();
    let compile = |more: &[&str]| {
        let mut rustc = Command::new(&rustc);
        rustc.args(["--edition=2024", "--crate-type=lib", "--emit=metadata", crate_of.as_str()]);
        let output = rustc.args(more).current_dir(temp.path()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(compile(&[]), (true, String::new()));
    let (is_fine, stderr) = compile(&["--allow=explicit_builtin_cfgs_in_flags", "--cfg=windows"]);
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let sentence = "error: xtask runs on Linux and macOS; on Windows, clone and run it in WSL 2, with Docker Desktop's WSL \
                    integration on";
    assert!(!is_fine && errors.first() == Some(&sentence), "{stderr}");
    assert!(errors.iter().skip(1).all(|line| line.starts_with("error: aborting due to 1 previous error")), "{stderr}");
    let manifest: toml::Table = toml::from_str(include_str!("../../Cargo.toml")).unwrap();
    assert!(manifest["target"]["cfg(windows)"]["dependencies"].get("xtask-windows").is_some());
}

/// Runs the command of the first hint of `document`, up to `end`.
fn follow_first_hint(sandbox: &Sandbox, run: &Run, end: &str) -> String {
    let document: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"));
    let command = document["error"]["hints"][0]["command"].as_str().unwrap_or_else(|| panic!("{document}"));
    let command = command.split(end).next().unwrap();
    let output = Command::new("sh").args(["-c", command]).current_dir(&sandbox.dir).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    command.to_owned()
}

#[test]
fn commands_in_hints_can_be_pasted_with_any_path() {
    let sandbox = Sandbox::with_tools();
    let home = sandbox.dir.join("it's  a HOME & more");
    fs::create_dir(&home).unwrap();
    let cache = home.join("todo-xtask");
    fs::rename(&sandbox.cache, &cache).unwrap();
    let place = [("TODO_XTASK_CACHE", home.as_str())];

    let record = cache.join("bases/release/python+3.13-slim-trixie.json");
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, "{").unwrap();
    let run = sandbox.run_with(&["images", "--json", "--origin=release"], &place);
    follow_first_hint(&sandbox, &run, " && cargo");
    assert!(!record.exists(), "{run}");

    fs::rename(&cache, home.join("other")).unwrap();
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("letters"), "mine").unwrap();
    let run = sandbox.run_with(&["images", "--json", "--origin=release"], &place);
    let command = follow_first_hint(&sandbox, &run, "\n");
    assert!(command.starts_with("mv ") && home.join("todo-xtask.old/letters").exists() && !cache.exists(), "{run}");
}
