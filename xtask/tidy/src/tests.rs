//! This checkout is tidy, and each check finds a planted mistake.

use super::*;

fn real() -> Checkout {
    Checkout::read(&xtask::checkout::compiled_from()).unwrap()
}

/// Returns the mistakes that `check` finds once `old` in `file` is `new`, as they are printed.
fn planted(file: &str, old: &str, new: &str, check: impl Fn(&Checkout) -> Vec<Mistake>) -> Vec<String> {
    let mut checkout = real();
    let text = checkout.files.get(file).and_then(|file| file.text.clone()).unwrap_or_default();
    assert!(text.contains(old), "{file} has no {old}");
    checkout.insert(file, text.replacen(old, new, 1).into_bytes());
    check(&checkout).iter().map(Mistake::to_string).collect()
}

#[track_caller]
fn finds(found: &[String], wanted: &str) {
    assert!(found.iter().any(|mistake| mistake.contains(wanted)), "{wanted} is not in {found:#?}");
}

#[test]
fn this_checkout_is_tidy() {
    let mistakes = examine(&real()).unwrap();
    let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
    assert!(lines.is_empty(), "cargo xtask tidy --fix mends some of these:\n{}", lines.join("\n"));
}

#[test]
fn mistakes_that_remain_after_a_fix_have_a_hint() {
    let by_hand = || Mistake::new("README.md", 1, "there is no x");
    let fixable = Mistake { mended: Some(String::new()), ..by_hand() };
    let hints = |mistakes: &[Mistake], failed: &[&str], fixed| failure(mistakes, 9, failed, fixed).hints();
    let edit = "each line above says what to edit; then look again: cargo xtask tidy";
    assert_eq!(hints(&[by_hand()], &[], true), [edit]);
    assert_eq!(hints(&[by_hand()], &["pins"], false), [edit]);
    let fix = "mend white space, formats and generated files: cargo xtask tidy --fix";
    assert_eq!(hints(&[fixable, by_hand()], &[], false), [fix, edit]);
    assert_eq!(hints(&[], &["cargo fmt"], false), [fix, edit]);
}

#[test]
fn finds_dead_links_and_what_documents_name_in_vain() {
    // Written apart, because this is a source file.
    let unknown = ["`finds_what_", "nobody_wrote`"].concat();
    for (line, wanted) in [
        ("[x](docs/gone.md)", "there is no docs/gone.md"),
        ("[x](#gone)", "README.md has no such heading"),
        ("[x](docs/pins.md#gone)", "docs/pins.md has no such heading"),
        ("<img src=\"docs/gone.png\">", "there is no docs/gone.png"),
        ("`xtask/src/gone`", "no file `xtask/src/gone`"),
        ("`stages/gone.rs`", "no file `stages/gone.rs`"),
        (unknown.as_str(), "no source file has `finds_what_"),
        ("`cargo xtask undeploy`", "unrecognized subcommand 'undeploy'"),
        ("`cargo xtask undeploy NAME`", "there is no such command"),
        ("```sh\ncargo xtask deploy dev --gone   # x\n```", "unexpected argument '--gone'"),
    ] {
        let found =
            planted("README.md", "\n## Quick start\n", &format!("\n{line}\n\n## Quick start\n"), documents::check);
        assert_eq!(found.len(), 1, "{line}: {found:#?}");
        finds(&found, wanted);
    }
}

#[test]
fn knows_the_anchors_that_github_makes() {
    let text = "\n## `.env`: a b-c_d, (e)\n## Twice\n## Twice\n\n[x](#env-a-b-c_d-e) [x](#twice) [x](#twice-1)\n\n## Quick start\n";
    assert_eq!(planted("README.md", "\n## Quick start\n", text, documents::check), Vec::<String>::new());
}

#[test]
fn finds_keys_that_one_side_lacks() {
    let check = |checkout: &Checkout| keys::check(checkout).unwrap();
    let (values, settings) = ("infra/helm/values.yaml", "apps/backend/app/core/settings.py");
    let config = "infra/helm/templates/_config.tpl";
    for (file, old, new, wanted) in [
        (".env.example", "# OPENAI_API_KEY=", "# NEW_KEY=", ".env.example: OPENAI_API_KEY is missing"),
        (".env.example", "# OPENAI_API_KEY=", "# NEW_KEY=", ".env.example: NEW_KEY is not in"),
        ("README.md", "| `DATABASE_URL_UNPOOLED` |", "| … |", "README.md: DATABASE_URL_UNPOOLED is missing"),
        (values, "optional: [", "optional: [NEW_KEY, ", "settings.py: NEW_KEY is missing"),
        (settings, "openai_model: str", "model: str", "settings.py: OPENAI_MODEL is missing"),
        (settings, "auth_secret: SecretStr", "auth_secret: str", "settings.py: AUTH_SECRET is missing"),
        (config, "\nENVIRONMENT: ", "\nNOBODY_READS_IT: 1\nENVIRONMENT: ", "NOBODY_READS_IT is in the ConfigMap"),
        (config, "[\"ENVIRONMENT\"", "[\"LOG_LEVEL\", \"ENVIRONMENT\"", "LOG_LEVEL is in todo.config.backendKeys"),
    ] {
        finds(&planted(file, old, new, check), wanted);
    }
}

#[test]
fn finds_commands_and_causes_that_no_document_names() {
    let check = |checkout: &Checkout| keys::documented(checkout).unwrap();
    finds(&planted("docs/commands.md", "| `scan`", "| `scam`", check), "docs/commands.md: it has no row of `scan`");
    finds(
        &planted("xtask/src/judge.rs", "cause(\"quota\"", "cause(\"new\"", check),
        "it does not name the cause `new`",
    );
}

#[test]
fn finds_generated_files_that_are_old_and_values_without_a_comment() {
    let chart = |checkout: &Checkout| generated::chart(checkout).unwrap();
    let values = "infra/helm/values.yaml";
    finds(
        &planted(values, "# -- Keys that the Secret must", "# -- What the Secret must", chart),
        "its table is not what",
    );
    finds(
        &planted(values, "# -- Keys that the Secret must", "# Keys that the Secret must", chart),
        "above backend.secret.keys.required",
    );
    let openapi = |checkout: &Checkout| generated::openapi(checkout).unwrap();
    finds(
        &planted("apps/backend/openapi.json", "\"openapi\"", "\"open\"", openapi),
        "it is not apps/backend/openapi.json",
    );
}

#[test]
fn finds_uses_that_lead_up_the_layers() {
    let check = |checkout: &Checkout| layers::check(checkout).unwrap();
    let clock = "xtask/src/clock.rs";
    finds(&planted(clock, "use ", "use crate::report::Report;\nuse ", check), "clock -> report leads up the layers");
    finds(&planted("xtask/src/new.rs", "", "", check), "the layers lack the module new");
    finds(&planted("ARCHITECTURE.md", " clock", " clock gone", check), "the layers name gone");
}

#[test]
fn finds_white_space_and_mends_it() {
    let text = "a \r\n\tb\t\n\n\n";
    finds(&planted("docs/new.md", "", text, texts::white_space), "docs/new.md:1: white space");
    let mut checkout = Checkout::default();
    checkout.insert("new.md", text.into());
    assert_eq!(texts::white_space(&checkout)[0].mended.as_deref(), Some("a\n\tb\n"));
}

#[test]
fn finds_files_that_are_too_big_and_leaves_generated_ones_more_room() {
    let check = |checkout: &Checkout| texts::sizes(checkout, &Rules::read(checkout).unwrap().sizes);
    finds(&planted("docs/new.md", "", &"x\n".repeat(21_000), check), "docs/new.md: 42 KiB, where 40 KiB");
    finds(&planted("docs/new.png", "", &"\0".repeat(300_000), check), "where 256 KiB are the limit: every clone");
    finds(&planted("Cargo.lock", "version", &"x".repeat(300_000), check), "Cargo.lock: 3");
    assert_eq!(planted("Cargo.lock", "", &"x\n".repeat(21_000), check), Vec::<String>::new());
}

#[test]
fn finds_phrases_also_across_lines_and_old_ones_that_are_gone() {
    let check = |checkout: &Checkout| texts::phrases(checkout, &Rules::read(checkout).unwrap());
    // Written apart, because this file is checked as well.
    let (phrase, gone) = (["Is", "told"].join(" "), ["not", "there yet"].join(" "));
    finds(
        &planted("docs/new.md", "", &format!("x\n{phrase}\n"), check),
        &format!("docs/new.md:2: \"{}\"", phrase.to_lowercase()),
    );
    finds(&planted("xtask/src/new.rs", "", &phrase.replace(' ', "\n    /// "), check), "xtask/src/new.rs:1");
    let old = format!("[old-phrases.\"{gone}\"]\n\"LICENSE\" = 1\n[registries]\n");
    let wanted = format!("LICENSE has \"{gone}\" 0 times, no longer 1");
    finds(&planted(rules::FILE, "[registries]\n", &old, check), &wanted);
}

#[test]
fn finds_hosts_of_mirrors() {
    let own = ["packages.corp.internal".to_owned()];
    let check = |checkout: &Checkout| texts::hosts(checkout, &Rules::read(checkout).unwrap().registries, &own);
    // Written apart, because this file is checked as well.
    let url = ["https:", "//"].concat();
    for (file, line) in [
        ("Cargo.toml", format!("x = \"{url}nexus.corp.internal/x\"")),
        ("docs/new.md", "from packages.corp.internal:".to_owned()),
        ("x/package-lock.json", format!("  \"resolved\": \"{url}npm.corp.internal/x.tgz\"")),
        ("Cargo.lock", format!("source = \"registry+{url}crates.corp.internal/index\"")),
        ("x/Dockerfile", format!("ENV GOPROXY={url}go.corp.internal,direct")),
        ("x/pip.conf", format!("index-url = {url}pypi.corp.internal/simple")),
    ] {
        finds(&planted(file, "", &format!("{line}\n"), check), "is no host that everybody reaches");
    }
}

#[test]
fn finds_licences_that_nobody_allowed() {
    let rules = Rules::read(&real()).unwrap();
    let metadata = |licence: &str| {
        let package = serde_json::json!({"name": "x", "version": "1.0.0", "license": licence});
        licences::crates(&serde_json::json!({"packages": [package]}), &rules.licences)
    };
    assert_eq!(metadata("MIT/GPL-3.0").len() + metadata("(MIT OR X11) AND ISC").len(), 0);
    let found: Vec<_> =
        ["AGPL-3.0-only", "MIT AND GPL-2.0-only", "no-such-licence"].map(metadata).into_iter().flatten().collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    let npm = |checkout: &Checkout| licences::npm(checkout, &rules.licences).unwrap();
    let lock = "apps/frontend/package-lock.json";
    finds(&planted(lock, "\"license\": \"MIT\"", "\"license\": \"SSPL-1.0\"", npm), "SSPL-1.0 is not in");
    finds(&planted(lock, "\"license\": \"MIT\"", "\"x\": \"MIT\"", npm), "it states no licence");
}
