//! Compares the pins with everything in the checkout that must agree with them.

use super::gomod::Version;
use super::*;
use crate::checkout;
use crate::commands::pins::listing;
use crate::git;
use crate::origin::packages;

const SMALL: &str = "[kubernetes]\nversion = \"1.34.4\"\nfor = \"x\"\nmodule = \"k8s.io/kubernetes\"\n\
    [debian]\nversion = \"trixie\"\nfor = \"x\"\nimage = \"debian:{debian}-slim\"\n\
    [python]\nversion = \"3.13\"\nfor = \"x\"\nimage = \"python:{python}-slim-{debian}\"\n\
    copies = { \"apps/x\" = [\"ARG X={python.image}\"] }\n";

fn real() -> Pins {
    Pins::read(&checkout::find(None)).unwrap()
}

fn read(file: impl AsRef<Utf8Path>) -> String {
    let path = checkout::find(None).join(file.as_ref());
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_name_in_braces_becomes_its_value() {
    let pins = Pins::parse(SMALL).unwrap();
    let text = "a = \"v{kubernetes}\"\nb = { x = \"{python.image}\" }\n# {nonsense}\nc = \"{kubernetes.minor}\"";
    let rendered = pins.render("f", text).unwrap();
    let expected = "a = \"v1.34.4\"\nb = { x = \"python:3.13-slim-trixie\" }\n# {nonsense}\nc = \"34\"";
    assert_eq!(rendered, expected);
    let (_, python) = pins.iter().find(|(name, _)| *name == "python").unwrap();
    assert_eq!(python.copies[Utf8Path::new("apps/x")], ["ARG X=python:3.13-slim-trixie"]);
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_one() {
    let pins = Pins::parse(SMALL).unwrap();
    let cases = [
        ("{kubernets}", "f.toml:2: infra/pins.toml has no pin `kubernets`", "write {kubernetes}"),
        ("{zzz}", "has no pin `zzz`", "add [zzz] to infra/pins.toml"),
        ("{python.imgae}", "a pin has no field `imgae`", "write {python.image}"),
        ("{python.owner}", "a pin has no field `owner`", "one of its fields: major, minor"),
        ("{kubernetes.image}", "the pin `kubernetes` has no image", "edit infra/pins.toml"),
    ];
    for (template, what, help) in cases {
        let error = pins.render("f.toml", &format!("a = 1\nb = \"{template}\"\n")).unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert!(failure.to_string().contains(what) && failure.hints()[0].contains(help), "{failure} {failure:?}");
    }
}

#[test]
fn reports_mistakes_in_the_file_itself() {
    let cases = [
        ("[a]\nversion = \"v1\"\nfor = \"x\"\n", "[a] has the version `v1`"),
        ("[a]\nversion = \"1\"\nfro = \"x\"\n", "infra/pins.toml:3: unknown field `fro`"),
        ("[a]\nversion = \"1\"\nfor = \"x\"\nimage = \"a:{b}\"\n", "has no pin `b`"),
        // An image made from another image would be a chain that nobody can follow.
        (
            "[a]\nversion = \"1\"\nfor = \"x\"\nimage = \"a:{b.image}\"\n[b]\nversion = \"1\"\nfor = \"x\"\nimage = \"b\"\n",
            "the pin `b` has no image",
        ),
    ];
    for (text, what) in cases {
        let error = Pins::parse(text).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn every_rendered_file_names_only_pins_that_exist() {
    let pins = real();
    for file in listing::RENDERED {
        pins.render(file, &read(file)).unwrap();
    }
}

#[test]
fn every_pin_is_taken_and_has_a_source() {
    for pin in listing::list(&checkout::find(None)).unwrap() {
        assert!(!pin.taken_by.is_empty(), "nothing takes the pin {}: remove it from {FILE}", pin.name);
        assert!(!pin.release.is_empty() || !pin.packages.is_empty(), "the pin {} has no source", pin.name);
    }
}

/// The recipe that does not share Kubernetes' libraries with the others; packages.toml says why.
const OWN_LIBRARIES: &str = "minikube";

/// Go reads go.mod itself: what it requires must be what is pinned.
#[test]
fn every_go_mod_requires_the_pinned_versions() {
    let pins = real();
    let kubernetes = pins.0["kubernetes"].version.split_once('.').unwrap();
    // Kubernetes publishes its libraries as v0.N.P beside v1.N.P of itself; other modules of k8s.io have other numbers.
    let library = format!("v0.{}", kubernetes.1);
    let mut wrong = Vec::new();
    for (program, go_mod) in listing::go_modules(&checkout::find(None)).unwrap() {
        let mut check = |module: &str, found: &str, pinned: &str, pin: &str| {
            if found != pinned {
                wrong.push(format!("go/{program}/go.mod: {module} is {found}, the pin {pin} says {pinned}"));
            }
        };
        for (module, version) in go_mod.modules() {
            for (name, pin) in pins.iter().filter(|(_, pin)| pin.module.as_deref() == Some(module)) {
                let pinned = format!("v{}", pin.version);
                match version {
                    Version::Of(found) => check(module, found, &pinned, name),
                    // Patched: the copy has the version of packages.toml, whatever is required here.
                    Version::Folder => {
                        let required = go_mod.required(module).unwrap_or_default();
                        if !required.starts_with("v0.0.0-") {
                            check(module, required, &pinned, name);
                        }
                    }
                }
            }
            let Version::Of(found) = version else { continue };
            if program != OWN_LIBRARIES
                && module.starts_with("k8s.io/")
                && found.starts_with("v0.")
                && !found.starts_with("v0.0.0-")
            {
                check(module, found, &library, "kubernetes");
            }
        }
    }
    assert!(wrong.is_empty(), "run `go get` in these recipes, see docs/pins.md:\n{}", wrong.join("\n"));
}

/// The version of a library that two programs share in a patched copy is checked by its sum, like any other module.
#[test]
fn the_sums_of_patched_modules_agree_with_every_go_sum() {
    let pins = real();
    for program in listing::go_modules(&checkout::find(None)).unwrap().keys() {
        let file = checkout::find(None).join(packages::FOLDER).join("go").join(program).join("go.sum");
        // A program without modules has none.
        let sums = std::fs::read_to_string(&file).unwrap_or_default();
        for (name, pin) in pins.iter() {
            let (Some(module), Some(sum)) = (&pin.module, &pin.sum) else { continue };
            let line = sums.lines().find_map(|line| line.strip_prefix(&format!("{module} v{} ", pin.version)));
            assert!(line.is_none_or(|found| found == sum), "{file}: the sum of {name} is not that of {FILE}");
        }
    }
}

#[test]
fn a_pin_has_a_sum_exactly_where_files_of_its_module_are_replaced() {
    let manifest: toml::Table = read_rendered(&checkout::find(None), packages::FILE).unwrap().parse().unwrap();
    let programs = manifest["go"].as_table().unwrap().values();
    let patches = programs.filter_map(|program| program.get("patch")?.as_array()).flatten();
    let patched: std::collections::BTreeSet<&str> = patches.map(|patch| patch["module"].as_str().unwrap()).collect();
    let pins = real();
    let summed = pins.iter().filter(|(_, pin)| pin.sum.is_some()).map(|(_, pin)| pin.module.as_deref().unwrap());
    assert_eq!(patched, summed.collect());
}

#[test]
fn package_json_has_the_pinned_versions() {
    let file = Utf8Path::new(packages::FOLDER).join("npm/node/package.json");
    let package: serde_json::Value = serde_json::from_str(&read(&file)).unwrap();
    let pins = real();
    for (name, pin) in pins.iter() {
        let Some(npm) = &pin.npm else { continue };
        assert_eq!(package["dependencies"][npm], pin.version, "{file}: {npm} is not what the pin {name} says");
    }
    let named = pins.iter().filter(|(_, pin)| pin.npm.is_some()).count();
    assert_eq!(package["dependencies"].as_object().unwrap().len(), named, "{file} has a package without a pin");
}

/// Other programs read these files: they repeat the pin, and must be edited with it.
#[test]
fn every_copy_repeats_its_pin() {
    let mut wrong = Vec::new();
    for (name, pin) in real().iter() {
        for (file, texts) in &pin.copies {
            let content = read(file);
            let missing = texts.iter().filter(|text| !content.contains(text.as_str()));
            wrong.extend(missing.map(|text| format!("{file}: write `{text}` (pin {name})")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that hold versions for a reason of their own.
const FREE: [&str; 12] = [
    // The pins, and what says that it follows them: checked by the tests above.
    "infra/pins.toml",
    "go.mod",
    "package.json",
    // Made by tools, and from values.yaml by the tests of the chart.
    "infra/helm/README.md",
    "go.sum",
    "package-lock.json",
    "Cargo.lock",
    // What was, and stays as it was.
    "CHANGELOG.md",
    "docs/failures.md",
    "docs/measurements.md",
    ".svg",
    "apps/backend/requirements",
];

#[test]
fn no_pin_stands_twice() {
    let pins = real();
    let mut wrong = Vec::new();
    for file in git::files(&checkout::find(None), &[]).unwrap() {
        let free = FREE.iter().any(|free| file.ends_with(free) || file.starts_with(free));
        // Recorded answers and documents, and tests, which make their own examples.
        let recorded = file.starts_with("xtask/tests/") || file.starts_with("xtask/src/") && !file.ends_with(".rs");
        let Ok(text) = std::fs::read_to_string(checkout::find(None).join(&file)) else { continue };
        if free || recorded {
            continue;
        }
        for (number, line) in (1..).zip(without_tests(&file, &text).lines()) {
            let mut copies = pins.iter().filter_map(|(_, pin)| pin.copies.get(Utf8Path::new(&file))).flatten();
            if copies.any(|copy| line.contains(copy.as_str())) {
                continue;
            }
            for (name, pin) in pins.iter() {
                if repeats(line, pin) {
                    wrong.push(format!("{file}:{number} repeats the pin {name}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "name the pin in braces, or add the file to its `copies`:\n{}", wrong.join("\n"));
}

/// Returns the text of a Rust file up to its tests and without comments, because both contain examples.
fn without_tests(file: &str, text: &str) -> String {
    if !file.ends_with(".rs") {
        return text.to_owned();
    }
    if file.ends_with("tests.rs") {
        return String::new();
    }
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let line = |line: &str| if line.trim_start().starts_with("//") { String::new() } else { line.to_owned() };
    code.lines().map(|text| line(text) + "\n").collect()
}

/// Returns whether `line` has the pin's version or the tag of its image as a separate word. A lone number or a code name
/// counts only as a part of the image's reference.
fn repeats(line: &str, pin: &Pin) -> bool {
    let tag = pin.image.as_deref().and_then(|image| image.rsplit_once(':')).map(|(_, tag)| tag);
    let exact =
        pin.version.contains('.').then_some(pin.version.as_str()).filter(|version| version.matches('.').count() > 1);
    tag.filter(|tag| tag.len() > 3).into_iter().chain(exact).any(|text| is_a_word_of(text, line))
}

fn is_a_word_of(text: &str, line: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line[..at].chars().next_back().filter(|c| *c != 'v');
        let mut after = line[at + text.len()..].chars();
        let continues = match after.next() {
            Some('.' | '-') => after.next().is_some_and(|c| c.is_ascii_alphanumeric()),
            Some(c) => c.is_ascii_alphanumeric(),
            None => false,
        };
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '.') && !continues
    })
}

#[test]
fn a_repeated_pin_is_noticed_and_a_longer_number_is_not() {
    let pins = Pins::parse(SMALL).unwrap();
    let repeats = |line: &str, name: &str| repeats(line, &pins.0[name]);
    for line in ["v1.34.4", "x=1.34.4.", "a-1.34.4/b", "kubectl_1.34.4_linux"] {
        assert!(repeats(line, "kubernetes"), "{line}");
    }
    for line in ["v1.34.40", "1.34.4.1", "11.34.4", "0.1.34.4", "1.34.4-rc1"] {
        assert!(!repeats(line, "kubernetes"), "{line}");
    }
    assert!(repeats("FROM python:3.13-slim-trixie AS x", "python") && !repeats("Python 3.13", "python"));
    assert!(repeats("FROM debian:trixie-slim", "debian") && !repeats("Debian trixie", "debian"));
}
