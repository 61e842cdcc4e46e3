//! Base images: xtask records them, shows their age and renews them on demand.

use camino::Utf8PathBuf;
use serde_json::Value;

use crate::common::{DOTENV, Sandbox, image};

/// The image IDs of every name in the fake engine, before and after the first pull.
const OLD: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const NEW: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

/// Returns a sandbox whose engine has every image. With `newer`, pulls bring newer ones.
fn sandbox(newer: bool) -> Sandbox {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    let after = if newer { NEW } else { OLD };
    let more = format!(
        r#", \"RepoDigests\": [\"python@{after}\"], \"Metadata\": {{\"LastTagTime\": \"2026-01-02T03:04:05.678Z\"}}"#
    );
    let list = format!(
        r#"id={OLD}; [ -e "$FAKES/pulled" ] && id={after}
        for name; do case $name in image | inspect | *{{* | --*) ;; *) {} ;; esac; done"#,
        image("$id", &more)
    );
    sandbox.on("docker image inspect *", &list);
    sandbox.on("docker pull *", r#": >"$FAKES/pulled""#);
    sandbox
}

fn document(sandbox: &Sandbox, args: &[&str]) -> Value {
    let run = sandbox.run(&[args, &["--json", "--origin=release"]].concat());
    assert_eq!(run.code, Some(0), "{run}");
    serde_json::from_str(&run.stdout).unwrap()
}

fn record(sandbox: &Sandbox) -> Utf8PathBuf {
    sandbox.cache.join("bases/release/python+3.13-slim-trixie.json")
}

#[test]
fn a_refresh_pulls_and_records_each_base_and_reports_the_result() {
    let sandbox = sandbox(true);
    let run = sandbox.run(&["images", "--refresh", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    for image in ["python:3.13-slim-trixie", "node:24-trixie-slim", "postgres:17-trixie"] {
        assert!(sandbox.calls().contains(&format!("docker pull {image}")), "{run}");
    }
    assert!(run.stderr.contains("renewed: sha256:111111111111 -> sha256:222222222222"), "{run}");
    assert!(run.stderr.contains("python:3.13-slim-trixie sha256:222222222222, pulled today"), "{run}");
    // xtask removes no images from the user's own engine.
    assert!(!sandbox.calls().contains("docker image rm"), "{}", sandbox.calls());
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(record(&sandbox)).unwrap()).unwrap();
    assert_eq!((kept["id"].as_str(), kept["how"].as_str()), (Some(NEW), Some("pulled")));
    assert_eq!(kept["registry"], format!("python@{NEW}"));
}

#[test]
fn only_a_changed_base_gives_the_application_a_new_tag() {
    let tags = |newer| {
        let sandbox = sandbox(newer);
        let before = document(&sandbox, &["images"])["images"].clone();
        let after = document(&sandbox, &["images", "--refresh"])["images"].clone();
        (before[0]["tag"].clone(), after[0]["tag"].clone())
    };
    let (before, after) = tags(true);
    assert_ne!(before, after);
    let (before, after) = tags(false);
    assert_eq!(before, after);
}

#[test]
fn a_dry_run_of_a_refresh_pulls_nothing() {
    let sandbox = sandbox(true);
    let run = sandbox.run(&["images", "--refresh", "--dry-run", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("pull python:3.13-slim-trixie") && !sandbox.calls().contains("docker pull"), "{run}");
    assert!(!sandbox.cache.join("bases").exists());
}

#[test]
fn images_and_doctor_report_an_old_base_with_the_command() {
    let sandbox = sandbox(false);
    document(&sandbox, &["images", "--refresh"]);
    let text = std::fs::read_to_string(record(&sandbox)).unwrap();
    let at = serde_json::from_str::<Value>(&text).unwrap()["at"].as_str().unwrap().to_owned();
    std::fs::write(record(&sandbox), text.replace(&at, "2026-02-03T04:05:06Z")).unwrap();
    for args in [&["images"][..], &["doctor"]] {
        let run = sandbox.run(&[args, &["--origin=release"]].concat());
        let output = run.stdout.clone() + &run.stderr;
        assert!(output.contains("pulled ") && output.contains(" days ago"), "{run}");
        assert!(output.contains("cargo xtask images --refresh"), "{run}");
    }
    let bases = document(&sandbox, &["images"])["bases"].clone();
    assert_eq!(bases[0]["since"], "2026-02-03T04:05:06Z");
}

#[test]
fn an_image_without_a_record_has_the_time_of_its_tag() {
    let sandbox = sandbox(false);
    let bases = document(&sandbox, &["images"])["bases"].clone();
    assert_eq!((&bases[0]["since"], &bases[0]["how"]), (&"2026-01-02T03:04:05Z".into(), &Value::Null));
}

#[test]
fn an_unreadable_record_is_an_error_with_its_file() {
    let sandbox = sandbox(false);
    std::fs::create_dir_all(record(&sandbox).parent().unwrap()).unwrap();
    std::fs::write(record(&sandbox), "{").unwrap();
    let run = sandbox.run(&["images", "--origin=release"]);
    assert_eq!(run.code, Some(4), "{run}");
    assert!(run.stderr.contains("bases/release/python+3.13-slim-trixie.json"), "{run}");
    assert!(run.stderr.contains("try: rm ") && !run.stderr.contains("build todo-"), "{run}");
    let run = sandbox.run(&["doctor", "--origin=release"]);
    assert!(run.stdout.contains("cannot be read") && run.stdout.contains("rm "), "{run}");
}
