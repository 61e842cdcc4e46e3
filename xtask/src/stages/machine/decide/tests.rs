use super::super::memory::Memory;
use super::*;
use crate::checkout;
use crate::settings::Settings;

/// Decides without an effect.
fn decide(observed: &ObservedMachine) -> Result<EnginePlan> {
    let settings = Settings::read(&checkout::find(None)).unwrap();
    crate::pure::decide(|| super::decide(observed, NodeSize::wanted(&settings.cluster), "debian.log".into(), None))
}

/// Returns a Debian machine with enough disk and memory, where xtask is root and no engine runs.
fn fresh() -> ObservedMachine {
    ObservedMachine {
        paths: EnginePaths::new("/cache".into()),
        os: "linux".into(),
        arch: "x86_64".into(),
        is_root: true,
        can_mount: true,
        has_apt: true,
        system: Answer::Absent("there is no `docker` on PATH".into()),
        installed: None,
        private: Answer::Absent("nobody listens".into()),
        is_current: false,
        recipe: tree::recipe(&checkout::find(None)).unwrap(),
        has_tree: false,
        was_made: false,
        disk: Some(Disk { free: 100 << 30, total: 200 << 30 }),
        memory: Some(Memory { total: 16 << 30, available: 12 << 30 }),
        reclaimable: Vec::new(),
    }
}

fn steps(observed: &ObservedMachine) -> Vec<String> {
    decide(observed).unwrap().steps.into_iter().map(|step| step.what).collect()
}

fn refusal(observed: &ObservedMachine) -> String {
    let Err(error) = decide(observed) else { panic!("not refused") };
    let failure = error.downcast_ref::<Failure>().unwrap();
    assert_eq!(failure.class, Class::Machine);
    format!("{failure}\n{}", failure.hints().join("\n"))
}

#[test]
fn uses_an_engine_that_answers() {
    let own = ObservedMachine { system: Answer::Version("28.2.2".into()), ..fresh() };
    let plan = decide(&own).unwrap();
    assert!(plan.steps.is_empty() && plan.consent.is_empty() && !plan.engine.private);
    let private = Answer::Version("26.1.5".into());
    let running = ObservedMachine { private, is_current: true, was_made: true, has_tree: true, ..fresh() };
    let plan = decide(&running).unwrap();
    assert!(plan.steps.is_empty() && plan.consent.is_empty() && plan.engine.private && !plan.engine.empty);
}

#[test]
fn makes_and_starts_a_private_engine_with_consent() {
    let plan = decide(&fresh()).unwrap();
    assert!(
        plan.engine.private && plan.engine.empty && plan.consent.iter().any(|line| line.contains("teardown --engine"))
    );
    assert_eq!(
        steps(&fresh()),
        ["make a private Docker Engine from Debian packages", "start the private Docker Engine"]
    );
}

#[test]
fn starts_an_existing_private_engine_without_asking_again() {
    let made = ObservedMachine { has_tree: true, was_made: true, ..fresh() };
    assert_eq!(steps(&made), ["start the private Docker Engine"]);
    assert!(decide(&made).unwrap().consent.is_empty());
}

#[test]
fn makes_a_new_tree_and_restarts_for_a_changed_recipe() {
    let private = Answer::Version("26.1.5".into());
    let changed = ObservedMachine { private, was_made: true, ..fresh() };
    assert_eq!(steps(&changed).len(), 2);
    // Consent was given when the first one was made.
    assert!(decide(&changed).unwrap().consent.is_empty());
}

#[test]
fn says_how_to_get_an_engine_where_it_cannot_make_one() {
    let table = [
        // The advised size must be enough for the node.
        (ObservedMachine { os: "macos".into(), ..fresh() }, "colima start --cpu 2 --memory 7"),
        (ObservedMachine { is_root: false, ..fresh() }, "as root"),
        (
            ObservedMachine { system: Answer::Unknown("permission denied while trying".into()), ..fresh() },
            "usermod -aG docker",
        ),
        // An engine that hangs may have the cluster, so a private one must not replace it.
        (
            ObservedMachine { system: Answer::Unknown("it took longer than 15 s".into()), ..fresh() },
            "does not answer: it took",
        ),
        (ObservedMachine { can_mount: false, ..fresh() }, "--privileged"),
        (ObservedMachine { has_apt: false, ..fresh() }, "docs.docker.com/engine/install"),
        (ObservedMachine { arch: "riscv64".into(), ..fresh() }, "for riscv64"),
    ];
    for (observed, expected) in table {
        let text = refusal(&observed);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn never_replaces_an_installed_engine_by_a_private_one() {
    let stopped = ObservedMachine { installed: Some("there is /usr/bin/dockerd".into()), ..fresh() };
    // The same with an existing private engine: the installed one has served since.
    for observed in [stopped.clone(), ObservedMachine { was_made: true, has_tree: true, ..stopped.clone() }] {
        let Err(error) = decide(&observed) else { panic!("not refused") };
        assert!(error.to_string().ends_with("seems to be installed: there is /usr/bin/dockerd"), "{error}");
    }
    let text = refusal(&stopped);
    assert!(text.contains("systemctl start docker") && text.contains("DOCKER_HOST=unix:///nonexistent"), "{text}");
    let answers = ObservedMachine { system: Answer::Version("28".into()), ..stopped };
    assert!(decide(&answers).is_ok());
}

#[test]
fn treats_a_silent_engine_as_unknown_and_not_as_absent() {
    let engine = |observed: &ObservedMachine| observed.engine();
    assert!(engine(&fresh()).unwrap().is_none());
    let words = || Answer::Unknown("no answer within 15 s".into());
    let hung = [
        ObservedMachine { system: words(), ..fresh() },
        ObservedMachine { private: words(), was_made: true, ..fresh() },
    ];
    for observed in hung {
        assert!(engine(&observed).unwrap_err().to_string().ends_with("does not answer: no answer within 15 s"));
    }
}

#[test]
fn refuses_too_little_disk_with_sizes_and_what_to_delete() {
    let disk = Some(Disk { free: 3_000_000_000, total: 20_000_000_000 });
    let text = refusal(&ObservedMachine { disk, reclaimable: vec!["/c/go (9.0 GB)".into()], ..fresh() });
    assert!(text.contains("3.0 GB") && text.contains("8.0 GB") && text.contains("/c/go (9.0 GB)"), "{text}");
    // Later deploys need less.
    assert!(decide(&ObservedMachine { disk, was_made: true, ..fresh() }).is_ok());
}

#[test]
fn refuses_too_little_memory_with_sizes() {
    let memory = |total: u64, available: u64| Some(Memory { total: total << 30, available: available << 30 });
    assert!(
        refusal(&ObservedMachine { memory: memory(3, 3), ..fresh() }).contains("3072 MiB of memory; the cluster needs")
    );
    assert!(decide(&ObservedMachine { memory: memory(4, 4), ..fresh() }).is_ok());
    assert!(refusal(&ObservedMachine { memory: memory(16, 1), ..fresh() }).contains("1.1 GB of memory are free"));
    let own = ObservedMachine { system: Answer::Version("28".into()), memory: memory(16, 1), ..fresh() };
    assert!(decide(&own).is_ok());
}
