//! Documents of `--json` match their schemas in docs/schema: those of runs with fake tools, and recorded real ones.

use camino::Utf8Path;
use serde_json::Value;

use crate::common::{DOTENV, Sandbox};
use crate::repairs;

fn docs() -> camino::Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/schema")
}

/// Fails with all deviations of `document` from the schema of its command.
fn check(document: &Value, context: &str) {
    let command = document["command"].as_str().unwrap();
    let schema = std::fs::read_to_string(docs().join(format!("{command}.schema.json"))).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path)).collect();
    assert!(errors.is_empty(), "{context} does not match {command}.schema.json:\n{}", errors.join("\n"));
}

#[test]
fn schemas_are_valid() {
    for entry in std::fs::read_dir(docs()).unwrap() {
        let path = entry.unwrap().path();
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(jsonschema::meta::is_valid(&schema), "{}", path.display());
    }
}

#[test]
fn every_result_of_a_command_is_one_document() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.on("docker pull *", "");
    let runs: [(&[&str], i32); 9] = [
        (&["images", "--json"], 0),
        (&["images", "--json", "--dry-run"], 0),
        (&["images", "--json", "--refresh"], 0),
        (&["pins", "--json"], 0),
        (&["config", "--json"], 0),
        (&["deploy", "dev", "--dry-run", "--json"], 0),
        (&["deploy", "dve", "--json"], 3),
        (&["status", "--json"], 5),
        (&["bench", "--json"], 5),
    ];
    for (args, code) in runs {
        let run = sandbox.run(&[args, &["--origin=release"]].concat());
        assert_eq!(run.code, Some(code), "{run}");
        let document: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"));
        check(&document, &format!("{args:?}"));
        assert_eq!(document["exit_code"], code, "{document}");
        assert_eq!(document["ok"], code == 0, "{document}");
        assert!(!run.stdout.contains("canary"), "{run}");
        assert_eq!(run.stdout.lines().count(), 1, "{run}");
    }
}

/// `doctor` may report problems of this machine.
#[test]
fn the_document_of_doctor_has_each_row_with_its_hints() {
    let sandbox = Sandbox::with_tools();
    let record = sandbox.cache.join("bases/release/python+3.13-slim-trixie.json");
    std::fs::create_dir_all(record.parent().unwrap()).unwrap();
    std::fs::write(&record, "{").unwrap();
    let run = sandbox.run(&["doctor", "--json", "--origin=release"]);
    let document: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"));
    check(&document, "doctor");
    let find = |name: &str| document["checks"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
    assert!(find("docker engine")["verdict"] == "good" && find("cluster")["verdict"] == "later", "{document}");
    let bad = find("base images");
    assert_eq!((&bad["verdict"], &bad["hints"][0]["kind"]), (&"bad".into(), &"ask".into()), "{document}");
    assert_eq!(bad["hints"][0]["command"], format!("rm {record} && cargo xtask images --refresh"));
    assert_eq!((run.code, &document["error"]["class"]), (Some(4), &"machine".into()), "{run}");
    let table = sandbox.run(&["doctor", "--origin=release"]).stdout;
    let rows = document["checks"].as_array().unwrap();
    assert!(
        rows.iter().all(|row| table.contains(row["name"].as_str().unwrap())) && table.lines().count() == rows.len()
    );
}

#[test]
fn documents_recorded_on_a_real_cluster_match_the_schemas() {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/documents");
    let mut count = 0;
    for entry in folder.read_dir_utf8().unwrap() {
        let path = entry.unwrap().into_path();
        let document: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        check(&document, path.file_name().unwrap());
        count += 1;
    }
    assert!(count >= 5, "{count} documents");
}

#[test]
fn the_examples_in_the_documentation_match_the_schemas() {
    let documents: Vec<Value> =
        repairs::blocks("json").iter().map(|block| serde_json::from_str(block).unwrap()).collect();
    documents.iter().for_each(|document| check(document, &format!("docs/json.md: {}", document["command"])));
    for entry in std::fs::read_dir(docs()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let command = name.split('.').next().unwrap().to_owned();
        assert!(documents.iter().any(|document| document["command"] == command), "{command} has no example");
    }
}

/// Each schema is self-contained, so common parts are repeated and must be equal.
#[test]
fn errors_and_hints_have_one_schema() {
    let schema = |entry: std::io::Result<std::fs::DirEntry>| -> Value {
        serde_json::from_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap()
    };
    let all: Vec<Value> = std::fs::read_dir(docs()).unwrap().map(schema).collect();
    for name in ["error", "hint", "hint_text", "event", "time"] {
        assert!(all.iter().all(|schema| schema["$defs"][name] == all[0]["$defs"][name]), "{name}");
    }
}

#[test]
fn a_document_with_an_unknown_field_is_rejected() {
    let sandbox = Sandbox::with_tools();
    let run = sandbox.run(&["images", "--json", "--dry-run", "--origin=release"]);
    let mut document: Value = serde_json::from_str(&run.stdout).unwrap();
    document["surprise"] = 1.into();
    assert!(std::panic::catch_unwind(|| check(&document, "it")).is_err());
}

#[test]
fn timings_are_written_to_a_page_besides_the_output() {
    let sandbox = Sandbox::with_tools();
    let run = sandbox.run(&["images", "--timings", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("target/xtask/timings.html"), "{run}");
    assert!(sandbox.read("target/xtask/timings.html").contains("build todo-backend"));
}
